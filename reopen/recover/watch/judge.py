"""Owns what a look means: is the site alive, in trouble or lost, and what is to be said now. Pure over what was seen
and what is remembered.

Only the data of tier 1 counts towards a loss: a production whose vault answers and whose data does not is closed for
business, and one whose vault is slow is not. The vault alone counts where no data can be read from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from reopen.clock import to_text
from reopen.recover.automatic import AutomaticRule
from reopen.recover.readiness.freshness import Lag, judge_age
from reopen.recover.readiness.model import Mark
from reopen.recover.watch.canary import Song, Sung
from reopen.recover.watch.memory import Memory, Told


class SiteState(StrEnum):
    """How a watched site is."""

    ALIVE = "alive"
    TROUBLED = "troubled"
    """It answers in part (W4)."""
    FAILING = "failing"
    """It does not answer, not for long enough yet."""
    LOST = "lost"
    UNKNOWN = "unknown"
    """Nothing of it was ever reached from here, so its loss would not be noticed (W2)."""


class Sign(StrEnum):
    """What a watch can say. Which events an orchestrator makes of them is its own matter."""

    EXPOSURE_BREACHED = "exposure.breached"
    EXPOSURE_RESTORED = "exposure.restored"
    REPLICATION_BEHIND = "replication.behind"
    REPLICATION_CAUGHT_UP = "replication.caught-up"
    SITE_UNREACHABLE = "site.unreachable"
    SITE_LOST = "site.lost"
    SITE_RETURNED = "site.returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Something to say, about a dataset or a site. ``payload`` holds JSON values only."""

    sign: Sign
    subject: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a site counts as lost, and how often what lasts is said again."""

    failures: int
    every: timedelta
    remind: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Whether one place of the watched site answered. ``dataset`` is empty for its vault."""

    place: str
    dataset: str
    song: Song


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """What of a dataset would be lost now; ``exposure`` is None when it has no verified recovery point away from the
    watched site."""

    dataset: str
    tier: int
    exposure: timedelta | None
    rpo: timedelta
    lag: Lag | None

    @property
    def mark(self) -> Mark:
        """``ok`` up to the RPO, ``warn`` up to twice of it, else ``fail``; unknown is never ok."""
        return Mark.FAIL if self.exposure is None else judge_age(self.exposure, self.rpo)

    @property
    def lag_mark(self) -> Mark:
        """The same of the oldest snapshot that was not replicated."""
        return Mark.OK if self.lag is None else judge_age(self.lag.waiting, self.rpo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a look came to."""

    state: SiteState
    problem: str
    memory: Memory
    signals: tuple[Signal, ...]


def judge(
    answers: Sequence[Answered],
    exposed: Sequence[Exposed],
    memory: Memory,
    *,
    site: str,
    target: str,
    limits: Limits,
    rule: AutomaticRule,
    now: datetime,
) -> Judged:
    """What the look says of the site, what is to be remembered of it, and what is to be said.

    :param rule: whether its failover would go by itself; it is quoted when the site is lost.
    """
    memory = replace(memory, reached=_reached(answers, memory), looked_at=now)
    known = [answer for answer in answers if answer.place in memory.reached]
    bad = [answer for answer in known if answer.song.status is not Sung.ANSWERED]
    problem = "; ".join(f"{answer.place}: {answer.song.detail}" for answer in bad)
    memory = _counted(memory, _has_failed(known), limits, now)
    state = _state(known, bad, memory, limits)
    said = _Said(memory.told, limits.remind, now)
    _say_site(said, state, problem, memory, site=site, target=target, rule=rule, now=now)
    _say_datasets(said, exposed, site=site)
    told = {key: last for key, last in {**memory.told, **said.told}.items() if key not in said.quiet}
    memory = replace(memory, told=dict(sorted(told.items())))
    return Judged(state=state, problem=problem, memory=memory, signals=tuple(said.signals))


def _reached(answers: Iterable[Answered], memory: Memory) -> tuple[str, ...]:
    """W2. A place that no contract names any more is forgotten."""
    asked = {answer.place for answer in answers}
    now = {answer.place for answer in answers if answer.song.status is Sung.ANSWERED}
    return tuple(sorted(now | (set(memory.reached) & asked)))


def _has_failed(known: Sequence[Answered]) -> bool | None:
    """Whether a look counts as failed; None when nothing is known that could."""
    counting = [answer for answer in known if answer.dataset] or known
    if not counting:
        return None
    return all(answer.song.status is not Sung.ANSWERED for answer in counting)


def _counted(memory: Memory, failed: bool | None, limits: Limits, now: datetime) -> Memory:
    if failed is None:
        return memory
    if not failed:
        return replace(memory, failures=0, failing_since=None, counted_at=None, answered_at=now)
    # W3: somebody who looks by hand, twice in a second, has not seen it fail twice.
    too_soon = memory.counted_at is not None and timedelta(0) <= now - memory.counted_at < limits.every / 2
    if too_soon:
        return memory
    return replace(memory, failures=memory.failures + 1, failing_since=memory.failing_since or now, counted_at=now)


def _state(known: Sequence[Answered], bad: Sequence[Answered], memory: Memory, limits: Limits) -> SiteState:
    if not known:
        return SiteState.UNKNOWN
    if memory.failures >= limits.failures:
        return SiteState.LOST
    if memory.failures:
        return SiteState.FAILING
    return SiteState.TROUBLED if bad else SiteState.ALIVE


def _say_site(
    said: _Said,
    state: SiteState,
    problem: str,
    memory: Memory,
    *,
    site: str,
    target: str,
    rule: AutomaticRule,
    now: datetime,
) -> None:
    since = memory.failing_since or now
    payload: dict[str, Any] = {
        "site": site,
        "state": state.value,
        "problem": problem,
        "failures": memory.failures,
        "since": to_text(since),
        "answered_at": None if memory.answered_at is None else to_text(memory.answered_at),
    }
    match state:
        case SiteState.ALIVE:
            said.over("site", Signal(sign=Sign.SITE_RETURNED, subject=site, payload={"site": site, "at": to_text(now)}))
        case SiteState.TROUBLED | SiteState.FAILING:
            said.say("site", state.value, Signal(sign=Sign.SITE_UNREACHABLE, subject=site, payload=payload))
        case SiteState.LOST:
            lost = payload | {
                "target": target,
                "failed_at": to_text(since),
                "reason": f"{site} has not answered since {to_text(since)}: {problem}",
                "by_itself": rule.by_itself,
                "why": rule.text,
            }
            said.say("site", state.value, Signal(sign=Sign.SITE_LOST, subject=site, payload=lost))
        case SiteState.UNKNOWN:
            pass  # Nobody has ever heard of it here; the result of the look says so to whoever set it up.


def _say_datasets(said: _Said, exposed: Iterable[Exposed], *, site: str) -> None:
    for item in exposed:
        payload: dict[str, Any] = {
            "dataset": item.dataset,
            "tier": item.tier,
            "site": site,
            "level": item.mark.value,
            "exposure_seconds": None if item.exposure is None else item.exposure.total_seconds(),
            "rpo_seconds": item.rpo.total_seconds(),
        }
        key = f"exposure:{item.dataset}"
        if item.mark is Mark.OK:
            said.over(key, Signal(sign=Sign.EXPOSURE_RESTORED, subject=item.dataset, payload=payload))
        else:
            signal = Signal(sign=Sign.EXPOSURE_BREACHED, subject=item.dataset, payload=payload)
            said.say(key, item.mark.value, signal)
        if item.lag is None:
            continue  # The source could not be asked; what was said of it stands.
        behind = {
            "dataset": item.dataset,
            "tier": item.tier,
            "site": site,
            "level": item.lag_mark.value,
            "snapshots": item.lag.snapshots,
            "waiting_seconds": item.lag.waiting.total_seconds(),
            "rpo_seconds": item.rpo.total_seconds(),
        }
        key = f"replication:{item.dataset}"
        if item.lag_mark is Mark.OK:
            said.over(key, Signal(sign=Sign.REPLICATION_CAUGHT_UP, subject=item.dataset, payload=behind))
        else:
            signal = Signal(sign=Sign.REPLICATION_BEHIND, subject=item.dataset, payload=behind)
            said.say(key, item.lag_mark.value, signal)


class _Said:
    """What is to be said in one look: what is new, what got worse or better, and what lasts for long enough to be said
    again."""

    def __init__(self, before: Mapping[str, Told], remind: timedelta, now: datetime) -> None:
        self._before = before
        self._remind = remind
        self._now = now
        self.signals: list[Signal] = []
        self.told: dict[str, Told] = {}
        self.quiet: list[str] = []

    def say(self, key: str, level: str, signal: Signal) -> None:
        """It is so. Said when it was not so before, and again after a while."""
        before = self._before.get(key)
        if before is not None and before.level == level and self._now - before.at < self._remind:
            return
        self.signals.append(signal)
        self.told[key] = Told(level=level, at=self._now)

    def over(self, key: str, signal: Signal) -> None:
        """It is not so any more. Said once, and only when it was said before that it is."""
        if key in self._before:
            self.signals.append(signal)
            self.quiet.append(key)
