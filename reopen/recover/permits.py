"""Owns what must hold before the steps of a move begin: approvals, an end of the move before, a limit. Pure.

Invariants (docs/0011-failover-and-failback.md)
    F3  Nothing is fenced, quiesced or restored before the approvals that the plan asks for are in the log.
    F6  Writers are not held for ever: past the plan's limit nothing but giving them back begins.

The journal asks before every step, whatever the plan's edges say; once the role has moved, the questions are settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from reopen.clock import to_text
from reopen.control import rules
from reopen.control.records import Intent, Record
from reopen.control.states import State, position_of
from reopen.durations import to_text as duration_text
from reopen.errors import Conflict, Refused
from reopen.recover.approvals import is_approved
from reopen.recover.plan import RecoveryPlan
from reopen.recover.roles import PLANNED_SCENARIOS, QUIESCE
from reopen.recover.steps import Step, Verb

SETTLED_STATES = frozenset({State.PROTECTED, State.PREFLIGHT, State.APPROVAL, State.COMMITTED, State.REPROTECTING})
"""Where the move before is accepted or given back, or has touched nothing."""


def check_permitted(records: Sequence[Record], plan: RecoveryPlan, step: Step, *, now: datetime) -> None:
    """Refuse a step of a plan whose role has not moved yet.

    :raises Refused: the plan is not approved, or its writers were held too long.
    """
    if step.verb in (Verb.PREFLIGHT, Verb.APPROVE, Verb.UNQUIESCE):
        return
    if not is_approved(records, plan):
        raise Refused(
            f"plan {plan.digest[:16]} is not approved; asked for by {', '.join(plan.approvals)}.",
            hint=f"`reopen approve {plan.digest[:16]} --reason WHY`, then run the same command again.",
        )
    since, limit = quiesced_at(records, plan), plan.quiesce_max
    if since is not None and limit is not None and now - since > limit:
        raise Refused(
            f"the writers of {plan.source_site} have been held since {to_text(since)}, longer than "
            f"{duration_text(limit)}.",
            hint="They are given back. Take snapshots more often, so that the final sync is short; then plan anew.",
        )


def check_settled(records: Sequence[Record], plan: RecoveryPlan) -> None:
    """Refuse to begin a move by plan where the one before it is neither accepted nor given back.

    :raises Conflict: so it is.
    """
    if plan.scenario not in PLANNED_SCENARIOS:
        return
    own = (plan.digest, plan.prepared)
    if any(value.plan in own for value in rules.values(records, Intent)):
        return
    state = position_of(records).state
    if state not in SETTLED_STATES:
        raise Conflict(
            f"the failover before this one is {state}, and neither committed nor rolled back.",
            hint="`reopen commit` accepts it, `reopen rollback` gives the role back; then plan this move.",
        )


def quiesced_at(records: Sequence[Record], plan: RecoveryPlan) -> datetime | None:
    """When the writers began to be held, by a plan or the one that prepared it."""
    begun = [record for record in records if isinstance(record.value, Intent) and record.value.step == QUIESCE]
    if not begun:
        return None
    own = (plan.digest, plan.prepared)
    return next((r.at for r in begun if isinstance(r.value, Intent) and r.value.plan in own), None)
