"""Owns what a watch does about a recovery that was left: it waits until that is sure, tells people, and says whether
the machine goes on. It starts nothing itself: an automation does, by the event (``docs/events.md``).

What it saw is kept in a file below the home of the site that watches. A recovery that dies again and again without
getting any further is gone on with :data:`TRIES_MAX` times, and then it is a person's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from reopen.clock import to_text
from reopen.control.records import Scenario
from reopen.desk.session import Session
from reopen.desk.watching import OWN_SECONDS_MAX, everybody_of, rule_of
from reopen.errors import ReopenError
from reopen.notify.channels import AppriseNotifier
from reopen.recover import alarms
from reopen.recover.context import Delivery
from reopen.recover.failover import unfinished_plan
from reopen.recover.left import Undriven, find_undriven
from reopen.recover.readiness.limit import within
from reopen.recover.watch.memory import Memory, Told, recall, remember

TRIES_MAX = 3
"""How often in a row it is gone on with while no further step gets done."""
_MEMORY = "left-recovery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A recovery that nobody drives any more."""

    source: str
    target: str
    plan: str
    scenario: str
    since: datetime
    by_itself: bool
    why: str
    deliveries: tuple[Delivery, ...] = ()

    @property
    def text(self) -> str:
        """It, in sentences."""
        ended = "It is gone on with where its automation is deployed." if self.by_itself else "Nothing goes on."
        return (
            f"the {self.scenario} move from {self.source} to {self.target} (plan {self.plan[:16]}) was left "
            f"unfinished: nobody has worked on it since {to_text(self.since)}. {ended} {self.why}"
        )

    @property
    def payload(self) -> Mapping[str, Any]:
        """What its event carries, JSON values."""
        return {
            "site": self.target,
            "source": self.source,
            "target": self.target,
            "plan": self.plan,
            "scenario": self.scenario,
            "since": to_text(self.since),
            "by_itself": self.by_itself,
            "why": self.why,
        }


def look_for_left(session: Session, *, tell: bool = True) -> Left | None:
    """The recovery that was left, once that is sure, and again every ``[watch] remind`` or when something has moved in
    between; None where there is none, or nothing new to say.

    :param tell: whether people are told.
    """
    found = within(OWN_SECONDS_MAX, "left", lambda: _undriven(session))
    if found is None or isinstance(found, ReopenError):
        return None  # A log that cannot be read is the look's own finding.
    now, home = session.clock.now(), session.settings.home
    memory = recall(home, _MEMORY).told
    seen = memory.get("seen")
    if seen is None or seen.level != found.token or now < seen.at:
        told = {"seen": Told(level=found.token, at=now)}
        remember(home, _MEMORY, Memory(told={**_of_plan(memory, found), **told}))
        return None
    before = memory.get("told")
    said = before is not None and before.level == found.token and now - before.at < session.settings.watch.remind
    if now - seen.at < found.silent_after or said:
        return None
    tries = _tries(memory.get("tries"), found)
    left = _left(found, seen.at)
    if left.by_itself and tries >= TRIES_MAX:
        left = replace(
            left, by_itself=False,
            why=f"It was gone on with {tries} times and died each time before another step was done: look at its run, "
            "and go on by hand (`reopen failover`).",
        )  # fmt: skip
    deliveries = _tell(session, left) if tell else ()
    tries += 1 if left.by_itself else 0
    remember(
        home, _MEMORY,
        Memory(told={
            "seen": seen,
            "told": Told(level=found.token, at=now),
            "tries": Told(level=f"{found.plan.digest[:16]}:{found.done}:{tries}", at=now),
        }),
    )  # fmt: skip
    return replace(left, deliveries=deliveries)


def _undriven(session: Session) -> Undriven | None:
    log = session.log
    if log is None:
        return None
    plan = unfinished_plan(log)
    if plan is None:
        return None
    # The rule needs the contracts; only a plan that nobody approves is asked for it.
    asked = plan.scenario is Scenario.UNPLANNED and not plan.approvals
    may_go = asked and rule_of(session, plan, source=plan.source_site, target=plan.target_site).by_itself
    return find_undriven(log, may_go=may_go)


def _left(found: Undriven, since: datetime) -> Left:
    plan = found.plan
    return Left(
        source=plan.source_site, target=plan.target_site, plan=plan.digest, scenario=str(plan.scenario),
        since=min(found.last.at, since), by_itself=found.by_itself, why=found.why,
    )  # fmt: skip


def _of_plan(memory: Mapping[str, Told], found: Undriven) -> dict[str, Told]:
    """What is still true of the plan at hand when something has moved: how often it was gone on with."""
    tries = memory.get("tries")
    return {"tries": tries} if tries is not None and tries.level.startswith(found.plan.digest[:16]) else {}


def _tries(before: Told | None, found: Undriven) -> int:
    """How often in a row it was gone on with, with no further step done since."""
    plan, done, tries = before.level.split(":") if before is not None else ("", "0", "0")
    return int(tries) if (plan, int(done)) == (found.plan.digest[:16], found.done) else 0


def _tell(session: Session, left: Left) -> tuple[Delivery, ...]:
    goes_on = "It is gone on with by itself where its automation is deployed. " if left.by_itself else ""
    notice = alarms.recovery_left(
        source=left.source, target=left.target, plan=left.plan[:16], since=left.since, next_step=goes_on + left.why,
        contacts=everybody_of(session),
    )  # fmt: skip
    return tuple(AppriseNotifier(session.settings.notify, clock=session.clock)(notice))
