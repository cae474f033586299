"""Owns the timeline picture: where each bar stands, as shares of its width. Pure; the template draws it.

The picture has two zones. What was before the recovery began (detection and decision) gets a narrow zone of its own,
whatever it lasted, so that an hour of deciding does not squeeze minutes of work into nothing. Everything horizontal is
a percentage and everything vertical a pixel, so the same SVG fits a phone and a printed page without scaling its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reopen.control.records import StepOutcome, StepResult
from reopen.recover.clocks import DatasetResult, Measured, TierResult
from reopen.recover.evidence import Evidence
from reopen.recover.report.words import seconds_text
from reopen.recover.steps import Verb, step_id

BEFORE_PERCENT = 14.0
RIGHT_PERCENT = 99.0
BAR_PERCENT_MIN = 0.5
"""A step of no time at all is still seen."""
TICKS_MAX = 5
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)

HEAD_PX, TIER_PX, ROW_PX = 24, 40, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One attempt of a step. ``kind`` is the verb, ``failed`` whether it did not get done."""

    kind: str
    x: float
    width: float
    failed: bool
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A tier or a dataset at pixel ``y``. ``objective_x`` is where its RTO ends, None where that is off the picture;
    ``open_width`` is how far a tier's band reaches until it was open."""

    y: int
    is_tier: bool
    name: str
    note: str
    verdict: str
    bars: tuple[Bar, ...]
    objective_x: float | None
    open_x: float = 0.0
    open_width: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A line of the axis and its label, counted from the begin of the recovery."""

    x: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The whole picture. ``before`` says what the first zone stands for; empty where there is none."""

    height: int
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    before: str
    begin_x: float
    description: str


class _Scale:
    """From instants to percent of the width."""

    def __init__(self, measured: Measured, kind: str) -> None:
        self.started = measured.t_started
        drill = kind == "drill"
        self.zero = measured.t_started - measured.assumed_detection if drill else measured.t_failure
        self.has_before = self.zero < self.started
        self.begin = BEFORE_PERCENT if self.has_before else 0.0
        self.seconds = max((measured.t_finished - measured.t_started).total_seconds(), 0.001)

    def x(self, at: datetime) -> float:
        """The place of an instant; not above the right border."""
        if at < self.started:
            share = (at - self.zero) / (self.started - self.zero) if self.has_before else 0.0
            return max(0.0, share) * self.begin
        share = (at - self.started).total_seconds() / self.seconds
        return self.begin + min(share, 1.0) * (RIGHT_PERCENT - self.begin)

    def objective(self, rto: timedelta) -> float | None:
        """The place where an RTO ends; None when that is after the picture's end."""
        at = self.zero + rto
        return self.x(at) if (at - self.started).total_seconds() <= self.seconds else None


def draw(evidence: Evidence) -> Picture:
    """The picture of a recovery: tiers in order, under each its datasets with every attempt of their steps."""
    measured = evidence.measured
    scale = _Scale(measured, evidence.kind)
    attempts = (*evidence.attempts, *evidence.steps)
    rows: list[Row] = []
    y = HEAD_PX
    for tier in measured.tiers:
        rows.append(_tier_row(tier, scale, y))
        y += TIER_PX
        for result in (result for result in measured.datasets if result.tier == tier.tier):
            rows.append(_dataset_row(result, attempts, scale, y))
            y += ROW_PX
    before = ""
    if scale.has_before:
        amount = seconds_text((scale.started - scale.zero).total_seconds())
        before = f"{'assumed detection' if evidence.kind == 'drill' else 'before it began'} {amount}"
    return Picture(
        height=y + 4,
        rows=tuple(rows),
        ticks=_ticks(scale),
        before=before,
        begin_x=scale.begin,
        description="; ".join(f"{row.name}: {row.note}" for row in rows),
    )


def _tier_row(tier: TierResult, scale: _Scale, y: int) -> Row:
    opened = "not open" if tier.rta is None else f"open after {seconds_text(tier.rta.total_seconds())}"
    end = scale.x(scale.zero + tier.rta) if tier.rta is not None else 0.0
    return Row(
        y=y,
        is_tier=True,
        name=f"Tier {tier.tier}",
        note=f"{opened}, objective {seconds_text(tier.rto.total_seconds())}",
        verdict=str(tier.verdict),
        bars=(),
        objective_x=scale.objective(tier.rto),
        open_x=0.0,
        open_width=end,
    )


def _dataset_row(result: DatasetResult, attempts: Sequence[StepOutcome], scale: _Scale, y: int) -> Row:
    bars = [
        _bar(verb, outcome, scale)
        for verb in (Verb.RESTORE, Verb.VALIDATE, Verb.PROMOTE)
        for outcome in attempts
        if outcome.step == step_id(verb, result.name) and outcome.attempt
    ]
    rto = seconds_text(result.rto.total_seconds())
    rta = (
        f"not open, objective {rto}"
        if result.rta is None
        else f"RTA {seconds_text(result.rta.total_seconds())} of {rto}"
    )
    return Row(
        y=y,
        is_tier=False,
        name=result.name,
        note=rta,
        verdict=str(result.verdict),
        bars=tuple(bars),
        objective_x=scale.objective(result.rto),
    )


def _bar(verb: Verb, outcome: StepOutcome, scale: _Scale) -> Bar:
    start, end = scale.x(outcome.started_at), scale.x(outcome.finished_at)
    width = max(end - start, BAR_PERCENT_MIN)
    took = seconds_text((outcome.finished_at - outcome.started_at).total_seconds())
    again = f", attempt {outcome.attempt}" if outcome.attempt > 1 else ""
    return Bar(
        kind=str(verb),
        x=min(start, RIGHT_PERCENT - width),
        width=width,
        failed=outcome.result is not StepResult.DONE,
        title=f"{outcome.step}{again}: {outcome.result} in {took}",
    )


def _ticks(scale: _Scale) -> tuple[Tick, ...]:
    """Lines at round times; the first is the begin."""
    step = next((step for step in _STEPS if scale.seconds / step <= TICKS_MAX), 86400.0 * round(scale.seconds / 432000))
    if scale.seconds < 2:
        return (Tick(x=scale.begin, label="0s"),)
    return tuple(
        Tick(x=scale.x(scale.started + timedelta(seconds=step * number)), label=seconds_text(step * number))
        for number in range(int(scale.seconds // step) + 1)
    )
