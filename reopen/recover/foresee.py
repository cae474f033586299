"""Owns the adding of what is to come to a plan: what is lost, how long it will take, and so what is begun first.

A plan is whole without it. What is added is counted and fitted by others; here it only gets its place, so that a plan
stays a value of its inputs (I1 of :mod:`reopen.recover.plan`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from reopen.recover.outlook import Loss, Predicted
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.points import PointSource, RecoveryPoint
from reopen.recover.steps import Verb, step_id, with_paths

CountLoss = Callable[[str, RecoveryPoint], Loss]
"""What a recovery point of a dataset lacks against what is known (:mod:`reopen.recover.loss`)."""


class MakeForecast(Protocol):
    """What planning asks of a prediction (:mod:`reopen.recover.predict`)."""

    def costs(self, dataset: PlannedDataset) -> tuple[float, float]:
        """Median seconds of a dataset's restore and of its validation."""
        ...

    def predict(
        self, plan: RecoveryPlan, sizes: Mapping[str, Sequence[tuple[datetime, int]]]
    ) -> Mapping[str, Predicted]:
        """When each dataset of a plan is expected to serve; ``sizes`` are its bytes over time, oldest first."""
        ...


def foresee(
    plan: RecoveryPlan, vault: PointSource, *, count_loss: CountLoss | None = None, forecast: MakeForecast | None = None
) -> RecoveryPlan:
    """The plan with what is to come: losses if ``count_loss`` counts them, predictions if ``forecast`` makes them.

    With predictions the steps of a tier are begun by predicted seconds instead of bytes."""
    if count_loss is not None:
        plan = replace(plan, datasets=tuple(_with_loss(dataset, count_loss) for dataset in plan.datasets))
    if forecast is None:
        return plan
    costs: dict[str, float] = {}
    for dataset in plan.datasets:
        restore, validate = forecast.costs(dataset)
        costs |= {step_id(Verb.RESTORE, dataset.name): restore, step_id(Verb.VALIDATE, dataset.name): validate}
    plan = replace(plan, steps=with_paths(plan.steps, costs))
    sizes = {dataset.name: _sizes(vault, dataset) for dataset in plan.datasets}
    predicted = forecast.predict(plan, sizes)
    datasets = (replace(dataset, predicted=predicted.get(dataset.name)) for dataset in plan.datasets)
    return replace(plan, datasets=tuple(datasets))


def _with_loss(dataset: PlannedDataset, count_loss: CountLoss) -> PlannedDataset:
    return dataset if dataset.point is None else replace(dataset, loss=count_loss(dataset.name, dataset.point))


def _sizes(vault: PointSource, dataset: PlannedDataset) -> Sequence[tuple[datetime, int]]:
    records = [record for record in vault.records(dataset.name) if record.state == "complete"]
    return [(record.consistent_at, record.totals.size_bytes) for record in records]
