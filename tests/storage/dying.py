"""Crash points on a real server: an operation dies after one of its changes, and what the server holds then is fetched
by a fresh client and checked in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from reopen.storage import ObjectInfo, ObjectStore, open_store
from reopen.storage.base import PROBE_FOLDER
from tests.aged import AgedStore
from tests.s3 import make_bucket
from tests.stores import CrashAt, MemoryStore, SimulatedCrash, WatchedStore

Fresh = Callable[[], ObjectStore]
"""Opens one place with a client that has seen nothing yet."""
Place = Callable[[], Fresh]
"""Makes an empty place."""
Operate = Callable[[ObjectStore], object]
Check = Callable[[MemoryStore, bool], None]


def buckets(endpoint: str, patch: pytest.MonkeyPatch) -> Place:
    """Places on an S3 server, a bucket for each: the test server's listings take longer the more a bucket has."""

    def place() -> Fresh:
        url = f"s3://{make_bucket(endpoint, patch)}/vault"
        return lambda: open_store(url)

    return place


def copied(base: ObjectStore | None, place: Place) -> Fresh:
    """A new place that holds what a store holds."""
    fresh = place()
    if base is not None:
        there = fresh()
        for info in base.list():
            there.put(info.name, [base.get(info.name)])
    return fresh


def fetched(store: ObjectStore) -> dict[str, tuple[bytes, datetime]]:
    """All that a store holds, as a store in memory has it, but for what probes leave.

    rclone's server goes on listing what it removed for a second, and a probe removes what it made.
    """
    return {
        info.name: (store.get(info.name), info.modified_at)
        for info in store.list()
        if not info.name.startswith(PROBE_FOLDER)
    }


def in_memory(store: ObjectStore) -> MemoryStore:
    """A copy of a store in memory."""
    return MemoryStore("test-memory://fetched", fetched(store))


def die_at(
    place: Place,
    base: ObjectStore | None,
    operate: Operate,
    check: Check,
    *,
    points_max: int | None = None,
    take: Callable[[ObjectStore], MemoryStore] = in_memory,
    wait: timedelta = timedelta(),
) -> int:
    """Run an operation on copies of a store, dying after each of its changes in turn, and again to its end.

    :param check: told what the server holds after the death and ``False``, and after the second run and ``True``.
    :param points_max: where there are more changes, only so many are tried, spread from the first to the last.
    :param take: how the store in memory is made of what the server holds.
    :param wait: how much later the second run comes, by the store's clock.
    :returns: how many crash points were tried.
    """
    whole = WatchedStore(copied(base, place)())
    operate(whole)
    count = len(whole.mutations())
    points = spread(count, points_max)
    for number in points:
        fresh = copied(base, place)
        script = CrashAt(number, "after")
        # Threads may bring the last change forward: then there is nothing left to die at, and the run has ended.
        try:
            operate(WatchedStore(fresh(), script))
        except SimulatedCrash:
            assert script.crashed
        left = take(fresh())
        check(left, not script.crashed)
        operate(Elapsed(fresh(), AgedStore(left.url, left.objects, wait)) if wait else fresh())
        check(take(fresh()), True)
    return len(points)


def spread(count: int, points_max: int | None) -> list[int]:
    """So many of the numbers below ``count``, from the first to the last at equal distances; ``None``: all of them."""
    if points_max is None or count <= points_max:
        return list(range(count))
    return sorted({round(at * (count - 1) / (points_max - 1)) for at in range(points_max)})


class Elapsed(WatchedStore):
    """A store on a server on which time has passed: what it began with is as old as in the store that it was copied
    from, and its clock is ahead. A server's own clock cannot be set."""

    def __init__(self, inner: ObjectStore, base: AgedStore) -> None:
        super().__init__(inner)
        self._base = base

    def head(self, name: str) -> ObjectInfo:
        return self._aged(super().head(name))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return map(self._aged, super().list(prefix))

    def now(self) -> datetime:
        return super().now() + self._base.ahead

    def _aged(self, info: ObjectInfo) -> ObjectInfo:
        known = self._base.objects.get(info.name)
        return replace(info, modified_at=known[1] if known is not None else info.modified_at + self._base.ahead)

    def in_memory(self) -> AgedStore:
        """A copy in memory on which as much time has passed."""
        return AgedStore("test-memory://fetched", fetched(self), self._base.ahead)
