"""Owns the rule by which a run that crashed is started again: which ones, when, how often, and when it is left. Pure.

A run crashes when its process ends without saying how: it was killed, the memory was full, the machine went down. What
the run did until then is no harm to the next one, but that may be a day away, and the RPO an hour.

Invariants
    G1  Only flows that may be done twice (:data:`REPEATABLE`): what they did already they find, and go on. What moves
        the role is never among them; that is gone on with by the epoch log (:mod:`reopen.desk.left`).
    G2  A run is started again :data:`DELAYS` times in a row at most, each time after a longer wait.
    G3  What its schedule does soon enough is left to the schedule: before the retry could begin, or while the dataset's
        objective is not in danger.
    G4  Where many runs of a site crashed within the hour, it is the machine that is ill, and nothing is started again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from reopen.clock import to_text
from reopen.durations import to_text as duration_text

REPEATABLE = frozenset(
    ("snapshot", "replicate", "stage", "verify", "retain", "prune", "drill", "ready", "report", "watch")
)
DELAYS = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15))
"""All of them together are over within the hour that a strict RPO is; a machine that restarts takes minutes."""
CRASHES_MAX = 8
"""Of one site within :data:`CRASHES_WITHIN`. A worker with its four runs, killed twice, is still within it."""
CRASHES_WITHIN = timedelta(hours=1)
RPO_SHARE = 2
"""The schedule is left to do it while the newest point is not older than this part of the RPO then: the next run may
crash too, and what it makes has to be copied."""
SOON = timedelta(hours=1)
"""What serves no RPO waits for its schedule for so long."""
TAG = "again-"
"""What the tag of a run that was started again begins with; the number of the attempt follows."""


def again_tag(site: str) -> str:
    """The tag of the deployments of a site whose crashed runs are started again."""
    return f"reopen:again:{site}"


def attempts_of(tags: Iterable[str]) -> int:
    """How often the run with these tags, and those before it, had been started again."""
    return max((int(tag.removeprefix(TAG)) for tag in tags if _is_attempt(tag)), default=0)


def _is_attempt(tag: str) -> bool:
    return tag.startswith(TAG) and tag.removeprefix(TAG).isdigit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """A run that crashed, and what surrounds it."""

    flow: str
    at: datetime
    attempts: int
    """How often it had been started again before."""
    crashes: int
    """Runs of the site that crashed within :data:`CRASHES_WITHIN`, this one among them."""
    next_at: datetime | None
    """When its deployment runs next, by the schedule or because it was started again already; None: never."""
    newest: datetime | None
    """When the last run of its deployment that completed began; None: none has."""
    rpo: timedelta | None
    """The tightest objective that it serves; None: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``at``: when it is started again; None where it is not. ``given_up``: nobody does it, and people should know."""

    at: datetime | None
    why: str
    given_up: bool = False


def decide(crashed: Crashed, now: datetime) -> Decision:
    """Whether a run that crashed is started again."""
    if crashed.flow not in REPEATABLE:
        return Decision(at=None, why=f"a run of {crashed.flow} is never started again by itself")
    if crashed.attempts >= len(DELAYS):
        return Decision(
            at=None, given_up=True, why=f"it was started again {crashed.attempts} times and crashed each time"
        )
    if crashed.crashes > CRASHES_MAX:
        within = duration_text(CRASHES_WITHIN)
        return Decision(
            at=None, given_up=True,
            why=f"{crashed.crashes} runs crashed within {within}: look at the machine first (memory, disk, worker)",
        )  # fmt: skip
    at = now + DELAYS[crashed.attempts]
    if crashed.next_at is not None and _is_soon_enough(crashed, crashed.next_at, at):
        return Decision(at=None, why=f"its deployment runs at {to_text(crashed.next_at)}, which is soon enough")
    return Decision(at=at, why=f"attempt {crashed.attempts + 1} of {len(DELAYS)}, at {to_text(at)}")


def _is_soon_enough(crashed: Crashed, next_at: datetime, at: datetime) -> bool:
    if next_at <= at:
        return True
    if crashed.rpo is None:
        return next_at - crashed.at <= SOON
    return crashed.newest is not None and next_at - crashed.newest <= crashed.rpo / RPO_SHARE
