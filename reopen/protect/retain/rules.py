"""Owns what retention rules mean: which snapshots of one dataset they keep, and why. Pure, no clock, no I/O.

The rules are restic's ``forget``; ``docs/0004-retention.md`` says where they go further. Times are UTC.

    ``last`` … ``yearly``            a count: newest first, the newest of each hour, day, … until the count is used up;
                                     while it is not, the oldest snapshot is kept as well
    ``within``                       a period: everything that young, counted from the newest snapshot
    ``within_hourly`` …              a period: the newest of each hour, day, … that young, and the oldest if it is

Invariants
    P1  Without rules everything is kept. Rules are OR'd: one more keeps what was kept, and more.
    P2  The rules are applied to the usable snapshots as if there were no others; for a history without flaws the answer
        is restic's.
    P3  A flawed snapshot is kept only where no usable one of its hour, day, … is, within the reach that the rule had
        over the usable ones, and with a count of its own.
    P4  The answer depends on the set of snapshots, never on their order in the list. Taking away what it does not keep,
        newest first and however much of it, does not change the answer (as long as the highest ``seq`` stays).

Called by :mod:`reopen.protect.retain.retain`, which adds what is kept whatever the rules say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reopen import durations
from reopen.contracts import RetentionRule
from reopen.contracts.model import UNLIMITED

NO_RULES = "no rules"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A snapshot as the rules see it. ``at`` is the time it stands for; ``flaw`` says in a word why it is no good to
    recover from (``incomplete``, ``damaged``, …), empty for a usable one."""

    id: str
    seq: int
    at: datetime
    flaw: str = ""


def reasons_to_keep(
    candidates: Sequence[Candidate], rule: RetentionRule, *, now: datetime, guarded: bool = False
) -> dict[str, list[str]]:
    """Why each snapshot is kept, by id; one that is not in the answer is kept by no rule.

    :param now: a snapshot that stands for a later time is not the newest that periods count from.
    :param guarded: for append-only vaults, where only rules with a period are allowed: the first snapshot of each hour,
        day, … is kept beside the newest, and flawed snapshots beside usable ones.
    """
    if rule.is_empty:
        return {candidate.id: [NO_RULES] for candidate in candidates}
    newest_first = sorted(candidates, key=_when, reverse=True)
    usable = [candidate for candidate in newest_first if not candidate.flaw]
    flawed = [candidate for candidate in newest_first if candidate.flaw]
    reasons: dict[str, list[str]] = {}

    def note(kept: Candidate, reason: str) -> None:
        reasons.setdefault(kept.id, []).append(reason)

    for name, count in rule.counts.items():
        for kept, reason in _by_count(name, count, usable, flawed):
            note(kept, reason)
    for name, period in rule.periods.items():
        for kept, reason in _by_period(name, period, usable, flawed, now, guarded):
            note(kept, reason)
    return reasons


def rule_text(rule: RetentionRule) -> str:
    """The rules as people read them, for example ``daily 7, within 2d``; ``none`` for no rules."""
    counts = [f"{name} {'all' if count == UNLIMITED else count}" for name, count in rule.counts.items()]
    periods = [f"{name} {durations.to_text(period)}" for name, period in rule.periods.items()]
    return ", ".join([*counts, *periods]) or "none"


def instead_of_counts(rule: RetentionRule) -> str:
    """The rules with a period that come close to the counting ones, for example ``within_daily: 7d``."""
    lengths = {"hourly": 1, "daily": 24, "weekly": 168, "monthly": 720, "quarterly": 2184, "yearly": 8760}
    close = []
    for name, count in rule.counts.items():
        if name in lengths:
            # Without a count there is no period either: a century stands for ever.
            hours = lengths[name] * (count if count != UNLIMITED else 876_000 // lengths[name])
            close.append(f"within_{name}: {durations.to_text(timedelta(hours=hours))}")
        else:
            close.append("within: <period>")
    return ", ".join(close)


_LABELS: Mapping[str, Callable[[datetime], str]] = {
    "hourly": lambda at: at.strftime("%Y-%m-%d %H:00"),
    "daily": lambda at: at.strftime("%Y-%m-%d"),
    "weekly": lambda at: "{}-W{:02}".format(*at.isocalendar()),
    "monthly": lambda at: at.strftime("%Y-%m"),
    "quarterly": lambda at: f"{at.year}-Q{(at.month + 2) // 3}",
    "yearly": lambda at: str(at.year),
}
"""What the snapshots of one hour, day, … have in common."""

_Kept = Iterator[tuple[Candidate, str]]


def _by_count(name: str, count: int, usable: Sequence[Candidate], flawed: Sequence[Candidate]) -> _Kept:
    first = list(_count_down(name, count, usable, with_oldest=True))
    for kept, _, reason in first:
        yield kept, reason
    if len(first) == count:
        # The count is used up: what is older than its last snapshot is out of the rule's reach.
        flawed = [candidate for candidate in flawed if _when(candidate) > _when(first[-1][0])]
    taken = {label for _, label, _ in first}
    left = [candidate for candidate in flawed if _label(name, candidate) not in taken]
    for kept, _, reason in _count_down(name, count, left, with_oldest=not usable):
        yield kept, f"{reason}, {_with_flaw(name, kept, alone=True)}"


def _count_down(
    name: str, count: int, newest_first: Sequence[Candidate], *, with_oldest: bool
) -> Iterator[tuple[Candidate, str, str]]:
    """The kept snapshots of one walk, each with its label and reason."""
    left, before = count, ""
    for number, candidate in enumerate(newest_first):
        if left == 0:
            return
        label = _label(name, candidate)
        is_oldest = with_oldest and number == len(newest_first) - 1
        if label != before or is_oldest:
            yield candidate, label, _reason(name, label, oldest=label == before)
            left -= left > 0
            before = label


def _by_period(
    name: str,
    period: timedelta,
    usable: Sequence[Candidate],
    flawed: Sequence[Candidate],
    now: datetime,
    guarded: bool,
) -> _Kept:
    suffix = f" within {durations.to_text(period)}"
    # One that says it is later counts as of now. Left out, it would hand its place to one that it lets go, and the
    # period would move when that one is gone.
    young = _younger(usable, period, max((min(c.at, now) for c in usable), default=None))
    # Flawed ones count from the last of all: otherwise a source that is flawed for good would keep every copy.
    last = max((*usable, *flawed), key=lambda c: c.seq, default=None)
    young_flawed = _younger(flawed, period, None if last is None else min(last.at, now))
    each = name.removeprefix("within").removeprefix("_")
    if not each:
        for candidate in (*young, *young_flawed):
            yield candidate, suffix.strip() + (f", {candidate.flaw}" if candidate.flaw else "")
        return
    oldest = usable[-1:] or flawed[-1:]
    taken: set[str] = set()
    for kept, label, reason in _one_of_each(each, young, oldest, guarded):
        taken.add(label)
        yield kept, reason + suffix
    left = [candidate for candidate in young_flawed if guarded or _label(each, candidate) not in taken]
    for kept, _, reason in _one_of_each(each, left, oldest, guarded):
        yield kept, f"{reason}{suffix}, {_with_flaw(each, kept, alone=not guarded)}"


def _one_of_each(
    each: str, newest_first: Sequence[Candidate], oldest: Collection[Candidate], guarded: bool
) -> Iterator[tuple[Candidate, str, str]]:
    first: dict[str, Candidate] = {}
    kept: set[str] = set()
    before = ""
    for candidate in newest_first:
        label = _label(each, candidate)
        if label != before or candidate in oldest:
            yield candidate, label, _reason(each, label, oldest=label == before)
            kept.add(candidate.id)
            before = label
        if label not in first or candidate.seq < first[label].seq:
            first[label] = candidate
    if guarded:
        for label, candidate in first.items():
            if candidate.id not in kept:
                yield candidate, label, f"the first of {_reason(each, label, oldest=False)}"


def _with_flaw(name: str, candidate: Candidate, *, alone: bool) -> str:
    return f"{candidate.flaw}, but the only one" if alone and name != "last" else candidate.flaw


def _younger(candidates: Sequence[Candidate], period: timedelta, newest: datetime | None) -> Sequence[Candidate]:
    if newest is None:
        return candidates
    # Compared as an age: the period may be longer than time itself.
    return [candidate for candidate in candidates if newest - candidate.at < period]


def _label(name: str, candidate: Candidate) -> str:
    return candidate.id if name == "last" else _LABELS[name](candidate.at)


def _reason(name: str, label: str, *, oldest: bool) -> str:
    text = name if name == "last" else f"{name} {label}"
    return f"{text}, the oldest" if oldest else text


def _when(candidate: Candidate) -> tuple[datetime, int, str]:
    return candidate.at, candidate.seq, candidate.id
