"""The measuring of recoveries, at a size that is none, and its judgement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import recovery
from benchmarks.process import CommandFailed
from benchmarks.recovery import BY_HAND, COLD, ONE_TIER, WARM, Ground, Measured, judge, main


@pytest.mark.soak
def test_every_way_ends_with_every_tier_serving_what_production_had(tmp_path: Path) -> None:
    """A way that served anything else would have raised (I1)."""
    saved = tmp_path / "figures.json"
    main(["--scale", "0.01", "--ways", BY_HAND, COLD, "--folder", str(tmp_path), "--json", str(saved)])
    assert list(tmp_path.iterdir()) == [saved]
    by_hand, cold = json.loads(saved.read_text(encoding="utf-8"))["runs"]
    assert (by_hand["way"], cold["way"]) == (BY_HAND, COLD)
    assert len({*by_hand["serves_seconds"].values()}) == 1, "nothing serves before everything is checked"
    serves = cold["serves_seconds"]
    assert set(serves) == set(cold["claimed_seconds"]) == {"1", "2", "3"}
    assert 0 < serves["1"] < serves["2"] < serves["3"] <= cold["end_seconds"] + 1
    assert [step["step"] for step in cold["steps"]][:2] == ["preflight", "fence"]


def test_goals_are_judged_by_the_stopwatch_and_by_both_ways_of_doing_everything_first() -> None:
    def measured(way: str, *, first: float, last: float, claimed: float | None = None) -> Measured:
        clocks = {} if claimed is None else {1: claimed}
        return Measured(way=way, serves_seconds={1: first, 2: last}, end_seconds=last, claimed_seconds=clocks)

    found = [
        measured(BY_HAND, first=30, last=30),
        measured(ONE_TIER, first=8, last=20),
        measured(COLD, first=9, last=21, claimed=8.5),
        measured(WARM, first=2.5, last=18, claimed=0.5),
    ]
    states = [(verdict.goal, round(verdict.reached, 3), verdict.state) for verdict in judge(found)]
    assert states == [
        ("cold: tier 1, of everything first (by-hand)", 0.3, "met"),
        ("warm: tier 1, of everything first (by-hand)", 0.083, "met"),
        ("cold: tier 1, of everything first (one-tier)", 0.45, "missed"),
        ("warm: tier 1, of everything first (one-tier)", 0.125, "missed"),
        ("clocks off the stopwatch, s", 2.0, "missed"),
    ]


def test_a_tier_that_serves_other_answers_gives_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = Ground.__new__(Ground)
    ground.standby, ground.tiers, ground.answers = tmp_path, {1: ("orders",)}, {1: [("all", 2)]}
    assert ground._open_tiers({}) == []
    (tmp_path / "serving").mkdir()
    (tmp_path / "orders").mkdir()
    pointer = {"datasets": {"orders": {"url": str(tmp_path / "orders")}}}
    (tmp_path / "serving" / "serving.json").write_text(json.dumps(pointer), encoding="utf-8")
    assert ground._open_tiers({}) == [], "the views are on their way"
    monkeypatch.setattr(recovery, "ask", lambda database, tier: [("all", 1)])
    with pytest.raises(CommandFailed, match="other answers"):
        ground._open_tiers({})
