"""Owns the trends of a report: how figures of the last weeks went, as series over equal spans of time. Pure.

Invariants
    T1  A figure that is not known of a span is None, never zero and never the one before it.
    T2  Exposure of a span is the worst moment of it: it grows until the next snapshot is verified.
    T3  A trend says of what it is reckoned, and what that leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reopen.review.report.model import DatasetLine, Kept, Row

WINDOW = timedelta(days=30)
WINDOW_MIN = timedelta(minutes=1)
"""A history that is shorter than this shows nothing."""
SPANS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Some series over the same spans. ``ends`` are the ends of the spans; a value of a series is None where it is not
    known (T1). ``limit`` is the value that must not be passed, None where there is none."""

    title: str
    unit: str
    """``share`` (1 is the whole objective) or ``bytes``."""
    ends: tuple[datetime, ...]
    series: Mapping[str, tuple[float | None, ...]]
    limit: float | None
    note: str


def exposure_trend(kept: Sequence[Kept], lines: Sequence[DatasetLine], now: datetime) -> Trend | None:
    """How old the newest verified snapshot was, as a share of the RPO: of each tier the worst dataset (T2)."""
    ends = spans(kept, now)
    if not ends:
        return None

    def of_tier(members: Sequence[DatasetLine]) -> tuple[float | None, ...]:
        columns = [_exposure_of(line, [item for item in kept if item.dataset == line.name], ends) for line in members]
        return tuple(_largest([column[at] for column in columns]) for at in range(len(ends)))

    return Trend(
        title="Exposure, as a share of the RPO",
        unit="share",
        ends=ends,
        series=_by_tier(lines, of_tier),
        limit=1.0,
        note="The worst moment of each span: how old the newest verified snapshot was by then, anywhere. The worst "
        "dataset of each tier counts, against the RPO that its contract has now.",
    )


def recovery_trend(rows: Sequence[Row]) -> Mapping[int, Mapping[int, tuple[datetime, float | None]]]:
    """By tier and number of the recovery: when it was, and the largest share of an RTO that a dataset took; None where
    one did not reopen. Recoveries of a part are left out by whoever hands the rows."""
    found: dict[int, dict[int, tuple[datetime, float | None]]] = {}
    for row in rows:
        seconds, rto = row["rta_seconds"], row["rto_seconds"]
        share = None if seconds is None else seconds / rto if rto else 0.0
        tier = found.setdefault(int(row["tier"]), {})
        at, worst = tier.get(int(row["number"]), (row["started_at"], 0.0))
        tier[int(row["number"])] = (at, None if share is None or worst is None else max(worst, share))
    return found


def size_trend(kept: Sequence[Kept], lines: Sequence[DatasetLine], now: datetime) -> Trend | None:
    """How large the data of each tier was, by its newest snapshots."""
    ends = spans(kept, now)
    if not ends:
        return None

    def of_tier(members: Sequence[DatasetLine]) -> tuple[float | None, ...]:
        columns = [_size_of([item for item in kept if item.dataset == line.name], ends) for line in members]
        return tuple(_sum([column[at] for column in columns]) for at in range(len(ends)))

    return Trend(
        title="Size of the data",
        unit="bytes",
        ends=ends,
        series=_by_tier(lines, of_tier),
        limit=None,
        note="What a recovery of everything would have to write, by the newest snapshot of each dataset at that time. "
        "Snapshots that have expired since are not in it.",
    )


def stored_trend(kept: Sequence[Kept], now: datetime) -> Trend | None:
    """What the packs of all snapshots took when they were written, added up."""
    ends = spans(kept, now)
    if not ends:
        return None
    written = tuple(
        float(sum(item.stored_bytes or 0 for item in kept if item.committed_at <= end)) or None for end in ends
    )
    return Trend(
        title="Bytes that snapshots stored",
        unit="bytes",
        ends=ends,
        series={"all datasets": written},
        limit=None,
        note="What the packs of the snapshots that are kept took in one vault when they were written, added up; each "
        "replica holds as much again, and prune may have freed a part since.",
    )


def spans(kept: Sequence[Kept], now: datetime) -> tuple[datetime, ...]:
    """The ends of equal spans from the first snapshot (at most :data:`WINDOW` ago) until now; none where that is too
    short to show anything."""
    first = min((item.committed_at for item in kept), default=now)
    length = min(WINDOW, now - first)
    if length < WINDOW_MIN:
        return ()
    return tuple(now - length * (SPANS - number) / SPANS for number in range(1, SPANS + 1))


def _by_tier(
    lines: Sequence[DatasetLine], of_tier: Callable[[Sequence[DatasetLine]], tuple[float | None, ...]]
) -> dict[str, tuple[float | None, ...]]:
    tiers = sorted({line.tier for line in lines if line.tier is not None})
    return {f"tier {tier}": of_tier([line for line in lines if line.tier == tier]) for tier in tiers}


def _exposure_of(line: DatasetLine, kept: Sequence[Kept], ends: Sequence[datetime]) -> list[float | None]:
    """The worst exposure in each span as a share of the RPO; None until something of it was verified."""
    rpo = line.rpo_seconds
    proven = sorted((item for item in kept if item.proven_at is not None), key=lambda item: item.proven_at or ends[0])
    found: list[float | None] = []
    at, newest = 0, None
    for end in ends:
        worst: float | None = None
        while at < len(proven) and (arrived := proven[at].proven_at) is not None and arrived <= end:
            if newest is not None:
                worst = max(worst or 0.0, (arrived - newest).total_seconds())
            newest = proven[at].consistent_at if newest is None else max(newest, proven[at].consistent_at)
            at += 1
        if newest is not None:
            worst = max(worst or 0.0, (end - newest).total_seconds())
        found.append(None if worst is None or not rpo else worst / rpo)
    return found


def _size_of(kept: Sequence[Kept], ends: Sequence[datetime]) -> list[float | None]:
    sized = sorted((item for item in kept if item.size_bytes is not None), key=lambda item: item.committed_at)
    found: list[float | None] = []
    for end in ends:
        before = [item.size_bytes for item in sized if item.committed_at <= end]
        newest = before[-1] if before else None
        found.append(None if newest is None else float(newest))
    return found


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
