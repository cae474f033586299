"""Owns how a plan's outlook is shown: what is lost, when what serves, and which points stand for one time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from reopen.cli.text import duration_text, make_table, size_text
from reopen.recover.points import CLEAN_MEANS, LAST_CLEAN

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.recover.outlook import Loss, Predicted
    from reopen.recover.plan import PlannedDataset, RecoveryPlan
    from reopen.recover.points import Together

UNKNOWN = "unknown"


def outlook(plan: RecoveryPlan) -> list[RenderableType]:
    """The tables and lines below a plan."""
    rows = [
        (
            dataset.tier, dataset.name, *_loss(dataset.loss),
            *_predicted(dataset.predicted), duration_text(dataset.objective.rto.total_seconds()), judge(dataset),
        )
        for dataset in plan.datasets
        if dataset.point is not None
    ]  # fmt: skip
    columns = (
        ">tier", "dataset", ">files lost", ">bytes lost", ">rows lost", ">serves in", ">at worst", ">runs", ">error",
        ">RTO", "expected",
    )  # fmt: skip
    return [
        *([make_table(columns, rows)] if rows else []),
        *_reasons(plan),
        *(_together(item) for item in plan.together),
        *growth_lines(plan),
        *([CLEAN_MEANS] if LAST_CLEAN in _selectors(plan) else []),
    ]


def predictions(plan: RecoveryPlan | None, names: Sequence[str]) -> list[RenderableType]:
    """When each dataset would serve if the primary were lost now, for ``reopen status``; unknown is said."""
    if not names or (plan is not None and not plan.datasets):
        return []
    if plan is None:
        return ["", "how long a recovery would take is unknown; `reopen drill` measures it"]
    rows = [
        (dataset.tier, dataset.name, *_predicted(dataset.predicted), _text(dataset.objective.rto), judge(dataset))
        for dataset in plan.datasets
    ]
    columns = (">tier", "dataset", ">would serve in", ">at worst", ">runs", ">error", ">RTO", "expected")
    return ["", make_table(columns, rows), *growth_lines(plan)]


def judge(dataset: PlannedDataset) -> str:
    """Whether a dataset is expected to keep its RTO. Without a prediction nobody knows."""
    if dataset.predicted is None:
        return UNKNOWN
    rto = dataset.objective.rto
    if dataset.predicted.p50 > rto:
        return "will miss"
    return "may miss" if dataset.predicted.p95 > rto else "keeps"


def growth_lines(plan: RecoveryPlan) -> list[str]:
    """Which datasets grow out of their RTO, and about when."""
    lines = []
    for dataset in plan.datasets:
        predicted = dataset.predicted
        if predicted is None or predicted.breaks_at is None:
            continue
        rto = duration_text(dataset.objective.rto.total_seconds())
        if predicted.p50 > dataset.objective.rto:
            lines.append(f"{dataset.name}: takes longer than its RTO of {rto} already")
        else:
            grows = size_text(round(predicted.grows_bytes_per_day))
            lines.append(
                f"{dataset.name}: grows by {grows} a day, and takes longer than its RTO of {rto} from about "
                f"{predicted.breaks_at:%Y-%m-%d}"
            )
    return lines


def _loss(loss: Loss | None) -> tuple[str, str, str]:
    if loss is None or loss.files is None:
        return UNKNOWN, UNKNOWN, UNKNOWN
    size = UNKNOWN if loss.size_bytes is None else size_text(loss.size_bytes)
    return f"{loss.files:,}", size, UNKNOWN if loss.rows is None else f"{loss.rows:,}"


def _predicted(predicted: Predicted | None) -> tuple[str, str, str, str]:
    if predicted is None:
        return UNKNOWN, UNKNOWN, "0", "-"
    error = "-" if predicted.error is None else f"{predicted.error:+.0%}"
    runs = f"{predicted.own_runs} of {predicted.runs}"
    return _text(predicted.p50), _text(predicted.p95), runs, error


def _reasons(plan: RecoveryPlan) -> list[str]:
    reasons = dict.fromkeys(dataset.loss.unknown for dataset in plan.datasets if dataset.loss is not None)
    return [f"what is lost is not wholly known: {reason}" for reason in reasons if reason]


def _together(item: Together) -> str:
    names, apart = ", ".join(item.datasets), _text(item.apart)
    older = "; ".join(f"{name} is {_text(age)} older for it" for name, age in item.older.items())
    if item.one_run:
        return f"{names}: points of one run, {apart} apart{f'; {older}' if older else ''}"
    return f"{names}: no common time within their RPO: their points are {apart} apart{f'; {older}' if older else ''}"


def _selectors(plan: RecoveryPlan) -> set[str]:
    return {plan.selector, *(dataset.point.selector for dataset in plan.datasets if dataset.point is not None)}


def _text(value: timedelta) -> str:
    return duration_text(value.total_seconds())
