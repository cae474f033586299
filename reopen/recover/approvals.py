"""Owns approvals of plans: whether one stands in the log, how one is given, and how one is waited for.

Invariants (docs/0011-failover-and-failback.md)
    F3  An approval names the digest of a plan. Another plan needs another one, but for the plan that a prepared move
        goes on with: the approval of its preparation covers it.

The newest word about a plan counts, so that somebody can take an approval back while it is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Approval, Record
from reopen.errors import Conflict, InvalidInput
from reopen.recover.context import WaitFor
from reopen.recover.plan import RecoveryPlan

POLL_SECONDS = 1.0
"""How often the log is read while somebody is waited for: a person does not notice, and a store is not troubled."""


def approval_of(records: Sequence[Record], plan: RecoveryPlan) -> Approval | None:
    """The newest word about a plan, or about the one that prepared it; None while nobody has said anything."""
    covered = {plan.digest, plan.prepared} - {""}
    return next((value for value in reversed(tuple(rules.values(records, Approval))) if value.plan in covered), None)


def is_approved(records: Sequence[Record], plan: RecoveryPlan) -> bool:
    """Whether a plan may be carried out: it asks for no approval, or has it."""
    if not plan.approvals:
        return True
    given = approval_of(records, plan)
    return given is not None and given.granted


def give_approval(
    log: EpochLog, plan: RecoveryPlan, *, by: str, why: str, granted: bool = True, identifier: str
) -> Approval:
    """Append an approval of a plan, or a refusal.

    :param identifier: of the process that appends; it need not hold the term.
    :raises InvalidInput: nobody, or no reason, is named.
    :raises Conflict: the plan asks for none, or the same word stands.
    """
    if not by.strip() or not why.strip():
        raise InvalidInput(
            "an approval needs a reason, and who gives it.", hint="Give the reason with --reason; it stands in the log."
        )
    if not plan.approvals:
        raise Conflict(
            f"plan {plan.digest[:16]} asks for no approval.",
            hint="Contracts ask for it with 'approval: required', tiers with 'approval = true'.",
        )
    value = Approval(plan=plan.digest, by=by, why=why, granted=granted)

    def approval(records: Sequence[Record]) -> Approval:
        standing = approval_of(records, plan)
        if standing is not None and standing.granted is granted:
            said = "approved" if granted else "refused"
            raise Conflict(
                f"plan {plan.digest[:16]} is {said} already, by {standing.by}: {standing.why}.",
                hint="Nothing is left to do; the command that waits for it goes on when it is run again.",
            )
        return value

    log.append(approval, by=identifier)
    return value


def polling(
    seconds_max: timedelta, *, sleep: Callable[[float], None] = time.sleep, clock: Clock = SYSTEM_CLOCK
) -> WaitFor:
    """Waits by looking again and again, for so long at most."""

    def wait(holds: Callable[[], bool]) -> bool:
        deadline = clock.elapsed_seconds() + seconds_max.total_seconds()
        while not (held := holds()) and clock.elapsed_seconds() < deadline:
            sleep(POLL_SECONDS)
        return held

    return wait
