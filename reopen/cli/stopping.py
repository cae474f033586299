"""Owns the end of a command that goes on until it is told to stop: SIGTERM, as systemd sends it, and Ctrl-C.

Invariants
    P1  A signal ends a wait at once, and what may be broken off (:exc:`Stopped`); what may not (:meth:`Stopping.whole`)
        comes to its end first. A second signal breaks that off, too.
    P2  The handlers that were there are there again afterwards.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Self

from reopen.errors import EXIT_INTERRUPTED, EXIT_OK


class Stopped(BaseException):
    """What was going on was broken off by a signal. Not an error, so that nothing on its way takes it for one."""


class Stopping:
    """A block that signals end. Only the main thread can have one."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._stop = threading.Event()
        self._breakable = True

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._take) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        return kind is Stopped

    @property
    def asked(self) -> bool:
        """Whether it is to end."""
        return self._stop.is_set()

    @property
    def exit_code(self) -> int:
        """What the process ends with: 0 by SIGTERM, which is how a service is stopped; 130 by Ctrl-C."""
        return EXIT_INTERRUPTED if self.signal is signal.SIGINT else EXIT_OK

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What a first signal does not break off."""
        self._breakable = False
        try:
            yield
        finally:
            self._breakable = True

    def wait(self, seconds: float) -> None:
        """Wait so long, or until it is to end."""
        with suppress(Stopped):
            self._stop.wait(seconds)

    def _take(self, number: int, frame: FrameType | None) -> None:
        again, self.signal = self.asked, signal.Signals(number)
        self._stop.set()
        if self._breakable or again:
            raise Stopped
