"""Owns the end of a failover: accepting it, or giving the role back.

Invariants (docs/0011-failover-and-failback.md)
    F12  After ``committed`` there is no roll-back. A roll-back is a new epoch that gives the role back; what the
         abandoned primary wrote is diverged. No bytes move: the returning site serves what it had.

Order of a roll-back: plan stored -> term taken -> the abandoned primary is fenced, epoch -> the returning one is
unfenced. A crash leaves it between two of these, and running it again goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Committed, Fence, Record, Scenario, Takeover
from reopen.control.states import State, position_of
from reopen.control.values import to_json
from reopen.errors import Conflict, InvalidInput
from reopen.recover.context import Delivery, RecoveryContext
from reopen.recover.course import OnOutcome
from reopen.recover.diverged import Diverged
from reopen.recover.driver import Drive, drive
from reopen.recover.ended import record_end, unwritten_end
from reopen.recover.evidence import StoredEvidence
from reopen.recover.handover import ROLLBACK, plan_of_handover, record_handover
from reopen.recover.journal import open_journal
from reopen.recover.messages import Messenger, rolled_back
from reopen.recover.plan import RecoveryPlan, read_plan
from reopen.recover.planned import give_back, require_done
from reopen.recover.roles import rollback_steps
from reopen.recover.steps import Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackResult:
    """What a roll-back came to. ``moved`` is false where only held writers were given back."""

    plan: RecoveryPlan
    epoch: int
    primary: str
    moved: bool
    outcomes: Outcomes
    messages: tuple[Delivery, ...] = ()
    diverged: tuple[Diverged, ...] = ()
    """What the abandoned site wrote: kept, and chosen only by id."""
    evidence: StoredEvidence | None = None
    """None where there was nothing to give back."""
    problems: tuple[str, ...] = ()
    """What could not be laid beside the evidence."""


def plan_rollback(records: Sequence[Record], *, vault: str, contracts: str, now: datetime) -> RecoveryPlan:
    """The plan that gives the role of the epoch that stands back to the site before it.

    :raises Conflict: there is no failover, or it is committed.
    """
    epoch = rules.epoch_record(records)
    if epoch is None or epoch.scenario in (Scenario.ROLLBACK, Scenario.MOVED):
        raise Conflict("there is no failover to roll back.", hint="`reopen status` shows who is primary.")
    committed = committed_record(records)
    if committed is not None:
        raise Conflict(
            f"the failover to {epoch.primary} was committed by {committed.by or 'somebody'}: {committed.why}.",
            hint="There is no roll-back any more; `reopen failback` moves the business back with what was written.",
        )
    return plan_of_handover(
        Scenario.ROLLBACK, source=epoch.primary, target=epoch.previous_primary,
        vault=vault, contracts=contracts, now=now,
        steps=rollback_steps(),
    )  # fmt: skip


def unwritten_rollback(log: EpochLog) -> RecoveryPlan | None:
    """The plan of the roll-back that stands, or of the move that was given back, when its driver died before its
    evidence was written; else None."""
    if (ended := unwritten_end(log)) is not None:
        return ended
    records = log.records()
    epoch = rules.epoch_record(records)
    if epoch is None or epoch.plan is None or epoch.scenario is not Scenario.ROLLBACK:
        return None
    if rules.is_concluded(records, epoch.plan):
        return None
    return read_plan(log.load_plan(epoch.plan), f"plans/{epoch.plan}.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedBy:
    """Who accepted a failover, and why."""

    by: str
    why: str
    at: datetime


def committed_record(records: Sequence[Record]) -> CommittedBy | None:
    """The commit of the epoch that stands; None while it can be rolled back."""
    epoch = rules.current_epoch(records)
    for record in reversed(records):
        if isinstance(record.value, Committed) and record.value.epoch == epoch:
            return CommittedBy(by=record.value.by, why=record.value.why, at=record.at)
    return None


def execute_rollback(
    plan: RecoveryPlan,
    context: RecoveryContext,
    log: EpochLog,
    *,
    fence: Fence,
    reason: str,
    driver: Drive = drive,
    on_outcome: OnOutcome = lambda step, outcome, outcomes: None,
    diverged: Callable[[str], Sequence[Diverged]] = lambda site: (),
) -> RollbackResult:
    """Give the role back, or the writers of a move that has not reached its fence; or go on with either.

    :param diverged: what a site wrote that must not serve; it is asked when the role is back.
    :raises NotMoved: the abandoned primary could not be fenced, or the returning one not be unfenced.
    :raises Superseded: another orchestrator took over meanwhile.
    """
    journal, resumed = open_journal(
        log, plan, fence=fence, orchestrator=context.orchestrator, reason=reason,
        enforceable=context.hooks.enforces(plan.source_site), declares=plan.scenario is Scenario.ROLLBACK,
    )  # fmt: skip
    if plan.scenario is not Scenario.ROLLBACK:
        given = give_back(plan, context, journal)
        outcomes = {} if given is None else {given.step: given}
        held = RollbackResult(plan=plan, epoch=journal.epoch, primary=plan.source_site, moved=False, outcomes=outcomes)
        if given is None and unwritten_end(log) != plan:
            return held
        # Given back now, or by a driver that died before it was written down.
        recorded = record_end(plan, context, log, by=fence.by, why=reason)
        return replace(held, evidence=recorded.evidence, problems=recorded.problems)
    with Messenger(context.notify) as messenger:
        outcomes = driver(plan, context, journal, workers=1, on_outcome=on_outcome)
        require_done(plan, outcomes, [step.id for step in plan.steps])
        messenger.send(
            rolled_back(
                primary=plan.target_site, abandoned=plan.source_site, epoch=journal.epoch, by=fence.by, why=reason
            )
        )
        messages = messenger.collect()
    moved = RollbackResult(
        plan=plan, epoch=journal.epoch, primary=plan.target_site, moved=True, outcomes=outcomes, messages=messages,
        diverged=tuple(diverged(plan.source_site)),
    )  # fmt: skip
    return _recorded(moved, context, log, resumed=resumed)


def _recorded(result: RollbackResult, context: RecoveryContext, log: EpochLog, *, resumed: bool) -> RollbackResult:
    """The result with its evidence, which is written now."""
    plan = result.plan
    findings = {
        "role": f"{plan.source_site} gave it back to {plan.target_site}",
        "diverged": [to_json(found) for found in result.diverged],
    }
    recorded = record_handover(
        ROLLBACK, plan, result.outcomes, log, orchestrator=context.orchestrator, findings=findings, sign=context.sign,
        versions=context.versions, messages=result.messages, resumed=resumed,
    )  # fmt: skip
    return replace(result, evidence=recorded.evidence, problems=recorded.problems)


def commit(log: EpochLog, *, by: str, why: str, orchestrator: str) -> Committed:
    """Accept the failover that is done: from here on there is no roll-back.

    :param by: the person; ``orchestrator`` is the id of this process.
    :raises InvalidInput: nobody, or no reason, is named.
    :raises Conflict: no failover waits for it.
    """
    if not by.strip() or not why.strip():
        raise InvalidInput(
            "a commit needs a reason, and who gives it.", hint="Give the reason with --reason; it stands in the log."
        )

    def require_committable(records: Sequence[Record]) -> None:
        position = position_of(records)
        if position.state is State.COMMITTED:
            raise Conflict("the failover is committed already.", hint="`reopen status` shows since when.")
        if position.state is not State.FAILED_OVER:
            raise Conflict(
                f"there is no failover to commit: the state is {position.state}.",
                hint="A failover is committed when every step of it is settled; `reopen failover` goes on with one.",
            )

    def takeover(records: Sequence[Record]) -> Takeover:
        require_committable(records)
        now = rules.holder(records)
        return Takeover(epoch=now.epoch, term=now.term + 1, reason=f"commit by {by}")

    def committed(records: Sequence[Record]) -> Committed:
        require_committable(records)
        now = rules.require_holder(records, orchestrator)
        return Committed(epoch=now.epoch, term=now.term, why=why, by=by)

    log.append(takeover, by=orchestrator)
    value = log.append(committed, by=orchestrator).value
    assert isinstance(value, Committed)
    return value
