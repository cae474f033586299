"""Owns the putting together of a report: what was found, judged once, with its lines, risks and plots. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from reopen.errors import ReopenError
from reopen.recover.anchor import Anchor
from reopen.recover.readiness import Mark
from reopen.review.report.judge import judge
from reopen.review.report.lines import dataset_lines, drill_lines, of_whole, tier_lines
from reopen.review.report.model import Answer, DatasetLine, DrillLine, Judgement, Risk, Row, Standing, TierLine
from reopen.review.report.plot import Plot, plot_recoveries, plot_trend
from reopen.review.report.risks import open_risks
from reopen.review.report.trends import Trend, exposure_trend, recovery_trend, size_trend, stored_trend

DRILLS_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole report. ``unknown`` are sentences on what could not be looked at."""

    standing: Standing
    judgement: Judgement
    datasets: tuple[DatasetLine, ...]
    tiers: tuple[TierLine, ...]
    drills: tuple[DrillLine, ...]
    risks: tuple[Risk, ...]
    trends: tuple[Trend, ...]
    plots: tuple[Plot, ...]

    @property
    def ok(self) -> bool:
        """Whether the answer is yes."""
        return self.judgement.answer is Answer.YES

    @property
    def head(self) -> Anchor | None:
        """The anchor; None where there is no evidence, or it could not be read."""
        return self.standing.head if isinstance(self.standing.head, Anchor) else None

    @property
    def failed(self) -> int:
        """How many of the risks are failures."""
        return sum(risk.mark is Mark.FAIL for risk in self.risks)


def make_report(standing: Standing) -> Report:
    """Judge what was found."""
    lines = dataset_lines(standing)
    rows: tuple[Row, ...] = () if isinstance(standing.history, ReopenError) else tuple(standing.history)
    trends = (
        exposure_trend(standing.kept, lines, standing.at),
        stored_trend(standing.kept, standing.at),
        size_trend(standing.kept, lines, standing.at),
    )
    drawn = dict(zip(("exposure", "stored", "size"), trends, strict=True))
    plots = {name: plot_trend(f"trend-{name}", trend) for name, trend in drawn.items() if trend is not None}
    recoveries = plot_recoveries("trend-recoveries", recovery_trend(of_whole(rows)))
    order = (plots.get("exposure"), recoveries, plots.get("size"), plots.get("stored"))
    return Report(
        standing=standing,
        judgement=judge(standing, lines),
        datasets=lines,
        tiers=tier_lines(lines),
        drills=drill_lines(rows)[:DRILLS_SHOWN],
        risks=open_risks(standing, lines),
        trends=tuple(trend for trend in trends if trend is not None),
        plots=tuple(plot for plot in order if plot is not None),
    )
