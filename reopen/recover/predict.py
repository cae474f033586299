"""Owns the prediction of when a dataset serves: a fit on past recoveries, and the course of the steps run forward.

The seconds of a step are ``fixed + bytes × per byte + files × per file``, fitted with coefficients that are not
negative, restores and checks by themselves; the bytes of a restore are those that it wrote. What a dataset takes beside
that (its checks, the shape of its files) is a factor of its own, from its own recoveries, that is trusted the more of
them there are. The rest is what the residuals say: the course is run many times with residuals drawn for each step, and
the spread of the ends is the answer.

A dataset grows by the bytes of its own snapshots; what it depends on grows by itself, and counts where that is
predicted.

Invariants
    U1  Without a finished recovery there is no model. Two residuals that nobody measured (:data:`PRIOR_RATIOS`) keep a
        first drill from looking certain; among many runs they weigh nothing.
    U2  Equal history gives an equal prediction: the draws have a fixed seed.
    U3  Seconds of another machine are used only while there are none of this one, and the prediction names the machine.
    U4  A fit is made of recoveries of one kind: of whole datasets (:data:`WHOLE_SHARE`). Where most was there already
        (a staged version, the kept folder of a returning site) the time is not that of its bytes; what was staged
        wholly has fits of its own. Drills that restore a part or repair a copy are in none.

Sources: non-negative least squares over so few columns is done by trying every set of columns that are not zero and
taking the best fit that is not negative, which is exact.
"""

from __future__ import annotations

import heapq
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reopen.recover.outlook import Predicted
from reopen.recover.plan import PlanKind, PlannedDataset, RecoveryPlan
from reopen.recover.scenarios.model import PROVING, DrillScenario
from reopen.recover.steps import Step, Verb, order_of, step_id
from reopen.storage.throttle import parse_rate

if TYPE_CHECKING:
    import pyarrow as pa

PRIOR_RATIOS = (0.7, 1.5)
"""How far off a step may well be when nothing is known of it."""
DRAWS = 200
"""Courses that are run; the 95th of a hundred is then seen ten times."""
OWN_RUNS_MAX = 5
"""Recoveries of a dataset that its factor is taken from: it and its checks change."""
DOUBT_RUNS = 0.25
"""How many recoveries' worth the general fit counts against a dataset's own: one run of its own says four fifths."""
SECONDS_MIN = 0.05
"""What a step takes at least: relative errors of less would weigh more than all others."""
WHOLE_SHARE = 0.5
"""The share of its bytes that a restore has to have written for its seconds to be those of a restore."""
GROWTH_WINDOW = timedelta(days=90)
GROWTH_RECORDS_MIN = 3
GROWTH_HORIZON = timedelta(days=730)
DAY_SECONDS = 86_400.0
OF_A_PART = frozenset(DrillScenario) - frozenset(PROVING)
"""Scenarios whose rows name the whole dataset and whose seconds are of something else: of one file, or of a repair."""

Row = Mapping[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Seconds = ``fixed + size_bytes × per_byte + files × per_file``; none is negative."""

    fixed: float
    per_byte: float
    per_file: float

    def seconds(self, size_bytes: float, files: float) -> float:
        """What a step of that size takes."""
        return max(SECONDS_MIN, self.fixed + size_bytes * self.per_byte + files * self.per_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The fit of one kind of step, each dataset's own factor, and the ratios that remain."""

    fit: Fit
    factors: Mapping[str, float]
    ratios: tuple[float, ...]

    def seconds(self, dataset: str, size_bytes: float, files: float) -> float:
        """The median of a dataset's step."""
        return self.fit.seconds(size_bytes, files) * self.factors.get(dataset, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What past recoveries say. ``runs`` and ``own_runs`` count them; ``errors`` as in :class:`Predicted`."""

    restore: Kind
    validate: Kind
    staged: tuple[Kind, Kind] | None
    """Restore and validation of what was staged; None before that happened."""
    promote_seconds: float
    runs: int
    own_runs: Mapping[str, int]
    errors: Mapping[str, float]
    machine: str

    def kinds(self, *, staged: bool) -> tuple[Kind, Kind]:
        """What a restore and a validation are predicted by; of what is staged by the others while none was seen, which
        says too much and not too little."""
        return self.staged if staged and self.staged is not None else (self.restore, self.validate)


def this_machine() -> str:
    """What the seconds measured here depend on, as the history words it."""
    return f"{platform.machine()}, {os.cpu_count() or 1} cores"


def fit(history: pa.Table, *, machine: str | None = None) -> Model | None:
    """The model of a history (:data:`reopen.recover.history.HISTORY`); None where no recovery was finished (U1).

    :param machine: whose seconds count, this one's when None (U3).
    """
    finished = [
        row
        for row in history.to_pylist()
        if row["restore_seconds"] is not None
        and row["check_seconds"] is not None
        and row["bytes"] is not None
        and row["scenario"] not in OF_A_PART
    ]
    if not finished:
        return None
    wanted = machine or this_machine()
    rows = [row for row in finished if row["machine"] == wanted]
    if not rows:
        newest = max(finished, key=lambda row: int(row["number"]))["machine"]
        rows = [row for row in finished if row["machine"] == newest]
    return _model(rows)


def _model(rows: Sequence[Row], *, with_errors: bool = True) -> Model:
    promotes = [float(row["promote_seconds"]) for row in rows if row["promote_seconds"] is not None]
    own: dict[str, int] = {}
    for row in rows:
        own[row["dataset"]] = own.get(row["dataset"], 0) + 1
    staged = [row for row in rows if _was_staged(row)]
    restored = [row for row in rows if not _was_staged(row)] or rows
    whole = [row for row in restored if _is_whole(row)] or restored
    return Model(
        restore=_kind(whole, "restore_seconds", _written),
        validate=_kind(restored, "check_seconds", _size),
        staged=(_kind(staged, "restore_seconds", _written), _kind(staged, "check_seconds", _size)) if staged else None,
        promote_seconds=float(np.median(promotes)) if promotes else SECONDS_MIN,
        runs=len({row["number"] for row in rows}),
        own_runs=own,
        errors=_errors(rows) if with_errors else {},
        machine=str(rows[-1]["machine"]),
    )


def _was_staged(row: Row) -> bool:
    """Whether nothing had to be written, so that everything was there, and its checks mostly done. What was copied from
    a folder at the site was not checked before."""
    return float(row["bytes"]) > 0 and row["written_bytes"] == 0 and not row["copied_bytes"]


def _is_whole(row: Row) -> bool:
    return _written(row) >= WHOLE_SHARE * float(row["bytes"])


def _size(row: Row) -> float:
    return float(row["bytes"])


def _written(row: Row) -> float:
    return float(row["bytes"] if row["written_bytes"] is None else row["written_bytes"])


def _kind(rows: Sequence[Row], column: str, size_of: Any) -> Kind:
    seconds = np.array([max(SECONDS_MIN, float(row[column])) for row in rows])
    sizes = np.array([size_of(row) for row in rows])
    files = np.array([float(row["files"]) for row in rows])
    found = _fit(sizes, files, seconds)
    ratios: dict[str, list[float]] = {}
    for row, size, count, actual in zip(rows, sizes, files, seconds, strict=True):
        ratios.setdefault(row["dataset"], []).append(float(actual) / found.seconds(float(size), float(count)))
    factors = {}
    for dataset, own in ratios.items():
        recent = own[-OWN_RUNS_MAX:]
        trust = len(recent) / (len(recent) + DOUBT_RUNS)
        factors[dataset] = float(np.exp(trust * np.log(np.median(recent))))
    remaining = [ratio / factors[dataset] for dataset, own in ratios.items() for ratio in own]
    return Kind(fit=found, factors=factors, ratios=tuple(sorted([*remaining, *PRIOR_RATIOS])))


def _fit(sizes: Floats, files: Floats, seconds: Floats) -> Fit:
    """The least squares of relative errors over coefficients that are not negative."""
    # Bytes and files in units near one: their squares would lose what the fixed cost says.
    scale = np.array([1.0, max(1.0, float(sizes.max())), max(1.0, float(files.max()))])
    columns = np.stack((np.ones_like(sizes), sizes, files), axis=1) / scale / seconds[:, None]
    best, best_error = np.zeros(3), np.inf
    for count in (1, 2, 3):
        for chosen in combinations(range(3), count):
            part, *_ = np.linalg.lstsq(columns[:, chosen], np.ones(len(seconds)), rcond=None)
            if (part < 0).any():
                continue
            error = float(np.sum((columns[:, chosen] @ part - 1) ** 2))
            # More columns must earn their place: with few runs, any column fits.
            if error < best_error * 0.99 - 1e-12:
                best, best_error = np.zeros(3), error
                best[list(chosen)] = part
    fixed, per_byte, per_file = (best / scale).tolist()
    return Fit(fixed=fixed, per_byte=per_byte, per_file=per_file)


def _errors(rows: Sequence[Row]) -> dict[str, float]:
    """How far each dataset's last recovery was from what the runs before it had said; one that mostly copied what lay
    at the site is like none that is predicted, and says nothing about an error."""
    alike = [row for row in rows if _was_staged(row) or _is_whole(row)]
    last = {row["dataset"]: row for row in sorted(alike, key=lambda row: int(row["number"]))}
    models: dict[int, Model] = {}
    errors = {}
    for dataset, row in sorted(last.items()):
        number = int(row["number"])
        earlier = [other for other in rows if int(other["number"]) < number]
        if not earlier:
            continue
        if number not in models:
            models[number] = _model(earlier, with_errors=False)
        model = models[number]
        restore, validate = model.kinds(staged=_was_staged(row))
        expected = restore.seconds(dataset, _written(row), row["files"])
        expected += validate.seconds(dataset, row["bytes"], row["files"])
        actual = float(row["restore_seconds"]) + float(row["check_seconds"])
        errors[dataset] = round(max(actual, 2 * SECONDS_MIN) / expected - 1, 3)
    return errors


class Forecaster:
    """Predicts a plan by a model.

    :param workers: steps that run side by side; ``rate`` what all restores read a second together, empty for no limit.
    """

    def __init__(self, model: Model, *, workers: int, rate: str = "") -> None:
        self._model = model
        self._workers = workers
        self._bytes_per_second = parse_rate(rate) if rate else None

    def costs(self, dataset: PlannedDataset) -> tuple[float, float]:
        """Median seconds of a dataset's restore and of its validation."""
        point = dataset.point
        if point is None:
            return 0.0, 0.0
        written = 0 if dataset.staged is not None else point.size_bytes
        restores, validates = self._kinds(dataset)
        restore = restores.seconds(dataset.name, written, point.files)
        if self._bytes_per_second is not None:
            restore = max(restore, written / self._bytes_per_second)
        return restore, validates.seconds(dataset.name, point.size_bytes, point.files)

    def _kinds(self, dataset: PlannedDataset) -> tuple[Kind, Kind]:
        return self._model.kinds(staged=dataset.staged is not None)

    def predict(
        self, plan: RecoveryPlan, sizes: Mapping[str, Sequence[tuple[datetime, int]]]
    ) -> Mapping[str, Predicted]:
        """When each dataset that has a recovery point is expected to serve.

        :param sizes: when each dataset had how many bytes, oldest first.
        """
        since = plan.declared_at - plan.failed_at if plan.kind is PlanKind.FAILOVER else timedelta(0)
        ends = self._ends(plan)
        found = {}
        for dataset in plan.datasets:
            if dataset.point is None:
                continue
            restore, validate = self.costs(dataset)
            p50, p95 = np.quantile(ends[plan.last_step(dataset)], (0.5, 0.95))
            median = since + _seconds(float(p50))
            per_day = growth_bytes_per_day(sizes.get(dataset.name, ()))
            found[dataset.name] = Predicted(
                p50=median,
                p95=since + _seconds(float(p95)),
                restore=_seconds(restore),
                validate=_seconds(validate),
                runs=self._model.runs,
                own_runs=self._model.own_runs.get(dataset.name, 0),
                error=self._model.errors.get(dataset.name),
                machine=self._model.machine,
                grows_bytes_per_day=round(per_day, 1),
                breaks_at=self._breaks_at(dataset, median, per_day, now=plan.declared_at),
            )
        return found

    def _breaks_at(
        self, dataset: PlannedDataset, median: timedelta, per_day: float, *, now: datetime
    ) -> datetime | None:
        left = dataset.objective.rto - median
        if left < timedelta(0):
            return now
        restore, validate = self._kinds(dataset)
        seconds_per_byte = 0.0
        if dataset.staged is None:
            seconds_per_byte = restore.fit.per_byte * restore.factors.get(dataset.name, 1.0)
            if self._bytes_per_second is not None:
                seconds_per_byte = max(seconds_per_byte, 1 / self._bytes_per_second)
        seconds_per_byte += validate.fit.per_byte * validate.factors.get(dataset.name, 1.0)
        slower_per_day = per_day * seconds_per_byte
        if slower_per_day <= 0 or left.total_seconds() / slower_per_day > GROWTH_HORIZON.days:
            return None
        return now + timedelta(days=round(left.total_seconds() / slower_per_day))

    def _ends(self, plan: RecoveryPlan) -> Mapping[str, Floats]:
        """When each step ends, in every draw."""
        random = np.random.default_rng(0)
        costs = {dataset.name: self.costs(dataset) for dataset in plan.datasets}
        drawn: dict[str, Floats] = {}
        for step in plan.steps:
            if step.verb is Verb.PROMOTE:
                drawn[step.id] = np.full(DRAWS, self._model.promote_seconds)
        for dataset in plan.datasets:
            pairs = zip((Verb.RESTORE, Verb.VALIDATE), self._kinds(dataset), costs[dataset.name], strict=True)
            for verb, kind, median in pairs:
                drawn[step_id(verb, dataset.name)] = median * random.choice(kind.ratios, DRAWS)
        runs = [
            course({step: float(seconds[draw]) for step, seconds in drawn.items()}, plan.steps, workers=self._workers)
            for draw in range(DRAWS)
        ]
        return {step.id: np.array([run[step.id] for run in runs]) for step in plan.steps}


def course(seconds: Mapping[str, float], steps: Sequence[Step], *, workers: int) -> dict[str, float]:
    """When each step ends if each takes ``seconds`` (none when it is not in there) and none fails, begun in the order
    in which a recovery begins them."""
    waits_for = {step.id: {*step.needs, *step.after} & {other.id for other in steps} for step in steps}
    behind: dict[str, list[Step]] = {step.id: [] for step in steps}
    for step in steps:
        for needed in waits_for[step.id]:
            behind[needed].append(step)
    places = {step.id: place for place, step in enumerate(steps)}
    ready = [(order_of(step), places[step.id], step) for step in steps if not waits_for[step.id]]
    heapq.heapify(ready)
    running: list[tuple[float, int, Step]] = []
    ends: dict[str, float] = {}
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            _, place, step = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds.get(step.id, 0.0), place, step))
        now, _, ended = heapq.heappop(running)
        ends[ended.id] = now
        for step in behind[ended.id]:
            waits_for[step.id].discard(ended.id)
            if not waits_for[step.id]:
                heapq.heappush(ready, (order_of(step), places[step.id], step))
    return ends


def growth_bytes_per_day(sizes: Sequence[tuple[datetime, int]]) -> float:
    """How much a dataset grows a day, by a straight line through its sizes of the last 90 days; zero where there are
    too few, or they span less than a day."""
    if not sizes:
        return 0.0
    newest = sizes[-1][0]
    recent = [(at, size) for at, size in sizes if newest - at <= GROWTH_WINDOW]
    if len(recent) < GROWTH_RECORDS_MIN or newest - recent[0][0] < timedelta(days=1):
        return 0.0
    days = np.array([(at - newest).total_seconds() / DAY_SECONDS for at, _ in recent])
    slope, _ = np.polyfit(days, np.array([float(size) for _, size in recent]), 1)
    return float(slope)


def _seconds(value: float) -> timedelta:
    # Milliseconds: what is stored must read back as it was.
    return timedelta(seconds=round(value, 3))
