"""What retention rules keep: held to restic over one history, to golden files, and to properties over any history."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reopen.contracts import RetentionRule
from reopen.contracts.model import COUNT_RULES, UNLIMITED, WITHIN_RULES
from reopen.protect.retain.rules import NO_RULES, Candidate, instead_of_counts, reasons_to_keep, rule_text
from tests.protect.retention_history import GOLDEN, NEWEST, OWN_POLICIES, POLICIES, golden_text, made_history

DAY = timedelta(days=1)
ALL_POLICIES = {**POLICIES, **OWN_POLICIES}
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def history(*entries: str) -> list[Candidate]:
    """Candidates from texts such as ``2026-11-20 08:00 incomplete``; ids and seqs count from 1 in this order."""
    found = []
    for number, entry in enumerate(entries, start=1):
        day, hour, *flaw = entry.split()
        found.append(Candidate(id=str(number), seq=number, at=at(f"{day} {hour}"), flaw=" ".join(flaw)))
    return found


def kept(candidates: list[Candidate], rule: RetentionRule, *, guarded: bool = False) -> str:
    """Ids of what is kept, in order."""
    return " ".join(sorted(reasons_to_keep(candidates, rule, now=NEWEST, guarded=guarded), key=int))


# Against restic, and golden


@pytest.mark.parametrize("policy", POLICIES)
def test_a_history_without_flaws_is_kept_as_restic_keeps_it(policy: str) -> None:
    """``restic.json`` says which of the same 500 times restic 0.14 kept, by the seq they have here."""
    truth = json.loads((GOLDEN / "restic.json").read_text())["kept"][policy]
    found = reasons_to_keep(made_history(), POLICIES[policy], now=NEWEST)
    assert sorted(int(seq) for seq in found) == truth


@pytest.mark.parametrize("policy", ALL_POLICIES)
def test_what_is_kept_and_why_is_as_it_was(policy: str) -> None:
    assert golden_text(ALL_POLICIES[policy]) == (GOLDEN / f"{policy}.txt").read_text(encoding="utf-8")


def test_every_golden_file_belongs_to_a_policy() -> None:
    assert {path.stem for path in Path(GOLDEN).glob("*.txt")} == set(ALL_POLICIES)


# By example


def test_without_rules_everything_is_kept() -> None:
    candidates = history("2026-11-20 08:00", "2026-11-20 09:00")
    assert reasons_to_keep(candidates, RetentionRule(), now=NOON) == {"1": [NO_RULES], "2": [NO_RULES]}


def test_the_newest_of_a_day_stands_for_it_and_the_oldest_is_kept_while_the_count_lasts() -> None:
    candidates = history("2026-11-18 08:00", "2026-11-18 20:00", "2026-11-20 08:00", "2026-11-20 09:00")
    found = reasons_to_keep(candidates, RetentionRule(daily=7), now=NOON)
    assert found == {
        "4": ["daily 2026-11-20"],
        "2": ["daily 2026-11-18"],
        "1": ["daily 2026-11-18, the oldest"],
    }
    assert kept(candidates, RetentionRule(daily=2)) == "2 4"


def test_iso_weeks_and_quarters_cross_the_year() -> None:
    candidates = history("2024-12-29 23:59", "2024-12-30 00:00", "2025-01-01 00:00", "2025-03-31 23:00")
    found = reasons_to_keep(candidates, RetentionRule(weekly=2, quarterly=1), now=NOON)
    assert found == {"4": ["weekly 2025-W14", "quarterly 2025-Q1"], "3": ["weekly 2025-W01"]}


def test_a_period_counts_from_the_newest_snapshot_and_not_from_today() -> None:
    candidates = history("2026-01-01 08:00", "2026-01-09 08:00", "2026-01-10 08:00")
    assert kept(candidates, RetentionRule(within=2 * DAY)) == "2 3"
    assert kept(candidates, RetentionRule(within=DAY)) == "3", "exactly as old as the period is too old"


def test_a_snapshot_from_the_future_is_not_what_periods_count_from() -> None:
    candidates = history("2026-11-19 08:00", "2026-11-20 08:00", "2027-11-20 08:00")
    assert set(reasons_to_keep(candidates, RetentionRule(within=2 * DAY), now=NOON)) == {"1", "2", "3"}
    every_one_early = reasons_to_keep(candidates, RetentionRule(within=2 * DAY), now=at("2020-01-01 00:00"))
    assert set(every_one_early) == {"1", "2", "3"}


def test_incomplete_snapshots_do_not_use_up_a_count() -> None:
    """Sequence 2 of the note."""
    good = [f"2026-11-{day:02} 08:00" for day in range(1, 4)]
    bad = [f"2026-11-{day:02} 08:00 incomplete" for day in range(4, 20)]
    assert kept(history(*good, *bad), RetentionRule(daily=3)) == "1 2 3 17 18 19"


def test_a_flawed_snapshot_does_not_stand_for_a_day_that_has_a_usable_one() -> None:
    """Sequence 3 of the note."""
    candidates = history("2026-11-19 08:00", "2026-11-19 20:00 damaged", "2026-11-20 08:00 incomplete")
    found = reasons_to_keep(candidates, RetentionRule(daily=2), now=NOON)
    assert found == {
        "1": ["daily 2026-11-19"],
        "3": ["daily 2026-11-20, incomplete, but the only one"],
    }


def test_a_flawed_snapshot_beyond_the_reach_of_a_count_is_not_kept() -> None:
    candidates = history("2025-01-01 08:00 incomplete", "2026-11-18 08:00", "2026-11-19 08:00")
    assert kept(candidates, RetentionRule(daily=2)) == "2 3"
    assert kept(candidates, RetentionRule(last=2)) == "2 3"
    assert kept(candidates, RetentionRule(daily=3)) == "1 2 3"


def test_a_source_that_is_flawed_for_good_does_not_keep_every_copy() -> None:
    days = [f"2026-{month:02}-01 08:00 incomplete" for month in range(2, 12)]
    assert kept(history("2026-01-01 08:00", *days), RetentionRule(within=40 * DAY)) == "1 10 11"


def test_planted_snapshots_do_not_take_the_place_of_a_day_s_first_in_an_append_only_vault() -> None:
    """Sequence 1 of the note: the intruder takes over at noon, and dates some of what he plants before it."""
    candidates = history("2026-11-19 08:00", "2026-11-19 22:00", "2026-11-20 08:00", "2026-11-20 08:01 incomplete")
    planted = [
        Candidate(id=str(seq), seq=seq, at=at(text))
        for seq, text in enumerate(("2026-11-19 23:59", "2026-11-20 23:00", "2026-11-20 00:01"), start=5)
    ]
    rule = RetentionRule(within_daily=7 * DAY)
    assert kept([*candidates, *planted], rule) == "1 5 6"
    assert kept([*candidates, *planted], rule, guarded=True) == "1 3 4 5 6"


def test_rules_are_told_as_they_were_written() -> None:
    assert rule_text(RetentionRule()) == "none"
    assert rule_text(RetentionRule(daily=7, monthly=UNLIMITED, within=2 * DAY)) == "daily 7, monthly all, within 2d"


def test_the_rules_to_write_instead_of_counts_are_named() -> None:
    rule = RetentionRule(last=3, daily=7, monthly=12)
    assert instead_of_counts(rule) == "within: <period>, within_daily: 7d, within_monthly: 360d"
    assert instead_of_counts(RetentionRule(yearly=UNLIMITED)) == "within_yearly: 36500d"


# Properties

FLAWS = ("", "", "", "incomplete", "damaged", "unconfirmed")


@st.composite
def histories(draw: st.DrawFn) -> list[Candidate]:
    """Few snapshots over many or few days, so that they share hours, days and years and often have equal times."""
    minutes = draw(st.lists(st.integers(0, draw(st.sampled_from((200, 5000, 200_000, 2_000_000)))), max_size=25))
    flaws = draw(st.lists(st.sampled_from(FLAWS), min_size=len(minutes), max_size=len(minutes)))
    return [
        Candidate(id=f"{number}", seq=number + 1, at=NOON - timedelta(minutes=back), flaw=flaw)
        for number, (back, flaw) in enumerate(zip(minutes, flaws, strict=True))
    ]


COUNTS = st.one_of(st.integers(1, 6), st.just(UNLIMITED))
LENGTHS = st.integers(1, 24 * 900).map(lambda hours: timedelta(hours=hours))
RULES = st.builds(
    lambda chosen: RetentionRule(**chosen),
    st.dictionaries(st.sampled_from(COUNT_RULES), COUNTS, max_size=3).flatmap(
        lambda counts: st.dictionaries(st.sampled_from(WITHIN_RULES), LENGTHS, max_size=3).map(
            lambda periods: {**counts, **periods}
        )
    ),
)


def ids(candidates: list[Candidate], rule: RetentionRule, guarded: bool) -> set[str]:
    return set(reasons_to_keep(candidates, rule, now=NOON, guarded=guarded))


@given(histories(), RULES, st.booleans(), st.randoms())
def test_the_order_of_the_list_does_not_matter(
    candidates: list[Candidate], rule: RetentionRule, guarded: bool, chance: random.Random
) -> None:
    """P4."""
    before = reasons_to_keep(candidates, rule, now=NOON, guarded=guarded)
    chance.shuffle(candidates)
    assert reasons_to_keep(candidates, rule, now=NOON, guarded=guarded) == before


@given(histories(), RULES, RULES, st.booleans())
def test_one_more_rule_never_expires_more(
    candidates: list[Candidate], rule: RetentionRule, more: RetentionRule, guarded: bool
) -> None:
    """P1."""
    assume(not rule.is_empty)
    rules = {**rule.counts, **rule.periods}
    both = replace(rule, **{k: v for k, v in {**more.counts, **more.periods}.items() if k not in rules})  # type: ignore[arg-type]
    assert ids(candidates, rule, guarded) <= ids(candidates, both, guarded)


@given(histories(), RULES, st.booleans(), st.data())
def test_a_larger_rule_never_expires_more_of_what_is_usable(
    candidates: list[Candidate], rule: RetentionRule, guarded: bool, data: st.DataObject
) -> None:
    assume(not rule.is_empty)
    name = data.draw(st.sampled_from([*rule.counts, *rule.periods]))
    value = getattr(rule, name)
    larger = value * 2 if name in rule.periods else data.draw(st.sampled_from((value + 1, UNLIMITED)))
    assume(value != UNLIMITED)
    usable = {candidate.id for candidate in candidates if not candidate.flaw}
    grown = replace(rule, **{name: larger})
    assert ids(candidates, rule, guarded) & usable <= ids(candidates, grown, guarded)


@given(histories(), RULES, st.booleans(), st.data())
def test_what_a_crash_left_over_is_decided_as_it_was_before(
    candidates: list[Candidate], rule: RetentionRule, guarded: bool, data: st.DataObject
) -> None:
    """P4: what is not kept goes newest first, but for the highest ``seq``."""
    keep = ids(candidates, rule, guarded)
    newest_first = sorted(candidates, key=lambda c: (c.at, c.seq), reverse=True)
    going = [c.id for c in newest_first if c.id not in keep and c.seq != len(candidates)]
    gone = going[: data.draw(st.integers(0, len(going)))]
    assert ids([c for c in candidates if c.id not in gone], rule, guarded) == keep


@given(histories(), RULES, st.booleans())
def test_usable_snapshots_are_kept_as_if_there_were_no_flawed_ones(
    candidates: list[Candidate], rule: RetentionRule, guarded: bool
) -> None:
    """P2."""
    usable = [candidate for candidate in candidates if not candidate.flaw]
    alone = reasons_to_keep(usable, rule, now=NOON, guarded=guarded)
    found = reasons_to_keep(candidates, rule, now=NOON, guarded=guarded)
    assert {c.id: found[c.id] for c in usable if c.id in found} == alone


@given(histories(), RULES)
def test_a_guarded_vault_keeps_all_that_another_keeps(candidates: list[Candidate], rule: RetentionRule) -> None:
    assert ids(candidates, rule, guarded=False) <= ids(candidates, rule, guarded=True)


@given(histories(), st.sampled_from(COUNT_RULES), st.integers(1, 6))
def test_a_count_keeps_at_most_so_many_usable_and_so_many_flawed(
    candidates: list[Candidate], name: str, count: int
) -> None:
    """P3: flawed ones cannot pile up."""
    keep = ids(candidates, RetentionRule(**{name: count}), guarded=False)  # type: ignore[arg-type]
    assert sum(c.id in keep for c in candidates if not c.flaw) <= count
    assert sum(c.id in keep for c in candidates if c.flaw) <= count


@given(histories(), RULES)
def test_something_is_kept_of_every_history(candidates: list[Candidate], rule: RetentionRule) -> None:
    assert bool(ids(candidates, rule, guarded=False)) == bool(candidates)
