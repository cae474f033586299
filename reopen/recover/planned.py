"""Owns the first half of a planned move: writers held, a final sync of every dataset, and what becomes of it.

Order: plan stored -> term taken -> preflight -> approval -> quiesce -> final sync of each dataset. What follows is a
failover (:mod:`reopen.recover.failover`) by a second plan that names this one and takes exactly the points made here.

Invariants (docs/0011-failover-and-failback.md)
    F5  The second plan's points are those that the final syncs of the first noted; a new driver reads them in the log.
    F6  Where the move ends before its fence, the writers are given back: at once, or by whoever goes on or rolls back.
        Evidence says how long they were held.

A crash leaves the writers held, and the log says so: our own writers read it, and the next driver goes on or ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Fence, Record, StepOutcome, StepResult
from reopen.control.rules import Superseded
from reopen.errors import Conflict, Internal, Refused, ReopenError
from reopen.recover.context import RecoveryContext
from reopen.recover.course import OnOutcome
from reopen.recover.driver import Drive, drive, execute_step
from reopen.recover.ended import record_end
from reopen.recover.journal import LogJournal, open_journal
from reopen.recover.messages import Messenger, approval_needed
from reopen.recover.permits import quiesced_at
from reopen.recover.plan import PlanKind, RecoveryPlan
from reopen.recover.roles import UNQUIESCE
from reopen.recover.steps import Outcomes, Step, Verb, step_id


class NotMoved(Refused):
    """A failover ended before its fence: the role is where it was."""

    kind = "not-moved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A move that is ready for its fence: the snapshot of each dataset, and when the writers began to be held."""

    plan: RecoveryPlan
    points: Mapping[str, str]
    quiesced_at: datetime
    outcomes: Outcomes


def execute_prepare(
    plan: RecoveryPlan,
    context: RecoveryContext,
    log: EpochLog,
    *,
    fence: Fence,
    reason: str,
    workers: int,
    driver: Drive = drive,
    on_outcome: OnOutcome = lambda step, outcome, outcomes: None,
) -> Prepared:
    """Prepare a move, or go on with the preparation of the same plan. Parameters as
    :func:`reopen.recover.failover.execute_failover`.

    :raises NotMoved: it did not get done; writers that were held are given back.
    :raises Conflict: the plan is over, because its writers were given back.
    :raises Superseded: another orchestrator took over meanwhile, and the writers are its matter.
    """
    if plan.kind is not PlanKind.PREPARE:
        raise Internal(f"the plan of a {plan.kind} was handed to a preparation.")
    if is_given_back(log.records(), plan):
        raise Conflict(f"plan {plan.digest[:16]} is over: its writers were given back.", hint="Plan the move anew.")
    journal, _ = open_journal(
        log, plan, fence=fence, orchestrator=context.orchestrator, reason=reason,
        enforceable=context.hooks.enforces(plan.source_site),
    )  # fmt: skip

    with Messenger(context.notify) as messenger:

        def tell(step: Step, outcome: StepOutcome, outcomes: Outcomes) -> None:
            if step.verb is Verb.PREFLIGHT and plan.approvals and outcome.result is StepResult.DONE:
                messenger.send(approval_needed(plan, asked_by=plan.approvals, what=f"{plan.scenario} failover"))
            on_outcome(step, outcome, outcomes)

        with giving_back(plan, context, journal):
            outcomes = driver(plan, context, journal, workers=workers, on_outcome=tell)
            require_done(plan, outcomes, [step.id for step in plan.steps])
        messenger.collect()
    prepared = prepared_by(log.records(), plan)
    if prepared is None:
        raise Internal("every final sync is done, and the log does not say so.")
    return prepared


def prepared_by(records: Sequence[Record], plan: RecoveryPlan) -> Prepared | None:
    """What a plan has prepared; None while something of it is not done, or after its writers were given back."""
    outcomes = rules.outcomes(records, plan.digest)
    points = {}
    for dataset in plan.datasets:
        outcome = outcomes.get(step_id(Verb.FINAL_SYNC, dataset.name))
        if outcome is None or outcome.result is not StepResult.DONE:
            return None
        points[dataset.name] = str(outcome.details["snapshot"])
    held_since = quiesced_at(records, plan)
    if held_since is None or is_given_back(records, plan):
        return None
    return Prepared(plan=plan, points=points, quiesced_at=held_since, outcomes=outcomes)


def is_given_back(records: Sequence[Record], plan: RecoveryPlan) -> bool:
    """Whether the writers that a plan held were given back: then the plan is over."""
    outcome = rules.outcomes(records, plan.digest).get(UNQUIESCE)
    return outcome is not None and outcome.result is StepResult.DONE


class giving_back:  # noqa: N801 - it reads as what it does.
    """Gives the writers back when the block ends with an error before the role has moved (F6)."""

    def __init__(self, plan: RecoveryPlan, context: RecoveryContext, journal: LogJournal) -> None:
        self._plan = plan
        self._context = context
        self._journal = journal

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # Superseded: another orchestrator acts. Anything that is no error of ours and no Ctrl-C is the end of the
        # process, and the next driver's matter.
        if isinstance(error, Superseded) or not isinstance(error, (ReopenError, KeyboardInterrupt)):
            return
        if give_back(self._plan, self._context, self._journal) is None:
            return
        why = error.message if isinstance(error, ReopenError) else "interrupted by hand"
        try:
            record_end(self._plan, self._context, self._journal.log, by=self._context.orchestrator, why=why)
        except ReopenError as unwritten:
            # That the move failed is what is to be told; its evidence is written by the next look of a watch.
            error.add_note(f"The writers are given back; their evidence could not be written: {unwritten.message}")
            if isinstance(error, ReopenError):
                error.hint = f"{error.hint} `reopen rollback` writes the evidence, which failed: {unwritten.message}"


def give_back(plan: RecoveryPlan, context: RecoveryContext, journal: LogJournal) -> StepOutcome | None:
    """Give the writers of a planned move back, when they are held and the role has not moved; None when there is
    nothing to give back.

    :raises Refused: the site's hook did not get it done; the writers are still held.
    """
    records = journal.log.records()
    if quiesced_at(records, plan) is None or journal.role_is_moved() or is_given_back(records, plan):
        return None
    outcome = execute_step(plan, Step(id=UNQUIESCE, verb=Verb.UNQUIESCE), context, journal)
    if outcome.result is not StepResult.DONE:
        raise Refused(
            f"the writers of {plan.source_site} could not be given back: {outcome.reason}.",
            hint=f"{outcome.hint} `reopen rollback` tries it again.".strip(),
            site=plan.source_site,
        )
    return outcome


def require_done(plan: RecoveryPlan, outcomes: Outcomes, steps: Sequence[str]) -> None:
    """Refuse to go on where a step that comes before the fence, or the fence, did not get done.

    :raises NotMoved: with the first reason.
    """
    lost = [outcomes[step] for step in steps if step in outcomes and outcomes[step].result is not StepResult.DONE]
    if not lost:
        return
    first = next((outcome for outcome in lost if outcome.result is StepResult.FAILED), lost[0])
    raise NotMoved(
        f"nothing was moved to {plan.target_site}: {first.step}: {first.reason.rstrip('.')}.",
        hint=first.hint,
        step=first.step,
        plan=plan.digest,
    )
