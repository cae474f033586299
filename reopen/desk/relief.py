"""Owns giving back writers that a planned move holds when nobody leads it any more.

A driver gives them back itself: when the move fails, and before any step that would begin past the limit. One that was
killed cannot. So whoever watches looks in the log, at the standby and at the primary alike.

Invariants (docs/0011-failover-and-failback.md)
    F6  Writers that are held past the limit of their plan are given back by the next look of any watch. A driver that
        lives all the same loses its term by that, and stops.

It also writes the evidence of such an end where a driver died before it did.

What was tried is tried and told again only after ``[watch] remind``, so that a hook that fails is not called a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from reopen.clock import to_text
from reopen.control import rules
from reopen.control.records import Fence, FenceLevel
from reopen.desk.moves import QUIESCE_MAX, is_held
from reopen.desk.recovery import open_desk
from reopen.desk.session import Session
from reopen.desk.watching import OWN_SECONDS_MAX, everybody_of
from reopen.durations import to_text as duration_text
from reopen.errors import ReopenError
from reopen.notify.channels import AppriseNotifier
from reopen.progress import SILENT
from reopen.recover import alarms
from reopen.recover.context import Delivery
from reopen.recover.ended import unwritten_end
from reopen.recover.failover import unfinished_plan
from reopen.recover.permits import quiesced_at
from reopen.recover.plan import RecoveryPlan
from reopen.recover.readiness.limit import within
from reopen.recover.roles import UNQUIESCE
from reopen.recover.rollback import execute_rollback
from reopen.recover.watch.memory import Memory, Told, recall, remember

BY = "reopen watch"
_MEMORY = "held-writers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relief:
    """What became of writers that were held too long. ``problem`` is empty when they are given back."""

    site: str
    plan: str
    since: datetime
    limit: timedelta
    problem: str = ""
    hint: str = ""
    deliveries: tuple[Delivery, ...] = ()
    unwritten: bool = False
    """The writers are given back; what could not be done is to write that down."""

    @property
    def given_back(self) -> bool:
        """Whether the writers may write again."""
        return self.unwritten or not self.problem

    @property
    def text(self) -> str:
        """It, in a sentence."""
        held = (
            f"the writers of {self.site} were held since {to_text(self.since)}, longer than "
            f"{duration_text(self.limit)}, by a planned move that nobody goes on with"
        )
        if self.unwritten:
            return f"a planned move from {self.site} ended, and its evidence cannot be written: {self.problem}"
        if not self.problem:
            return f"{held}: they are given back, and nothing was moved"
        return f"{held}, and are STILL HELD: {self.problem.rstrip('.')}"


def relieve(session: Session, *, tell: bool = True) -> Relief | None:
    """Give writers back that are held past the limit of their plan; None when there are none, or when it was tried a
    short while ago.

    :param tell: whether people are told.
    """
    found = within(OWN_SECONDS_MAX, "held", lambda: _held_too_long(session))
    if isinstance(found, ReopenError):
        return None  # A log that cannot be read is the look's own finding.
    if found is None:
        return _write_down(session)
    plan, since, limit = found
    now, before = session.clock.now(), recall(session.settings.home, _MEMORY).told.get(plan.digest)
    if before is not None and timedelta(0) <= now - before.at < session.settings.watch.remind:
        return None
    problem, hint = _give_back(session, plan, since)
    relief = Relief(site=plan.source_site, plan=plan.digest, since=since, limit=limit, problem=problem, hint=hint)
    deliveries = _tell(session, relief) if tell else ()
    told = {plan.digest: Told(level="still held" if problem else "given back", at=now)}
    remember(session.settings.home, _MEMORY, Memory(told=told))
    return Relief(
        site=relief.site, plan=relief.plan, since=since, limit=limit, problem=problem, hint=hint, deliveries=deliveries
    )


def _write_down(session: Session) -> Relief | None:
    """Write the evidence of a move whose driver gave the writers back and died; None where that is done."""
    log = session.log
    plan = None if log is None else within(OWN_SECONDS_MAX, "ended", lambda: unwritten_end(log))
    if log is None or plan is None or isinstance(plan, ReopenError):
        return None
    records = log.records()
    given = rules.outcomes(records, plan.digest)[UNQUIESCE].finished_at
    now, before = session.clock.now(), recall(session.settings.home, _MEMORY).told.get(plan.digest)
    since = quiesced_at(records, plan) or given
    # A driver that lives is about to write it itself.
    too_soon = now - given <= session.settings.watch.every
    tried = before is not None and timedelta(0) <= now - before.at < session.settings.watch.remind
    if too_soon or tried:
        return None
    problem, hint = _give_back(session, plan, since)
    remember(session.settings.home, _MEMORY, Memory(told={plan.digest: Told(level="written down", at=now)}))
    limit = plan.quiesce_max or QUIESCE_MAX
    if not problem:
        return None
    return Relief(
        site=plan.source_site, plan=plan.digest, since=since, limit=limit, problem=problem, hint=hint, unwritten=True
    )


def _held_too_long(session: Session) -> tuple[RecoveryPlan, datetime, timedelta] | None:
    log = session.log
    plan = None if log is None else unfinished_plan(log)
    if log is None or plan is None or not is_held(log, plan):
        return None
    since, limit = quiesced_at(log.records(), plan), plan.quiesce_max or QUIESCE_MAX
    # A driver that lives gives them back itself at its next step.
    if since is None or session.clock.now() - since <= limit + session.settings.watch.every:
        return None
    return plan, since, limit


def _give_back(session: Session, plan: RecoveryPlan, since: datetime) -> tuple[str, str]:
    """The problem and what to do about it; both empty when they are given back."""
    log = session.log
    assert log is not None
    fence = Fence(level=FenceLevel.COOPERATIVE, by=BY)
    reason = f"held since {to_text(since)} by a move that nobody goes on with"
    try:
        # This site's own vault: the other one may be why the move stopped, and no byte is read.
        with open_desk(session, vault=None, progress=SILENT, plan=plan) as context:
            execute_rollback(plan, context, log, fence=fence, reason=reason)
    except ReopenError as error:
        return error.message, error.hint or "Let them write again by hand, then `reopen rollback --reason …`."
    return "", ""


def _tell(session: Session, relief: Relief) -> tuple[Delivery, ...]:
    notice = alarms.writers_held(
        site=relief.site,
        since=relief.since,
        limit=relief.limit,
        ended=f"They are still held: {relief.problem} {relief.hint}".strip()
        if relief.problem
        else "They are given back. Nothing was moved; plan the move anew.",
        contacts=everybody_of(session),
    )
    return tuple(AppriseNotifier(session.settings.notify, clock=session.clock)(notice))
