"""Owns the failover: moving the role to another site and opening the business there, tier by tier.

The log is the truth (:mod:`reopen.control.log`). Running the same failover again goes on where the log says it is, from
any point at which the process before it died (docs/0003-epochs-and-recovery.md, R1 and "Going on").

Order: plan stored -> term taken -> fence (epoch, pinned) -> per tier restore, validate, promote, barrier -> finish ->
evidence. Messages go out beside the work and never hold it up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from reopen.control import rules, tenure
from reopen.control.log import EpochLog
from reopen.control.records import Committed, Epoch, Fence, Intent, Record, Scenario, StepOutcome, StepResult
from reopen.control.rules import Superseded
from reopen.control.values import to_json
from reopen.errors import Internal, Refused, ReopenError
from reopen.ids import RandomBytes, system_random
from reopen.recover.account import account_of, evidence_id
from reopen.recover.anchor import head_of, standing_text
from reopen.recover.clocks import Measured, Verdict, judge_dataset, judge_tier, measure
from reopen.recover.context import Delivery, Notice, RecoveryContext
from reopen.recover.course import OnOutcome
from reopen.recover.driver import Drive, drive
from reopen.recover.evidence import StoredEvidence, find_evidence, last_drill, make_evidence
from reopen.recover.handover import REPROTECT
from reopen.recover.journal import LogJournal, open_journal
from reopen.recover.messages import (
    Messenger,
    approval_needed,
    decision_needed,
    declared,
    failback_finished,
    failover_finished,
    objective_missed,
    tier_restored,
)
from reopen.recover.parts import evidence_break
from reopen.recover.plan import PlanKind, RecoveryPlan, read_plan
from reopen.recover.planned import giving_back, require_done
from reopen.recover.record import record_recovery
from reopen.recover.roles import APPROVE, CONFIRM, PREFLIGHT, UNFENCE, UNQUIESCE
from reopen.recover.steps import FENCE, Outcomes, Step, Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverResult:
    """What a failover came to. ``resumed``: an earlier process had begun it."""

    plan: RecoveryPlan
    epoch: int
    primary: str
    resumed: bool
    outcomes: Outcomes
    measured: Measured
    messages: tuple[Delivery, ...]
    evidence: StoredEvidence
    problems: tuple[str, ...] = ()
    """What could not be laid beside the evidence."""
    broken: str = ""
    """What is wrong with the chain of the evidence; the record of this one stands in a part of its own then (E7)."""
    aborted: str = ""
    """Who ended it and why; empty for one that came to its end. What was promoted serves."""
    diverged: tuple[Mapping[str, Any], ...] = ()
    """Snapshots that the target wrote while it had not the role; they are kept for review."""

    @property
    def rpo_zero(self) -> str:
        """``proven`` or ``unproven`` for a planned move; empty for another one."""
        confirmed = self.outcomes.get(CONFIRM)
        return "" if confirmed is None else str(confirmed.details.get("rpo_zero", "unproven"))

    @property
    def undone(self) -> tuple[str, ...]:
        """Steps of no dataset that failed, in sentences: the business is open, and somebody has to do something, as
        when consumers were not led to what serves."""
        own = {step.id for step in self.plan.steps if step.verb in (Verb.FINISH, Verb.OPEN, Verb.CONFIRM)}
        failed = (o for o in self.outcomes.values() if o.step in own and o.result is StepResult.FAILED)
        return tuple(f"{o.step} failed: {o.reason.rstrip('.')}. {o.hint}".strip() for o in failed)

    @property
    def verdict(self) -> Verdict:
        """The worst of all datasets."""
        return self.measured.verdict


def unfinished_plan(log: EpochLog) -> RecoveryPlan | None:
    """The plan of a failover that the log shows as begun and not wholly done: what to hand to :func:`execute_failover`
    to go on. None when nothing is open."""
    records = log.records()
    digest = newest_plan(records)
    if digest is None:
        return None
    plan = read_plan(log.load_plan(digest), f"plans/{digest}.json")
    return None if _is_over(records, plan) else plan


def _is_over(records: Sequence[Record], plan: RecoveryPlan) -> bool:
    """Whether nothing of a plan is left to go on with."""
    digest = plan.digest
    ended = rules.outcomes(records, digest)
    if UNQUIESCE in ended and ended[UNQUIESCE].result is StepResult.DONE:
        return True
    if plan.kind is PlanKind.PREPARE and (rules.abort(records, digest) is not None or _is_unfit(ended)):
        return not tenure.is_quiesced(records)
    if plan.scenario is Scenario.MOVED:
        return REPROTECT in ended and ended[REPROTECT].result is StepResult.DONE
    if plan.scenario is Scenario.ROLLBACK:
        return UNFENCE in ended and ended[UNFENCE].result is StepResult.DONE
    return rules.is_concluded(records, digest) or _was_committed(records, plan)


def _is_unfit(ended: Outcomes) -> bool:
    """Whether the target was found unready: by the time it is ready, the move is planned anew."""
    preflight = ended.get(PREFLIGHT)
    return preflight is not None and preflight.result is StepResult.FAILED


def _was_committed(records: Sequence[Record], plan: RecoveryPlan) -> bool:
    """Whether the failover was accepted after this plan's last step: what had failed needs a plan of its own."""
    own = plan.digest
    last = max((r.number for r in records if isinstance(r.value, Intent) and r.value.plan == own), default=0)
    return any(isinstance(record.value, Committed) and record.number > last > 0 for record in records)


def execute_failover(
    plan: RecoveryPlan,
    context: RecoveryContext,
    log: EpochLog,
    *,
    fence: Fence,
    reason: str,
    workers: int,
    driver: Drive = drive,
    on_outcome: OnOutcome = lambda step, outcome, outcomes: None,
    random_bytes: RandomBytes = system_random,
) -> FailoverResult:
    """Fail over, or go on with the failover of the same plan.

    :param fence: the fence as it is achieved; looked at only when the role has not moved yet.
    :param reason: why, in a person's words; it stands in the epoch record.
    :param driver: what runs the steps: threads of this process, or an orchestrator's tasks.
    :param on_outcome: told of every step, for whoever shows progress.
    :raises NotMoved: nobody has approved, or the fence could not be achieved; the role is where it was.
    :raises Refused: the fence does not suffice (L6), or nothing of the plan has a recovery point.
    :raises Conflict: the target serves datasets that this plan would restore over; or nothing is left to do.
    :raises Superseded: another orchestrator took over meanwhile; what it does not redo stands.
    """
    if plan.kind is not PlanKind.FAILOVER:
        raise Internal(f"the plan of a {plan.kind} was handed to a failover.")
    if plan.datasets and all(dataset.point is None for dataset in plan.datasets):
        # The role must not move to a site that can serve nothing.
        first = plan.datasets[0]
        raise Refused(
            f"no dataset of the plan has a recovery point: {first.problem}. Nothing was moved.", hint=first.hint
        )
    journal, resumed = open_journal(
        log, plan, fence=fence, orchestrator=context.orchestrator, reason=reason,
        enforceable=context.hooks.enforces(plan.source_site),
    )  # fmt: skip
    messenger = Messenger(context.notify)

    def tell(step: Step, outcome: StepOutcome, outcomes: Outcomes) -> None:
        within = context.patience.limit(plan.dataset(name) for name in step.datasets)
        for notice in notices_after(plan, step, outcome, outcomes, reason=reason, decide_within=within):
            messenger.send(notice)
        on_outcome(step, outcome, outcomes)

    with messenger:
        with giving_back(plan, context, journal):
            outcomes = driver(plan, context, journal, workers=workers, on_outcome=tell)
            if rules.abort(log.records(), plan.digest) is None:
                # What a person ended is concluded below, whatever it had reached.
                require_done(plan, outcomes, [APPROVE, FENCE])
        return conclude_failover(
            plan, context, journal, outcomes, messenger, resumed=resumed, random_bytes=random_bytes
        )


def conclude_failover(
    plan: RecoveryPlan,
    context: RecoveryContext,
    journal: LogJournal,
    outcomes: Outcomes,
    messenger: Messenger,
    *,
    resumed: bool,
    random_bytes: RandomBytes = system_random,
) -> FailoverResult:
    """Judge a failover whose steps are all settled, tell people, and write the evidence."""
    finished_at = max(outcome.finished_at for outcome in outcomes.values())
    measured = measure(plan, outcomes, started_at=journal.started_at(), finished_at=finished_at)
    diverged = tuple(to_json(found) for found in context.diverged(plan.target_site))
    store, records = journal.log.store, journal.log.records()
    identifier = evidence_id(records, plan.digest)
    with _unrecorded_is_told(plan):
        broken = evidence_break(store)
        standing = standing_text(head_of(store), broken)
        last = last_drill(store, plan)
        written = find_evidence(store, identifier) if resumed else None
    if written is None:
        # A driver that died behind its record has told people before.
        messenger.send(_finished(plan, measured, outcomes, diverged, standing))
    messages = messenger.collect()
    epoch = rules.epoch_record(records)
    abort = rules.abort(records, plan.digest)
    evidence = make_evidence(
        plan,
        measured,
        outcomes,
        identifier=identifier,
        orchestrator=context.orchestrator,
        versions=context.versions,
        messages=messages,
        fence={} if epoch is None else to_json(epoch.fence),
        epoch=rules.current_epoch(records),
        resumed=resumed,
        account=account_of(records, plan, outcomes),
        last=last,
    )
    evidence = replace(evidence, findings={**evidence.findings, **_findings(outcomes, diverged)})
    with _unrecorded_is_told(plan):
        recorded = record_recovery(
            store, evidence, sign=context.sign, raw_results=context.raw_results, random_bytes=random_bytes
        )
        stored = recorded.evidence
        journal.conclude(stored.name, stored.digest)
    return FailoverResult(
        plan=plan,
        epoch=evidence.epoch,
        primary=rules.primary_site(records, initial=plan.source_site),
        resumed=resumed,
        outcomes=outcomes,
        measured=measured,
        messages=messages,
        evidence=stored,
        problems=recorded.problems,
        broken=broken,
        aborted="" if abort is None else f"{abort.by}: {abort.why}",
        diverged=diverged,
    )


@contextmanager
def _unrecorded_is_told(plan: RecoveryPlan) -> Iterator[None]:
    """Say, where the evidence cannot be written now, that the business is open and what is left to do."""
    try:
        yield
    except Superseded:
        raise
    except ReopenError as error:
        raise type(error)(
            f"every step of the move to {plan.target_site} is settled and what was promoted serves, but its evidence "
            f"could not be written: {error.message}",
            hint="Run the same command again when the control store takes it: it repeats no step, writes the evidence "
            "and concludes the failover.",
            **error.context,
        ) from error


def _finished(
    plan: RecoveryPlan, measured: Measured, outcomes: Outcomes, diverged: Sequence[Mapping[str, Any]], evidence: str
) -> Notice:
    """What people are told when every step is settled; of a failback also what was moved and what is kept."""
    if plan.scenario is not Scenario.FAILBACK:
        return failover_finished(plan, measured, evidence=evidence)
    restored = [outcome.details for step, outcome in outcomes.items() if step.startswith(f"{Verb.RESTORE}:")]
    written, whole = (sum(int(details.get(key, 0)) for details in restored) for key in ("written_bytes", "size_bytes"))
    kept = ", ".join(f"{found['dataset']} {found['snapshot']}" for found in diverged)
    moved = f"{written:,} of {whole:,} bytes"
    return failback_finished(plan, measured, kept=kept, moved=moved, evidence=evidence)


def _findings(outcomes: Outcomes, diverged: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was found beside the datasets: whether anything was lost in a planned move, and what is kept for review."""
    found: dict[str, Any] = {"diverged": list(diverged)} if diverged else {}
    if CONFIRM in outcomes:
        confirmed = outcomes[CONFIRM].details
        found["rpo_zero"] = {"verdict": confirmed.get("rpo_zero", "unproven"), "why": confirmed.get("why", "")}
    return found


def notices_after(
    plan: RecoveryPlan, step: Step, outcome: StepOutcome, outcomes: Outcomes, *, reason: str, decide_within: timedelta
) -> tuple[Notice, ...]:
    """What people are told after an outcome: the role moved, a tier is settled, an objective is missed, somebody has to
    decide."""
    if outcome.result is StepResult.FAILED and step.id not in outcomes:
        names, until = ", ".join(step.datasets), outcome.finished_at + decide_within
        return (
            decision_needed(plan, step=step.id, dataset=names, reason=outcome.reason, hint=outcome.hint, until=until),
        )
    if step.verb is Verb.PREFLIGHT and plan.approvals:
        # The next thing that happens is that somebody is waited for.
        return (approval_needed(plan, asked_by=plan.approvals),)
    if outcome.result is not StepResult.DONE:
        return ()
    if step.verb is Verb.FENCE:
        return (declared(plan, reason=reason),)
    if step.verb is Verb.BARRIER and step.tier is not None:
        results = [
            judge_dataset(plan, dataset, outcomes, clock_zero=plan.failed_at) for dataset in plan.tier(step.tier)
        ]
        tier = judge_tier(step.tier, results)
        missed = [objective_missed(plan, result) for result in results if result.verdict is not Verdict.MET]
        return (tier_restored(plan, tier), *missed)
    return ()


def newest_plan(records: Sequence[Record]) -> str | None:
    """The digest of the plan that was begun last: of its first intent, or of the epoch whose driver died before it."""
    plans = [record.value.plan for record in records if isinstance(record.value, (Epoch, Intent))]
    return next((plan for plan in reversed(plans) if plan is not None), None)
