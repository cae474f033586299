"""A store that fails in every way a store fails: nothing committed is lost, the error is the right one, and the verb
done again comes to its end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.clock import Clock
from reopen.errors import ReopenError, Transient
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import ObjectStore
from reopen.vault import SnapshotRecord, Vault, packwriter
from tests import proof
from tests.crash.crashes import Trees, small_vault
from tests.faults.scripts import BrokenListing, JumpingClock, StaleListing, TornWrite, Unreliable, unavailable
from tests.kit import a_dataset, reopened, restore, snapshot
from tests.stores import READS, ActAt, MemoryStore, Moment, WatchedStore
from tests.trees import age, differences, grow, some_bytes

FILES = {"a": some_bytes(40_000, 1), "b/c": some_bytes(3_000, 2), "d": b""}
SEEDS = 12
TRIES_MAX = 60


class Scene:
    """A vault with one snapshot, and a source that has changed since."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.base, self.vault = small_vault()
        self.trees = Trees(work)
        before = grow(work / "before", FILES)
        self.source = grow(work / "source", FILES)
        self.dataset = a_dataset("it", self.source)
        self.first = snapshot(self.vault, a_dataset("it", before)).record
        self.trees.expect(self.first, before)
        (self.source / "a").write_bytes(some_bytes(30_000, 3))
        age(self.source)

    def snapshot(self, store: ObjectStore, clock: Clock | None = None) -> SnapshotRecord:
        vault = Vault.open(store, self.vault.keyring, clock=clock or self.vault.clock)
        return snapshot(vault, self.dataset, workers=1).record

    def is_whole(self, store: MemoryStore) -> None:
        """Every snapshot restores, and no check finds anything."""
        self.trees.check(reopened(self.vault, store), otherwise=self.source)

    def ends_well(self, store: MemoryStore) -> None:
        """Whole as it is; and with a store that works, the snapshot is taken and restores."""
        self.is_whole(store)
        self.trees.expect(self.snapshot(store), self.source)
        self.is_whole(store)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 2)
    return Scene(tmp_path)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_write_that_is_not_answered_is_told_and_done_again(scene: Scene, moment: Moment) -> None:
    """503 and time-outs: the n-th write fails, before or after it took effect, for every n."""
    for number in itertools.count():
        store, fault = scene.base.clone(), ActAt(number, moment, unavailable)
        try:
            record = scene.snapshot(WatchedStore(store, fault))
        except Transient:
            assert fault.acted
        else:
            scene.trees.expect(record, scene.source)
            if not fault.acted:
                break
        scene.ends_well(store)
    assert number > 6
    proof.count("fault points", number)


def test_a_read_that_is_not_answered_is_told_and_done_again(scene: Scene) -> None:
    for number in itertools.count():
        store, fault = scene.base.clone(), ActAt(number, "before", unavailable, READS)
        try:
            record = scene.snapshot(WatchedStore(store, fault))
        except Transient:
            assert fault.acted
        else:
            scene.trees.expect(record, scene.source)
            if not fault.acted:
                break
        if number % 4 == 0:
            scene.ends_well(store)
        else:
            assert verify_vault(reopened(scene.vault, store), level=Level.STRUCTURE, record=False).findings == ()
    assert number > 8
    proof.count("fault points", number)


VERBS: dict[str, Callable[[Scene, ObjectStore, MemoryStore], object]] = {
    "snapshot": lambda scene, store, other: scene.snapshot(store),
    "verify": lambda scene, store, other: verify_vault(reopened(scene.vault, store), level=Level.CONTENT, workers=1),
    "repair": lambda scene, store, other: execute_repair(plan_repair(reopened(scene.vault, store))),
    "replicate from": lambda scene, store, other: execute_replicate(
        plan_replicate(reopened(scene.vault, store), other), workers=1
    ),
    "replicate to": lambda scene, store, other: execute_replicate(
        plan_replicate(reopened(scene.vault, other), store), workers=1
    ),
    "restore": lambda scene, store, other: restore(reopened(scene.vault, store), scene.first, scene.work / "target"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_on_an_unreliable_store_comes_to_its_end_when_it_is_repeated(scene: Scene, verb: str) -> None:
    """One call in twenty fails, by seed. The verb is started again, as a task would, until it gets through."""
    faults = 0
    for seed in range(SEEDS):
        store, other = scene.base.clone(), scene.base.clone("test-memory://other")
        if verb == "replicate from":
            other = MemoryStore("test-memory://other")
        elif verb == "replicate to":
            store = MemoryStore("test-memory://store")
        elif verb == "repair":
            for name in store.names("index/"):
                if name.endswith(".parquet"):
                    store.delete(name)
        fault = Unreliable(seed, 0.05)
        for _ in range(TRIES_MAX):
            try:
                VERBS[verb](scene, WatchedStore(store, fault), other)
                break
            except Transient:
                assert fault.faults
        else:
            raise AssertionError("it never got through")
        for place in (store, other):
            scene.is_whole(place)
        faults += fault.faults
    if verb == "restore":
        assert differences(scene.work / "before", scene.work / "target") == []
    assert faults > 3
    proof.count("fault points", faults)


def test_a_listing_that_breaks_off_is_never_taken_for_a_short_one(scene: Scene) -> None:
    for number in itertools.count():
        inner = scene.base.clone()
        store = BrokenListing(inner, number)
        try:
            record = scene.snapshot(store)
        except Transient:
            assert store.broke
        else:
            scene.trees.expect(record, scene.source)
            if not store.broke:
                break
        scene.ends_well(inner)
    assert number > 4
    proof.count("fault points", number)


@pytest.mark.parametrize("lag", [1, 2, 5, 20])
def test_a_stale_listing_costs_no_snapshot(scene: Scene, lag: int) -> None:
    """A store must not do this (D4). What it costs is order and space, never content."""
    store = scene.base.clone()
    for _ in range(3):
        try:
            record = scene.snapshot(StaleListing(store, lag))
        except ReopenError:
            continue  # It may well notice.
        scene.trees.expect(record, scene.source)
    vault = reopened(scene.vault, store)
    for number, record in enumerate(vault.records()):
        restore(vault, record, scene.work / f"stale-{number}")
        tree = scene.work / "before" if record.id == scene.first.id else scene.source
        assert differences(tree, scene.work / f"stale-{number}") == []
    proof.count("fault points", 3)


def test_a_torn_write_is_found_and_mended(scene: Scene) -> None:
    """A store must not do this either (D1): half an object under its name. The check names it and nothing else, and a
    repair clears the way."""
    for number in itertools.count():
        clean = scene.base.clone()
        store = TornWrite(clean, number)
        try:
            scene.snapshot(store)
        except ReopenError:
            assert store.torn
        if not store.torn:
            break
        vault = reopened(scene.vault, clean)
        found = {finding.object for finding in verify_vault(vault, level=Level.CONTENT, record=False).findings}
        assert found <= {store.torn}, store.torn
        execute_repair(plan_repair(vault))
        restore(vault, scene.first, scene.work / f"torn-{number}")
        assert differences(scene.work / "before", scene.work / f"torn-{number}") == []
        record = scene.snapshot(clean)
        restore(vault, record, scene.work / f"mended-{number}")
        assert differences(scene.source, scene.work / f"mended-{number}") == []
    assert number > 4
    proof.count("fault points", number)


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_is_set_during_a_snapshot_changes_nothing_but_times(scene: Scene, days: int) -> None:
    for calls in range(8):
        store = scene.base.clone()
        record = scene.snapshot(store, JumpingClock(calls, timedelta(days=days)))
        assert record.seq == 2
        scene.trees.expect(record, scene.source)
        scene.ends_well(store)
    proof.count("fault points", 8)


def test_damage_stated_by_a_clock_that_runs_late_still_takes_an_earlier_proof_back(scene: Scene) -> None:
    """The newest fact decides, and which one is newest must not hang on a clock that somebody has set."""
    store = scene.base.clone()
    verify_vault(reopened(scene.vault, store), level=Level.CONTENT)
    assert reopened(scene.vault, store).find("it", "last-verified").id == scene.first.id
    for name in store.names("packs/"):
        store.replace(name, store.get(name)[:-1])
        store.replace(name, bytes(len(store.get(name))))
    yesterday = Vault.open(store, scene.vault.keyring, clock=JumpingClock(0, timedelta(days=-1)))
    assert not verify_vault(yesterday, level=Level.CONTENT).ok
    with pytest.raises(ReopenError, match="no complete snapshot that was verified"):
        reopened(scene.vault, store).find("it", "last-verified")
