"""Owns the question whether a recovery that the log shows as begun was left: nobody drives it, and nobody ended it.

Invariants (docs/0011-failover-and-failback.md)
    F13  A recovery whose driver died is gone on with by a machine only where that decides nothing: its role has moved
         already, or people approved its plan, or the rule of automatic failover allows it. Everything else is told.

Two looks that see the same, some minutes apart, make a driver dead (:func:`Undriven.token`): whoever looks compares
with what it saw itself, so that no two clocks have to agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Evidenced, Intent, Outcome, Record, Scenario, StepResult
from reopen.recover.approvals import is_approved
from reopen.recover.failover import unfinished_plan
from reopen.recover.plan import RecoveryPlan
from reopen.recover.pulse import BEAT_SECONDS, Pulse, read_pulse
from reopen.recover.roles import APPROVE, PLANNED_SCENARIOS

LEFT_AFTER = timedelta(seconds=6 * BEAT_SECONDS)
"""A driver that has not beaten for so long is dead: a store that is slow loses some beats, and not six in a row."""
UNHEARD_AFTER = timedelta(hours=6)
"""The same of one that was never heard of, which may be of an earlier version and busy with one long step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undriven:
    """A recovery of which nobody can be seen to work on it now.

    ``by_itself``: the machine may go on (F13); ``why``: why it may, or what a person has to do. ``token`` is the same
    as long as nothing moves, and ``silent_after`` says how long that has to be. ``done`` counts steps that are done.
    """

    plan: RecoveryPlan
    orchestrator: str
    token: str
    silent_after: timedelta
    last: Record
    done: int
    by_itself: bool
    why: str


def find_undriven(log: EpochLog, *, may_go: bool = False) -> Undriven | None:
    """The recovery that the log shows as begun and that nobody has ended; None where there is none.

    :param may_go: the rule of automatic failover allows this one by itself.
    :raises ReopenError: the log cannot be read.
    """
    plan = unfinished_plan(log)
    if plan is None or plan.scenario is Scenario.MOVED:
        return None
    records = log.records()
    own = [
        record for record in records if isinstance(record.value, Intent | Outcome) and record.value.plan == plan.digest
    ]
    driver = rules.holder(records).orchestrator
    pulse = read_pulse(log.store, driver)
    if pulse is not None and pulse.ended:
        if not _was_approved_since(records, plan):
            return None
    elif _ended_with_failures(records, plan, own):
        return None
    by_itself, why = _may_go_on(records, plan, may_go=may_go)
    return Undriven(
        plan=plan,
        orchestrator=driver,
        token=f"{plan.digest[:16]}:{len(records)}:{_beat(pulse)}",
        silent_after=UNHEARD_AFTER if pulse is None else LEFT_AFTER,
        last=own[-1] if own else records[-1],
        done=sum(outcome.result is StepResult.DONE for outcome in rules.outcomes(records, plan.digest).values()),
        by_itself=by_itself,
        why=why,
    )


def _beat(pulse: Pulse | None) -> str:
    return "unheard" if pulse is None else str(pulse.beat)


def _was_approved_since(records: Sequence[Record], plan: RecoveryPlan) -> bool:
    """Whether a run that ended because nobody had approved would get further now."""
    asked = rules.outcomes(records, plan.digest).get(APPROVE)
    waits = asked is not None and asked.result is StepResult.FAILED
    return waits and bool(plan.approvals) and is_approved(records, plan) and not _has_moved(records, plan)


def _ended_with_failures(records: Sequence[Record], plan: RecoveryPlan, own: Sequence[Record]) -> bool:
    """Whether its run came to its end, with something that failed: then a person knows, and decides."""
    written = max(
        (r.number for r in records if isinstance(r.value, Evidenced) and r.value.plan == plan.digest), default=0
    )
    return written > max((record.number for record in own), default=0)


def _may_go_on(records: Sequence[Record], plan: RecoveryPlan, *, may_go: bool) -> tuple[bool, str]:
    if plan.scenario is Scenario.ROLLBACK:
        return False, "`reopen rollback` goes on with it."
    if rules.abort(records, plan.digest) is not None:
        return False, "It was aborted; `reopen failover` concludes it."
    if _has_moved(records, plan):
        return True, f"{plan.target_site} has the role already, so nothing is left to decide."
    if plan.scenario in PLANNED_SCENARIOS:
        command = "failback" if plan.scenario is Scenario.FAILBACK else "failover --planned"
        return False, f"`reopen {command}` goes on with it, `reopen rollback` ends it; writers may be held."
    if plan.approvals and is_approved(records, plan):
        return True, "Its plan is approved."
    if plan.approvals:
        return False, f"It waits for approval: `reopen approve {plan.digest[:16]} --reason WHY`."
    if may_go:
        return True, "The rule of automatic failover allows it."
    return False, "Nobody was fenced yet: `reopen failover` goes on with it, with the same word about the fence."


def _has_moved(records: Sequence[Record], plan: RecoveryPlan) -> bool:
    return rules.primary_site(records, initial=plan.source_site) == plan.target_site
