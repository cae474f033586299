"""Prune while others work: at every call of one a whole run of the other.

An ordinary run tries every :data:`STEP`-th call, from a start that differs by phase; the soak tries them all.

Whatever the order, no snapshot loses a chunk, and at the end nothing is left over. The snapshots that meddle add again
what prune is about to remove, keep some of what stays, and leave another dataset as it was, whose manifest is reused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reopen.errors import Conflict, ReopenError, Transient
from reopen.protect.plan import SnapshotPlan, plan_snapshot
from reopen.protect.prune.survey import list_leases
from reopen.protect.snapshot import execute_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import ObjectStore
from reopen.vault import Vault
from tests.aged import AgedStore, prune, prune_to_the_end
from tests.crash.crashes import Trees
from tests.crash.test_prune import nothing_left_over, used_vault
from tests.kit import SITE, a_dataset, a_table, reopened
from tests.stores import MUTATIONS, ActAt, Moment, WatchedStore

pytestmark = pytest.mark.slow
Property = Callable[[str, object], None]
MOMENTS: tuple[Moment, ...] = ("before", "after")
SEEN = ("list", "create", "delete")
"""Where one process sees what the other did, and the other way round."""
EVERY = (*SEEN, "put", "get", "get_range", "head", "now")
STEP = 5
PHASES = ("mark", "sweep", "mark, then sweep while its lease is alive", "mark, sweep, dead")
steps = pytest.mark.parametrize("step", [STEP, pytest.param(1, marks=pytest.mark.soak)], ids=["some", "every point"])
depths = pytest.mark.parametrize(
    "operations", [SEEN, pytest.param(EVERY, marks=pytest.mark.soak)], ids=["seen", "every call"]
)


@dataclass
class Scene:
    """A vault at some phase of prune, and what may happen to it."""

    tmp_path: Path
    base: AgedStore
    vault: Vault
    trees: Trees

    def at(self, store: ObjectStore) -> Vault:
        return reopened(self.vault, store)

    def datasets(self) -> Iterator[tuple[str, Path]]:
        """What the meddling snapshots are of: doomed content again, some new beside it, and an unchanged dataset."""
        yield "again", self.tmp_path / "other"
        yield "it", self.tmp_path / "whole"
        yield "it", self.tmp_path / "half"
        yield "small", self.tmp_path / "small"

    def plan(self, store: ObjectStore, name: str, folder: Path) -> SnapshotPlan:
        return plan_snapshot(self.at(store), a_dataset(name, folder, table=a_table(), pattern="*.csv"), SITE)

    def take(self, store: ObjectStore, plan: SnapshotPlan) -> bool:
        """Carry a plan out; whether it was committed. Being told to plan again or being voided is an honest answer."""
        try:
            record = execute_snapshot(self.at(store), plan, workers=1).record
        except (Conflict, Transient):
            return False
        self.trees.expect(record, Path(plan.source.url.removeprefix("file://")))
        return True

    def snapshots(self, store: ObjectStore) -> None:
        for name, folder in self.datasets():
            if not self.take(store, self.plan(store, name, folder)):
                assert self.take(store, self.plan(store, name, folder)), "planned anew it is taken"

    def check(self, store: AgedStore) -> None:
        """Now, and after prune has come to its end, every snapshot is whole, and nothing is left over."""
        vault = self.at(store)
        findings = verify_vault(vault, level=Level.CONTENT, record=False).findings
        assert not findings, findings
        prune_to_the_end(vault, store)
        nothing_left_over(vault)
        self.trees.check(vault)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    base, vault, trees = used_vault(tmp_path)
    return Scene(tmp_path, base, vault, trees)


def at_every_call(
    scene: Scene,
    run: Callable[[ObjectStore, AgedStore], object],
    act: Callable[[AgedStore], object],
    operations: Collection[str] = MUTATIONS,
    *,
    start: int,
    step: int,
) -> int:
    """Run something on clones of the scene's store, doing something else at its 1st, 2nd, … call of some operations:
    before and after each mutation, before every other.

    :param start: the first call to act at, from zero; counted modulo ``step``.
    :param step: from one call to the next.
    :returns: how many interleavings were tried.
    """
    tried = 0
    for number in itertools.count(start % step, step):
        acted = False
        # Where listings are looked at too, what follows a mutation is before the next call.
        for moment in MOMENTS if operations is MUTATIONS else MOMENTS[:1]:
            store = scene.base.clone()

            def due(_operation: str, _name: str, store: AgedStore = store) -> None:
                act(store)

            script = ActAt(number, moment, due, operations)
            run(WatchedStore(store, script), store)
            if script.acted:
                acted = True
                tried += 1
                scene.check(store)
        if not acted:
            return tried
    raise AssertionError("unreachable")


def marked(scene: Scene) -> None:
    """Bring the scene to where a sweep is due."""
    result = prune(scene.vault)
    assert result.marked_packs > 3
    assert result.repacked_packs > 0
    scene.base.later()


@pytest.mark.parametrize("phase", ["mark", "sweep"])
@pytest.mark.parametrize(
    "operations", [MUTATIONS, pytest.param(EVERY, marks=pytest.mark.soak)], ids=["mutations", "every call"]
)
def test_snapshots_at_every_call_of_prune(
    scene: Scene, phase: str, operations: Collection[str], record_property: Property
) -> None:
    if phase == "sweep":
        marked(scene)
    step = STEP if operations is MUTATIONS else 1
    start = PHASES.index(phase)
    tried = at_every_call(
        scene, lambda watched, _: prune(scene.at(watched)), scene.snapshots, operations, start=start, step=step
    )
    assert tried >= (8 if phase == "mark" else 16) // step
    record_property("interleavings", tried)


@steps
@pytest.mark.parametrize("phase", ["mark", "sweep"])
def test_a_snapshot_planned_long_before_is_carried_out_at_every_mutation_of_prune(
    scene: Scene, phase: str, step: int, record_property: Property
) -> None:
    """Its plan found the doomed chunks; its lease comes at some moment of prune."""
    plans = [scene.plan(scene.base, name, folder) for name, folder in scene.datasets()]
    if phase == "sweep":
        marked(scene)

    def act(store: AgedStore) -> None:
        for plan in plans:
            scene.take(store, plan)

    start = PHASES.index(phase) + 1
    tried = at_every_call(scene, lambda watched, _: prune(scene.at(watched)), act, start=start, step=step)
    assert tried > 0
    record_property("interleavings", tried)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    "which", ["again", pytest.param("half", marks=pytest.mark.soak), pytest.param("small", marks=pytest.mark.soak)]
)
@depths
def test_prune_at_every_call_of_a_snapshot(
    scene: Scene, phase: str, which: str, operations: Collection[str], record_property: Property
) -> None:
    if phase == "sweep":
        marked(scene)
    name, folder = {"again": ("again", "other"), "half": ("it", "half"), "small": ("small", "small")}[which]

    def run(watched: ObjectStore, store: AgedStore) -> None:
        try:
            taken = scene.take(watched, scene.plan(watched, name, scene.tmp_path / folder))
        except ReopenError as error:
            raise AssertionError(f"a snapshot met {error}") from error
        if not taken:
            assert scene.take(store, scene.plan(store, name, scene.tmp_path / folder)), "planned anew it is taken"

    def act(store: AgedStore) -> None:
        vault = scene.at(store)
        prune(vault)
        if "then" in phase or "dead" in phase:
            store.later()
            if "alive" in phase:
                for info in list(store.list("leases/")):
                    store.put(info.name, [store.get(info.name)])
            result = prune(vault)
            alive = [lease for lease in list_leases(vault) if not lease.over]
            assert not (result.removed_packs and alive and "alive" in phase), "it waits for who is at work"

    start = PHASES.index(phase) + (which == "half")
    tried = at_every_call(scene, run, act, operations, start=start, step=STEP if operations is SEEN else 1)
    assert tried > 0
    record_property("interleavings", tried)


@steps
@pytest.mark.parametrize("phase", ["mark", "sweep"])
def test_a_whole_prune_at_every_mutation_of_another(
    scene: Scene, phase: str, step: int, record_property: Property
) -> None:
    if phase == "sweep":
        marked(scene)

    def act(store: AgedStore) -> None:
        prune(scene.at(store))
        store.later()
        prune(scene.at(store))
        scene.snapshots(store)

    def run(watched: ObjectStore, store: AgedStore) -> None:
        try:
            prune(scene.at(watched))
        except Transient:
            prune(scene.at(store))  # Told that it slept too long: it is run again.

    tried = at_every_call(scene, run, act, start=PHASES.index(phase) + 2, step=step)
    assert tried > 0
    record_property("interleavings", tried)
