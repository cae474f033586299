"""Owns which job tells which observer that it ran: from ``[heartbeat]`` of the settings to the calls of
:mod:`reopen.notify.heartbeat`.

Whoever runs a job opens :func:`heartbeat` around it. A process that is killed says nothing, which is what the observer
waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from reopen.config import Settings
from reopen.errors import ReopenError
from reopen.notify.heartbeat import Beat, Heard, send_beat


class Job(StrEnum):
    """What is waited for from outside; each has its address in ``[heartbeat]``."""

    WATCH = "watch"
    SNAPSHOT = "snapshot"
    VERIFY = "verify"


@dataclass(slots=True)
class Pulse:
    """A job while it runs. Whoever runs it sets ``failed`` when it ended and did not do its work; ``heard`` is what
    became of the calls."""

    failed: bool = False
    heard: list[Heard] = field(default_factory=list)

    @property
    def problem(self) -> str:
        """Why the observer does not know of the job, in a line; empty when it does, or when there is none."""
        return "; ".join(
            sorted({f"{item.observer or 'heartbeat'}: {item.problem}" for item in self.heard if item.problem})
        )


@contextmanager
def heartbeat(settings: Settings, job: Job) -> Iterator[Pulse]:
    """Tell the job's observer that it began, and how it ended. Without an address nothing is called."""
    pulse, url = Pulse(), getattr(settings.heartbeat, job)
    seconds_max = settings.heartbeat.timeout.total_seconds()

    def say(beat: Beat, how: str) -> None:
        if url:
            text = f"{job} at {settings.site}: {how}"
            pulse.heard.append(send_beat(url, beat, seconds_max=seconds_max, text=text))

    # A look takes seconds and comes every minute; that it began tells nobody anything.
    if job is not Job.WATCH:
        say(Beat.START, "began")
    try:
        yield pulse
    except ReopenError as error:
        say(Beat.FAIL, f"failed ({error.kind})")
        raise
    except Exception as error:
        say(Beat.FAIL, f"failed ({type(error).__name__})")
        raise
    if pulse.failed:
        say(Beat.FAIL, "ended, and did not do its work")
    else:
        say(Beat.OK, "done")
