"""Owns what people are told while nothing is being recovered: what a watch or a readiness check found.

They are told once when it begins, not at each look: whoever watches compares with what it found the last time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from reopen.clock import to_the_second
from reopen.config.events import Event
from reopen.durations import to_text as duration_text
from reopen.recover.context import Notice
from reopen.recover.plan import Contact


def exposure_breached(
    *, dataset: str, exposure: timedelta | None, rpo: timedelta, site: str, contacts: Iterable[Contact] = ()
) -> Notice:
    """The newest verified recovery point of a dataset is older than its RPO; ``exposure`` is None when it has none."""
    if exposure is None:
        age, times = "unknown: it has no verified recovery point", "more than"
    else:
        age, times = duration_text(max(exposure, timedelta(0))), f"{exposure / rpo:.1f} times"
    return _notice(
        Event.EXPOSURE_BREACHED, contacts, dataset=dataset, exposure=age, times=times, rpo=duration_text(rpo), site=site
    )


def site_unreachable(*, site: str, since: datetime, problem: str, contacts: Iterable[Contact] = ()) -> Notice:
    """A site does not answer; nobody has said yet that it is lost."""
    return _notice(Event.SITE_UNREACHABLE, contacts, site=site, since=to_the_second(since), problem=problem)


def site_lost(*, site: str, since: datetime, problem: str, next_step: str, contacts: Iterable[Contact] = ()) -> Notice:
    """A site has been silent for longer than the watch allows; ``next_step`` is what happens or is to be done now."""
    return _notice(
        Event.SITE_LOST, contacts, site=site, since=to_the_second(since), problem=problem, next_step=next_step
    )


def ready_failed(*, site: str, failed: Iterable[tuple[str, str]], contacts: Iterable[Contact] = ()) -> Notice:
    """A site could not take over now. ``failed``: each check, and what to do about it."""
    found = list(failed)
    lines = "\n".join(f"- {check}: {what_to_do}" for check, what_to_do in found)
    return _notice(Event.READY_FAILED, contacts, site=site, count=str(len(found)), checks=lines or "- none was named")


def watch_silent(
    *, site: str, last_seen: datetime | None, limit: timedelta, contacts: Iterable[Contact] = ()
) -> Notice:
    """The watch itself has not been heard of: a disaster would not be noticed."""
    seen = "never" if last_seen is None else to_the_second(last_seen)
    return _notice(Event.WATCH_SILENT, contacts, site=site, last_seen=seen, limit=duration_text(limit))


def writers_held(
    *, site: str, since: datetime, limit: timedelta, ended: str, contacts: Iterable[Contact] = ()
) -> Notice:
    """A planned move held writers past its limit with nobody going on with it; ``ended`` says what became of them."""
    fields = {"site": site, "since": to_the_second(since), "limit": duration_text(limit), "ended": ended}
    return _notice(Event.WRITERS_HELD, contacts, **fields)


def recovery_left(
    *, source: str, target: str, plan: str, since: datetime, next_step: str, contacts: Iterable[Contact] = ()
) -> Notice:
    """A recovery was begun, is not done, and nobody drives it; ``next_step`` is what happens or is to be done now."""
    fields = {"source": source, "target": target, "plan": plan, "since": to_the_second(since), "next_step": next_step}
    return _notice(Event.RECOVERY_LEFT, contacts, **fields)


def _notice(event: str, contacts: Iterable[Contact], /, **fields: str) -> Notice:
    return Notice(event=event, fields=fields, contacts=tuple(dict.fromkeys(contacts)))
