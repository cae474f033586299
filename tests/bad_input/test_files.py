"""Files from outside that are damaged in any way: key files, what this machine remembers of a vault, packs, contracts,
tables among the data itself. Each gives its own error or is passed over; none another exception, a hang or much memory.
"""

from __future__ import annotations

import random
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reopen.errors import Corrupt, NotFound, ReopenError
from reopen.ids import seeded_random
from reopen.protect.plan import plan_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.protect.witness import Witness
from reopen.vault import Vault, indexcache, load_keyring, make_keys, save_key
from reopen.vault.content import ContentKeys
from reopen.vault.indexcache import IndexCache
from reopen.vault.packreader import check_content, open_pack
from tests import proof
from tests.bad_input.mutations import scrambled
from tests.contracts.samples import GOOD, Folder
from tests.kit import SITE, a_dataset, a_table, a_vault, snapshot
from tests.trees import age, grow, some_bytes

KEYS = make_keys(seeded_random(7))
TRIES = 60
MEMORY_BYTES_MAX = 64 << 20
"""What a parser may take beyond what it is given: a frame, and what Python makes of it."""
SECONDS_MAX = 20


@contextmanager
def bounded() -> Iterator[None]:
    """Fail when what happens inside takes more memory or processor time than a parser may."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    arrow_before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] + max(0, pa.total_allocated_bytes() - arrow_before)
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BYTES_MAX
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < SECONDS_MAX


def refusal_of(folder: Path) -> ReopenError | None:
    try:
        load_keyring(folder)
    except ReopenError as error:
        return error
    return None


def test_a_damaged_key_file_is_an_error_of_ours(tmp_path: Path) -> None:
    path = save_key(tmp_path / "keys", KEYS.recovery, KEYS.pins)
    good = path.read_bytes()
    refused = 0
    with bounded():
        for seed in range(TRIES):
            path.write_bytes(scrambled(good, random.Random(seed)))
            told = refusal_of(path.parent)
            refused += told is not None
            assert told is None or path.name in str(told)
    assert refused > TRIES * 0.9
    proof.count("bad inputs", TRIES)


def test_a_damaged_witness_is_told_and_never_believed_to_be_empty(tmp_path: Path) -> None:
    vault = a_vault()
    snapshot(vault, a_dataset("it", grow(tmp_path / "source", {"a": "x"})))
    Witness(tmp_path / "witness").remember(vault)
    (path,) = (tmp_path / "witness").iterdir()
    good = path.read_bytes()
    for name in vault.store.list("snapshots/"):
        vault.store.delete(name.name)
    for seed in range(TRIES):
        path.write_bytes(scrambled(good, random.Random(seed)))
        # Some damage leaves another name that was never seen: it is missing too.
        with suppress(Corrupt):
            assert Witness(tmp_path / "witness").missing(vault)
    proof.count("bad inputs", TRIES)


def test_a_damaged_index_cache_changes_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexcache, "SAVE_AFTER_PARTS", 1)
    vault, dataset = a_vault(), a_dataset("it", grow(tmp_path / "source", {"a": some_bytes(20_000)}))
    snapshot(vault, dataset)
    (tmp_path / "source" / "b").write_bytes(some_bytes(20_000))
    age(tmp_path / "source")
    expected = plan_snapshot(vault, dataset, SITE).read_files
    folder = tmp_path / "cache"
    plan_snapshot(vault, dataset, SITE, cache=IndexCache(folder))
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.stat().st_size}
    assert files
    for seed in range(TRIES // 3):
        for path, good in files.items():
            path.write_bytes(scrambled(good, random.Random(seed)))
        assert plan_snapshot(vault, dataset, SITE, cache=IndexCache(folder)).read_files == expected
    proof.count("bad inputs", TRIES // 3)


def test_a_damaged_pack_is_corrupt_and_nothing_else(tmp_path: Path) -> None:
    vault = a_vault()
    snapshot(vault, a_dataset("it", grow(tmp_path / "source", {"a": some_bytes(20_000), "b": "x" * 900})))
    (name,) = [info.name for info in vault.store.list("packs/")]
    good = vault.store.get(name)
    with bounded():
        for seed in range(4 * TRIES):
            data = scrambled(good, random.Random(seed))
            try:
                list(check_content(vault, open_pack(vault, "damaged", data), ContentKeys(vault.id, vault.keyring)))
            except (Corrupt, NotFound):
                continue
            assert data == good
    proof.count("bad inputs", 4 * TRIES)


def test_tables_among_the_data_may_be_anything(tmp_path: Path) -> None:
    """A profile is taken of what can be read; whatever a file holds, its snapshot is complete."""
    source = tmp_path / "source"
    source.mkdir()
    pq.write_table(pa.table({"a": [1, 2, None], "b": ["x", "y", "z"]}), source / "good.parquet")
    (source / "good.csv").write_bytes(b'a,b\n1,"x"\n2,y\n,z\n')
    parquet, csv = (source / "good.parquet").read_bytes(), (source / "good.csv").read_bytes()
    for seed in range(TRIES):
        (source / f"{seed}.parquet").write_bytes(scrambled(parquet, random.Random(seed)))
        (source / f"{seed}.csv").write_bytes(scrambled(csv, random.Random(seed)))
    for pattern, table in (("*.parquet", a_table()), ("*.csv", a_table(properties=[("a", "int"), ("b", "text")]))):
        vault = a_vault()
        record = snapshot(vault, a_dataset("it", source, table=table, pattern=pattern)).record
        assert record.state == "complete"
        assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()
        assert isinstance(vault, Vault)
    proof.count("bad inputs", 2 * TRIES)


def test_a_damaged_contract_is_told_with_its_file(tmp_path: Path) -> None:
    good = GOOD.encode()
    folder = tmp_path / "contracts"
    folder.mkdir()
    told = 0
    with bounded():
        for seed in range(TRIES):
            (folder / "orders.odcs.yaml").write_bytes(scrambled(good, random.Random(seed)))
            try:
                Folder(base=tmp_path).load()
            except ReopenError:
                told += 1
    assert told > TRIES // 2
    proof.count("bad inputs", TRIES)
