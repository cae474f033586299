"""Owns the steps of a recovery and the whole of its scheduling: which may begin, and which never will. Pure.

The engine's thread driver and the Prefect flow both call :func:`ready_steps` and :func:`blocked_steps` after every
outcome (:mod:`reopen.recover.course`), and nothing else decides an order. What waits for a person's decision counts as
running.

Invariants (docs/0003-epochs-and-recovery.md)
    R2  No step is ready before what it ``needs`` is done and what it comes ``after`` is settled.
    R3  A failed dataset blocks its own later steps, those of its dependants and of its consistency group (and of their
        dependants), and nothing else.
    F8  The members of a consistency group are promoted by one step, which needs all of them validated.
    R6  While a step is neither settled nor blocked, some step is ready or running: every recovery ends.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

from reopen.control.records import StepOutcome, StepResult
from reopen.control.values import later, stored
from reopen.errors import Internal

FENCE = "fence"
FINISH = "finish"

Outcomes = Mapping[str, StepOutcome]
"""The newest outcome of each settled step, by step id."""


class Verb(StrEnum):
    """What a step does."""

    PREFLIGHT = "preflight"
    """Look how ready the target is."""
    APPROVE = "approve"
    """Wait until people have approved the plan."""
    QUIESCE = "quiesce"
    """Hold the writers of the source."""
    FINAL_SYNC = "final-sync"
    """Copy what they wrote last."""
    UNQUIESCE = "unquiesce"
    """Give the writers of the source back, where a move ends before its fence; no plan lays it out."""
    FENCE = "fence"
    CONFIRM = "confirm"
    """See whether anything was written after the final sync."""
    OPEN = "open"
    """Let the writers of the target write, where they were held or fenced before."""
    UNFENCE = "unfence"
    """Let the site that gets the role back write again."""
    RESTORE = "restore"
    VALIDATE = "validate"
    PROMOTE = "promote"
    BARRIER = "barrier"
    """A tier is settled; the next one may begin."""
    FINISH = "finish"


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: ``needs`` must be done before it, ``after`` must only be settled (done or not).

    ``members`` are the datasets of a promotion that switches a consistency group. ``path`` is the work from the
    beginning of this step to the end of its tier, along what waits for it: of restores that may begin, the one with the
    longest goes first. Its unit is that of the datasets' costs, and it compares within a plan only.
    """

    id: str
    verb: Verb
    dataset: str | None = None
    tier: int | None = None
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    members: Annotated[tuple[str, ...], later(())] = ()
    path: Annotated[float, later(0.0)] = 0.0

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets that it is about; none for a fence, a barrier and the like."""
        return self.members or (() if self.dataset is None else (self.dataset,))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOrder:
    """What the order of steps depends on: a dataset's effective tier, its dependencies that are in scope, its
    consistency group, and what its steps cost, in a unit that all share."""

    name: str
    tier: int
    depends_on: tuple[str, ...]
    group: str = ""
    restore_cost: float = 0.0
    validate_cost: float = 0.0


def step_id(verb: Verb, dataset: str) -> str:
    """The id of a dataset's step, for example ``restore:orders``."""
    return f"{verb}:{dataset}"


def barrier_id(tier: int) -> str:
    """The id of a tier's barrier, for example ``barrier:tier-1``."""
    return f"{Verb.BARRIER}:tier-{tier}"


def lay_out(datasets: Sequence[DatasetOrder], *, promotes: bool) -> tuple[Step, ...]:
    """The steps of a recovery of ``datasets``, which come in the order of recovery.

    ``promotes`` is false for a drill: no fence, no promotion, no finish; a dataset ends with its validation.
    """
    start = (FENCE,) if promotes else ()
    steps = [Step(id=FENCE, verb=Verb.FENCE)] if promotes else []
    units = {dataset.name: dataset.group or dataset.name for dataset in datasets}
    barrier_before: tuple[str, ...] = ()
    for tier in sorted({dataset.tier for dataset in datasets}):
        members = [dataset for dataset in datasets if dataset.tier == tier]
        within = _tier_steps(members, units, needs=start + barrier_before, promotes=promotes)
        steps += with_paths(within, _costs(members))
        # After every step of the tier, not only the last of each dataset: one whose dependency died while it restores
        # is given up at once, and its bytes still move. The barrier before it is named too: a tier whose datasets are
        # all dead settles early, and must not open the next one while an earlier tier still restores.
        after = tuple(step.id for step in within)
        barrier = Step(id=barrier_id(tier), verb=Verb.BARRIER, tier=tier, needs=start + barrier_before, after=after)
        steps.append(barrier)
        barrier_before = (barrier.id,)
    if promotes:
        steps.append(Step(id=FINISH, verb=Verb.FINISH, needs=start, after=barrier_before))
    return tuple(steps)


def _tier_steps(
    datasets: Sequence[DatasetOrder], units: Mapping[str, str], *, needs: tuple[str, ...], promotes: bool
) -> list[Step]:
    """The steps of a tier, what is needed before what needs it. ``units`` are what is promoted at once, by dataset."""
    steps: list[Step] = []
    waiting = {
        units[dataset.name]: [d for d in datasets if units[d.name] == units[dataset.name]] for dataset in datasets
    }
    laid_out: set[str] = set()
    for dataset in datasets:
        name, tier = dataset.name, dataset.tier
        restore, validate = step_id(Verb.RESTORE, name), step_id(Verb.VALIDATE, name)
        judged = tuple(step_id(Verb.VALIDATE, needed) for needed in dataset.depends_on)
        # Bytes of a tier move side by side; only judging and serving wait for dependencies.
        steps.append(Step(id=restore, verb=Verb.RESTORE, dataset=name, tier=tier, needs=needs))
        steps.append(Step(id=validate, verb=Verb.VALIDATE, dataset=name, tier=tier, needs=(restore, *judged)))
        laid_out.add(name)
        while promotes:
            # A unit's promotion follows on those of everything that its members need.
            unit = next(
                (unit for unit, members in waiting.items() if _is_next(members, units, laid_out, waiting)), None
            )
            if unit is None:
                break
            steps.append(_promotion(unit, waiting.pop(unit), units))
    if promotes and waiting:
        raise Internal(f"consistency groups that cannot open at once: {', '.join(waiting)}.")
    return steps


def _is_next(
    members: Sequence[DatasetOrder], units: Mapping[str, str], laid_out: Collection[str], waiting: Collection[str]
) -> bool:
    own = {member.name for member in members}
    needed = {needed for member in members for needed in member.depends_on} - own
    return own <= set(laid_out) and not any(units[name] in waiting for name in needed)


def _promotion(unit: str, members: Sequence[DatasetOrder], units: Mapping[str, str]) -> Step:
    own = [member.name for member in members]
    needed = dict.fromkeys(units[name] for member in members for name in member.depends_on if name not in own)
    grouped = bool(members[0].group)
    return Step(
        id=step_id(Verb.PROMOTE, unit),
        verb=Verb.PROMOTE,
        dataset=None if grouped else unit,
        tier=members[0].tier,
        needs=(*(step_id(Verb.VALIDATE, name) for name in own), *(step_id(Verb.PROMOTE, name) for name in needed)),
        members=tuple(own) if grouped else (),
    )


def _costs(datasets: Sequence[DatasetOrder]) -> dict[str, float]:
    cost = {step_id(Verb.RESTORE, dataset.name): dataset.restore_cost for dataset in datasets}
    return cost | {step_id(Verb.VALIDATE, dataset.name): dataset.validate_cost for dataset in datasets}


def with_paths(steps: Sequence[Step], costs: Mapping[str, float]) -> tuple[Step, ...]:
    """The steps with their critical paths, each within its tier; a step comes before those that need it.

    :param costs: what a step costs, by id; nothing where it is not in there.
    """
    tiers = {step.id: step.tier for step in steps}
    behind = {step.id: 0.0 for step in steps}
    found = {}
    for step in reversed(steps):
        path = round(behind[step.id] + costs.get(step.id, 0.0), 3) if step.datasets else 0.0
        found[step.id] = replace(step, path=path)
        for needed in step.needs:
            if tiers.get(needed) == step.tier:
                behind[needed] = max(behind[needed], path)
    return tuple(found[step.id] for step in steps)


def ready_steps(
    steps: Sequence[Step],
    outcomes: Outcomes,
    *,
    depends_on: Mapping[str, tuple[str, ...]],
    running: Iterable[str] = (),
) -> tuple[Step, ...]:
    """Steps that may begin now: what ends a dataset before what begins one, the longest critical path first, else in
    the order of recovery.

    :param depends_on: dependencies by dataset, as the plan has them: a dataset whose dependency failed does not even
        begin to restore.
    :param running: ids of steps that were begun and are not settled.
    """
    dead = dead_datasets(steps, outcomes, depends_on)
    busy = set(running)
    ready = (
        step
        for step in steps
        if step.id not in outcomes
        and step.id not in busy
        and not any(name in dead for name in step.datasets)
        and all(_is_done(outcomes.get(needed)) for needed in step.needs)
        and all(before in outcomes for before in step.after)
    )
    return tuple(sorted(ready, key=order_of))


def order_of(step: Step) -> tuple[bool, bool, int, float]:
    """What steps that may begin are sorted by."""
    # What was restored is judged and serves before anything else is begun: a dataset's clock runs until it serves.
    # The source is compared when nothing else can begin: nobody waits for it.
    return step.verb is Verb.CONFIRM, step.verb is Verb.RESTORE, step.tier or 0, -step.path


def blocked_steps(
    steps: Sequence[Step],
    outcomes: Outcomes,
    *,
    depends_on: Mapping[str, tuple[str, ...]],
    running: Iterable[str] = (),
) -> tuple[tuple[Step, str], ...]:
    """Steps that will never begin, each with the reason; the driver records them as not executed."""
    dead = dead_datasets(steps, outcomes, depends_on)
    busy = set(running)
    blocked: dict[str, tuple[Step, str]] = {}
    for step in steps:
        if step.id in outcomes or step.id in busy:
            continue
        lost = [needed for needed in step.needs if needed in blocked or _is_lost(outcomes.get(needed))]
        given_up = next((name for name in step.datasets if name in dead), None)
        if given_up is not None:
            blocked[step.id] = step, dead[given_up]
        elif lost:
            blocked[step.id] = step, f"{lost[0]} was not done"
    return tuple(blocked.values())


def dead_datasets(
    steps: Sequence[Step], outcomes: Outcomes, depends_on: Mapping[str, tuple[str, ...]]
) -> Mapping[str, str]:
    """Datasets that cannot be recovered any more, each with the reason: a step failed or was skipped, a dependency is
    dead, or another member of its consistency group is."""
    dead: dict[str, str] = {}
    groups: dict[str, Step] = {}
    for step in steps:
        groups |= dict.fromkeys(step.members, step)
        outcome = outcomes.get(step.id)
        if outcome is not None and outcome.result in (StepResult.FAILED, StepResult.SKIPPED):
            for name in step.datasets:
                dead.setdefault(name, f"{step.id} {_HOW[outcome.result]}")
    # A group carries a death both up and down the chains of dependencies, so it is carried until nothing more dies.
    count = -1
    while count != len(dead):
        count = len(dead)
        for name, needs in depends_on.items():
            promotion = groups.get(name)
            held_back = promotion is not None and not _is_done(outcomes.get(promotion.id))
            mates = promotion.members if promotion is not None and held_back else ()
            lost = next((needed for needed in needs if needed in dead), None)
            mate = next((other for other in mates if other in dead), None)
            if name in dead:
                continue
            if lost is not None:
                dead[name] = f"it depends on {lost}: {_root(dead[lost])}"
            elif mate is not None and promotion is not None:
                group = promotion.id.partition(":")[2]
                dead[name] = f"it switches together with {mate} (group {group}): {_root(dead[mate])}"
    return dead


_HOW = {StepResult.FAILED: "failed", StepResult.SKIPPED: "was skipped"}


def _root(reason: str) -> str:
    # A reason carried on says the cause once, not the whole chain; a cause has no ": ".
    return reason.rpartition(": ")[2]


def _is_done(outcome: StepOutcome | None) -> bool:
    return outcome is not None and outcome.result is StepResult.DONE


def _is_lost(outcome: StepOutcome | None) -> bool:
    return outcome is not None and outcome.result is not StepResult.DONE
