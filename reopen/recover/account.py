"""Owns what the evidence says beside clocks and results: retries, decisions of people, and where things went otherwise
than planned. Pure over the plan, the outcomes and the epoch log.

A drill has no log; its journal is its memory, and no person decides anything in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from reopen.clock import to_text
from reopen.control.records import (
    KINDS,
    Decision,
    Epoch,
    Evidenced,
    Intent,
    Outcome,
    Pinned,
    Promotion,
    Record,
    StepOutcome,
    StepResult,
    Takeover,
    Unknown,
)
from reopen.control.values import digest, to_json
from reopen.durations import to_text as duration_text
from reopen.ids import ID_BYTES
from reopen.recover.clocks import Measured, Verdict
from reopen.recover.plan import RecoveryPlan
from reopen.recover.steps import Outcomes, Verb, step_id
from reopen.storage.canonical import encode

if TYPE_CHECKING:
    from reopen.recover.evidence import Evidence

PREFLIGHT = "preflight"
_STEPS = (Intent, Outcome, Pinned, Promotion, Evidenced)
"""Kinds that tell of steps, which the outcomes have already."""
_KIND_NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The parts of :class:`~reopen.recover.evidence.Evidence` of the same names."""

    attempts: tuple[StepOutcome, ...] = ()
    unsettled: tuple[Mapping[str, Any], ...] = ()
    actions: tuple[Mapping[str, Any], ...] = ()
    readiness: Mapping[str, Any] = field(default_factory=dict)


def account_of(records: Sequence[Record], plan: RecoveryPlan, outcomes: Outcomes) -> Account:
    """What the epoch log has of a plan, beside the last outcome of each step."""
    own = plan.digest
    settled = [r.value.outcome for r in records if isinstance(r.value, Outcome) and r.value.plan == own]
    ended = {(outcome.step, outcome.attempt) for outcome in settled}
    begun = [(r, r.value) for r in records if isinstance(r.value, Intent) and r.value.plan == own]
    return Account(
        attempts=tuple(outcome for outcome in settled if outcome.attempt and outcomes.get(outcome.step) != outcome),
        unsettled=tuple(
            {"step": intent.step, "attempt": intent.attempt, "at": to_text(record.at), "by": record.by}
            for record, intent in begun
            if (intent.step, intent.attempt) not in ended
        ),
        actions=_actions(records, plan),
        readiness=readiness_in(outcomes),
    )


def evidence_id(records: Sequence[Record], plan: str, *, purpose: str = "") -> str:
    """The id of the evidence that is due for a plan as the log stands: the same for every driver that comes to write it
    until something more is tried or decided.

    What was not executed is noted anew by each driver and tells of nothing that happened, so it does not count.

    :param purpose: tells apart what is not told by plan and log alone.
    """
    settled = max(
        (
            record.number
            for record in records
            if isinstance(record.value, Decision | Outcome)
            and record.value.plan == plan
            and not (isinstance(record.value, Outcome) and record.value.outcome.result is StepResult.NOT_EXECUTED)
        ),
        default=0,
    )
    return digest(encode({"plan": plan, "purpose": purpose, "settled": settled}))[: 2 * ID_BYTES]


def readiness_in(outcomes: Outcomes) -> Mapping[str, Any]:
    """What the first step found of the target's readiness; empty where the plan has no such step."""
    outcome = outcomes.get(PREFLIGHT)
    return {} if outcome is None else outcome.details


def deviations_of(
    plan: RecoveryPlan, measured: Measured, outcomes: Outcomes, account: Account, last: Evidence | None = None
) -> tuple[str, ...]:
    """Where a recovery went otherwise than planned, predicted or drilled; each as a sentence for people.

    :param last: the newest drill of the same place before this; None where there was none.
    """
    found = [*_of_steps(plan, outcomes, account), *_of_amounts(plan, outcomes), *_of_predictions(plan, measured)]
    return (*found, *_since(plan, measured, last))


def attempts_of(plan: RecoveryPlan, outcomes: Outcomes, account: Account) -> tuple[str, ...]:
    """Where steps went otherwise than planned: drivers that died, attempts that were needed."""
    return tuple(_of_steps(plan, outcomes, account))


def _actions(records: Sequence[Record], plan: RecoveryPlan) -> tuple[Mapping[str, Any], ...]:
    """Everything in the log that is about this plan and is no step of it."""
    plans = {plan.digest, plan.prepared} - {""}
    numbers = [record.number for record in records if _plan_of(record) in plans]
    if not numbers:
        return ()
    # A takeover names no plan: it belongs to whatever the log is about at that place, or is about next.
    span = range(min(numbers) - 1, max(numbers) + 1)
    found = []
    for record in records:
        about = _plan_of(record) in plans or (isinstance(record.value, Takeover) and record.number in span)
        if about and not isinstance(record.value, _STEPS):
            found.append(_action(record))
    return tuple(found)


def _plan_of(record: Record) -> str:
    if isinstance(record.value, Unknown):
        return str(record.value.value.get("plan", ""))
    return str(getattr(record.value, "plan", None) or "")


def _action(record: Record) -> Mapping[str, Any]:
    value = record.value
    fields = dict(value.value) if isinstance(value, Unknown) else to_json(value)
    kind = value.kind if isinstance(value, Unknown) else _KIND_NAMES[type(value)]
    what, by = _words(fields), str(fields.get("by") or record.by)
    if isinstance(value, Epoch):
        risks = f", accepted {', '.join(value.fence.accepted_risks)}" if value.fence.accepted_risks else ""
        why = f": {value.fence.why}" if value.fence.why else ""
        what = (
            f"epoch {value.epoch}, {value.primary} has the role instead of {value.previous_primary}; fence "
            f"{value.fence.level}{risks}{why}; {value.reason}"
        )
        by = value.fence.by
    return {"record": record.number, "at": to_text(record.at), "kind": kind, "by": by, "what": what}


def _words(fields: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in fields.items() if key not in ("plan", "by") and value not in ("", None, [])}
    return ", ".join(f"{key} {value}" for key, value in shown.items())


def _of_steps(plan: RecoveryPlan, outcomes: Outcomes, account: Account) -> list[str]:
    found = []
    drivers = {str(action["by"]) for action in account.actions if action["kind"] == "takeover"}
    if len(drivers) > 1:
        found.append(f"{len(drivers)} drivers worked on it, one after the other")
    found += [
        f"attempt {entry['attempt']} of {entry['step']} was begun and never ended: its driver died"
        for entry in account.unsettled
    ]
    for step in plan.steps:
        outcome = outcomes.get(step.id)
        if outcome is None:
            found.append(f"{step.id} was planned and has no outcome")
        elif outcome.result is not StepResult.DONE:
            found.append(f"{step.id} {outcome.result}: {outcome.reason}")
        elif outcome.attempt > 1:
            found.append(f"{step.id} needed {outcome.attempt} attempts")
    return found


def _of_amounts(plan: RecoveryPlan, outcomes: Outcomes) -> list[str]:
    """Restores that moved another amount than the recovery point holds."""
    found = []
    for dataset in plan.datasets:
        outcome = outcomes.get(step_id(Verb.RESTORE, dataset.name))
        if dataset.point is None or outcome is None or outcome.result is not StepResult.DONE:
            continue
        files = outcome.details.get("files")
        if isinstance(files, int) and files != dataset.point.files:
            found.append(f"{dataset.name}: {files} files were restored, {dataset.point.files} were planned")
    return found


def _of_predictions(plan: RecoveryPlan, measured: Measured) -> list[str]:
    """Clocks beyond what was predicted. A drill's prediction knows nothing of the detection that is assumed."""
    predicted = {dataset.name: dataset.predicted for dataset in plan.datasets}
    found = []
    for result in measured.datasets:
        entry = predicted[result.name]
        if entry is None or result.rta is None:
            continue
        took = result.rta - measured.assumed_detection
        if took > entry.p95:
            found.append(f"{result.name} took {_text(took)}; at most {_text(entry.p95)} was predicted")
    return found


def _since(plan: RecoveryPlan, measured: Measured, last: Evidence | None) -> list[str]:
    """What differs from the newest drill of this place."""
    if last is None:
        return ["this place was never drilled before"]
    found = []
    before = {dataset.name: dataset for dataset in last.planned.datasets}
    for dataset in plan.datasets:
        known = before.get(dataset.name)
        if known is None:
            found.append(f"{dataset.name} was not part of the last drill")
        elif known.contract.digest != dataset.contract.digest:
            found.append(f"the contract of {dataset.name} was changed since the last drill")
        elif (known.tier, known.depends_on) != (dataset.tier, dataset.depends_on):
            found.append(f"the order of {dataset.name} was changed since the last drill")
    judged = {result.name: result.verdict for result in last.measured.datasets}
    for result in measured.datasets:
        earlier = judged.get(result.name)
        if earlier is Verdict.MET and result.verdict is not Verdict.MET:
            found.append(f"{result.name} {result.verdict}; it met its objectives in the last drill")
    return found


def _text(value: timedelta) -> str:
    return duration_text(max(value, timedelta(0)))
