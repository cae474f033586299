"""Owns how progress looks: a bar with rate and ETA on a terminal, a line now and then in a pipe, nothing when quiet.

All of it goes to standard error, so that standard output holds results only. Both kinds may be called from many
threads.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from reopen.cli.text import count_text, duration_text, printable, size_text
from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.progress import SILENT, Progress

if TYPE_CHECKING:
    from typing import TextIO

    import rich.progress

LINE_SECONDS = 10
"""Lines of a pipe are read in a log: six a minute show life and do not fill it."""


def make_progress(*, quiet: bool) -> Progress:
    """The progress that suits standard error."""
    if quiet:
        return SILENT
    return BarProgress() if sys.stderr.isatty() else LineProgress(sys.stderr)


class BarProgress:
    """A Rich bar on the terminal; the next stage takes the place of the one before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def start(self, label: str, total: int | None, unit: str) -> None:
        with self._lock:
            self._close()
            self._bar = _bar(unit)
            self._bar.start()
            self._task = self._bar.add_task(printable(label), total=total)

    def advance(self, amount: int) -> None:
        with self._lock:
            if self._bar is not None and self._task is not None:
                self._bar.advance(self._task, amount)

    def finish(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


class LineProgress:
    """A line every :data:`LINE_SECONDS`, and one at the end of each stage that did something."""

    def __init__(self, stream: TextIO, *, clock: Clock = SYSTEM_CLOCK, interval_seconds: float = LINE_SECONDS) -> None:
        self._stream = stream
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()
        self._label = ""
        self._total: int | None = None
        self._unit = ""
        self._done = 0
        self._started = self._last = 0.0

    def start(self, label: str, total: int | None, unit: str) -> None:
        with self._lock:
            self._label, self._total, self._unit, self._done = printable(label), total, unit, 0
            self._started = self._last = self._clock.elapsed_seconds()

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            now = self._clock.elapsed_seconds()
            if now - self._last < self._interval_seconds:
                return
            self._last = now
            self._write(f"{self._label}: {self._state(now)}")

    def finish(self) -> None:
        with self._lock:
            seconds = self._clock.elapsed_seconds() - self._started
            if self._label and self._done:
                self._write(f"{self._label}: {self._amount(self._done)} in {duration_text(seconds)}")
            self._label = ""

    def _state(self, now: float) -> str:
        rate = self._done / max(now - self._started, 1e-9)
        if not self._total:
            return f"{self._amount(self._done)}, {self._amount(round(rate))}/s"
        share = min(100, 100 * self._done // self._total)
        left = duration_text(max(self._total - self._done, 0) / rate) if rate else "-"
        return f"{share}% of {self._amount(self._total)}, {self._amount(round(rate))}/s, {left} left"

    def _amount(self, count: int) -> str:
        return size_text(count) if self._unit == "bytes" else count_text(count, self._unit.removesuffix("s"))

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


def _bar(unit: str) -> rich.progress.Progress:
    from rich import progress as bars
    from rich.console import Console
    from rich.text import Text

    class Rate(bars.ProgressColumn):
        """How many of the unit are done in a second."""

        def render(self, task: bars.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(
                "" if speed is None else f"{speed:,.{0 if speed >= 10 else 1}f} {unit}/s", style="progress.data.speed"
            )

    amount: tuple[bars.ProgressColumn, ...] = (bars.MofNCompleteColumn(), Rate())
    if unit == "bytes":
        amount = (bars.DownloadColumn(), bars.TransferSpeedColumn())
    return bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        *amount,
        bars.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
