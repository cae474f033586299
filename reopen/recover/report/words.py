"""Owns how the report writes amounts, times and places. No data of a dataset is shown here but by masked samples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reopen.sizes import size_text as size_text  # Here too, beside the other words.

_SHORT = frozenset({"id", "rpa", "rpo", "rta", "rto", "url"})
NAME_MAX = 24
"""Characters of a name that stand beside its figures on a phone."""


def seconds_text(seconds: float) -> str:
    """A time span with its two largest units, for example ``0.4s``, ``3m 20s``, ``2d 4h``."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f}s".replace(".0s", "s")
    rest = round(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
    return " ".join(part for part in parts[:2] if part)


def span_text(span: timedelta | None) -> str:
    """A time span, or a dash where there is none."""
    return "–" if span is None else seconds_text(span.total_seconds())


def instant_text(instant: datetime | None) -> str:
    """An instant in UTC to the second, or a dash."""
    return "–" if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def short_text(name: str) -> str:
    """A name for a picture, which cannot break it: of a long one the begin and the end."""
    return name if len(name) <= NAME_MAX else f"{name[: NAME_MAX - 10]}…{name[-9:]}"


def key_text(key: str) -> str:
    """The name of a stored member as words, for example ``RPO zero``."""
    return " ".join(word.upper() if word in _SHORT else word for word in key.split("_"))


def plain_text(value: object) -> str:
    """A JSON value in one line, for tables of what a scenario or a check found."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{key_text(key)}: {plain_text(part)}" for key, part in sorted(value.items())) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(plain_text(part) for part in value) or "none"
    return str(value)
