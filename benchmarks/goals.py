"""Owns what is aimed at, as ratios to the better peer, and whether a run of the benchmark reached it.

A ratio is read one way everywhere: for times it is *theirs by ours* (2 means twice as fast), for bytes *ours by theirs*
(1 means as small). The median of the repetitions counts for times, the largest for memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measure import Sample
from benchmarks.on_s3 import VERBS as S3_VERBS

OURS = "reopen"
PEERS = ("restic", "borg")
MANY_FILES = 1_000_000
LIMIT = "bare kernels"
"""The name of the limit in the place of a tool: see :mod:`benchmarks.kernels`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All repetitions of one verb by one tool."""

    workload: str
    verb: str
    tool: str
    runs: int
    wall_seconds: float
    wall_seconds_min: float
    wall_seconds_max: float
    cpu_seconds: float
    peak_bytes: int
    stored_bytes: int
    added_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One aim. ``figure`` is a field of :class:`Summary`; ``against`` names whom it is compared with, of whom the best
    counts, and is empty where ``bound`` is a number of bytes."""

    workload: str
    verb: str
    figure: str
    bound: float
    against: tuple[str, ...] = PEERS

    @property
    def at_least(self) -> bool:
        """Whether a larger ratio is a better one."""
        return self.figure == "wall_seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a goal: ``met``, ``missed``, or ``not measured`` where a figure is missing."""

    goal: Goal
    ours: float | None
    theirs: float | None
    against: str
    ratio: float | None
    state: str


def goals_for(files: int) -> tuple[Goal, ...]:
    """Every goal. Of the small files the memory bound depends on how many there are."""

    def faster(workload: str, verb: str, ratio: float, against: tuple[str, ...] = PEERS) -> Goal:
        return Goal(workload=workload, verb=verb, figure="wall_seconds", bound=ratio, against=against)

    verbs = ("first", "unchanged", "changed", "verify", "restore", "restore-table", "replicate", "replicate-new")
    memory = {"tpch": 500e6, "files": 1e9 if files >= MANY_FILES else 500e6, "tpch-s3": 500e6}
    return (
        faster("tpch", "first", 2),
        Goal(workload="tpch", verb="first", figure="stored_bytes", bound=1.02),
        faster("tpch", "first", 0.8, (LIMIT,)),
        faster("tpch", "changed", 3),
        Goal(workload="tpch", verb="changed", figure="added_bytes", bound=1),
        Goal(workload="tpch", verb="changed", figure="stored_bytes", bound=1),
        faster("tpch", "unchanged", 1),
        faster("files", "first", 2),
        faster("files", "unchanged", 6),
        faster("files", "restore", 2),
        faster("tpch", "restore", 1.5),
        faster("tpch", "restore-table", 1.5),
        faster("tpch", "verify", 3, ("restic",)),
        faster("tpch", "replicate", 0.8, ("cp -a",)),
        faster("tpch", "replicate", 0.8, ("cp -a, sync",)),
        faster("tpch", "replicate-new", 10, ("restic",)),
        faster("tpch", "replicate-new", 10, ("cp -a",)),
        *(
            Goal(workload=workload, verb=verb, figure="peak_bytes", bound=bound, against=())
            for workload, bound in memory.items()
            for verb in verbs
            if not (workload == "files" and verb == "restore-table")
            if workload != "tpch-s3" or verb in S3_VERBS
        ),
    )


def summarise(samples: Iterable[Sample]) -> list[Summary]:
    """One summary a workload, verb and tool, in the order in which they were first seen."""
    groups: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.workload, sample.verb, sample.tool), []).append(sample)
    return [_summary(*key, group) for key, group in groups.items()]


def _summary(workload: str, verb: str, tool: str, group: Sequence[Sample]) -> Summary:
    walls = [sample.wall_seconds for sample in group]
    return Summary(
        workload=workload,
        verb=verb,
        tool=tool,
        runs=len(group),
        wall_seconds=median(walls),
        wall_seconds_min=min(walls),
        wall_seconds_max=max(walls),
        cpu_seconds=median(sample.cpu_seconds for sample in group),
        peak_bytes=max(sample.peak_bytes for sample in group),
        stored_bytes=round(median(sample.stored_bytes for sample in group)),
        added_bytes=round(median(sample.added_bytes for sample in group)),
    )


def judge(goals: Iterable[Goal], summaries: Iterable[Summary], limits: Mapping[str, float]) -> list[Verdict]:
    """What became of each goal. ``limits``: seconds that the bare kernels take, by workload."""
    found = {(item.workload, item.verb, item.tool): item for item in summaries}
    return [_judge(goal, found, limits) for goal in goals]


def _judge(goal: Goal, found: Mapping[tuple[str, str, str], Summary], limits: Mapping[str, float]) -> Verdict:
    mine = found.get((goal.workload, goal.verb, OURS))
    ours = float(getattr(mine, goal.figure)) if mine is not None else None
    if not goal.against:
        state = "not measured" if ours is None else "met" if ours <= goal.bound else "missed"
        return Verdict(goal=goal, ours=ours, theirs=None, against="", ratio=None, state=state)
    figures = {
        tool: float(getattr(found[goal.workload, goal.verb, tool], goal.figure))
        for tool in goal.against
        if (goal.workload, goal.verb, tool) in found
    }
    if LIMIT in goal.against and goal.workload in limits:
        figures[LIMIT] = limits[goal.workload]
    if ours is None or not figures:
        return Verdict(goal=goal, ours=ours, theirs=None, against="", ratio=None, state="not measured")
    # The best of them: the fastest, or the smallest.
    best = min(figures, key=lambda tool: figures[tool])
    ratio = ratio_of(goal, ours, figures[best])
    reached = ratio >= goal.bound if goal.at_least else ratio <= goal.bound
    return Verdict(
        goal=goal, ours=ours, theirs=figures[best], against=best, ratio=ratio, state="met" if reached else "missed"
    )


def ratio_of(goal: Goal, ours: float, theirs: float) -> float:
    """Theirs by ours for times, ours by theirs for bytes; infinite where the divisor is nothing."""
    above, below = (theirs, ours) if goal.at_least else (ours, theirs)
    return above / below if below else float("inf")
