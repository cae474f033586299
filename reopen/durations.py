"""Owns durations as people write them: text and ODCS units in, ``timedelta`` out, and one canonical text back.

Accepted
    - unit text: ``15m``, ``1h30m``, ``1.5 h``, ``2 days``; parts go from the larger unit to the smaller, each once;
    - ISO 8601: ``PT15M``, ``P1DT2H``, ``P2W``, ``P1Y6M``;
    - a number with a unit beside it, as ODCS writes it (``value: 15``, ``unit: m``).

Invariants
    I1  ``m`` is a minute, never a month (a month is ``mo``); a lone ``M`` is refused because it could be either.
    I2  A month counts 30 days and a year 365: these are for retention periods, not for calendars.
    I3  ``parse(to_text(d)) == d`` for every non-negative whole number of seconds.

Called by the settings and the contracts; imports nothing of ours. Every error is a ``ValueError`` whose text says
what is wrong; the caller adds the file and the place.
"""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import pairwise

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "mo": 30 * 86_400, "y": 365 * 86_400}
_SPELLINGS = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
    "w": ("w", "wk", "wks", "week", "weeks"),
    "mo": ("mo", "mos", "month", "months"),
    "y": ("y", "yr", "yrs", "year", "years"),
}
_UNIT_BY_SPELLING = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings}

ALLOWED_UNITS = "s, m (minutes), h, d, w, mo (months), y, or their English names"
ALLOWED_TEXT = "a number and a unit such as 15m, 1h30m or 7d, or ISO 8601 such as PT15M"

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*")
_ISO = re.compile(
    r"P(?=\d|T\d)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?"
    r"(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_ISO_UNITS = ("y", "mo", "w", "d", "h", "m", "s")


def parse(text: str) -> timedelta:
    """The duration that a text states, in one of the accepted forms; ``ValueError`` when it states none."""
    trimmed = text.strip()
    if iso := _ISO.fullmatch(trimmed):
        parts = [(float(number), unit) for number, unit in zip(iso.groups(), _ISO_UNITS, strict=True) if number]
        return _total(parts)
    parts = []
    position = 0
    while match := _PART.match(trimmed, position):
        parts.append((float(match[1]), unit_of(match[2])))
        position = match.end()
    if not parts or position != len(trimmed):
        raise ValueError("it is not a duration")
    sizes = [_SECONDS[unit] for _, unit in parts]
    if any(later >= earlier for earlier, later in pairwise(sizes)):
        raise ValueError("its parts must go from the larger unit to the smaller, each unit once")
    return _total(parts)


def from_value(value: object, unit: str | None) -> timedelta:
    """The duration of an ODCS value with its unit, or of a text that carries its own; ``ValueError`` otherwise."""
    if isinstance(value, str) and unit is None:
        return parse(value)
    number = _number(value)
    if unit is None:
        raise ValueError("it has no unit")
    return _total([(number, unit_of(unit))])


def unit_of(spelling: str) -> str:
    """The canonical unit (``s``, ``m``, ``h``, ``d``, ``w``, ``mo``, ``y``) of a spelling; ``ValueError`` if none."""
    if spelling == "M":
        raise ValueError("the unit 'M' could be minutes or months; write m or mo")
    try:
        return _UNIT_BY_SPELLING[spelling.strip().lower()]
    except KeyError:
        raise ValueError(f"the unit {spelling!r} is unknown") from None


def to_text(duration: timedelta) -> str:
    """The canonical text, for example ``1h30m``; weeks, months and years are written as days (I3).

    Fractions of a second are dropped: no objective or schedule is that fine.
    """
    seconds = int(duration.total_seconds())
    if seconds < 0:
        raise ValueError("a negative duration has no place here")
    text = ""
    for unit in ("d", "h", "m", "s"):
        count, seconds = divmod(seconds, _SECONDS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("it is not a number")
    try:
        number = float(value)
    except ValueError:
        raise ValueError("it is not a number") from None
    if not 0 <= number < float("inf"):
        raise ValueError("it must not be negative" if number < 0 else "it is not a number")
    return number


def _total(parts: list[tuple[float, str]]) -> timedelta:
    try:
        return timedelta(seconds=sum(number * _SECONDS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError("it is longer than time itself (the limit is 999999999 days)") from None
