"""Owns how far a flow is: a progress artifact in the Prefect UI, and whatever the caller shows (:mod:`tasks.watching`).

A server that is lost on the way stops the artifact, never the work.
"""

from __future__ import annotations

import contextvars
import re
import threading
from typing import cast
from uuid import UUID

from httpx import HTTPError
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_logger

from reopen.clock import SYSTEM_CLOCK, Clock
from tasks.watching import callers_progress

UPDATE_SECONDS = 2.0
"""Between two updates of an artifact: each is a request to the server."""


class ArtifactProgress:
    """The progress of one run of bytes or files as an artifact, passed on to the caller's progress.

    :param key: of the artifact, for example ``snapshot-progress-orders``.
    """

    def __init__(self, key: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._key = key
        self._clock = clock
        self._caller = callers_progress()
        # Which server it is stands in the context of the flow run; updates come from the engine's own threads.
        self._context = contextvars.copy_context()
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
        self._update(share)

    def finish(self) -> None:
        self._caller.finish()
        self._update(100.0)

    def _update(self, share: float) -> None:
        artifact = self._artifact
        if artifact is None:
            return
        try:
            # A copy, because a context is in one thread at a time.
            self._context.copy().run(update_progress_artifact, artifact, share)
        except HTTPError as error:
            self._artifact = None
            get_logger("reopen.progress").warning("%s is not shown any more: %s", self._key, error)

    def _share(self) -> float:
        return min(100.0, 100.0 * self._done / self._total)


def artifact_key(*words: str) -> str:
    """A key as Prefect allows it: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
