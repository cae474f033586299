"""Histories of a vault and its replica, made by Hypothesis, against a plain dict of what was protected.

Snapshots of changed and unchanged sources, verbs that die at any mutation, lost packs and index parts, holds, expiry,
prune, time that passes: whatever the order, what was committed and not let go restores to its tree.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reopen.contracts.model import RetentionRule
from reopen.errors import Conflict, NotFound, Refused
from reopen.ids import seeded_random
from reopen.protect.prune.prune import execute_prune, plan_prune
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.retain.holds import active_holds, place_hold, release_hold
from reopen.protect.retain.retain import execute_retain, plan_retain
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import ObjectStore
from reopen.vault import SnapshotRecord, Vault, make_keys, packwriter
from reopen.vault.record import pack_name
from reopen.vault.statements import read_statements
from tests import proof
from tests.aged import AgedStore
from tests.kit import a_dataset, a_vault, reopened, restore, snapshot
from tests.stores import CrashAt, MemoryStore, Moment, SimulatedCrash, WatchedStore
from tests.trees import OLD_NS, age, grow, some_bytes

KEYS = make_keys(seeded_random(20261122))
DATASETS = ("one", "two")
Tree = dict[str, bytes]

datasets = st.sampled_from(DATASETS)
crashes = st.tuples(st.integers(0, 12), st.sampled_from(("before", "after")))
names = st.sampled_from(("a", "b/c", "d/e/f", "g"))
sizes = st.sampled_from((0, 1, 700, 5_000, 20_000))
seeds = st.integers(0, 6)


class Histories(RuleBasedStateMachine):
    """The vault, and beside it what it must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Path(tempfile.mkdtemp(prefix="reopen-histories-"))
        self.store = AgedStore()
        self.replica = AgedStore("test-memory://replica")
        self.vault = a_vault(self.store, keys=KEYS)
        self.files: dict[str, Tree] = {name: {} for name in DATASETS}
        self.committed: dict[str, Tree] = {}
        self.let_go: dict[str, Tree] = {}
        self.copied: set[str] = set()
        self.written = 0
        self.restored = 0
        packwriter.PACKS_PER_INDEX_PART = 2

    def teardown(self) -> None:
        packwriter.PACKS_PER_INDEX_PART = 16
        try:
            self.everything_restores()
            proof.count("histories")
        finally:
            shutil.rmtree(self.work)

    # What happens to the sources

    @initialize()
    def begin(self) -> None:
        for name in DATASETS:
            (self.work / name).mkdir()
            self.write(name, "a", 5_000, 0)

    @rule(dataset=datasets, name=names, size=sizes, seed=seeds)
    def write(self, dataset: str, name: str, size: int, seed: int) -> None:
        """A file is written; the same content comes back now and then, in the other dataset too."""
        self.files[dataset][name] = some_bytes(size, seed)
        grow(self.work / dataset, {name: self.files[dataset][name]}, old=False)
        self.written += 1
        age(self.work / dataset, OLD_NS + self.written * 10**9)

    @precondition(lambda self: any(self.files.values()))
    @rule(dataset=datasets)
    def remove(self, dataset: str) -> None:
        for name in list(self.files[dataset])[:1]:
            del self.files[dataset][name]
            (self.work / dataset / name).unlink()

    # What is done to the vault

    @rule(dataset=datasets)
    def take(self, dataset: str) -> None:
        """Also when nothing changed."""
        record = snapshot(reopened(self.vault), a_dataset(dataset, self.work / dataset), workers=1).record
        self.committed[record.id] = dict(self.files[dataset])

    @rule(dataset=datasets, at=crashes)
    def take_and_die(self, dataset: str, at: tuple[int, Moment]) -> None:
        before = self.ids()
        self.dies(self.store, at, lambda store: snapshot(self.at(store), a_dataset(dataset, self.work / dataset)))
        for fresh in self.ids() - before:
            # It died after its commit, or came through.
            self.committed[fresh] = dict(self.files[dataset])

    @rule()
    def replicate(self) -> None:
        execute_replicate(plan_replicate(reopened(self.vault), self.replica), workers=1)
        self.copied |= self.ids()

    @rule(at=crashes)
    def replicate_and_die(self, at: tuple[int, Moment]) -> None:
        self.dies(
            self.replica, at, lambda store: execute_replicate(plan_replicate(reopened(self.vault), store), workers=1)
        )

    @rule(level=st.sampled_from(Level))
    def verify(self, level: Level) -> None:
        result = verify_vault(reopened(self.vault), level=level, workers=1)
        assert result.findings == (), result.findings

    @precondition(lambda self: any(self.store.names("index/")))
    @rule(seed=seeds, gone=st.booleans())
    def lose_an_index_part_and_repair(self, seed: int, gone: bool) -> None:
        parts = [name for name in self.store.names("index/") if name.endswith(".parquet")]
        name = parts[seed % len(parts)]
        if gone:
            self.store.delete(name)
        else:
            self.store.replace(name, self.store.get(name)[:-9])
        result = execute_repair(plan_repair(reopened(self.vault)))
        assert result.ok
        self.verify(Level.STRUCTURE)

    @precondition(lambda self: bool(self.copied & self.ids()) and self.store.names("packs/"))
    @rule(seed=seeds)
    def lose_a_pack_and_take_it_back(self, seed: int) -> None:
        self.replicate()
        # A pack that no part of the index lists is of a run that died: no snapshot needs it, nor does repair miss it.
        listed = sorted(pack for part in read_statements(reopened(self.vault)) for pack in part.packs)
        name = pack_name(listed[seed % len(listed)])
        data = self.store.get(name)
        self.store.delete(name)
        replica = self.at(self.replica)
        assert execute_repair(plan_repair(reopened(self.vault), replica, Level.STRUCTURE)).ok
        assert self.store.get(name) == data
        self.verify(Level.STORED)

    @precondition(lambda self: bool(self.ids()))
    @rule(seed=seeds)
    def hold(self, seed: int) -> None:
        records = self.vault.records()
        record = records[seed % len(records)]
        place_hold(self.vault, record.dataset, record, "a lawyer asks")

    @rule()
    def release_a_hold(self) -> None:
        for hold in active_holds(self.vault)[:1]:
            release_hold(self.vault, hold.id, "settled")

    @rule(last=st.integers(1, 3))
    def retain(self, last: int) -> None:
        held = {hold.snapshot for hold in active_holds(self.vault)}
        plan = plan_retain(reopened(self.vault), dict.fromkeys(DATASETS, RetentionRule(last=last)))
        gone = {decision.record.id for decision in execute_retain(plan).expired}
        assert not gone & held
        for dataset in DATASETS:
            had = [record for record in self.committed if self.dataset_of(record) == dataset]
            assert not had or set(had) - gone, "nothing is left of a dataset"
        self.forget(gone)

    @rule(at=crashes)
    def retain_and_die(self, at: tuple[int, Moment]) -> None:
        rules = dict.fromkeys(DATASETS, RetentionRule(last=1))
        before = self.ids()
        self.dies(self.store, at, lambda store: execute_retain(plan_retain(self.at(store), rules)))
        # A record is gone only after the fact that lets it go.
        self.forget(before - self.ids())
        assert {fact.snapshot for fact in self.vault.facts("expired")} >= before - self.ids()

    @rule()
    def prune(self) -> None:
        execute_prune(plan_prune(reopened(self.vault)))

    @rule(at=crashes)
    def prune_and_die(self, at: tuple[int, Moment]) -> None:
        self.dies(self.store, at, lambda store: execute_prune(plan_prune(self.at(store))))

    @rule(hours=st.sampled_from((1, 25)))
    def time_passes(self, hours: int) -> None:
        """Leases of the dead run out, marks of prune become due."""
        self.store.later(timedelta(hours=hours))
        self.replica.later(timedelta(hours=hours))

    # What must hold

    @invariant()
    def the_records_are_those_that_were_committed(self) -> None:
        records = self.vault.records()
        assert {record.id for record in records} == self.committed.keys()
        assert self.vault.invalid_records() == []
        assert len({(record.dataset, record.seq) for record in records}) == len(records)

    @rule()
    def everything_restores(self) -> None:
        for store in (self.store, self.replica):
            try:
                vault = self.at(store)
            except NotFound:
                continue  # No replica yet.
            findings = verify_vault(vault, level=Level.CONTENT, record=False, workers=1).findings
            assert findings == (), findings
            for record in vault.records():
                self.restores(vault, record)

    def restores(self, vault: Vault, record: SnapshotRecord) -> None:
        tree = self.committed.get(record.id) or self.let_go.get(record.id, {})
        target = self.work / "restored"
        restore(vault, record, target)
        found = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
        shutil.rmtree(target)
        assert found == tree
        self.restored += 1

    # Helpers

    def forget(self, gone: set[str]) -> None:
        """Let go at the vault; the replica keeps it."""
        for snapshot_id in gone:
            self.let_go[snapshot_id] = self.committed.pop(snapshot_id)

    def ids(self) -> set[str]:
        return {record.id for record in self.vault.records()}

    def dataset_of(self, snapshot_id: str) -> str:
        return next((record.dataset for record in self.vault.records() if record.id == snapshot_id), "")

    def at(self, store: ObjectStore) -> Vault:
        return reopened(self.vault, store)

    def dies(self, store: MemoryStore, at: tuple[int, Moment], operate: Callable[[ObjectStore], object]) -> None:
        """Run something that dies at a mutation; it may come through, or find that it must not begin."""
        try:
            operate(WatchedStore(store, CrashAt(*at)))
        except SimulatedCrash:
            proof.count("crash points")
        except (Conflict, Refused):
            return


# Shrinking a history that takes seconds would take hours; the seed that is printed repeats it as it was.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
quick = settings(
    phases=PHASES,
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
Histories.TestCase.settings = quick
TestHistories = Histories.TestCase


@pytest.mark.soak
class TestManyHistories(Histories.TestCase):  # type: ignore[valid-type,misc]  # Hypothesis makes the class
    """The same, longer and more."""

    settings = settings(quick, max_examples=300, stateful_step_count=60)
