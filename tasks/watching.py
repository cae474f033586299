"""Owns who watches a flow from outside Prefect: the progress of whoever calls it. Imports no Prefect.

A caller opens :func:`shown_on` around the flow. It is no parameter of the flow, because Prefect records those.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from reopen.progress import SILENT, Progress

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
