"""Owns the clocks of a recovery: what was measured against what was asked for. Pure over a plan and its outcomes.

``t_failure``, ``t_declared`` and ``t_consistent`` are in the plan, ``t_started`` is the first step's, ``t_restored``
and ``t_validated`` are the ends of steps. The clock of a dataset stops when it is validated and promoted (in a drill:
validated), never when it is copied.

    RTA = t_validated - t_failure         (a drill: t_validated - t_started + assumed detection and decision)
    RPA = max(0, t_failure - t_consistent)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from reopen.control.records import StepResult
from reopen.control.values import Duration, Instant, stored
from reopen.recover.plan import PlanKind, PlannedDataset, RecoveryPlan
from reopen.recover.steps import Outcomes, Verb, step_id


class Verdict(StrEnum):
    """What a recovery came to, for a dataset, a tier or all."""

    MET = "met"
    MISSED = "missed"
    """It runs again, later or with more data lost than the objective allows."""
    FAILED = "failed"
    """It does not run."""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetResult:
    """One dataset's clocks and verdict. ``rta`` and ``rpa`` are None where nothing was recovered; ``reason`` says why a
    verdict is not ``met``."""

    name: str
    tier: int
    verdict: Verdict
    reason: str
    hint: str
    rto: Duration
    rta: Duration | None
    rpo: Duration
    rpa: Duration | None
    t_consistent: Instant | None
    t_restored: Instant | None
    t_validated: Instant | None
    snapshot: str
    target_url: str
    files: int
    size_bytes: int
    checks_passed: int
    checks_total: int


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class TierResult:
    """The worst of a tier's datasets: a tier is open when its last dataset is."""

    tier: int
    verdict: Verdict
    rto: Duration
    """The tightest objective in the tier."""
    rta: Duration | None
    rpo: Duration
    rpa: Duration | None
    datasets: tuple[str, ...]
    not_recovered: tuple[str, ...]


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All clocks of one recovery."""

    verdict: Verdict
    t_failure: Instant
    t_declared: Instant
    t_started: Instant
    t_finished: Instant
    assumed_detection: Duration
    """What a drill adds for detection and decision, which it does not exercise; zero in a failover."""
    datasets: tuple[DatasetResult, ...]
    tiers: tuple[TierResult, ...]

    @property
    def problem(self) -> str:
        """Which datasets did not meet their objectives, and why, in a line; empty when all did."""
        short = [result for result in self.datasets if result.verdict is not Verdict.MET]
        return "; ".join(f"{item.name} {item.verdict}{f': {item.reason}' if item.reason else ''}" for item in short)

    @property
    def hint(self) -> str:
        """What to do about the first of them that says so."""
        return next((result.hint for result in self.datasets if result.hint), "")


def measure(
    plan: RecoveryPlan,
    outcomes: Outcomes,
    *,
    started_at: datetime,
    finished_at: datetime,
    assumed_detection: timedelta = timedelta(0),
) -> Measured:
    """Judge a recovery that has come to its end."""
    zero = started_at - assumed_detection if plan.kind is PlanKind.DRILL else plan.failed_at
    datasets = tuple(judge_dataset(plan, dataset, outcomes, clock_zero=zero) for dataset in plan.datasets)
    return Measured(
        verdict=_worst(result.verdict for result in datasets),
        t_failure=plan.failed_at,
        t_declared=plan.declared_at,
        t_started=started_at,
        t_finished=finished_at,
        assumed_detection=assumed_detection,
        datasets=datasets,
        tiers=tuple(judge_tier(number, [r for r in datasets if r.tier == number]) for number in plan.tiers),
    )


def judge_dataset(
    plan: RecoveryPlan, dataset: PlannedDataset, outcomes: Outcomes, *, clock_zero: datetime
) -> DatasetResult:
    """One dataset's clocks and verdict, also while others still run. ``clock_zero`` is when its RTA begins to count."""
    restore = outcomes.get(step_id(Verb.RESTORE, dataset.name))
    validate = outcomes.get(step_id(Verb.VALIDATE, dataset.name))
    last = outcomes.get(plan.last_step(dataset))
    is_open = last is not None and last.result is StepResult.DONE
    t_validated = last.finished_at if last is not None and is_open else None
    rta = None if t_validated is None else t_validated - clock_zero
    point = dataset.point
    verdict, reason, hint = Verdict.MET, "", ""
    if not is_open:
        # The step that failed, or that a person gave up, says more than those after it, which only were not executed.
        ended = [outcome for outcome in (restore, validate, last) if outcome is not None]
        bad = [outcome for outcome in ended if outcome.result is not StepResult.DONE]
        said = (o for kind in (StepResult.FAILED, StepResult.SKIPPED) for o in bad if o.result is kind)
        cause = next(said, bad[0] if bad else None)
        verdict = Verdict.FAILED
        reason = "not executed" if cause is None else f"{cause.step} {cause.result}: {cause.reason}"
        hint = cause.hint if cause is not None else ""
    else:
        late = rta is not None and rta > dataset.objective.rto
        lossy = dataset.rpa is not None and dataset.rpa > dataset.objective.rpo
        if late or lossy:
            verdict = Verdict.MISSED
            reason = " and ".join([*(["RTA is over RTO"] if late else []), *(["RPA is over RPO"] if lossy else [])])
    checks = validate.details.get("checks", []) if validate is not None else []
    # A check that is not for a machine is neither passed nor counted.
    checks = [check for check in checks if check.get("status") != "skipped"]
    return DatasetResult(
        name=dataset.name,
        tier=dataset.tier,
        verdict=verdict,
        reason=reason,
        hint=hint,
        rto=dataset.objective.rto,
        rta=rta,
        rpo=dataset.objective.rpo,
        rpa=dataset.rpa if is_open else None,
        t_consistent=None if point is None else point.consistent_at,
        t_restored=restore.finished_at if restore is not None and restore.result is StepResult.DONE else None,
        t_validated=t_validated,
        snapshot="" if point is None else point.snapshot,
        target_url=dataset.target_url,
        files=0 if point is None else point.files,
        size_bytes=0 if point is None else point.size_bytes,
        checks_passed=sum(1 for check in checks if check.get("status") == "pass"),
        checks_total=len(checks),
    )


def judge_tier(number: int, results: list[DatasetResult]) -> TierResult:
    """The worst of a tier. Its RTA and RPA are None while any dataset of it is not recovered: it is not open."""
    lost = tuple(result.name for result in results if result.verdict is Verdict.FAILED)
    rtas = [result.rta for result in results if result.rta is not None]
    rpas = [result.rpa for result in results if result.rpa is not None]
    return TierResult(
        tier=number,
        verdict=_worst(result.verdict for result in results),
        rto=min(result.rto for result in results),
        rta=None if lost or not rtas else max(rtas),
        rpo=min(result.rpo for result in results),
        rpa=None if lost or not rpas else max(rpas),
        datasets=tuple(result.name for result in results),
        not_recovered=lost,
    )


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    order = (Verdict.MET, Verdict.MISSED, Verdict.FAILED)
    # A recovery of nothing has not shown that anything runs.
    return max(verdicts, key=order.index, default=Verdict.FAILED)
