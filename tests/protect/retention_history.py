"""The history of snapshots, and the rules, that the golden files of retention are about."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reopen.clock import to_text
from reopen.contracts import RetentionRule
from reopen.protect.retain.rules import Candidate, reasons_to_keep, rule_text

GOLDEN = Path(__file__).parent / "retention_golden"

SEED = 20261122
NEWEST = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)

_DAY = timedelta(days=1)

POLICIES: Mapping[str, RetentionRule] = {
    "last-10": RetentionRule(last=10),
    "last-1": RetentionRule(last=1),
    "hourly-24": RetentionRule(hourly=24),
    "hourly-72": RetentionRule(hourly=72),
    "daily-7": RetentionRule(daily=7),
    "daily-90": RetentionRule(daily=90),
    "weekly-5": RetentionRule(weekly=5),
    "weekly-60": RetentionRule(weekly=60),
    "monthly-12": RetentionRule(monthly=12),
    "yearly-3": RetentionRule(yearly=3),
    "within-2d": RetentionRule(within=2 * _DAY),
    "within-35d": RetentionRule(within=35 * _DAY),
    "within-hourly-3d": RetentionRule(within_hourly=3 * _DAY),
    "within-daily-60d": RetentionRule(within_daily=60 * _DAY),
    "within-weekly-200d": RetentionRule(within_weekly=200 * _DAY),
    "within-monthly-400d": RetentionRule(within_monthly=400 * _DAY),
    "within-yearly-800d": RetentionRule(within_yearly=800 * _DAY),
    "grandfather": RetentionRule(last=5, hourly=12, daily=7, weekly=5, monthly=12, yearly=4),
    "mixed": RetentionRule(daily=14, within=3 * _DAY, within_weekly=120 * _DAY, within_monthly=300 * _DAY),
}
"""Rules that restic 0.14 has as well, and where it has no reason to keep the oldest snapshot beside the newest of each
period: later versions do while a count lasts, and so do we."""

OWN_POLICIES: Mapping[str, RetentionRule] = {
    "monthly-all": RetentionRule(monthly=-1),
    "yearly-10": RetentionRule(yearly=10),
    "quarterly-6": RetentionRule(quarterly=6),
    "within-quarterly-500d": RetentionRule(within_quarterly=500 * _DAY),
    "within-daily-2000d": RetentionRule(within_daily=2000 * _DAY),
}
"""What restic 0.14 lacks: quarters, counts without limit, and the oldest snapshot while a rule reaches past it."""


def made_times() -> list[datetime]:
    """500 times to the second, oldest first: sparse long ago and dense lately, with gaps, bursts and the borders of
    ISO weeks and years."""
    chance = random.Random(SEED)
    borders = [
        datetime(2024, 2, 29, 12, tzinfo=UTC),
        datetime(2024, 12, 29, 23, 59, 59, tzinfo=UTC),  # Sunday of week 52
        datetime(2024, 12, 30, tzinfo=UTC),  # Monday: week 1 of 2025 begins in 2024
        datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2025, 1, 1, tzinfo=UTC),
        datetime(2025, 12, 28, 12, tzinfo=UTC),
        datetime(2025, 12, 29, 12, tzinfo=UTC),
        datetime(2026, 1, 4, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 1, 5, tzinfo=UTC),
        datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 4, 1, tzinfo=UTC),
    ]
    times = {NEWEST, *borders}
    spans = ((3, 120), (30, 120), (120, 120), (400, 90), (1250, 40))  # days back, how many snapshots
    for days, count in spans:
        while count:
            # To the minute, and a few in the same minute: writers on two hosts may begin together.
            back = timedelta(minutes=chance.randrange(days * 24 * 60), seconds=chance.choice((0, 0, 0, 30)))
            if NEWEST - back not in times and len(times) < 500:
                times.add(NEWEST - back)
            count -= 1
    while len(times) < 500:
        times.add(NEWEST - timedelta(minutes=chance.randrange(900 * 24 * 60)))
    return sorted(times)


def made_history() -> list[Candidate]:
    """The times as snapshots without flaws, ``seq`` and id from 1 in the order of time."""
    return [Candidate(id=str(seq), seq=seq, at=at) for seq, at in enumerate(made_times(), start=1)]


def golden_text(rule: RetentionRule) -> str:
    """What a policy keeps of the history and why, a line a snapshot, newest first."""
    reasons = reasons_to_keep(made_history(), rule, now=NEWEST)
    lines = [
        f"{candidate.seq:3} {to_text(candidate.at)[:19]} {'; '.join(reasons[candidate.id])}"
        for candidate in reversed(made_history())
        if candidate.id in reasons
    ]
    return "\n".join([f"# {rule_text(rule)}", *lines, ""])
