"""A vault that cannot take bytes: the snapshot stops, commits nothing, harms nothing, and the next one goes on."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reopen.errors import Transient, VaultUnwritable
from reopen.ids import seeded_random
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import open_store
from reopen.vault import make_keys, packwriter
from tests.disks import small_disk_at
from tests.kit import a_dataset, a_vault, reopened, restore, snapshot
from tests.stores import FullFrom, LostAnswer, MemoryStore, WatchedStore
from tests.trees import age, differences, grow, some_bytes

FILES = {"a": some_bytes(150_000, 1), "b/c": some_bytes(30_000, 2), "d": b"small"}


def changed(source: Path) -> None:
    (source / "a").write_bytes(some_bytes(180_000, 3))
    (source / "new").write_bytes(some_bytes(20_000, 4))
    age(source)


def test_a_vault_that_fills_up_at_any_write_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """The store is full from its n-th write on, for every n until the snapshot succeeds."""
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 2)
    source, dataset = grow(tmp_path / "source", FILES), a_dataset("it", tmp_path / "source")
    vault = a_vault(keys=make_keys(seeded_random(20261122)))
    before = snapshot(vault, dataset).record
    restore(vault, before, tmp_path / "before")
    changed(source)
    assert isinstance(vault.store, MemoryStore)
    for writes in itertools.count():
        store = vault.store.clone()
        script = FullFrom(writes)
        try:
            result = snapshot(reopened(vault, WatchedStore(store, script)), dataset)
        except VaultUnwritable:
            pass  # Told as what it is; what it left behind is looked at below.
        else:
            assert script.refused == 0
            assert result.record.seq == 2
            break
        assert script.refused > 0
        now = reopened(vault, store)
        assert [record.id for record in now.records()] == [before.id]
        assert verify_vault(now, level=Level.CONTENT, record=False).findings == ()
        flushed = [name for name in store.names("index/") if name.endswith(".json") and name not in vault.store.objects]
        again = snapshot(now, dataset).record
        # What the failed run had flushed to the index is not stored again.
        assert (again.totals.new_raw_bytes < 200_000) == bool(flushed)
        restore(now, again, tmp_path / f"after{writes}")
        assert differences(source, tmp_path / f"after{writes}") == []
        assert verify_vault(now, level=Level.CONTENT, record=False).findings == ()
    assert writes > 10
    record_property("fault points", writes)


def test_a_lost_answer_to_the_commit_is_settled_by_reading_back(tmp_path: Path) -> None:
    vault = a_vault()
    script = LostAnswer("snapshots/")
    dataset = a_dataset("it", grow(tmp_path / "source", FILES))
    result = snapshot(reopened(vault, WatchedStore(vault.store, script)), dataset)
    assert script.lost == result.record.name
    assert [record.id for record in vault.records("it")] == [result.record.id]
    assert vault.records("it")[0] == result.record


@pytest.mark.parametrize("prefix", ["leases/", "packs/", "index/", "manifests/"])
def test_a_lost_answer_elsewhere_fails_the_snapshot_and_the_next_succeeds(tmp_path: Path, prefix: str) -> None:
    """Trying again is the business of the store and of tasks; here the error reaches them as what it is."""
    vault = a_vault()
    dataset = a_dataset("it", grow(tmp_path / "source", FILES))
    script = LostAnswer(prefix)
    with pytest.raises(Transient):
        snapshot(reopened(vault, WatchedStore(vault.store, script)), dataset)
    assert vault.records("it") == []
    assert verify_vault(vault, level=Level.CONTENT).findings == ()
    record = snapshot(vault, dataset).record
    restore(vault, record, tmp_path / "target")
    assert differences(tmp_path / "source", tmp_path / "target") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small-disk", size="8m", file_bytes_max=48 << 10) as folder:
        yield folder


def test_a_disk_that_is_really_full_is_told_as_such_until_there_is_room(tmp_path: Path, small_disk: Path) -> None:
    source = grow(tmp_path / "source", {"small": "x"})
    vault, dataset = a_vault(open_store(str(small_disk / "vault"))), a_dataset("it", source)
    before = snapshot(vault, dataset).record
    ballast = small_disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while file.write(bytes(40_000)) == 40_000:
                pass
    except OSError:
        assert ballast.stat().st_size > 0
    grow(source, {"large": some_bytes(3_000_000)})
    with pytest.raises(VaultUnwritable, match="is full"):
        snapshot(vault, dataset)
    assert [record.id for record in vault.records()] == [before.id]
    assert not [path for path in (small_disk / "vault").rglob("*") if path.name.startswith(".tmp-")]
    ballast.unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
    record = snapshot(vault, dataset).record
    assert record.totals.size_bytes == 3_000_001
    assert verify_vault(vault, level=Level.CONTENT).findings == ()
