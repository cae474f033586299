"""Many small objects of a store that is far away: read several at once, each once, with the results of one by one."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from reopen.errors import NotFound, Transient
from reopen.vault.clean import standing_of
from reopen.vault.reading import READERS, read_each
from tests.kit import a_dataset, a_vault, reopened, snapshot
from tests.stores import MemoryStore, WatchedStore

NAMES = [f"o/{number:03d}" for number in range(3 * READERS)]


def test_objects_come_in_the_order_of_their_names_and_one_that_is_gone_in_its_place() -> None:
    store = MemoryStore()
    for name in NAMES[1:]:
        store.put(name, [name.encode()])
    found = list(read_each(store, NAMES))
    assert [name for name, _ in found] == NAMES
    assert isinstance(found[0][1], NotFound)
    assert [data for _, data in found[1:]] == [name.encode() for name in NAMES[1:]]


def test_a_store_far_away_is_asked_for_several_at_once() -> None:
    together = threading.Barrier(READERS)
    store = MemoryStore()
    for name in NAMES:
        store.put(name, [b"x"])

    def wait_for_others(moment: str, operation: str, name: str) -> None:
        if moment == "before" and operation == "get":
            together.wait(timeout=60)

    assert len(list(read_each(WatchedStore(store, wait_for_others), NAMES))) == len(NAMES)


def test_a_store_that_stops_answering_is_not_asked_for_all_the_others() -> None:
    def silent(moment: str, operation: str, name: str) -> None:
        raise Transient(f"{name}: nobody answers.")

    names = [f"o/{number}" for number in range(2000)]
    store = WatchedStore(MemoryStore(), silent)
    with pytest.raises(Transient):
        list(read_each(store, names))
    assert len(store.calls) < len(names)


def test_records_read_once_give_the_suspicion_that_reading_them_again_gives(tmp_path: Path) -> None:
    vault = a_vault(MemoryStore())
    dataset = a_dataset("papers", tmp_path / "papers")
    dataset_folder = tmp_path / "papers"
    dataset_folder.mkdir()
    for number in range(READERS + 2):
        for file in range(5):
            (dataset_folder / f"{file}{'.locked' if number == 4 else ''}").write_text(f"{number} {file}")
        if number == 4:
            for file in range(5):
                (dataset_folder / f"{file}").unlink()
        snapshot(vault, dataset)
    watched = WatchedStore(vault.store)
    far = reopened(vault, watched)
    watched.calls.clear()

    records, invalid = far.read_records("papers")
    standing = standing_of(far, "papers", records=records)

    assert not invalid
    assert [record.seq for record in records] == list(range(1, READERS + 3))
    assert standing.unclean == vault.unclean("papers") != {}
    reads = Counter(name for operation, name in watched.calls if operation == "get" and name.startswith("snapshots/"))
    assert reads == {record.name: 1 for record in records}
