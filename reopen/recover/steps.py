"""Owns the steps of a recovery and the whole of its scheduling: which may begin, and which never will. Pure.

The engine's thread driver and the Prefect flow both call :func:`ready_steps` and :func:`blocked_steps` after every
outcome, and nothing else decides an order.

Invariants (docs/0003-epochs-and-recovery.md)
    R2  No step is ready before what it ``needs`` is done and what it comes ``after`` is settled.
    R3  A failed dataset blocks its own later steps and those of its dependants, and nothing else.
    R6  While a step is neither settled nor blocked, some step is ready or running: every recovery ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reopen.control.records import StepOutcome, StepResult
from reopen.control.values import stored

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
    FENCE = "fence"
    CONFIRM = "confirm"
    """See whether anything was written after the final sync."""
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
    """One step: ``needs`` must be done before it, ``after`` must only be settled (done or not)."""

    id: str
    verb: Verb
    dataset: str | None = None
    tier: int | None = None
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOrder:
    """What the order of steps depends on: a dataset's effective tier, and its dependencies that are in scope."""

    name: str
    tier: int
    depends_on: tuple[str, ...]


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
    barrier_before: tuple[str, ...] = ()
    for tier in sorted({dataset.tier for dataset in datasets}):
        for dataset in (dataset for dataset in datasets if dataset.tier == tier):
            steps += _dataset_steps(dataset, needs=start + barrier_before, promotes=promotes)
        # After every step of the tier, not only the last of each dataset: one whose dependency died while it restores
        # is given up at once, and its bytes still move. The barrier before it is named too: a tier whose datasets are
        # all dead settles early, and must not open the next one while an earlier tier still restores.
        within = tuple(step.id for step in steps if step.tier == tier)
        barrier = Step(id=barrier_id(tier), verb=Verb.BARRIER, tier=tier, needs=start + barrier_before, after=within)
        steps.append(barrier)
        barrier_before = (barrier.id,)
    if promotes:
        steps.append(Step(id=FINISH, verb=Verb.FINISH, needs=start, after=barrier_before))
    return tuple(steps)


def _dataset_steps(dataset: DatasetOrder, *, needs: tuple[str, ...], promotes: bool) -> list[Step]:
    name, tier = dataset.name, dataset.tier
    restore, validate = step_id(Verb.RESTORE, name), step_id(Verb.VALIDATE, name)

    def of_dependencies(verb: Verb) -> tuple[str, ...]:
        return tuple(step_id(verb, needed) for needed in dataset.depends_on)

    steps = [
        # Bytes of a tier move side by side; only judging and serving wait for dependencies.
        Step(id=restore, verb=Verb.RESTORE, dataset=name, tier=tier, needs=needs),
        Step(
            id=validate,
            verb=Verb.VALIDATE,
            dataset=name,
            tier=tier,
            needs=(restore, *of_dependencies(Verb.VALIDATE)),
        ),
    ]
    if promotes:
        promote = step_id(Verb.PROMOTE, name)
        waits_for = (validate, *of_dependencies(Verb.PROMOTE))
        steps.append(Step(id=promote, verb=Verb.PROMOTE, dataset=name, tier=tier, needs=waits_for))
    return steps


def ready_steps(
    steps: Sequence[Step],
    outcomes: Outcomes,
    *,
    depends_on: Mapping[str, tuple[str, ...]],
    running: Iterable[str] = (),
) -> tuple[Step, ...]:
    """Steps that may begin now, in the order of recovery.

    :param depends_on: dependencies by dataset, as the plan has them: a dataset whose dependency failed does not even
        begin to restore.
    :param running: ids of steps that were begun and are not settled.
    """
    dead = dead_datasets(steps, outcomes, depends_on)
    busy = set(running)
    return tuple(
        step
        for step in steps
        if step.id not in outcomes
        and step.id not in busy
        and step.dataset not in dead
        and all(_is_done(outcomes.get(needed)) for needed in step.needs)
        and all(before in outcomes for before in step.after)
    )


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
        if step.dataset is not None and step.dataset in dead:
            blocked[step.id] = step, dead[step.dataset]
        elif lost:
            blocked[step.id] = step, f"{lost[0]} was not done"
    return tuple(blocked.values())


def dead_datasets(
    steps: Sequence[Step], outcomes: Outcomes, depends_on: Mapping[str, tuple[str, ...]]
) -> Mapping[str, str]:
    """Datasets that cannot be recovered any more, each with the reason: a step failed, or a dependency is dead."""
    dead: dict[str, str] = {}
    for step in steps:
        outcome = outcomes.get(step.id)
        if step.dataset is not None and outcome is not None and outcome.result is StepResult.FAILED:
            dead.setdefault(step.dataset, f"{step.id} failed")
    # ``depends_on`` is in the order of recovery, so one pass carries a death through every chain.
    for name, needs in depends_on.items():
        for needed in needs:
            if needed in dead and name not in dead:
                dead[name] = f"it depends on {needed}: {_root(dead[needed])}"
    return dead


def _root(reason: str) -> str:
    # "it depends on b: restore:a failed" carried on says the cause once, not the whole chain.
    return reason.rpartition(": it depends on ")[2].partition(": ")[2] if reason.startswith("it depends") else reason


def _is_done(outcome: StepOutcome | None) -> bool:
    return outcome is not None and outcome.result is StepResult.DONE


def _is_lost(outcome: StepOutcome | None) -> bool:
    return outcome is not None and outcome.result is not StepResult.DONE
