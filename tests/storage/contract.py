"""The store contract: what every store must do, as one class of tests that each store's own test class inherits.

The letters D1 to D5 are the demands of :mod:`reopen.storage.base`.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from reopen.errors import Conflict, Corrupt, NotFound, ReopenError
from reopen.storage import ObjectStore, probe_exclusive_create

ODD_NAMES = (
    "snapshots/dataset=orders/0000000001-00ff.json",
    "manifests/key=1/dataset=a_b-c/snapshot=0/part-00000.parquet",
    "odd/with space",
    "odd/per%20cent",
    "odd/a+b,c;d!e(f)g'h@i$j&k~l",
    "odd/UPPER.and.dots..txt",
    "odd/" + "n" * 200,
)


def names_in(store: ObjectStore) -> list[str]:
    """What is in a store, without probes: a server that lets every racer win (rclone's) was seen to finish one of them
    after the probe was removed, under load."""
    return [info.name for info in store.list() if not info.name.startswith("probe/")]


class StoreContract:
    """Tests over the fixture ``store``: an empty store, with ``capabilities`` as it claims them."""

    may_list_twice = False
    """A name that several have just put at once: rclone's servers were seen to list it twice. A vault's names are put
    once, by one."""

    def test_an_object_reads_back_as_written(self, store: ObjectStore) -> None:
        assert store.put("a/b", [b"one", bytearray(b"two"), memoryview(b"three")]) == 11
        assert store.get("a/b") == b"onetwothree"

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        assert store.put("empty", []) == 0
        assert store.get("empty") == b""
        assert store.head("empty").size_bytes == 0
        assert names_in(store) == ["empty"]

    def test_many_pieces_are_written_in_order(self, store: ObjectStore) -> None:
        pieces = [bytes([number % 251]) * (number % 7) for number in range(3000)]
        assert store.create("many", pieces) == len(b"".join(pieces))
        assert store.get("many") == b"".join(pieces)

    def test_put_replaces(self, store: ObjectStore) -> None:
        store.put("a", [b"long before"])
        store.put("a", [b"new"])
        assert store.get("a") == b"new"

    def test_create_refuses_what_exists_and_leaves_it_alone(self, store: ObjectStore) -> None:
        store.create("a", [b"first"])
        with pytest.raises(Conflict):
            store.create("a", [b"second"])
        assert store.get("a") == b"first"

    def test_of_many_racers_at_most_one_creates(self, store: ObjectStore) -> None:
        """D3: sixteen threads start together; where exclusive create is claimed one wins, and its bytes stay."""
        racers = 16
        start = threading.Barrier(racers)

        def race(number: int) -> int | None:
            start.wait()
            try:
                store.create("raced", [f"racer {number}".encode()])
            except Conflict:
                return None
            return number

        with ThreadPoolExecutor(racers) as pool:
            winners = [number for number in pool.map(race, range(racers)) if number is not None]
        if store.capabilities.exclusive_create:
            assert len(winners) == 1
            assert store.get("raced") == f"racer {winners[0]}".encode()
        else:
            assert len(winners) >= 1

    def test_readers_see_whole_objects_only(self, store: ObjectStore) -> None:
        """D1: while one thread replaces an object again and again, every read is one of the versions."""
        versions = [bytes([number]) * 50_000 for number in range(8)]
        store.put("torn", [versions[0]])
        done = threading.Event()

        def write() -> None:
            for version in versions:
                store.put("torn", [version[:20_000], version[20_000:]])
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            while not done.is_set():
                assert store.get("torn") in versions
        finally:
            writer.join()

    def test_a_range_is_exactly_what_was_asked_for(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * 40
        store.put("r", [data])
        for start, length in ((0, 1), (0, len(data)), (255, 300), (len(data) - 1, 1)):
            assert store.get_range("r", start, length) == data[start : start + length]

    @pytest.mark.parametrize(("start", "length"), [(0, 11), (9, 2), (10, 1), (500, 3)])
    def test_a_range_past_the_end_is_corrupt(self, store: ObjectStore, start: int, length: int) -> None:
        store.put("short", [b"0123456789"])
        with pytest.raises(Corrupt):
            store.get_range("short", start, length)

    def test_what_is_not_there_is_not_found(self, store: ObjectStore) -> None:
        store.put("folder/object", [b"x"])
        for name in ("nothing", "folder/nothing", "other/nothing"):
            with pytest.raises(NotFound, match="nothing"):
                store.get(name)
            with pytest.raises(NotFound):
                store.get_range(name, 0, 1)
            with pytest.raises(NotFound):
                store.head(name)

    def test_delete_may_be_repeated(self, store: ObjectStore) -> None:
        store.put("folder/gone", [b"x"])
        store.delete("folder/gone")
        store.delete("folder/gone")
        store.delete("never/was")
        assert names_in(store) == []
        with pytest.raises(NotFound):
            store.get("folder/gone")

    def test_a_listing_is_in_bytewise_order_of_whole_names(self, store: ObjectStore) -> None:
        """``a-b`` sorts before ``a/b`` and ``a/b`` before ``a0``: a walk folder by folder gets that wrong."""
        names = ["a/b", "a-b/c", "a0", "a/b-1", "a/b/c", "A", "b", "a/Z", "a.b"]
        names.remove("a/b")  # An object and a folder of one name cannot both be in a file system.
        for name in names:
            store.put(name, [name.encode()])
        listed = list(store.list())
        assert [info.name for info in listed] == sorted(names, key=str.encode)
        assert [info.size_bytes for info in listed] == [len(name) for name in sorted(names, key=str.encode)]

    def test_a_prefix_may_end_inside_a_segment(self, store: ObjectStore) -> None:
        names = ["s/dataset=a/1", "s/dataset=ab/1", "s/dataset=b/1", "s2/x", "t"]
        for name in names:
            store.put(name, [b"x"])

        def listed(prefix: str) -> list[str]:
            return [info.name for info in store.list(prefix)]

        assert listed("s/dataset=a") == ["s/dataset=a/1", "s/dataset=ab/1"]
        assert listed("s/dataset=a/") == ["s/dataset=a/1"]
        assert listed("s") == ["s/dataset=a/1", "s/dataset=ab/1", "s/dataset=b/1", "s2/x"]
        assert listed("s/dataset=b/1") == ["s/dataset=b/1"]
        assert listed("t") == ["t"]
        assert listed("u") == listed("u/v") == listed("t/u") == []

    def test_a_listing_of_nothing_is_empty(self, store: ObjectStore) -> None:
        assert names_in(store) == []
        assert list(store.list("packs/")) == []

    def test_a_listing_shows_every_write_that_returned(self, store: ObjectStore) -> None:
        """D4, also when an earlier listing was remembered somewhere."""
        for number in range(5):
            store.put(f"p/{number}", [b"x"])
            assert len(list(store.list("p/"))) == number + 1

    @pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
    def test_legal_names_survive(self, store: ObjectStore, name: str) -> None:
        store.create(name, [b"odd"])
        assert store.get(name) == b"odd"
        assert store.head(name).name == name
        assert [info.name for info in store.list(name[:5])] == [name]
        store.delete(name)
        assert names_in(store) == []

    def test_a_listing_goes_on_past_a_thousand(self, store: ObjectStore) -> None:
        """Servers give a listing in pages of 1,000; one that forgot to ask for the next would look like a loss."""
        names = [f"many/{number:04}" for number in range(1_050)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: store.put(name, [b"x"]), names))
        assert [info.name for info in store.list("many/")] == names
        assert [info.name for info in store.list("many/104")] == names[1040:]

    def test_an_object_of_many_megabytes_is_one_object(self, store: ObjectStore) -> None:
        """Larger than what libraries cut uploads at (5 and 8 MiB), created exclusively all the same."""
        piece = bytes(range(256)) * 4096
        assert store.create("big", [piece] * 20) == 20 * len(piece)
        assert store.head("big").size_bytes == 20 * len(piece)
        assert store.get_range("big", 9 * len(piece) - 3, 6) == piece[-3:] + piece[:3]
        with pytest.raises(Conflict):
            store.create("big", [piece] * 19)
        assert hashlib.sha256(store.get("big")).digest() == hashlib.sha256(piece * 20).digest()
        assert names_in(store) == ["big"]

    def test_a_write_that_fails_changes_nothing(self, store: ObjectStore) -> None:
        """D6: a piece that cannot be written ends it; what had the name keeps it, and nothing else is left."""
        store.put("kept", [b"before"])

        broken: Any = [b"half of it", "no bytes"]
        for write in (store.put, store.create):
            for name in ("kept", "new"):
                with pytest.raises((ReopenError, TypeError)):
                    write(name, broken)
        assert store.get("kept") == b"before"
        assert names_in(store) == ["kept"]

    def test_many_threads_write_and_read_their_own(self, store: ObjectStore) -> None:
        """Answers are not mixed up among threads that share a store."""

        def own(number: int) -> None:
            data = bytes([number]) * (1_000 + number * 500)
            for turn in range(4):
                name = f"own/{number}/{turn}"
                store.create(name, [data])
                assert store.get(name) == data
                assert store.get_range(name, 500, 100) == data[500:600]
                assert store.head(name).size_bytes == len(data)
            store.delete(f"own/{number}/0")

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(own, range(12)))
        assert len(list(store.list("own/"))) == 36

    def test_many_threads_replace_one_object_whole(self, store: ObjectStore) -> None:
        """D1 for many writers: the last one's bytes stay, whole."""
        versions = [bytes([number]) * 40_000 for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda version: store.put("shared", [version]), versions))
        assert store.get("shared") in versions
        found = names_in(store)
        assert (sorted(set(found)) if self.may_list_twice else found) == ["shared"], found

    def test_times_are_of_one_clock(self, store: ObjectStore) -> None:
        """A head's time and ``now`` come from the same clock; object stores count whole seconds."""
        store.put("timed", [b"x"])
        written = store.head("timed").modified_at
        now = store.now()
        assert written.tzinfo is not None
        assert now.tzinfo is not None
        assert abs(now - written) < timedelta(seconds=60)
        assert names_in(store) == ["timed"]

    def test_the_probe_says_what_the_store_claims_and_leaves_nothing(self, store: ObjectStore) -> None:
        assert probe_exclusive_create(store) is store.capabilities.exclusive_create
        assert store.capabilities.is_proven
        if store.capabilities.exclusive_create:
            assert list(store.list()) == []
