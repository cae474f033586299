"""Owns what a look does about a store that does not answer: it is waited for once, and not for each thing it is asked.

A report asks a store some ten times, and each part of it says by itself what it could not read. With the patience of a
writer, whose packs are worth minutes of waiting, a server that is silent would hold the report up for half an hour, on
the day on which it is wanted most.

Invariants
    L1  In one look a store that was silent is not asked again: every later question gets the error of the first.
    L2  Stores in one bucket, or on one server, are silent together.
    L3  Whoever writes packs, or recovers, does not look: there each request has its full patience.

Local folders are asked as ever: what a file system is slow in, no time-out of ours can end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import urlsplit

from reopen.errors import Internal, Transient
from reopen.storage.base import Capabilities, LockingStore, ObjectInfo, ObjectStore, Piece, locking

Result = TypeVar("Result")


class Silences:
    """Which servers did not answer in one look, with the error that this gave. Threads may share it."""

    def __init__(self) -> None:
        self._first: dict[str, Transient] = {}

    def ask(self, url: str, call: Callable[[], Result]) -> Result:
        """What a store answers.

        :raises Transient: it does not answer, or did not before (L1).
        """
        server = _server(url)
        first = self._first.get(server)
        if first is not None:
            raise Transient(first.message, hint=first.hint, **first.context) from first
        try:
            return call()
        except Transient as error:
            self._first.setdefault(server, error)
            raise


class LookedAtStore:
    """A store that is given up for the rest of a look once it was silent (L1)."""

    def __init__(self, inner: ObjectStore, silences: Silences) -> None:
        self._inner = inner
        self._silences = silences

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    def get(self, name: str) -> bytes:
        return self._ask(lambda: self._inner.get(name))

    def get_range(self, name: str, start: int, length: int) -> bytes:
        return self._ask(lambda: self._inner.get_range(name, start, length))

    def head(self, name: str) -> ObjectInfo:
        return self._ask(lambda: self._inner.head(name))

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        return self._ask(lambda: self._inner.put(name, pieces))

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        return self._ask(lambda: self._inner.create(name, pieces))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from self._ask(lambda: list(self._inner.list(prefix)))

    def delete(self, name: str) -> None:
        self._ask(lambda: self._inner.delete(name))

    def now(self) -> datetime:
        return self._ask(self._inner.now)

    @property
    def lock_period(self) -> timedelta:
        return self._locking().lock_period

    def lock_until(self, names: Iterable[str], until: datetime) -> int:
        return self._ask(lambda: self._locking().lock_until(names, until))

    def locked_until(self, name: str) -> datetime | None:
        return self._ask(lambda: self._locking().locked_until(name))

    def _ask(self, call: Callable[[], Result]) -> Result:
        return self._silences.ask(self.url, call)

    def _locking(self) -> LockingStore:
        store = locking(self._inner)
        if store is None:
            raise Internal(f"{self.url} has no object lock.")
        return store


def _server(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
