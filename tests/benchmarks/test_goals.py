"""Ratios and goals: from runs to "met" or "missed"."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.goals import LIMIT, Goal, goals_for, judge, summarise
from benchmarks.measure import VERBS, Sample


def sample(tool: str, wall_seconds: float, *, verb: str = "first", repetition: int = 0, **bytes_of: int) -> Sample:
    figures = {"peak_bytes": 10, "stored_bytes": 100, "added_bytes": 100, **bytes_of}
    return Sample(
        workload="tpch",
        verb=verb,
        tool=tool,
        repetition=repetition,
        wall_seconds=wall_seconds,
        cpu_seconds=wall_seconds * 2,
        **figures,
    )


def verdict(goal: Goal, samples: list[Sample], limits: dict[str, float] | None = None) -> tuple[Any, ...]:
    (found,) = judge([goal], summarise(samples), limits or {})
    return found.against, found.ratio, found.state


def test_the_median_stands_between_the_least_and_the_most() -> None:
    runs = [sample("reopen", wall, repetition=n, peak_bytes=n) for n, wall in enumerate((5.0, 1.0, 2.0))]
    (summary,) = summarise(runs)
    assert (summary.wall_seconds, summary.wall_seconds_min, summary.wall_seconds_max) == (2.0, 1.0, 5.0)
    assert summary.cpu_seconds == 4.0
    assert summary.peak_bytes == 2, "of memory the largest counts"
    assert summary.runs == 3


@pytest.mark.parametrize(("ours", "state", "ratio"), [(1.0, "met", 4.0), (2.0, "met", 2.0), (2.1, "missed", 4 / 2.1)])
def test_a_time_is_held_against_the_faster_peer(ours: float, state: str, ratio: float) -> None:
    goal = Goal(workload="tpch", verb="first", figure="wall_seconds", bound=2)
    runs = [sample("restic", 9.0), sample("borg", 4.0), sample("cp -a", 0.1), sample("reopen", ours)]
    assert verdict(goal, runs) == ("borg", pytest.approx(ratio), state)


@pytest.mark.parametrize(("ours", "state"), [(80, "met"), (102, "met"), (103, "missed")])
def test_bytes_are_held_against_the_smallest(ours: int, state: str) -> None:
    goal = Goal(workload="tpch", verb="first", figure="stored_bytes", bound=1.02)
    runs = [sample("restic", 1, stored_bytes=150), sample("borg", 1, stored_bytes=100)]
    runs.append(sample("reopen", 1, stored_bytes=ours))
    assert verdict(goal, runs) == ("borg", pytest.approx(ours / 100), state)


def test_memory_is_held_against_a_number() -> None:
    goal = Goal(workload="tpch", verb="first", figure="peak_bytes", bound=10, against=())
    assert verdict(goal, [sample("reopen", 1, peak_bytes=10)]) == ("", None, "met")
    assert verdict(goal, [sample("reopen", 1, peak_bytes=11)]) == ("", None, "missed")


def test_the_share_of_the_limit_is_the_limit_s_time_by_ours() -> None:
    goal = Goal(workload="tpch", verb="first", figure="wall_seconds", bound=0.8, against=(LIMIT,))
    runs = [sample("reopen", 10.0)]
    assert verdict(goal, runs, {"tpch": 8.0}) == (LIMIT, pytest.approx(0.8), "met")
    assert verdict(goal, runs, {"tpch": 7.9})[2] == "missed"


@pytest.mark.parametrize("left_out", ["reopen", "restic"])
def test_a_goal_with_a_figure_missing_was_not_measured(left_out: str) -> None:
    """A peer that is not to be had must not make a goal look met."""
    goal = Goal(workload="tpch", verb="first", figure="wall_seconds", bound=2, against=("restic",))
    runs = [
        item for item in (sample("reopen", 1.0), sample("restic", 9.0), sample("borg", 9.0)) if item.tool != left_out
    ]
    assert verdict(goal, runs)[1:] == (None, "not measured")


def test_more_files_may_take_more_memory() -> None:
    bounds = {
        files: {goal.bound for goal in goals_for(files) if (goal.workload, goal.figure) == ("files", "peak_bytes")}
        for files in (200_000, 1_000_000)
    }
    assert bounds == {200_000: {500e6}, 1_000_000: {1e9}}
    assert {goal.verb for goal in goals_for(1)} <= set(VERBS)
