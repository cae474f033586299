"""Owns the running of steps: one step with its intent and outcome, and the engine's own thread driver over a plan.

The Prefect flow calls :func:`execute_step` from its tasks and asks the :class:`~reopen.recover.course.Course` between
them; :func:`drive` is the same loop for when the orchestrator is what was lost.

Invariants (docs/0003-epochs-and-recovery.md)
    R1  Intent before, outcome after. An error inside a step is a ``failed`` outcome; an interrupt leaves it open.
    R4  Integrity, profile and contract checks stand between the copy and the promotion.
    R8  What the journal refuses ends the drive: a driver that cannot record does nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, Protocol

from reopen.clock import to_text
from reopen.control.records import StepOutcome, StepResult
from reopen.control.rules import Superseded
from reopen.errors import Internal, NotFound, ReopenError
from reopen.recover import moves
from reopen.recover.context import WAITS_UNTIL, Integrity, RecoveryContext
from reopen.recover.course import Course, OnOutcome
from reopen.recover.journal import Journal
from reopen.recover.moves import Report
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.steps import Step, Verb, step_id

TEXT_MAX = 240
"""Characters of one observed value or sample that an outcome keeps: a record is small, the raw result is elsewhere."""
FAILED_CHECKS_NAMED_MAX = 3


Act = Callable[[RecoveryPlan, Step, RecoveryContext, Journal], Report]


def execute_step(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> StepOutcome:
    """Run one step that is ready, and return its outcome, which the journal has by then.

    :raises Superseded: another orchestrator acts now.
    :raises ReopenError: the journal could not be written; whether the step acted is for the next driver to observe.
    """
    attempt = journal.begin(step)
    started_at = context.clock.now()
    try:
        report = _ACTS[step.verb](plan, step, context, journal)
    except Superseded:
        raise
    except ReopenError as error:
        report = Report(problem=error.message, hint=error.next_step, details={"error": error.kind})
    except Exception as error:  # noqa: BLE001 - one dataset's surprise must not close the others; it is recorded.
        report = Report(problem=f"{type(error).__name__}: {error}", details={"error": "unexpected"})
    finished_at = context.clock.now()
    waits = context.patience.limit(plan.dataset(name) for name in step.datasets)
    if report.problem and waits and journal.takes_decisions:
        # For whoever lists from elsewhere what waits, and knows nothing of who watches here.
        report = replace(report, details={**report.details, WAITS_UNTIL: to_text(finished_at + waits)})
    outcome = StepOutcome(
        step=step.id,
        attempt=attempt,
        started_at=started_at,
        finished_at=finished_at,
        result=StepResult.FAILED if report.problem else StepResult.DONE,
        reason=report.problem,
        hint=report.hint,
        details=report.details,
    )
    journal.settle(outcome)
    return outcome


class Drive(Protocol):
    """Runs every step of a plan that can be run: :func:`drive`, or an orchestrator's own loop over the same
    :class:`~reopen.recover.course.Course` and :func:`execute_step`."""

    def __call__(
        self, plan: RecoveryPlan, context: RecoveryContext, journal: Journal, *, workers: int, on_outcome: OnOutcome
    ) -> dict[str, StepOutcome]:
        """The outcome of every step; ``on_outcome`` is called from one thread, after each."""
        ...


def drive(
    plan: RecoveryPlan,
    context: RecoveryContext,
    journal: Journal,
    *,
    workers: int,
    on_outcome: OnOutcome,
) -> dict[str, StepOutcome]:
    """Run every step of a plan that can be run, ``workers`` at a time, and return all outcomes.

    ``on_outcome`` is called in this thread after each outcome.
    """
    course = Course(plan, context, journal, on_outcome=on_outcome)
    running: dict[Future[StepOutcome], Step] = {}
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="recover")
    try:
        while True:
            # No more than there are workers, so that the intent stands when the step acts and not while it queues.
            for step in course.next_steps([step.id for step in running.values()])[: workers - len(running)]:
                running[pool.submit(execute_step, plan, step, context, journal)] = step
            if running:
                finished, _ = wait(running, timeout=course.look_seconds, return_when=FIRST_COMPLETED)
                for future in sorted(finished, key=lambda future: running[future].id):
                    step = running.pop(future)
                    course.take(step, future.result())
            elif course.is_waiting:
                course.wait()
            else:
                return course.conclude()
    finally:
        # After an interrupt nothing new begins. What runs is waited for: a drill removes its folder next, and a restore
        # that went on writing would bring it back.
        pool.shutdown(wait=True, cancel_futures=True)


def _restore(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    dataset = _dataset(plan, step)
    if dataset.point is None:
        raise NotFound(f"{dataset.problem}.", hint=dataset.hint, dataset=dataset.name)
    restored = context.verbs.restore(dataset)
    return Report(
        details={
            "snapshot": dataset.point.snapshot,
            "target": dataset.target_url,
            "files": restored.files,
            "size_bytes": restored.size_bytes,
            "written_files": restored.written_files,
            "written_bytes": restored.written_bytes,
            "copied_bytes": restored.copied_bytes,
            "staged": restored.staged,
            "seconds": restored.seconds,
        }
    )


def _validate(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    dataset = _dataset(plan, step)
    integrity = context.verbs.check_tree(dataset)
    details: dict[str, Any] = {
        "integrity": _integrity_details(integrity),
        "checks": [_integrity_check(dataset, integrity)],
    }
    if integrity.bad_count:
        # Checks on the meaning of wrong bytes would only hide which bytes are wrong.
        return Report(details=details, problem=_integrity_problem(dataset, integrity), hint=_integrity_hint(integrity))
    checked = context.verbs.validate(dataset, related_folders(plan, dataset))
    details |= {
        "status": checked.status,
        "checks": [*details["checks"], *(_short(check) for check in checked.checks)],
        "seconds": checked.seconds,
        "versions": dict(checked.versions),
        **({"note": checked.note} if checked.note else {}),
    }
    if checked.status == "pass":
        return Report(details=details)
    # Broken rules of a lesser severity are kept in the details; they do not fail a dataset.
    bad = [c for c in checked.checks if c["status"] in ("fail", "error") and c.get("severity", "error") == "error"]
    named = "; ".join(str(check.get("message") or check.get("rule")) for check in bad[:FAILED_CHECKS_NAMED_MAX])
    more = f"; and {len(bad) - FAILED_CHECKS_NAMED_MAX} more" if len(bad) > FAILED_CHECKS_NAMED_MAX else ""
    return Report(
        details=details,
        problem=f"{len(bad)} of {len(checked.checks)} checks did not pass: {named}{more}",
        hint="Try an earlier recovery point, or correct the contract if it is wrong.",
    )


def _promote(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    datasets = tuple(plan.dataset(name) for name in step.datasets)
    rechecked = [dataset for dataset in datasets if not journal.settled_here(step_id(Verb.VALIDATE, dataset.name))]
    for dataset in rechecked:
        # Another process said that these bytes are good; time has passed since, so they are hashed again.
        integrity = context.verbs.check_tree(dataset)
        if integrity.bad_count:
            details = {"dataset": dataset.name, "integrity": _integrity_details(integrity)}
            return Report(
                details=details, problem=_integrity_problem(dataset, integrity), hint=_integrity_hint(integrity)
            )
    promotion = journal.promote(datasets)
    # After the record, from which it is derived: a driver that dies here is followed by one that comes this way again.
    led = moves.lead_consumers([member.dataset for member in promotion.members], plan, step, context, journal)
    return Report(
        details={
            **led,
            "group": promotion.group,
            "number": promotion.number,
            "epoch": promotion.epoch,
            "term": promotion.term,
            "rechecked": bool(rechecked),
            "url": datasets[0].target_url,
        }
        | ({"urls": {dataset.name: dataset.target_url for dataset in datasets}} if len(datasets) > 1 else {})
    )


def _barrier(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    outcomes = journal.outcomes()
    datasets = plan.tier(step.tier) if step.tier is not None else ()
    results = {dataset.name: str(outcomes[plan.last_step(dataset)].result) for dataset in datasets}
    return Report(details={"datasets": dict(sorted(results.items()))})


def _finish(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    outcomes = journal.outcomes()
    promoted = [
        name
        for step in plan.steps
        if step.verb is Verb.PROMOTE and step.id in outcomes and outcomes[step.id].result is StepResult.DONE
        for name in step.datasets
    ]
    details: dict[str, Any] = {"promoted": len(promoted), "datasets": len(plan.datasets)}
    unpublished = [outcome.step for outcome in outcomes.values() if "publish_problem" in outcome.details]
    if unpublished:
        # Consumers were not led to what serves; once more, now that everything stands.
        details |= moves.lead_consumers(promoted, plan, step, context, journal)
    if problem := details.get("publish_problem"):
        return Report(details=details, problem=str(problem), hint="Run the same command again to call it once more.")
    return Report(details=details)


_ACTS: Mapping[Verb, Act] = {
    Verb.PREFLIGHT: moves.preflight,
    Verb.APPROVE: moves.approve,
    Verb.QUIESCE: moves.quiesce,
    Verb.UNQUIESCE: moves.unquiesce,
    Verb.FINAL_SYNC: moves.final_sync,
    Verb.FENCE: moves.fence,
    Verb.CONFIRM: moves.confirm,
    Verb.OPEN: moves.unfence,
    Verb.UNFENCE: moves.unfence,
    Verb.RESTORE: _restore,
    Verb.VALIDATE: _validate,
    Verb.PROMOTE: _promote,
    Verb.BARRIER: _barrier,
    Verb.FINISH: _finish,
}

_DAMAGE_HINT = (
    "`reopen verify --level content` tells whether the vault is damaged; run the recovery again to restore anew."
)


def related_folders(plan: RecoveryPlan, dataset: PlannedDataset) -> dict[str, str]:
    """Where the dependencies of a dataset are, for checks across datasets."""
    folders = {other.name: other.target_url for other in plan.datasets} | dict(plan.served)
    return {name: folders[name] for name in dataset.depends_on if name in folders}


def _dataset(plan: RecoveryPlan, step: Step) -> PlannedDataset:
    if step.dataset is None:
        raise Internal(f"{step.id} names no dataset.")
    return plan.dataset(step.dataset)


def _integrity_details(integrity: Integrity) -> dict[str, Any]:
    bad = [{"path": entry.path, "status": entry.status, "detail": entry.detail} for entry in integrity.bad]
    found = {"checked": integrity.checked, "bad_count": integrity.bad_count, "bad": bad}
    return found | ({"repaired": integrity.repaired} if integrity.repaired else {})


def _integrity_check(dataset: PlannedDataset, integrity: Integrity) -> dict[str, Any]:
    """Integrity as one more check, so that a dataset without a table is seen to be checked as well."""
    return {
        "rule": "integrity",
        "kind": "integrity",
        "severity": "error",
        "status": "fail" if integrity.bad_count else "pass",
        "observed": f"{integrity.checked - integrity.bad_count} of {integrity.checked} entries",
        "expected": "every entry is byte for byte what the snapshot holds",
        "message": _integrity_problem(dataset, integrity) if integrity.bad_count else "",
    }


def _integrity_problem(dataset: PlannedDataset, integrity: Integrity) -> str:
    first = integrity.bad[0]
    return (
        f"{integrity.bad_count} of {integrity.checked} entries of {dataset.name} are not what the snapshot holds; "
        f"the first is {first.path}: {first.status}"
    )


def _integrity_hint(integrity: Integrity) -> str:
    extra = [entry for entry in integrity.bad if entry.status == "extra"]
    if extra and len(extra) == len(integrity.bad):
        return "Move aside what is not in the snapshot: whoever queries the folder would read it. Then run again."
    return _DAMAGE_HINT


def _short(check: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value[:TEXT_MAX] if isinstance(value, str) else value for key, value in check.items()}
