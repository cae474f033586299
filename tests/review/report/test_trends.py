"""Trends say what was known, and plots stay inside their picture (T1, T2)."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

from reopen.recover.report.words import size_text
from reopen.review.report.assemble import make_report
from reopen.review.report.lines import dataset_lines
from reopen.review.report.model import Kept
from reopen.review.report.plot import BOTTOM_PX, TOP_PX, Plot, plot_trend, share_text
from reopen.review.report.trends import SPANS, exposure_trend, size_trend, spans, stored_trend
from tests.recover.business import NOON
from tests.review.report.standings import HOUR, MINUTE, a_row, well

LINES = dataset_lines(well())


def snapshot(dataset: str, age: timedelta, *, proven_after: timedelta | None = MINUTE, size: int | None = 1000) -> Kept:
    at = NOON - age
    return Kept(
        dataset=dataset, consistent_at=at, committed_at=at,
        proven_at=None if proven_after is None else at + proven_after,
        size_bytes=size, stored_bytes=None if size is None else 100,
    )  # fmt: skip


def test_exposure_of_a_span_is_its_worst_moment() -> None:
    kept = [snapshot("papers", 30 * HOUR), snapshot("papers", 10 * HOUR), snapshot("papers", 9 * HOUR)]

    trend = exposure_trend(kept, LINES, NOON)

    assert trend is not None
    papers = trend.series["tier 3"]
    # Its RPO is half an hour. It rose until the second was verified, twenty hours after the first was taken.
    assert max(value for value in papers if value is not None) == (20 * 60 + 1) / 30
    assert papers[-1] == 9 * 60 / 30
    assert set(trend.series["tier 1"]) == {None}, "nothing of it was ever verified, which is not nothing"


def test_what_was_never_verified_exposes_and_an_expired_snapshot_still_counts() -> None:
    kept = [snapshot("papers", 4 * HOUR, size=None), snapshot("papers", HOUR, proven_after=None)]

    exposure, size, stored = exposure_trend(kept, LINES, NOON), size_trend(kept, LINES, NOON), stored_trend(kept, NOON)

    assert exposure is not None
    assert size is not None
    assert stored is not None
    assert exposure.series["tier 3"][-1] == 4 * 60 / 30
    assert next(value for value in size.series["tier 3"] if value is not None) == 1000
    assert size.series["tier 3"][0] is None, "how large the expired one was is not known"
    assert stored.series["all datasets"][-1] == 100


def test_a_history_of_seconds_has_no_trend() -> None:
    assert spans([], NOON) == ()
    assert spans([snapshot("papers", timedelta(seconds=30))], NOON) == ()
    assert len(spans([snapshot("papers", 400 * 24 * HOUR)], NOON)) == SPANS
    assert make_report(well(kept=(), history=())).plots == ()


def points(plot: Plot) -> list[tuple[float, float]]:
    found = [(spot.x, spot.y) for curve in plot.curves for spot in curve.spots]
    runs = " ".join(run for curve in plot.curves for run in curve.runs)
    return found + [(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", runs)]


def test_every_line_and_mark_lies_inside_and_has_its_numbers_behind_it() -> None:
    huge = [snapshot("papers", timedelta(days=20)), snapshot("papers", HOUR)]
    plots = [*make_report(well()).plots, *make_report(well(kept=huge)).plots]

    assert [plot.id for plot in plots[:4]] == ["trend-exposure", "trend-recoveries", "trend-size", "trend-stored"]
    for plot in plots:
        assert all(0 <= x <= 100 and TOP_PX <= y <= BOTTOM_PX for x, y in points(plot))
        assert plot.rows
        assert {len(row) for row in plot.rows} == {len(plot.head)}
        assert plot.description.endswith(".")


def test_a_recovery_that_failed_is_a_cross_and_not_a_figure() -> None:
    lost = a_row(8, "orders", 1, verdict="failed", rta_seconds=None)
    standing = well()

    plot = next(p for p in make_report(replace(standing, history=(*standing.history, lost))).plots if "RTO" in p.title)  # type: ignore[misc]

    (first, *_) = plot.curves
    assert [spot.bad for spot in first.spots] == [False, False, True]
    assert plot.rows[-1][1] == "did not reopen"
    assert "once a tier did not reopen as a whole" in plot.description


def test_more_than_four_times_an_objective_is_drawn_at_the_edge_and_told_in_words() -> None:
    trend = exposure_trend([snapshot("papers", timedelta(days=20))], LINES, NOON)
    assert trend is not None

    plot = plot_trend("x", trend)

    assert min(y for _, y in points(plot)) == TOP_PX
    assert "960.0 times" in plot.rows[-1][-1]
    assert [share_text(share) for share in (0.004, 0.5, 1.5, 2)] == ["0.4%", "50%", "150%", "2.0 times"]
    assert size_text(1000) == "1.0 kB"
