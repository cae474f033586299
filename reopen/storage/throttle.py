"""Owns the limit on how fast bytes go to and from a store: a token bucket, and a store that pays it for every byte.

Invariants
    I1  Over any time, at most ``rate × seconds + burst`` bytes are let through, and one object more: an object is one
        write, so the bucket may go into debt by it, and whoever comes next waits until the debt is paid.
    I2  Nothing is refused and nothing is changed: a throttled store is slower, and otherwise the store it wraps.

Time and waiting are arguments, so that tests take none.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import overload

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.errors import Internal, InvalidInput
from reopen.storage.base import Capabilities, LockingStore, ObjectInfo, ObjectStore, Piece, locking

BURST_SECONDS = 1.0
"""What an idle bucket saves up: enough that small objects are not sent one by one, too little to be felt on a line."""

RATE_TEXT = "a number and B/s, kB/s, MB/s, GB/s, KiB/s, MiB/s or GiB/s, for example 50MiB/s"
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGkmg]i?)?B/s")
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def parse_rate(text: str) -> float:
    """Bytes a second from a text such as ``50MiB/s``.

    :raises InvalidInput: not a rate above zero.
    """
    match = _RATE.fullmatch(text.strip())
    rate = float(match[1]) * (_DECIMAL | _BINARY)[(match[2] or "").lower()] if match else 0.0
    if rate <= 0:
        raise InvalidInput(f"{text!r} is not a rate.", hint=f"Write {RATE_TEXT}.")
    return rate


class TokenBucket:
    """Lets bytes through at a rate; shared by all threads that are to stay below it together."""

    def __init__(
        self,
        rate_bytes_per_second: float,
        *,
        clock: Clock = SYSTEM_CLOCK,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """
        :param wait: called with seconds to let pass; without it, it waits on an event that nobody sets.
        """
        if rate_bytes_per_second <= 0:
            raise InvalidInput("a rate must be above zero.", hint=f"Write {RATE_TEXT}.")
        self._rate = rate_bytes_per_second
        self._clock = clock
        self._wait = wait or threading.Event().wait
        self._lock = threading.Lock()
        self._saved_bytes = self._rate * BURST_SECONDS
        self._seen_at_seconds = clock.elapsed_seconds()

    def take(self, size_bytes: int) -> None:
        """Wait until ``size_bytes`` may go (I1)."""
        with self._lock:
            now = self._clock.elapsed_seconds()
            earned = (now - self._seen_at_seconds) * self._rate
            self._saved_bytes = min(self._saved_bytes + earned, self._rate * BURST_SECONDS)
            self._seen_at_seconds = now
            debt_seconds = max(0.0, -self._saved_bytes / self._rate)
            self._saved_bytes -= size_bytes
        # Outside the lock: whoever comes meanwhile sees the debt of all before him, and waits for the whole of it.
        if debt_seconds:
            self._wait(debt_seconds)


class ThrottledStore:
    """A store whose reads and writes together stay below a rate (I2)."""

    def __init__(self, inner: ObjectStore, bucket: TokenBucket) -> None:
        self._inner = inner
        self._bucket = bucket

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    def get(self, name: str) -> bytes:
        data = self._inner.get(name)
        # Paid when it is known how much it was; the next call waits for it.
        self._bucket.take(len(data))
        return data

    def get_range(self, name: str, start: int, length: int) -> bytes:
        self._bucket.take(length)
        return self._inner.get_range(name, start, length)

    def head(self, name: str) -> ObjectInfo:
        return self._inner.head(name)

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        return self._inner.put(name, _PaidPieces(pieces, self._bucket))

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        return self._inner.create(name, _PaidPieces(pieces, self._bucket))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._inner.list(prefix)

    def delete(self, name: str) -> None:
        self._inner.delete(name)

    def now(self) -> datetime:
        return self._inner.now()

    @property
    def lock_period(self) -> timedelta:
        return self._locking().lock_period

    def lock_until(self, names: Iterable[str], until: datetime) -> int:
        return self._locking().lock_until(names, until)

    def locked_until(self, name: str) -> datetime | None:
        return self._locking().locked_until(name)

    def _locking(self) -> LockingStore:
        store = locking(self._inner)
        if store is None:
            raise Internal(f"{self.url} has no object lock.")
        return store


class _PaidPieces(Sequence[Piece]):
    """Pieces that are paid for as the store takes them, one by one."""

    def __init__(self, pieces: Sequence[Piece], bucket: TokenBucket) -> None:
        self._pieces = pieces
        self._bucket = bucket

    def __len__(self) -> int:
        return len(self._pieces)

    @overload
    def __getitem__(self, at: int) -> Piece: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Piece]: ...

    def __getitem__(self, at: int | slice) -> Piece | Sequence[Piece]:
        if isinstance(at, slice):
            return _PaidPieces(self._pieces[at], self._bucket)
        piece = self._pieces[at]
        self._bucket.take(len(piece))
        return piece

    def __iter__(self) -> Iterator[Piece]:
        for piece in self._pieces:
            self._bucket.take(len(piece))
            yield piece


def is_throttled(store: ObjectStore) -> bool:
    """Whether a bucket is paid for what a store reads: it is shared by threads, and a forked process has its own."""
    return isinstance(store, ThrottledStore)


def throttled(store: ObjectStore, rate: str) -> ObjectStore:
    """A store that is no faster than a rate such as ``50MiB/s``; the store itself where the text is empty.

    :raises InvalidInput: not a rate above zero.
    """
    return ThrottledStore(store, TokenBucket(parse_rate(rate))) if rate else store
