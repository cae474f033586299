"""One writer at a time in a store that cannot create exclusively; I1 to I3 are those of :mod:`reopen.protect.alone`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reopen.errors import Conflict, NotFound, Refused, Transient
from reopen.protect import alone, lease
from reopen.protect.lease import acquire, void_dead_leases
from reopen.protect.needs import NEEDS, refused_verbs, require
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import Capabilities, Piece
from reopen.vault import Vault
from reopen.vault.create import SINGLE_WRITER
from reopen.vault.features import optional_features
from tests.kit import a_dataset, a_vault, reopened, restore, snapshot
from tests.stores import CrashAt, MemoryStore, SimulatedCrash, WatchedStore
from tests.trees import differences, grow, some_bytes

FILES = {"a": some_bytes(30_000, 1), "b/c": some_bytes(3_000, 2)}


class WeakStore(MemoryStore):
    """Looks for the name, then puts: of two racers both may win. ``meet`` makes them look before either puts."""

    meet: threading.Barrier | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(exclusive_create=False)

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        if name in self.objects:
            raise Conflict(f"{name} already exists in {self.url}.", object=name)
        if self.meet is not None:
            self.meet.wait(timeout=20)
        return self.put(name, pieces)


@pytest.fixture
def store() -> WeakStore:
    return WeakStore()


@pytest.fixture
def vault(store: WeakStore) -> Vault:
    return a_vault(store)


def test_such_a_vault_says_what_it_is(vault: Vault) -> None:
    assert optional_features(vault) == {SINGLE_WRITER}
    assert optional_features(a_vault()) == frozenset()


def test_one_writer_after_the_other_works_as_anywhere(vault: Vault, store: WeakStore, tmp_path: Path) -> None:
    source = grow(tmp_path / "source", FILES)
    first = snapshot(vault, a_dataset("one", source)).record
    second = snapshot(vault, a_dataset("two", source)).record
    (source / "a").write_bytes(some_bytes(9_000, 3))
    third = snapshot(vault, a_dataset("one", source)).record
    assert [first.seq, second.seq, third.seq] == [1, 1, 2]
    assert third.prev == first.digest
    assert store.names("alone/") == store.names("leases/") == []
    assert verify_vault(vault, level=Level.CONTENT).findings == ()
    restore(vault, third, tmp_path / "back")
    assert differences(source, tmp_path / "back") == []


def test_a_second_writer_is_refused_while_the_first_is_at_work_on_any_dataset(vault: Vault, store: WeakStore) -> None:
    held = acquire(vault, "one", "aa" * 8, 1)
    with pytest.raises(Refused, match="one writer at a time") as caught:
        acquire(reopened(vault), "two", "bb" * 8, 1)
    assert "Wait" in caught.value.hint
    assert store.names("alone/") == [alone.announcement_name("aa" * 8)]
    held.release()
    acquire(vault, "two", "cc" * 8, 1).release()
    assert store.names("alone/") == store.names("leases/") == []


def test_of_writers_that_begin_at_once_never_two_go_on(vault: Vault, store: WeakStore) -> None:
    """I1: eight threads, twenty times; that none goes on is allowed, that two do is not. What each ``create`` would do
    to another's lease is not left to chance: all of them would pass the look before the first puts."""
    for turn in range(20):
        start = threading.Barrier(8)

        def race(number: int, turn: int = turn, start: threading.Barrier = start) -> lease.Lease | None:
            start.wait(timeout=20)
            try:
                return acquire(reopened(vault), "one", f"{turn:08x}{number:08x}", 1)
            except Refused:
                return None

        with ThreadPoolExecutor(8) as pool:
            held = [found for found in pool.map(race, range(8)) if found is not None]
        assert len(held) <= 1
        for found in held:
            found.release()
        assert store.names("alone/") == []


def test_without_the_announcement_two_would_hold_one_lease(vault: Vault, store: WeakStore) -> None:
    """Shows that the danger is real: the lease alone lets both through."""
    store.meet = threading.Barrier(2)
    names = [lease.LeaseName(dataset="one", seq=1, snapshot=snapshot) for snapshot in ("aa" * 8, "bb" * 8)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: lease.write_lease(vault, name, exclusive=True), names))
    assert store.names("leases/") == ["leases/dataset=one/0000000001.json"]


def test_what_a_dead_writer_left_is_waited_for_and_then_removed(vault: Vault, store: WeakStore, tmp_path: Path) -> None:
    """I2."""
    dataset = a_dataset("one", grow(tmp_path / "source", FILES))
    crash = CrashAt(4, "after")
    with pytest.raises(SimulatedCrash):
        snapshot(reopened(vault, WatchedStore(store, crash)), dataset, workers=1)
    left = [*store.names("alone/"), *store.names("leases/")]
    assert len(left) == 2
    with pytest.raises(Refused, match="died less than 15 minutes ago"):
        snapshot(vault, dataset)
    for name in left:
        store.age(name, alone.LEASE_SECONDS + 1)
    record = snapshot(vault, dataset).record
    assert record.seq == 2, "the dead writer's number is its own until it is voided"
    for name in left:
        if name in store.objects:
            store.age(name, alone.VOID_SECONDS)
    assert snapshot(vault, dataset).voided != ()
    assert store.names("alone/") == store.names("leases/") == []


def test_a_void_waits_until_nothing_of_the_dead_can_arrive(vault: Vault, store: WeakStore) -> None:
    """I3."""
    held = acquire(vault, "one", "aa" * 8, 1)
    name = store.names("leases/")[0]
    store.age(name, lease.LEASE_SECONDS + 5)
    assert void_dead_leases(vault, "one") == []
    store.age(name, alone.VOID_SECONDS - lease.LEASE_SECONDS)
    assert void_dead_leases(vault, "one") == ["aa" * 8]
    held.release()


def test_a_lease_lasts_equally_long_in_both_modules() -> None:
    assert alone.LEASE_SECONDS == lease.LEASE_SECONDS


def test_a_failure_after_the_announcement_takes_it_back(vault: Vault, store: WeakStore) -> None:
    def fail(moment: str, operation: str, name: str) -> None:
        if moment == "before" and name.startswith("leases/") and operation == "create":
            raise Transient("no answer.")

    with pytest.raises(Transient):
        acquire(reopened(vault, WatchedStore(store, fail)), "one", "aa" * 8, 1)
    assert store.names("alone/") == []


def test_a_replica_in_such_a_store_takes_over_with_one_writer(vault: Vault, store: WeakStore, tmp_path: Path) -> None:
    """What counts is the store in use, not what vault.json says: it was made where exclusive create works."""
    source = grow(tmp_path / "source", FILES)
    strong = a_vault()
    snapshot(strong, a_dataset("one", source))
    target = WeakStore("test-memory://replica")
    execute_replicate(plan_replicate(strong, target))
    replica = reopened(strong, target)
    assert optional_features(replica) == frozenset()
    held = acquire(replica, "one", "aa" * 8, 2)
    with pytest.raises(Refused, match="one writer at a time"):
        snapshot(replica, a_dataset("one", source))
    held.release()
    assert snapshot(replica, a_dataset("one", source)).record.seq == 2
    assert target.names("alone/") == []


def test_each_verb_that_needs_exclusive_create_is_refused_with_its_reason(store: WeakStore) -> None:
    strong = MemoryStore()
    for verb, need in NEEDS.items():
        require(strong, verb)
        if not need.exclusive_create:
            require(store, verb)
            continue
        with pytest.raises(Refused, match="exclusive create, so") as caught:
            require(store, verb)
        assert need.reason in caught.value.message
        assert caught.value.hint
    assert "prune" in refused_verbs(store.capabilities)
    assert refused_verbs(strong.capabilities) == ()


def test_a_writer_is_not_alone_by_mistake_when_the_listing_fails(vault: Vault, store: WeakStore) -> None:
    def fail(moment: str, operation: str, name: str) -> None:
        if operation == "list" and name == alone.FOLDER:
            raise NotFound("the listing failed.")

    with pytest.raises(NotFound):
        acquire(reopened(vault, WatchedStore(store, fail)), "one", "aa" * 8, 1)
