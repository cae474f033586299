"""Owns how a trend is drawn: where each line and mark stands. Pure; the template draws it.

As in the picture of a recovery (:mod:`reopen.recover.report.picture`) everything horizontal is a percentage and
everything vertical a pixel, so that one SVG fits a phone and a printed page without scaling its text. Series differ by
mark and dashes, not by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reopen.recover.report.words import seconds_text, size_text
from reopen.review.report.trends import Trend

TOP_PX, BOTTOM_PX = 20, 164
RIGHT_PERCENT = 98.0
SHARE_MAX = 4.0
"""What is above this many times the objective is drawn at the edge: one bad day must not flatten the rest."""
STYLES_MAX = 4
"""Styles there are; more tiers than that share them, and the table tells them apart."""
TICKS_X = 4
RECENT = 24
"""Recoveries that are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A mark. ``y`` is a pixel, ``x`` a percentage; ``bad`` is drawn as a cross: there is no figure."""

    x: float
    y: float
    title: str
    bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One series. ``style`` picks mark, dashes and colour; ``runs`` are its unbroken lines, as points ``x,y``, and
    ``spots`` its marks."""

    name: str
    style: int
    runs: tuple[str, ...]
    spots: tuple[Spot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A grid line and its label; ``at`` is a percentage of the width or a pixel of the height."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A drawn trend, the sentence that stands for it, and the table behind it (first column: when)."""

    id: str
    title: str
    note: str
    description: str
    curves: tuple[Curve, ...]
    ticks_x: tuple[Tick, ...]
    ticks_y: tuple[Tick, ...]
    limit_y: float | None
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def plot_trend(identifier: str, trend: Trend) -> Plot:
    """A trend over time."""
    text = share_text if trend.unit == "share" else size_text
    known = [value for values in trend.series.values() for value in values if value is not None]
    top = _top(trend, known)
    curves = tuple(
        _curve(number, name, values, top=top, text=text) for number, (name, values) in enumerate(trend.series.items())
    )
    now, start = trend.ends[-1], trend.ends[0] - (trend.ends[-1] - trend.ends[0]) / max(1, len(trend.ends) - 1)
    return Plot(
        id=identifier,
        title=trend.title,
        note=trend.note + _cut(known, top, trend.unit),
        description=_description(trend, text),
        curves=curves,
        ticks_x=tuple(_tick_x(start, now, number) for number in range(TICKS_X + 1)),
        ticks_y=_ticks_y(trend.unit, top),
        limit_y=None if trend.limit is None else _y(trend.limit, top),
        head=("until (UTC)", *trend.series),
        rows=tuple(
            (end.strftime("%Y-%m-%d %H:%M"), *(_cell(values[at], text) for values in trend.series.values()))
            for at, end in enumerate(trend.ends)
        ),
    )


def plot_recoveries(
    identifier: str, tiers: Mapping[int, Mapping[int, tuple[datetime, float | None]]], *, recent: int = RECENT
) -> Plot | None:
    """What recoveries took of their RTO, one beside the other; None where there was none."""
    numbers = sorted({number for found in tiers.values() for number in found})[-recent:]
    if not numbers:
        return None
    values = [share for found in tiers.values() for _, share in found.values() if share is not None]
    top = min(SHARE_MAX, max(1.15, *values)) if values else 1.15
    curves = tuple(
        _recovered(place, tier, {n: tiers[tier][n] for n in numbers if n in tiers[tier]}, numbers, top)
        for place, tier in enumerate(sorted(tiers))
    )
    count = "1 recovery" if len(numbers) == 1 else f"{len(numbers)} recoveries"
    lost = sum(share is None for found in tiers.values() for number, (_, share) in found.items() if number in numbers)
    worst = f"; the most that one took is {share_text(max(values))} of an RTO" if values else ""
    rows = []
    for number in numbers:
        at = next(found[number][0] for found in tiers.values() if number in found)
        cells = (
            "–" if number not in tiers[tier] else _cell(tiers[tier][number][1], share_text, none="did not reopen")
            for tier in sorted(tiers)
        )
        rows.append((f"no. {number}, {at:%Y-%m-%d %H:%M}", *cells))
    return Plot(
        id=identifier,
        title="Time until open, as a share of the RTO",
        note="Every drill and failover, the newest on the right: of each tier the dataset that took the largest share "
        "of its RTO. A cross is a tier that did not reopen as a whole." + _cut(values, top, "share"),
        description=f"{count}{worst}; {_not_whole(lost)}.",
        curves=curves,
        ticks_x=tuple(
            Tick(at=_place(number, numbers), label=f"no. {number}")
            for number in dict.fromkeys((numbers[0], numbers[-1]))
        ),
        ticks_y=_ticks_y("share", top),
        limit_y=_y(1.0, top),
        head=("recovery (UTC)", *(f"tier {tier}" for tier in sorted(tiers))),
        rows=tuple(rows),
    )


def share_text(share: float) -> str:
    """A share of an objective as people say it: percent up to all of it, times beyond twice."""
    return f"{share:.1f} times" if share >= 2 else f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.1f}%"


def _not_whole(count: int) -> str:
    if not count:
        return "every tier reopened as a whole each time"
    return f"{'once' if count == 1 else f'{count} times'} a tier did not reopen as a whole"


def _cut(values: Sequence[float], top: float, unit: str) -> str:
    """What a reader has to know where a value lies beyond the upper edge."""
    over = unit == "share" and any(value > top for value in values)
    return f" What is above {100 * top:.0f}% is drawn at the edge." if over else ""


def _recovered(
    place: int, tier: int, found: Mapping[int, tuple[datetime, float | None]], numbers: Sequence[int], top: float
) -> Curve:
    spots = tuple(
        Spot(
            x=_place(number, numbers),
            y=TOP_PX if share is None else _y(share, top),
            title=f"tier {tier}, no. {number}: {'did not reopen' if share is None else share_text(share)}",
            bad=share is None,
        )
        for number, (_, share) in sorted(found.items())
    )
    good = [f"{spot.x:.2f},{spot.y:.1f}" for spot in spots if not spot.bad]
    return Curve(
        name=f"tier {tier}", style=place % STYLES_MAX, runs=(" ".join(good),) if len(good) > 1 else (), spots=spots
    )


def _place(number: int, numbers: Sequence[int]) -> float:
    if len(numbers) == 1:
        return RIGHT_PERCENT / 2
    return 4 + (RIGHT_PERCENT - 6) * numbers.index(number) / (len(numbers) - 1)


def _curve(
    number: int, name: str, values: Sequence[float | None], *, top: float, text: Callable[[float], str]
) -> Curve:
    runs: list[list[str]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(f"{_x(at, len(values)):.2f},{_y(value, top):.1f}")
    last = next(((at, value) for at, value in reversed(list(enumerate(values))) if value is not None), None)
    spots: tuple[Spot, ...] = ()
    if last is not None:
        spot = Spot(x=_x(last[0], len(values)), y=_y(last[1], top), title=f"{name}: {text(last[1])}")
        spots = (spot,)
    return Curve(
        name=name, style=number % STYLES_MAX, runs=tuple(" ".join(run) for run in runs if len(run) > 1), spots=spots
    )


def _top(trend: Trend, known: Sequence[float]) -> float:
    """The value at the upper edge."""
    highest = max(known, default=0.0)
    if trend.unit == "share":
        return min(SHARE_MAX, max(1.15, highest))
    return highest * 1.05 or 1.0


def _ticks_y(unit: str, top: float) -> tuple[Tick, ...]:
    if unit == "share":
        steps = (0.0, 0.5, 1.0) if top < 2 else (0.0, 1.0, 2.0) if top < 3 else (0.0, 1.0, 2.0, 3.0, 4.0)
        return tuple(Tick(at=_y(step, top), label=f"{100 * step:.0f}%") for step in steps if step <= top)
    step = _round_step(top)
    return tuple(Tick(at=_y(step * n, top), label=size_text(step * n)) for n in range(int(top / step) + 1))


def _round_step(top: float) -> float:
    """The largest of 1, 2 and 5 by a power of ten of which at least two lie below the upper edge."""
    power = 10.0 ** math.floor(math.log10(max(top, 2.0)))
    return next((step for step in (5 * power, 2 * power, power) if 2 * step <= top), power / 2)


def _tick_x(start: datetime, now: datetime, number: int) -> Tick:
    ago = (now - start) * (TICKS_X - number) / TICKS_X
    label = "now" if number == TICKS_X else f"{_one_unit(ago.total_seconds())} ago"
    return Tick(at=RIGHT_PERCENT * number / TICKS_X, label=label)


def _one_unit(seconds: float) -> str:
    return seconds_text(seconds).split(" ")[0]


def _x(at: int, count: int) -> float:
    return RIGHT_PERCENT * (at + 1) / count


def _y(value: float, top: float) -> float:
    return BOTTOM_PX - (BOTTOM_PX - TOP_PX) * min(value, top) / top


def _description(trend: Trend, text: Callable[[float], str]) -> str:
    """What the picture shows, in a sentence a series."""
    said = []
    for name, values in trend.series.items():
        known = [value for value in values if value is not None]
        if not known:
            said.append(f"{name}: nothing is known")
            continue
        least, most = text(min(known)), text(max(known))
        said.append(f"{name}: from {text(known[0])} to {text(known[-1])} now, between {least} and {most}")
    text_of_all = "; ".join(said)
    return f"{text_of_all[:1].upper()}{text_of_all[1:]}."


def _cell(value: float | None, text: Callable[[float], str], *, none: str = "unknown") -> str:
    return none if value is None else text(value)
