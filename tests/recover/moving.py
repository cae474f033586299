"""Two sites between which a role moves: hooks and a source that remember what was done to them, and every way to move.

What happens is told to a script, before and after each act, so that a test can let the process die there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from reopen.contracts.load import Contracts
from reopen.control.log import EpochLog
from reopen.control.records import Scenario
from reopen.ids import seeded_random
from reopen.recover.context import RecoveryContext, Synced
from reopen.recover.failover import FailoverResult, execute_failover, unfinished_plan
from reopen.recover.hooks import HookCall, HookInDoubt, HookKind, HookRun
from reopen.recover.plan import PlanKind, PlannedDataset, RecoveryPlan, plan_failover
from reopen.recover.planned import execute_prepare
from reopen.recover.roles import Move
from reopen.recover.rollback import RollbackResult, commit, execute_rollback, plan_rollback, unwritten_rollback
from reopen.storage.base import ObjectStore
from tests.recover.business import (
    COOPERATIVE,
    NOON,
    FakeVault,
    FakeVerbs,
    TickingClock,
    a_proof,
    a_snapshot,
    context_of,
    contracts_of,
    vault_of,
)

SMALL = contracts_of({"customer": (1, ()), "papers": (2, ("customer",))})
NAMES = ("customer", "papers")

Moment = Callable[[str, str], None]
"""Told ``before`` or ``after``, and of what."""

OTHER = {"production": "standby", "standby": "production"}
EFFECTS: Mapping[str, tuple[str, bool]] = {
    "fence": ("fenced", True),
    "unfence": ("fenced", False),
    "quiesce": ("held", True),
    "unquiesce": ("held", False),
}


@dataclass
class World:
    """Both sites. ``state`` is what hooks have done to them; ``acts`` counts what was really done, by name."""

    moment: Moment = lambda when, what: None
    contracts: Contracts = SMALL
    vault: FakeVault = field(default_factory=lambda: vault_of(NAMES))
    verbs: FakeVerbs = field(default_factory=FakeVerbs)
    state: dict[tuple[str, str], bool] = field(default_factory=dict)
    acts: Counter[str] = field(default_factory=Counter)
    clock: TickingClock = field(default_factory=lambda: TickingClock(NOON))
    late_writes: set[str] = field(default_factory=set)
    checks: bool = True
    enforcing: bool = True

    def act(self, what: str, effect: Callable[[], None]) -> None:
        """Something happens in the world."""
        self.moment("before", what)
        effect()
        self.acts[what] += 1
        self.moment("after", what)

    def context(self, orchestrator: str, **changes: Any) -> RecoveryContext:
        """What a driver of this world is handed."""
        self.verbs._interfere = lambda verb, dataset: self.moment("before", f"{verb} {dataset}")
        fields: dict[str, Any] = {"clock": self.clock, "hooks": WorldHooks(self), "source": WorldSource(self)}
        return context_of(self.verbs, orchestrator=orchestrator, **{**fields, **changes})


@dataclass(frozen=True)
class WorldHooks:
    """Hooks of both sites, of every kind that has an effect here."""

    world: World

    def has(self, site: str, kind: HookKind) -> bool:
        return kind in EFFECTS

    def enforces(self, site: str) -> bool:
        return self.world.enforcing

    def run(self, call: HookCall, *, in_doubt: bool) -> HookRun | None:
        if call.kind not in EFFECTS:
            return None
        what, wanted = EFFECTS[call.kind]
        world, key, how = self.world, (call.site, what), "ran"
        if in_doubt and not world.checks:
            raise HookInDoubt("nobody knows.")
        if in_doubt and world.state.get(key, False) is wanted:
            how = "found done"
        else:
            world.act(f"{call.kind} {call.site}", lambda: world.state.update({key: wanted}))
        return HookRun(
            kind=call.kind, site=call.site, how=how, command="hook", seconds=0, output="", enforces=world.enforcing
        )

    def tell_all(self) -> None:
        pass


@dataclass(frozen=True)
class WorldSource:
    """The site that hands over: each final sync is one more snapshot."""

    world: World

    def final_sync(self, dataset: PlannedDataset) -> Synced:
        world = self.world
        seq = max(s.seq for s in world.vault.records(dataset.name)) + 1

        def effect() -> None:
            taken = a_snapshot(dataset.name, seq, consistent_at=world.clock.now())
            world.vault.snapshots.append(taken)
            world.vault.verified.append(a_proof(dataset.name, seq))

        world.act(f"final sync {dataset.name}", effect)
        taken = world.vault.records(dataset.name)[-1]
        return Synced(
            snapshot=taken.id, seq=seq, consistent_at=taken.consistent_at, files=3, size_bytes=1000, read_bytes=10
        )

    def arrived(self, dataset: PlannedDataset, *, since: datetime) -> Synced:
        raise AssertionError("these sites have no final_sync hook")

    def confirm(self, dataset: PlannedDataset) -> str:
        assert dataset.point is not None
        newest = self.world.vault.records(dataset.name)[-1].id
        assert dataset.point.snapshot == newest, "the plan takes another point than the final sync's"
        return "1 file was written" if dataset.name in self.world.late_writes else ""


def log_over(store: ObjectStore, world: World, seed: int = 1) -> EpochLog:
    """The log of the world, as one process has it."""
    return EpochLog(store, clock=world.clock, random_bytes=seeded_random(seed))


def move(
    store: ObjectStore,
    world: World,
    *,
    orchestrator: str,
    scenario: Scenario,
    to: str,
    seed: int = 1,
    quiesce_max: timedelta | None = None,
    **changes: Any,
) -> FailoverResult:
    """Move the role, or go on with a move that was begun: what the desk does, without settings."""
    log, context = log_over(store, world, seed), world.context(orchestrator, **changes)
    plan = unfinished_plan(log)
    if plan is None:
        plan = plan_to(
            world, scenario, to, prepares=scenario is not Scenario.UNPLANNED, quiesce_max=quiesce_max,
            at=world.clock.now(),
        )  # fmt: skip
    if plan.kind is PlanKind.PREPARE:
        prepared = execute_prepare(plan, context, log, fence=COOPERATIVE, reason="test", workers=1)
        plan = plan_to(
            world, plan.scenario, plan.target_site, points=prepared.points, at=prepared.quiesced_at,
            prepared=plan.digest, quiesce_max=plan.quiesce_max,
        )  # fmt: skip
    return execute_failover(
        plan, context, log, fence=COOPERATIVE, reason="test", workers=1, random_bytes=seeded_random(seed + 100)
    )


def plan_to(
    world: World,
    scenario: Scenario,
    to: str,
    *,
    prepares: bool = False,
    points: Mapping[str, str] | None = None,
    at: datetime = NOON,
    prepared: str = "",
    quiesce_max: timedelta | None = None,
) -> RecoveryPlan:
    """The plan of a move to a site."""
    return plan_failover(
        world.contracts,
        world.vault,
        source_site=OTHER[to],
        target_site=to,
        declared_at=at,
        failed_at=at,
        points=points,
        prepares=prepares,
        move=Move(scenario=scenario, opens=True, prepared=prepared, quiesce_max=quiesce_max),
    )


def roll_back(store: ObjectStore, world: World, *, orchestrator: str, seed: int = 1) -> RollbackResult:
    """Roll back, or go on with a roll-back that was begun."""
    log = log_over(store, world, seed)
    plan = unfinished_plan(log) or unwritten_rollback(log)
    if plan is None or plan.scenario is Scenario.UNPLANNED:
        plan = plan_rollback(log.records(), vault="v", contracts=world.contracts.digest, now=world.clock.now())
    return execute_rollback(plan, world.context(orchestrator), log, fence=COOPERATIVE, reason="false alarm")


def accept(store: ObjectStore, world: World, *, orchestrator: str = "c", seed: int = 50) -> None:
    """Commit what was moved."""
    commit(log_over(store, world, seed), by="anna", why="it runs", orchestrator=orchestrator)
