"""What a store can do to its caller, for :class:`tests.stores.WatchedStore`: scripted by name and number, or by seed.

None of these breaks a demand that the store contract makes, but for :class:`StaleListing` and :class:`TornWrite`: they
are stores that lie.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from reopen.errors import Transient
from reopen.storage import ObjectInfo, ObjectStore, Piece
from tests.stores import MUTATIONS, Moment, WatchedStore


def unavailable(operation: str, name: str) -> None:
    """The server answers 503, or not at all."""
    raise Transient(f"{operation} of {name} was not answered.")


class Unreliable:
    """Fails a share of all calls: half of them before anything happened, half with the effect there, unanswered.

    The same seed fails the same calls as long as they come in the same order.
    """

    def __init__(self, seed: int, share: float) -> None:
        self._chance = random.Random(seed)
        self._share = share
        self._lock = threading.Lock()
        self.faults = 0

    def __call__(self, moment: Moment, operation: str, name: str) -> None:
        with self._lock:
            # A mutation is asked about twice, before and after.
            due = self._chance.random() < self._share / (2 if operation in MUTATIONS else 1)
            self.faults += due
        if due:
            unavailable(operation, name)


class StaleListing(WatchedStore):
    """A store whose listings lag: they lack the newest objects, as eventually consistent stores did. Of those that were
    there before, the last by name count as the newest."""

    def __init__(self, inner: ObjectStore, lag: int) -> None:
        super().__init__(inner)
        self._lag = lag
        self._order = [info.name for info in inner.list()]

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        size_bytes = super().create(name, pieces)
        self._order.append(name)
        return size_bytes

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        unseen = set(self._order[max(0, len(self._order) - self._lag) :])
        return (info for info in super().list(prefix) if info.name not in unseen)


class BrokenListing(WatchedStore):
    """A store whose n-th listing breaks off half way through."""

    def __init__(self, inner: ObjectStore, number: int) -> None:
        super().__init__(inner)
        self._left = number
        self.broke = False

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._left -= 1
        found = list(super().list(prefix))
        if self._left != -1:
            return iter(found)
        self.broke = True
        return self._half(found)

    def _half(self, found: Sequence[ObjectInfo]) -> Iterator[ObjectInfo]:
        yield from found[: len(found) // 2]
        raise Transient("the listing broke off.")


class TornWrite(WatchedStore):
    """A store that breaks the demand of atomic writes once: of the n-th object only the beginning is there."""

    def __init__(self, inner: ObjectStore, number: int) -> None:
        super().__init__(inner)
        self._left = number
        self.torn = ""

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        return super().put(name, pieces) if not self._due() else self._fail(super().put, name, pieces)

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        return super().create(name, pieces) if not self._due() else self._fail(super().create, name, pieces)

    def _due(self) -> bool:
        self._left -= 1
        return self._left == -1

    def _fail(self, write: Callable[[str, Sequence[Piece]], int], name: str, pieces: Sequence[Piece]) -> int:
        data = b"".join(pieces)
        write(name, [data[: len(data) // 2]])
        self.torn = name
        raise Transient(f"the connection broke while {name} was written.")


class JumpingClock:
    """A wall clock that somebody sets while the program runs; durations are measured on another one, which goes on."""

    def __init__(self, calls: int, jump: timedelta) -> None:
        self._calls = calls
        self._jump = jump
        self._start = datetime.now(UTC)
        self._seconds = itertools.count()
        self._asked = 0

    def now(self) -> datetime:
        self._asked += 1
        jumped = self._jump if self._asked > self._calls else timedelta()
        return self._start + jumped + timedelta(milliseconds=self._asked)

    def elapsed_seconds(self) -> float:
        return next(self._seconds) / 1000
