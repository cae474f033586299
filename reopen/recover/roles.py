"""Owns the steps of a plan that are about the role and not about bytes: before the fence, and around it. Pure.

    unplanned            preflight -> [approve] -> fence -> tiers -> finish
    planned, failback    preflight -> [approve] -> quiesce -> final-sync of each dataset            (the prepare plan)
                         fence -> confirm, tiers -> finish                                          (the recovery plan)
    rollback             fence -> unfence

Invariants (docs/0011-failover-and-failback.md)
    F3  Every step that touches a site needs ``approve``, where a plan asks for approval.
    F5  The recovery plan of a planned move begins with its fence: its points were made by the plan that prepared it.

An unplanned failover only comes *after* its preflight: an imperfect standby is better than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from reopen.contracts.model import Dataset
from reopen.control.records import Scenario
from reopen.recover.steps import FENCE, FINISH, Step, Verb, barrier_id, step_id

PREFLIGHT = str(Verb.PREFLIGHT)
APPROVE = str(Verb.APPROVE)
QUIESCE = str(Verb.QUIESCE)
CONFIRM = str(Verb.CONFIRM)
UNFENCE = str(Verb.UNFENCE)
OPEN = str(Verb.OPEN)
UNQUIESCE = str(Verb.UNQUIESCE)
"""No step of a plan: how a planned move ends that does not reach its fence."""

PLANNED_SCENARIOS = frozenset({Scenario.PLANNED, Scenario.FAILBACK})
"""The source is there, and hands over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """How the role moves. ``automatic``: nobody asked for it. ``unsure``: it cannot be told whether the source is dead
    or only cut off, nor be made sure that it does not act (:mod:`reopen.recover.automatic`). ``opens``: the target has
    a hook that lets its writers write again. ``prepared``: the digest of the plan whose final sync this one goes on
    from. ``quiesce_max``: how long a plan that prepares may hold the writers."""

    scenario: Scenario = Scenario.UNPLANNED
    automatic: bool = False
    unsure: bool = False
    opens: bool = False
    prepared: str = ""
    quiesce_max: timedelta | None = None


def asks_for_approval(datasets: Sequence[Dataset], *, automatic: bool, unsure: bool = False) -> tuple[str, ...]:
    """Names of the datasets for whose sake a person approves a plan that moves them.

    :param automatic: nobody asked for the failover; then every dataset asks whose contract does not allow that, and
        all do where it is ``unsure`` that the source does not act any more.
    """
    return tuple(sorted(d.name for d in datasets if d.approval or (automatic and (unsure or not d.automatic_failover))))


def with_role_steps(steps: Sequence[Step], *, scenario: Scenario, approval: bool, opens: bool) -> tuple[Step, ...]:
    """The steps of a recovery plan, with those that its scenario puts around them.

    :param steps: fence, tiers and finish, as :func:`reopen.recover.steps.lay_out` gives them.
    :param approval: people have to approve; a planned move was approved when it was prepared.
    :param opens: the target has a hook that lets its writers write again; it was fenced or held before.
    """
    around = {step.id: step for step in steps}
    head: list[Step] = []
    if scenario is Scenario.UNPLANNED:
        head = _asked_first(approval, after_preflight=True)
        needs = (APPROVE,) if approval else ()
        around[FENCE] = replace(around[FENCE], needs=needs, after=(PREFLIGHT,))
    tail: list[Step] = []
    if scenario in PLANNED_SCENARIOS:
        tail.append(Step(id=CONFIRM, verb=Verb.CONFIRM, needs=(FENCE,)))
    tiers = [step.tier for step in steps if step.verb is Verb.BARRIER and step.tier is not None]
    if opens:
        # Not before the first tier serves: until then a writer there would write into what is moved aside.
        after = (barrier_id(min(tiers)),) if tiers else ()
        tail.append(Step(id=OPEN, verb=Verb.OPEN, needs=(FENCE,), after=after))
    finish = around.pop(FINISH)
    finish = replace(finish, after=(*finish.after, *(step.id for step in tail)))
    return (*head, *around.values(), *tail, finish)


def prepare_steps(datasets: Iterable[tuple[str, int]], *, approval: bool) -> tuple[Step, ...]:
    """The steps of a plan that prepares a move, for datasets and their tiers."""
    held = (APPROVE,) if approval else (PREFLIGHT,)
    steps = [*_asked_first(approval, after_preflight=False), Step(id=QUIESCE, verb=Verb.QUIESCE, needs=held)]
    for name, tier in datasets:
        synced = step_id(Verb.FINAL_SYNC, name)
        steps.append(Step(id=synced, verb=Verb.FINAL_SYNC, dataset=name, tier=tier, needs=(QUIESCE,)))
    return tuple(steps)


def rollback_steps() -> tuple[Step, ...]:
    """The steps that give a role back. No bytes move: what the returning site has is what it had."""
    return (
        Step(id=FENCE, verb=Verb.FENCE),
        Step(id=UNFENCE, verb=Verb.UNFENCE, needs=(FENCE,)),
    )


def _asked_first(approval: bool, *, after_preflight: bool) -> list[Step]:
    steps = [Step(id=PREFLIGHT, verb=Verb.PREFLIGHT)]
    if approval:
        needs, after = ((), (PREFLIGHT,)) if after_preflight else ((PREFLIGHT,), ())
        steps.append(Step(id=APPROVE, verb=Verb.APPROVE, needs=needs, after=after))
    return steps
