"""Durations: every accepted form, every refusal, and the round trip."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reopen import durations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15m", timedelta(minutes=15)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5 h", timedelta(minutes=90)),
        ("2 days", timedelta(days=2)),
        ("1 w 1 d", timedelta(days=8)),
        ("0s", timedelta()),
        ("PT15M", timedelta(minutes=15)),
        ("P1DT2H", timedelta(hours=26)),
        ("P2W", timedelta(weeks=2)),
        ("P1Y1M", timedelta(days=395)),
        ("PT0.5S", timedelta(milliseconds=500)),
        ("3mo", timedelta(days=90)),
    ],
)
def test_a_text_is_read_as_the_duration_it_states(text: str, expected: timedelta) -> None:
    assert durations.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a duration"),
        ("15", "not a duration"),
        ("m", "not a duration"),
        ("-5m", "not a duration"),
        ("5m?", "not a duration"),
        ("P", "not a duration"),
        ("PT", "not a duration"),
        ("5 fortnights", "'fortnights' is unknown"),
        ("5M", "minutes or months"),
        ("30m1h", "larger unit to the smaller"),
        ("1h1h", "larger unit to the smaller"),
        ("9999999999y", "longer than time"),
    ],
)
def test_a_text_that_states_no_duration_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        durations.parse(text)


@pytest.mark.parametrize("unit", ["m", "min", "mins", "minute", "Minutes"])
def test_the_standard_s_spellings_of_a_unit_mean_the_same(unit: str) -> None:
    assert durations.from_value(15, unit) == timedelta(minutes=15)


@pytest.mark.parametrize(
    ("value", "unit", "reason"),
    [
        (15, None, "no unit"),
        (True, "m", "not a number"),
        ("many", "m", "not a number"),
        (-1, "m", "negative"),
        (float("nan"), "m", "not a number"),
        (None, "m", "not a number"),
        (1, "parsec", "'parsec' is unknown"),
    ],
)
def test_a_value_that_is_no_duration_is_refused_with_its_reason(value: object, unit: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        durations.from_value(value, unit)


@given(st.integers(min_value=0, max_value=999_999_999 * 86_400))
def test_what_is_written_is_read_back(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert durations.parse(durations.to_text(duration)) == duration


@given(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["w", "d", "h", "m", "s"])), unique_by=lambda part: part[1])
)
def test_a_text_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    order = ["w", "d", "h", "m", "s"]
    parts = sorted(parts, key=lambda part: order.index(part[1])) or [(0, "s")]
    total = sum((durations.from_value(number, unit) for number, unit in parts), timedelta())
    assert durations.parse(" ".join(f"{number}{unit}" for number, unit in parts)) == total


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert durations.parse(text) >= timedelta()
