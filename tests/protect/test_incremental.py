"""What the next snapshot reads, stores and says changed."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reopen.clock import FixedClock
from reopen.errors import NotFound
from reopen.vault import Vault
from tests.kit import SITE, a_dataset, a_vault, restore, rows_of, snapshot, watched
from tests.trees import OLD_NS, age, differences, grow, some_bytes

FILES = {"a": b"first", "b/c": some_bytes(40_000, 1), "b/d": b"", "e": some_bytes(500, 2)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return grow(tmp_path / "source", FILES)


def changes(vault: Vault, dataset: Any) -> dict[str, str]:
    """Take a snapshot; what it says changed, unchanged entries left out."""
    record = snapshot(vault, dataset).record
    return {path: row["change"] for path, row in rows_of(vault, record).items() if row["change"] != "unchanged"}


def test_an_unchanged_dataset_is_not_read_and_its_manifest_is_reused(source: Path) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    first = snapshot(vault, dataset)
    with watched(vault, dataset) as files:
        assert files.opened == []
    second, third = vault.records("it")[1], snapshot(vault, dataset)
    assert not first.reused_manifest
    assert third.reused_manifest
    # Never a chain: the third names the owner itself.
    assert second.manifest == third.record.manifest == first.record.manifest
    assert (third.record.totals.read_files, third.record.totals.packs, third.record.totals.unchanged) == (0, 0, 5)
    assert [record.seq for record in vault.records("it")] == [1, 2, 3]
    assert third.record.prev == second.digest


def test_a_file_written_just_before_a_scan_is_read_again(source: Path) -> None:
    """Within two seconds of the scan a further write may leave no visible trace."""
    clock = FixedClock(datetime.now(UTC))
    vault, dataset = a_vault(clock=clock), a_dataset("it", source)
    second_ns = 10**9
    scan_ns = int(clock.now().timestamp()) * second_ns
    os.utime(source / "a", ns=(scan_ns, scan_ns - 2 * second_ns))
    os.utime(source / "e", ns=(scan_ns, scan_ns - 3 * second_ns))
    snapshot(vault, dataset)
    clock.advance(timedelta(hours=1))
    with watched(vault, dataset) as files:
        assert files.opened == [b"a"]
    assert vault.records("it")[1].manifest == vault.records("it")[0].manifest
    with watched(vault, dataset) as files:
        assert files.opened == [], "after an hour the file has settled"


def test_touching_a_file_is_a_change_of_metadata_only(source: Path) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    snapshot(vault, dataset)
    os.utime(source / "b/c", ns=(OLD_NS, OLD_NS + 5))
    record = snapshot(vault, dataset).record
    assert {path: row["change"] for path, row in rows_of(vault, record).items()}["b/c"] == "metadata"
    assert (record.totals.metadata, record.totals.modified, record.totals.new_raw_bytes) == (1, 0, 0)


def test_a_change_of_mode_is_recorded_and_restored(source: Path, tmp_path: Path) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    snapshot(vault, dataset)
    os.chmod(source / "a", 0o600)
    assert changes(vault, dataset) == {"a": "metadata"}
    restore(vault, vault.find("it"), tmp_path / "target")
    assert differences(source, tmp_path / "target") == []


def test_new_bytes_under_an_old_size_and_time_are_found(source: Path) -> None:
    """The change time gives away a file that was written and then given its old size and modification time."""
    vault, dataset = a_vault(), a_dataset("it", source)
    snapshot(vault, dataset)
    before = (source / "a").stat()
    while (source / "a").stat().st_ctime_ns == before.st_ctime_ns:
        (source / "a").write_bytes(b"FIRST")
        os.utime(source / "a", ns=(OLD_NS, before.st_mtime_ns))
    assert (source / "a").stat().st_mtime_ns == before.st_mtime_ns
    assert changes(vault, dataset) == {"a": "modified"}


def test_another_file_moved_into_place_with_the_same_size_and_time_is_found(source: Path) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    snapshot(vault, dataset)
    grow(source.parent / "other", {"a": b"FIRST"})
    os.rename(source.parent / "other" / "a", source / "a")
    os.utime(source, ns=(OLD_NS, OLD_NS))
    assert changes(vault, dataset) == {"a": "modified"}


def test_a_file_replaced_by_a_folder_and_the_reverse_come_back(source: Path, tmp_path: Path) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    snapshot(vault, dataset)
    (source / "a").unlink()
    (source / "b" / "c").unlink()
    (source / "b" / "d").unlink()
    (source / "b").rmdir()
    grow(source, {"a/inner": b"x", "b": b"now a file"})
    record = snapshot(vault, dataset).record
    kinds = {path: (row["type"], row["change"]) for path, row in rows_of(vault, record).items()}
    assert kinds["a"] == ("dir", "modified")
    assert kinds["b"] == ("file", "modified")
    assert record.totals.removed == 2
    restore(vault, record, tmp_path / "target")
    assert differences(source, tmp_path / "target") == []


def test_a_renamed_file_stores_no_new_byte(source: Path) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    snapshot(vault, dataset)
    os.rename(source / "b" / "c", source / "b" / "moved")
    record = snapshot(vault, dataset).record
    assert (record.totals.added, record.totals.removed) == (1, 1)
    assert (record.totals.new_raw_bytes, record.totals.stored_bytes, record.totals.packs) == (0, 0, 0)


def test_a_second_copy_stores_nothing_in_this_snapshot_and_across_datasets(source: Path, tmp_path: Path) -> None:
    vault = a_vault()
    (source / "b" / "copy").write_bytes(FILES["b/c"])
    first = snapshot(vault, a_dataset("it", source)).record
    assert first.totals.new_raw_bytes == sum(map(len, FILES.values()))
    other = snapshot(vault, a_dataset("other", grow(tmp_path / "other", {"same": FILES["b/c"]}))).record
    assert (other.totals.read_bytes, other.totals.new_raw_bytes) == (40_000, 0)


def test_what_was_removed_is_counted_and_stays_in_the_snapshot_before(source: Path, tmp_path: Path) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    first = snapshot(vault, dataset).record
    (source / "e").unlink()
    second = snapshot(vault, dataset).record
    assert second.totals.removed == 1
    assert "e" not in rows_of(vault, second)
    restore(vault, first, tmp_path / "target")
    assert (tmp_path / "target" / "e").read_bytes() == FILES["e"]


def test_chunks_whose_pack_is_gone_are_read_and_stored_again(source: Path, tmp_path: Path) -> None:
    """An unchanged file is carried over only while every chunk of it is there: a snapshot heals what it can."""
    vault, dataset = a_vault(), a_dataset("it", source)
    snapshot(vault, dataset)
    for name in [info.name for info in vault.store.list("packs/")]:
        vault.store.delete(name)
    record = snapshot(vault, dataset).record
    assert record.totals.read_files == 3, "the empty file has no chunk to lose"
    restore(vault, record, tmp_path / "target")
    assert differences(source, tmp_path / "target") == []


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ({"include": ("*.csv",)}, {"a.csv", "sub", "sub/b.csv", "sub/skip", "sub/skip/c.csv"}),
        ({"include": ("/*.csv",)}, {"a.csv"}),
        ({"exclude": ("skip/", "*.tmp")}, {"a.csv", "sub", "sub/b.csv", "void"}),
        ({"include": ("sub/",), "exclude": ("sub/skip",)}, {"sub", "sub/b.csv", "sub/x.tmp"}),
    ],
)
def test_patterns_decide_what_is_protected(tmp_path: Path, patterns: Any, expected: set[str]) -> None:
    """Under ``include`` a folder is kept only for what lies in it; an excluded folder takes all below with it."""
    source = grow(tmp_path / "source", dict.fromkeys(("a.csv", "sub/b.csv", "sub/x.tmp", "sub/skip/c.csv"), b"x"))
    (source / "void").mkdir()
    vault = a_vault()
    record = snapshot(vault, a_dataset("it", source, **patterns)).record
    assert set(rows_of(vault, record)) == expected


def test_an_empty_dataset_is_a_snapshot_too(tmp_path: Path) -> None:
    source = grow(tmp_path / "source", {})
    vault, dataset = a_vault(), a_dataset("it", source)
    record = snapshot(vault, dataset).record
    assert (record.state, record.totals.entries) == ("complete", 0)
    assert snapshot(vault, dataset).reused_manifest
    restore(vault, record, tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_a_missing_folder_is_not_taken_for_an_empty_one(source: Path, tmp_path: Path) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    snapshot(vault, dataset)
    source.rename(tmp_path / "unmounted")
    with pytest.raises(NotFound, match="nothing to protect"):
        snapshot(vault, dataset)
    assert len(vault.records("it")) == 1
    assert list(vault.store.list("leases/")) == []


def test_what_is_found_by_time_is_the_state_of_that_time(source: Path) -> None:
    clock = FixedClock()
    vault, dataset = a_vault(clock=clock), a_dataset("it", source)
    first = snapshot(vault, dataset).record
    clock.advance(timedelta(minutes=5))
    second = snapshot(vault, dataset).record
    assert vault.find("it", "at:2026-01-01T00:04:00Z").id == first.id
    assert vault.find("it", "at:2026-01-01T00:05:00Z").id == second.id
    assert second.site == SITE


def test_the_times_of_a_snapshot_are_in_order(source: Path) -> None:
    started = time.time()
    record = snapshot(a_vault(), a_dataset("it", source)).record
    assert started <= record.consistent_at.timestamp()
    assert record.consistent_at == record.scan_started_at <= record.scan_ended_at <= record.committed_at


def test_ageing_a_tree_leaves_it_unread(source: Path) -> None:
    """Guards the other tests: what they call old really is carried over, whatever its kind."""
    vault, dataset = a_vault(), a_dataset("it", source)
    age(source)
    snapshot(vault, dataset)
    with watched(vault, dataset) as files:
        assert files.opened == []


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_manifest_does_not_stop_the_next_snapshot(source: Path, tmp_path: Path, damaged: int) -> None:
    """It is compared with the newest snapshot that can be read, says so, and stores nothing twice."""
    vault, dataset = a_vault(), a_dataset("it", source)
    records = [snapshot(vault, dataset).record]
    age(grow(source, {"more": b"of it"}))
    records.append(snapshot(vault, dataset).record)
    for record in records[-damaged:]:
        (part,) = record.manifest.parts
        vault.store.put(part.name, [vault.store.get(part.name)[:-100]])
    taken = snapshot(vault, dataset)
    compared = records[0].id if damaged == 1 else "nothing"
    assert f"compared with {compared}" in taken.note
    assert records[1].manifest.parts[0].name in taken.note
    assert (taken.record.prev, taken.record.state) == (records[1].digest, "complete")
    assert taken.record.totals.new_raw_bytes == 0
    restore(vault, taken.record, tmp_path / "back")
    assert differences(source, tmp_path / "back") == []
