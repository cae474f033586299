"""Owns what a planned move says before it begins: nothing is lost, because the final sync comes first; how much that
has to move; and how long the rest will take.

The source is scanned as its snapshot would, and compared with the newest copy at the target. It holds nobody up: what
does not answer in time is unknown, with the reason (F4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from reopen.control.records import StepResult
from reopen.desk.forecast import forecaster, loss_counter
from reopen.errors import ReopenError
from reopen.recover.foresee import CountLoss, foresee
from reopen.recover.hooks import HookKind
from reopen.recover.outlook import Loss, Pending, Predicted
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.planned import Prepared
from reopen.recover.readiness.limit import within
from reopen.recover.steps import Verb

if TYPE_CHECKING:
    from reopen.desk.session import Session

SCAN_SECONDS_MAX = 60.0
"""How long the scan of all datasets may take: a person waits for the plan. The final sync takes what it needs."""


def foreseen_move(
    session: Session, plan: RecoveryPlan, *, home: str, after: Callable[[], RecoveryPlan]
) -> RecoveryPlan:
    """The plan that prepares a move, with what is still to move and when each dataset is expected to serve.

    :param home: the site whose vault is recovered from.
    :param after: the plan of the second half as it would be now; only its durations are taken.
    """
    pending = _pending(session, plan, home)
    predicted = _predicted(session, home, after)
    datasets = (
        replace(dataset, pending=pending[dataset.name], predicted=predicted.get(dataset.name))
        for dataset in plan.datasets
    )
    return replace(plan, datasets=tuple(datasets))


def carried_over(plan: RecoveryPlan, prepared: Prepared) -> RecoveryPlan:
    """The plan of the second half with what its points lack of what was known, which is nothing, and with the durations
    of the first; made of the log alone, so that every driver makes the same one (F5)."""
    synced = [
        outcome.finished_at
        for step, outcome in prepared.outcomes.items()
        if step.startswith(f"{Verb.FINAL_SYNC}:") and outcome.result is StepResult.DONE
    ]
    since = max(synced, default=prepared.quiesced_at) - prepared.quiesced_at
    before = {dataset.name: dataset.predicted for dataset in prepared.plan.datasets}
    return replace(
        plan, datasets=tuple(_carried(dataset, plan, before.get(dataset.name), since) for dataset in plan.datasets)
    )


def _carried(
    dataset: PlannedDataset, plan: RecoveryPlan, predicted: Predicted | None, since: timedelta
) -> PlannedDataset:
    point = dataset.point
    if predicted is not None:
        # This plan's clocks begin when the writers were held, and the sync is part of them.
        predicted = replace(predicted, p50=predicted.p50 + since, p95=predicted.p95 + since)
    if point is None:
        return dataset
    nothing = Loss(
        against=point.snapshot, site=plan.source_site, at=point.consistent_at, files=0, removed=0, size_bytes=0, rows=0
    )
    return replace(dataset, loss=nothing, predicted=predicted)


def _predicted(session: Session, home: str, after: Callable[[], RecoveryPlan]) -> Mapping[str, Predicted]:
    # Imported late by what it calls: before the first recovery there is nothing to predict with.
    forecast = forecaster(session, workers=1)
    if forecast is None:
        return {}
    try:
        plan = foresee(after(), session.vault(home), forecast=forecast)
    except ReopenError:
        # Unknown; the move itself says what is wrong, and when it comes to it.
        return {}
    return {dataset.name: dataset.predicted for dataset in plan.datasets if dataset.predicted is not None}


def _pending(session: Session, plan: RecoveryPlan, home: str) -> Mapping[str, Pending]:
    if HookKind.FINAL_SYNC in session.site(plan.source_site).hooks:
        said = Pending(unknown=f"{plan.source_site} makes the final sync by its own hook")
        return {dataset.name: said for dataset in plan.datasets}
    try:
        session.vault(plan.source_site)
        count = loss_counter(session, home)
    except ReopenError as error:
        said = Pending(unknown=f"the vault of {plan.source_site} cannot be read: {error.message}")
        return {dataset.name: said for dataset in plan.datasets}
    found: dict[str, Pending] = {}

    def look() -> None:
        # One after the other: they share the vault, and what was seen in time counts.
        for dataset in plan.datasets:
            try:
                found[dataset.name] = _of_dataset(session, plan.source_site, dataset, count)
            except ReopenError as error:
                found[dataset.name] = Pending(unknown=error.message.rstrip("."))

    ended = within(SCAN_SECONDS_MAX, "pending", look)
    late = Pending(unknown=ended.message.rstrip(".") if isinstance(ended, ReopenError) else "it was not looked at")
    return {dataset.name: found.get(dataset.name, late) for dataset in plan.datasets}


def _of_dataset(session: Session, site: str, dataset: PlannedDataset, count: CountLoss) -> Pending:
    # Imported here: it loads Arrow.
    import pyarrow.compute as pc

    from reopen.protect.plan import plan_snapshot

    now = session.clock.now()
    cache = session.index_cache if site == session.settings.site else None
    plan = plan_snapshot(session.vault(site), session.contracts.datasets[dataset.name], site, cache=cache)
    if dataset.point is None:
        # Nothing of it is at the target that could be recovered from: all of it has to come.
        entries = plan.scan.filter(pc.not_equal(plan.scan.column("type"), "dir"))
        size_bytes = pc.sum(entries.column("size_bytes")).as_py() or 0
        return Pending(files=entries.num_rows, removed=0, size_bytes=size_bytes, rows=None, at=now)
    waiting = count(dataset.name, dataset.point)
    if waiting.files is None:
        return Pending(unknown=waiting.unknown or "the newest copy at the target cannot be compared")
    return Pending(
        files=plan.read_files + waiting.files,
        removed=plan.removed + (waiting.removed or 0),
        size_bytes=plan.read_bytes + (waiting.size_bytes or 0),
        # What is in a file is known when it was read.
        rows=waiting.rows if not plan.read_files and not plan.removed else None,
        at=now,
    )
