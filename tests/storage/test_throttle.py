"""A limited store is as fast as it may be and no faster; time is a clock that only waiting moves."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reopen.clock import FixedClock
from reopen.errors import InvalidInput
from reopen.storage.throttle import BURST_SECONDS, ThrottledStore, TokenBucket, parse_rate
from tests.stores import MemoryStore

RATE = 1000.0


class Waited:
    """A bucket whose waiting moves its clock."""

    def __init__(self, rate: float = RATE) -> None:
        self.clock = FixedClock()
        self.bucket = TokenBucket(rate, clock=self.clock, wait=self.wait)

    def wait(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @property
    def seconds(self) -> float:
        return self.clock.elapsed_seconds()


def test_an_idle_bucket_lets_a_burst_through_and_then_keeps_to_the_rate() -> None:
    waited = Waited()
    waited.bucket.take(int(RATE * BURST_SECONDS))
    assert waited.seconds == 0
    for _ in range(10):
        waited.bucket.take(500)
    # Each pays for those before it: the last one's debt is still open.
    assert waited.seconds == pytest.approx(9 * 0.5)


def test_time_that_passes_is_earned_but_not_saved_beyond_the_burst() -> None:
    waited = Waited()
    waited.bucket.take(1000)
    waited.wait(3600)
    waited.bucket.take(1000)
    waited.bucket.take(1000)
    assert waited.seconds == 3600
    waited.bucket.take(1)
    assert waited.seconds == pytest.approx(3601)


def test_an_object_larger_than_a_second_s_worth_goes_through_and_is_paid_by_the_next() -> None:
    waited = Waited()
    waited.bucket.take(10_000)
    assert waited.seconds == 0
    waited.bucket.take(1)
    assert waited.seconds == pytest.approx(9)


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 3)), max_size=40))
def test_never_more_goes_through_than_rate_times_time_and_one_object(steps: list[tuple[int, float]]) -> None:
    waited = Waited()
    through = 0
    for size, pause in steps:
        waited.wait(pause)
        waited.bucket.take(size)
        assert through <= RATE * (waited.seconds + BURST_SECONDS) + 1e-3
        through += size


def test_a_throttled_store_pays_for_every_byte_and_changes_nothing() -> None:
    waited = Waited()
    inner = MemoryStore()
    store = ThrottledStore(inner, waited.bucket)
    store.create("a", [b"x" * 600, b"y" * 400])
    store.put("b", [b"z" * 1000])
    assert waited.seconds == 0
    assert store.get("a") == b"x" * 600 + b"y" * 400
    assert waited.seconds == pytest.approx(1)
    assert store.get_range("b", 10, 500) == b"z" * 500
    assert waited.seconds == pytest.approx(2)
    store.delete("b")
    assert [info.name for info in store.list()] == inner.names() == ["a"]
    assert store.head("a").size_bytes == 1000
    assert (store.url, store.capabilities) == (inner.url, inner.capabilities)
    assert waited.seconds == pytest.approx(2)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("500B/s", 500), ("50MiB/s", 50 << 20), ("1.5 MB/s", 1.5e6), ("2kB/s", 2000), ("1GiB/s", 1 << 30)],
)
def test_a_rate_is_a_number_and_a_unit(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "0MB/s", "-1MB/s", "50MB", "50 Mbit/s", "1e9B/s", "50MiB/s and more"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a rate") as caught:
        parse_rate(text)
    assert "50MiB/s" in caught.value.hint


def test_a_bucket_without_a_rate_is_refused() -> None:
    with pytest.raises(InvalidInput, match="above zero"):
        TokenBucket(0)
