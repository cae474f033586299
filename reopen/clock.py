"""Owns the reading of time. Nothing else in the engine calls ``time`` or ``datetime.now``.

Wall-clock instants are timezone-aware UTC ``datetime``; durations within one process are measured on a clock that
does not jump (``CLOCK_BOOTTIME`` where there is one, so that a suspended host's lease still ages).

Invariants
    I1  Every instant that leaves this module is UTC with microseconds.
    I2  The text form is RFC 3339 with exactly six decimals and ``Z``, so that text order is time order.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

SKEW_MAX = timedelta(seconds=60)
"""RPA, exposure and leases compare the clocks of two machines; with NTP they differ by milliseconds."""


class Clock(Protocol):
    """What the engine asks of time; tests hand in a :class:`FixedClock`."""

    def now(self) -> datetime:
        """The current instant, UTC."""
        ...

    def elapsed_seconds(self) -> float:
        """Seconds on a clock that never steps back; only differences mean anything."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def elapsed_seconds(self) -> float:
        boottime = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class FixedClock:
    """A clock for tests: it stands still until told to move."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._elapsed_seconds = 0.0

    def now(self) -> datetime:
        return self._now

    def elapsed_seconds(self) -> float:
        return self._elapsed_seconds

    def advance(self, step: timedelta) -> None:
        """Move both clocks on by ``step``."""
        self._now += step
        self._elapsed_seconds += step.total_seconds()


SYSTEM_CLOCK = SystemClock()


def to_text(instant: datetime) -> str:
    """RFC 3339 text of an instant, for example ``2026-11-22T13:27:15.000000Z`` (I2)."""
    if instant.tzinfo is None:
        raise ValueError("a naive datetime has no place here")
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_text(text: str) -> datetime:
    """The instant that :func:`to_text` wrote; ``ValueError`` when the text is not RFC 3339 with an offset."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset")
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} lies outside the calendar") from error


def from_unix_ns(nanoseconds: int) -> datetime:
    """The UTC instant of a Unix time in nanoseconds, truncated to microseconds (file systems count in ns)."""
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).replace(
        microsecond=nanoseconds % 1_000_000_000 // 1000
    )


def to_the_second(instant: datetime) -> str:
    """An instant for people: UTC, to the second, as ``2026-11-22T03:05:00Z``, which :func:`from_text` reads too."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
