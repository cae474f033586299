"""Owns how far a flow is: a progress artifact in the Prefect UI, and whatever the caller shows on its terminal.

A caller that wants to see progress opens :func:`shown_on` around the flow. It is no parameter of the flow, because
Prefect records those.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.progress import SILENT, Progress

UPDATE_SECONDS = 2.0
"""Between two updates of an artifact: each is a request to the server."""

_shown_on: ContextVar[Progress] = ContextVar("shown_on", default=SILENT)


@contextmanager
def shown_on(progress: Progress) -> Iterator[None]:
    """Show the progress of flows that are called in this block on ``progress`` too."""
    token = _shown_on.set(progress)
    try:
        yield
    finally:
        _shown_on.reset(token)


def callers_progress() -> Progress:
    """What the caller opened with :func:`shown_on`; silent when nothing."""
    return _shown_on.get()


class ArtifactProgress:
    """The progress of one run of bytes or files as an artifact, passed on to the caller's progress.

    :param key: of the artifact, for example ``snapshot-progress-orders``.
    """

    def __init__(self, key: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._key = key
        self._clock = clock
        self._caller = callers_progress()
        self._lock = threading.Lock()
        self._artifact: UUID | None = None
        self._label = ""
        self._total = 0
        self._done = 0
        self._updated = 0.0

    def start(self, label: str, total: int | None, unit: str) -> None:
        self._caller.start(label, total, unit)
        self._label, self._total, self._done = label, total or 0, 0
        self._updated = self._clock.elapsed_seconds()
        if self._total:
            made = create_progress_artifact(0.0, key=self._key, description=f"{label}: {total} {unit}")
            # Its type allows for a coroutine, which only asynchronous callers get.
            self._artifact = cast("UUID", made)

    def advance(self, amount: int) -> None:
        self._caller.advance(amount)
        with self._lock:
            self._done += amount
            now = self._clock.elapsed_seconds()
            if self._artifact is None or now - self._updated < UPDATE_SECONDS:
                return
            self._updated = now
            share = self._share()
        # Outside the lock: other threads go on reading while the server answers.
        update_progress_artifact(self._artifact, share)

    def finish(self) -> None:
        self._caller.finish()
        if self._artifact is not None:
            update_progress_artifact(self._artifact, 100.0)

    def _share(self) -> float:
        return min(100.0, 100.0 * self._done / self._total)


def artifact_key(*words: str) -> str:
    """A key as Prefect allows it: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
