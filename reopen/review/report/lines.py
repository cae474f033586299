"""Owns the lines of a report: each dataset, tier and recovery with what is asked, measured and expected. Pure.

Invariants
    L1  A dataset without a recovery point, a figure or a prediction has a line all the same.
    L2  A tier is the worst of its datasets: what is unknown of one is unknown of the tier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from reopen.errors import ReopenError
from reopen.recover.outlook import Loss
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.report.words import size_text
from reopen.recover.scenarios.model import PROVING, DrillScenario
from reopen.review.report.judge import answer_of
from reopen.review.report.model import Answer, DatasetLine, DrillLine, Recovered, Row, Standing, TierLine
from reopen.review.status import ContractState, DatasetStatus

_WORST: Sequence[Answer] = (Answer.YES, Answer.UNPROVEN, Answer.NO)
_OF_A_PART = frozenset(str(scenario) for scenario in DrillScenario) - frozenset(str(name) for name in PROVING)
"""Scenarios that say nothing of how long a whole dataset takes."""


def dataset_lines(standing: Standing) -> tuple[DatasetLine, ...]:
    """Every dataset with a contract, in the order of recovery."""
    plan = standing.plan if isinstance(standing.plan, RecoveryPlan) else None
    planned = {} if plan is None else {dataset.name: dataset for dataset in plan.datasets}
    left_out = {} if plan is None else {item.dataset: item.reason for item in plan.left_out}
    recovered = {} if isinstance(standing.history, ReopenError) else newest_of(standing.history)
    return tuple(
        _line(found, planned.get(found.name), left_out.get(found.name, ""), recovered.get(found.name))
        for found in standing.status.datasets
        if found.contract is ContractState.IN_FORCE
    )


def tier_lines(lines: Iterable[DatasetLine]) -> tuple[TierLine, ...]:
    """The tiers of these datasets, the first to open first."""
    tiered = sorted((line for line in lines if line.tier is not None), key=lambda line: line.tier or 0)
    return tuple(_tier(tier or 0, list(group)) for tier, group in groupby(tiered, key=lambda line: line.tier))


def newest_of(rows: Sequence[Row]) -> Mapping[str, Recovered]:
    """Each dataset's newest recovery of the whole of it."""
    return {
        str(row["dataset"]): Recovered(
            number=row["number"],
            kind=row["kind"],
            at=row["finished_at"],
            verdict=row["verdict"],
            rta_seconds=row["rta_seconds"],
            reason=row["reason"],
        )
        for row in sorted(of_whole(rows), key=lambda row: int(row["number"]))
    }


def of_whole(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The recoveries of whole datasets, which say how long one takes."""
    return tuple(row for row in rows if row["scenario"] not in _OF_A_PART)


def drill_lines(rows: Sequence[Row]) -> tuple[DrillLine, ...]:
    """Every recovery, newest first."""
    ordered = sorted(rows, key=lambda row: -int(row["number"]))
    return tuple(_drill(list(group)) for _, group in groupby(ordered, key=lambda row: int(row["number"])))


def _line(
    found: DatasetStatus, planned: PlannedDataset | None, left_out: str, recovered: Recovered | None
) -> DatasetLine:
    point = None if planned is None else planned.point
    predicted = None if planned is None else planned.predicted
    problem = left_out if planned is None else planned.problem
    return DatasetLine(
        name=found.name,
        tier=found.tier,
        owner="" if planned is None else planned.owner,
        rpo_seconds=found.rpo_seconds,
        rto_seconds=found.rto_seconds,
        # Where no plan could be made, what lies away from the primary is what would be left.
        loses_seconds=found.away_exposure_seconds
        if planned is None
        else None
        if planned.rpa is None
        else planned.rpa.total_seconds(),
        exposure_seconds=found.exposure_seconds,
        problem=problem,
        recovered=recovered,
        p50_seconds=None if predicted is None else predicted.p50.total_seconds(),
        p95_seconds=None if predicted is None else predicted.p95.total_seconds(),
        expected=_expected(planned),
        size_bytes=None if point is None else point.size_bytes,
        files=None if point is None else point.files,
        lost="" if planned is None or planned.loss is None else loss_text(planned.loss),
    )


def _expected(planned: PlannedDataset | None) -> str:
    if planned is None or planned.predicted is None:
        return "unknown"
    if planned.predicted.p50 > planned.objective.rto:
        return "will miss"
    return "may miss" if planned.predicted.p95 > planned.objective.rto else "keeps"


def loss_text(loss: Loss) -> str:
    """What a recovery point lacks, in words; what cannot be counted is unknown."""
    if loss.files is None:
        return f"unknown: {loss.unknown}" if loss.unknown else "unknown"
    if not loss.files and not loss.removed:
        return ""
    size = "" if loss.size_bytes is None else f", {size_text(loss.size_bytes)}"
    rows = "" if loss.rows is None else f", {loss.rows:+,} rows"
    files = "1 file" if loss.files == 1 else f"{loss.files:,} files"
    return f"{files}{size}{rows} of a newer snapshot at {loss.site} that is not verified there"


def _tier(tier: int, lines: Sequence[DatasetLine]) -> TierLine:
    recovered = [None if line.recovered is None else line.recovered.rta_seconds for line in lines]
    return TierLine(
        tier=tier,
        answer=max((answer_of(line) for line in lines), key=_WORST.index),
        datasets=tuple(line.name for line in lines),
        rpo_seconds=min(line.rpo_seconds or 0.0 for line in lines),
        rto_seconds=min(line.rto_seconds or 0.0 for line in lines),
        loses_seconds=_all_known([line.loses_seconds for line in lines]),
        rta_seconds=_all_known(recovered),
        p50_seconds=_all_known([line.p50_seconds for line in lines]),
        p95_seconds=_all_known([line.p95_seconds for line in lines]),
    )


def _all_known(values: Sequence[float | None]) -> float | None:
    """The largest; None where one is not known (L2)."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def _drill(rows: Sequence[Row]) -> DrillLine:
    first = rows[0]
    verdicts = {row["verdict"] for row in rows}
    seconds = _all_known([row["rta_seconds"] for row in rows])
    return DrillLine(
        number=first["number"],
        kind=first["kind"],
        scenario=first["scenario"],
        at=first["started_at"],
        verdict=next(verdict for verdict in ("failed", "missed", "met") if verdict in verdicts),
        datasets=len(rows),
        rta_seconds=seconds,
        used=_all_known([_share(row) for row in rows]),
        machine=first["machine"],
    )


def _share(row: Row) -> float | None:
    """The share of its RTO that a dataset took; None where it did not reopen."""
    seconds = row["rta_seconds"]
    return None if seconds is None else float(seconds) / float(row["rto_seconds"] or 1.0)
