"""A failover with staged versions: nothing is restored or validated twice, nothing that changed is believed (F9)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reopen.control.records import StepResult
from reopen.recover.standby.records import record_name, write_record
from reopen.recover.standby.seed import SEEDS_MAX, seeds_at
from tests.recover.standby.test_staging import BIG, FILES
from tests.recover.standby.yard import Yard


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """Everything is staged, and the validator has forgotten that it was asked."""
    made = Yard(tmp_path)
    made.write(FILES)
    made.protect()
    assert all(result.ok for result in made.stage().values())
    made.validator.asked.clear()
    return made


def details(result: Any, step: str) -> Any:
    outcome = result.outcomes[step]
    assert outcome.result is StepResult.DONE, outcome
    return outcome.details


def test_a_staged_version_is_promoted_without_a_byte_restored_or_a_check_repeated(yard: Yard) -> None:
    result = yard.fail_over()
    assert result.verdict == "met"
    assert yard.validator.names == []
    for name in yard.contracts.datasets:
        restored, validated = details(result, f"restore:{name}"), details(result, f"validate:{name}")
        assert (restored["staged"], restored["written_bytes"]) == (True, 0)
        assert [check["rule"] for check in validated["checks"]][:2] == ["integrity", "staged"]
        assert "note" not in validated
    assert yard.served("orders") == {"2026/a file with spaces.bin": BIG, "2026/b.bin": b"b" * 5000}


def orders(yard: Yard) -> Path:
    return yard.versions("orders") / yard.version_names("orders")[0]


def edit_file(yard: Yard) -> None:
    path = orders(yard) / "2026/b.bin"
    status = path.stat()
    path.write_bytes(b"X" * 5000)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "meddle",
    [
        edit_file,
        lambda yard: (orders(yard) / "2026/b.bin").unlink(),
        lambda yard: (orders(yard) / "stray.bin").write_bytes(b"stray"),
        lambda yard: shutil.rmtree(orders(yard)),
    ],
    ids=["edited, size and time kept", "removed", "thrown in", "the whole folder gone"],
)
def test_what_was_changed_is_restored_and_validated_as_if_it_were_cold(
    yard: Yard, meddle: Callable[[Yard], object]
) -> None:
    plan = yard.plan()
    meddle(yard)
    result = yard.fail_over(plan)
    assert result.verdict == "met"
    assert yard.served("orders") == {"2026/a file with spaces.bin": BIG, "2026/b.bin": b"b" * 5000}
    assert yard.validator.names in (["orders"], []), "equal bytes may be taken without another check"
    if (note := details(result, "validate:orders").get("note")) is not None:
        assert note == "validated again: files of it were found changed, and restored"


def test_an_edited_staged_file_is_validated_again_and_the_evidence_says_so(yard: Yard) -> None:
    edit_file(yard)
    found = details(yard.fail_over(), "validate:orders")
    assert found["note"] == "validated again: files of it were found changed, and restored"
    assert found["integrity"]["repaired"] == 1
    assert yard.validator.names == ["orders"]


def restage(yard: Yard, **changes: Any) -> None:
    """Replace the record of ``orders`` by one that says something else, signed as the right one was."""
    record = yard.stored("orders")[0].record
    key = yard.vault.keyring.signer("verifier")
    made = replace(record, staged=replace(record.staged, **changes))
    write_record(yard.log.store, made, sign=lambda message: (key.id, key.sign(message).hex()))


def unsign(yard: Yard) -> None:
    write_record(yard.log.store, yard.stored("orders")[0].record, sign=None)


def spoil(yard: Yard) -> None:
    version = yard.version_names("orders")[0]
    yard.log.store.put(record_name("standby", "orders", version), [b"{}"])


def sign_falsely(yard: Yard) -> None:
    """With the key of a writer, which production has."""
    key = yard.vault.keyring.signer("writer")
    record = yard.stored("orders")[0].record
    write_record(yard.log.store, record, sign=lambda message: (key.id, key.sign(message).hex()))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (lambda yard: yard.change("orders", contract_digest="22" * 32), None, "its contract has changed since"),
        (lambda yard: yard.change("customer", contract_digest="22" * 32), None, "other versions of what it depends on"),
        (lambda yard: restage(yard, related={}), None, "other versions of what it depends on"),
        (lambda yard: restage(yard, tree="00"), None, "its files are not those that were checked"),
        (unsign, None, "not signed by a verifier that counts"),
        (sign_falsely, None, "not signed by a verifier that counts"),
        (None, spoil, "it has no record of being staged"),
        (None, lambda yard: restage(yard, tree="00"), "replaced after this recovery was planned"),
    ],
    ids=["contract", "contract of another", "related", "tree", "unsigned", "wrong key", "no record", "replaced"],
)
def test_whatever_is_not_as_it_was_checked_is_validated_in_full(
    yard: Yard,
    before: Callable[[Yard], object] | None,
    after: Callable[[Yard], object] | None,
    reason: str,
) -> None:
    if before is not None:
        before(yard)
    plan = yard.plan()
    if after is not None:
        after(yard)
    result = yard.fail_over(plan)
    assert result.verdict == "met"
    assert reason in details(result, "validate:orders")["note"]
    assert details(result, "restore:orders")["staged"]
    assert "orders" in yard.validator.names


def test_a_newer_point_than_the_staged_one_is_made_beside_it_from_what_is_equal(yard: Yard) -> None:
    staged = yard.version_names("orders")
    yard.write({"orders/new": b"new"})
    yard.protect(verified=False)
    result = yard.fail_over(yard.plan(point="latest"))
    found = details(result, "restore:orders")
    assert (found["staged"], found["copied_bytes"], found["written_bytes"]) == (False, 45_000, 3)
    assert "orders" in yard.validator.names
    assert yard.served("orders")["new"] == b"new"
    assert set(staged) < set(yard.version_names("orders")), "the staged version is nobody's to change"


def test_a_returning_primary_s_folder_is_copied_from_and_kept(tmp_path: Path) -> None:
    """What stood at the place, with late writes, is kept by name; what equals the recovery point is not fetched."""
    yard = Yard(tmp_path)
    yard.write(FILES)
    yard.protect()
    shutil.copytree(yard.folder / "production/orders", yard.standby / "orders")
    (yard.standby / "orders/late").write_bytes(b"late order")
    (yard.standby / "orders/2026/b.bin").write_bytes(b"changed")
    found = details(yard.fail_over(), "restore:orders")
    assert (found["copied_bytes"], found["written_bytes"]) == (len(BIG), 5000)
    assert yard.served("orders") == {"2026/a file with spaces.bin": BIG, "2026/b.bin": b"b" * 5000}
    assert (yard.versions("orders") / "kept-epoch-1/late").read_bytes() == b"late order"


def test_no_more_folders_are_looked_into_than_pays(yard: Yard) -> None:
    for number in range(9):
        (yard.versions("orders") / f"kept-epoch-{number}").mkdir()
    seeds = seeds_at(yard.vault, str(yard.standby / "orders"), "orders", version="0000000009-0123456789abcdef")
    assert len(seeds) == SEEDS_MAX
    assert (seeds[0].manifest is not None, seeds[1].manifest) == (True, None)


def test_what_the_business_wrote_after_the_promotion_survives_a_driver_that_comes_again(yard: Yard) -> None:
    """The promotion stands and its step failed (the pointer could not be made): the next driver restores nothing."""
    plan, verbs = yard.plan(), yard.verbs

    def refuse(datasets: Any) -> Any:
        raise OSError("no pointer today")

    verbs.publish = refuse  # type: ignore[method-assign]
    first = yard.fail_over(plan, verbs)
    assert first.outcomes["promote:customer"].result is StepResult.FAILED
    written = yard.versions("customer") / plan.dataset("customer").version / "written by the business"
    written.write_bytes(b"new customer")
    (written.parent / "names.txt").write_bytes(b"anna, who moved")
    second = yard.fail_over(plan)
    assert second.verdict == "met", second.measured
    assert yard.served("customer") == {"names.txt": b"anna, who moved", written.name: b"new customer"}


READER = """
import os, sys
place, database = sys.argv[1:]
import duckdb
seen = set()
print("ready", flush=True)
while not os.path.exists(sys.argv[1] + ".stop"):
    # The link, resolved once: everything is read below what it led to then.
    root = os.path.realpath(place)
    texts = {open(os.path.join(root, name)).read() for name in sorted(os.listdir(root))}
    assert len(texts) == 1, texts
    with duckdb.connect(database, read_only=True) as con:
        values = con.execute("SELECT DISTINCT version FROM numbers").fetchall()
        count = con.execute("SELECT count(*) FROM numbers").fetchone()
    assert len(values) == 1 and count == (400,), (values, count)
    seen.add((texts.pop(), values[0][0]))
    print("read", flush=True)
print(len(seen), flush=True)
"""


def test_a_reader_sees_one_version_whole_while_versions_switch(tmp_path: Path) -> None:
    """Through the resolved link and through the database's views. By the link's name file after file, a reader could
    meet a switch: nothing of the file system's prevents that, and docs/0012 says so."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from reopen.contracts.load import Contracts
    from reopen.recover.standby.links import point_place
    from reopen.recover.standby.versions import version_name, version_url
    from reopen.recover.standby.views import make_views
    from reopen.storage.local import LocalStore
    from tests.recover.standby.test_views import a_table

    place, database = tmp_path / "texts", tmp_path / "serving"
    numbers = Contracts(datasets={"numbers": a_table("numbers")})

    def switch(number: int) -> None:
        version = version_name(number, "0123456789abcdef")
        for name in ("texts", "numbers"):
            Path(version_url(str(tmp_path / name), name, version)).mkdir(parents=True)
        texts = Path(version_url(str(place), "texts", version))
        tables = Path(version_url(str(tmp_path / "numbers"), "numbers", version))
        for part in range(4):
            (texts / f"part-{part}").write_text(str(number))
            pq.write_table(pa.table({"key": range(100), "version": [number] * 100}), tables / f"{part}.parquet")
        point_place(str(place), "texts", version, epoch=1, mark={})
        LocalStore(database).put("serving.duckdb", [make_views(numbers, {"numbers": str(tables)}).data])

    switch(1)
    command = [sys.executable, "-c", READER, str(place), str(database / "serving.duckdb")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for number in range(2, 30):
            switch(number)
            if number % 4 == 0:
                assert reader.stdout.readline() == "read\n"
        Path(f"{place}.stop").touch()
        output, errors = reader.communicate(timeout=60)
    assert reader.returncode == 0, errors
    assert int(output.split()[-1]) > 2, "it must have read while versions switched"
