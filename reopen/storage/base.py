"""Owns the interface of a store and the demands it makes. Every vault byte goes through an :class:`ObjectStore`.

Demands on every implementation (the store contract in ``tests/storage/`` runs each of them against all stores)
    D1  ``put`` and ``create`` are atomic: a reader sees the whole object or none, also after a crash.
    D2  When ``put`` or ``create`` returns, the object survives power loss (local: fsync of file and folder).
    D3  ``create`` has exactly one winner among any number of racers with bytes of their own, or the store says so in
        its capabilities. One that finds its own bytes may succeed: it may have lost the answer to an earlier try.
    D4  ``list`` shows every object whose write returned before the call; a failing listing raises, it is never empty.
    D5  Errors are of :mod:`reopen.errors`: ``NotFound``, ``Conflict`` (create lost), ``Transient`` (no answer, 5xx,
        time-out), ``VaultUnwritable`` (no space, no permission to write), ``Refused`` (no permission to read, not
        supported, locked).
    D6  A write that fails leaves the name as it was: absent, or with the bytes it had.

Names are relative, ``/``-separated, ASCII, without ``.`` or ``..`` segments.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from reopen.errors import Conflict, Internal
from reopen.ids import system_random

Piece = bytes | bytearray | memoryview

PROBE_FOLDER = "probe/"
"""Where short-lived probes of the store's clock and of exclusive create are made and removed."""

PROBE_RACERS = 8
PROBE_ROUNDS = 3
"""How many racers a probe sends, and how often. A server that lets a quarter of them win passes by chance in one of a
thousand probes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a store was measured or is known to guarantee. ``docs/0006-stores.md`` has the table.

    Without ``exclusive_create`` a ``create`` asks for the name first and then puts: it finds what is there, and of two
    racers both may win. ``is_proven`` is false as long as a server decides and was not asked yet; see :func:`proven`.
    With ``object_lock`` the store is a :class:`LockingStore`.
    """

    exclusive_create: bool
    is_proven: bool = True
    object_lock: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One object as a listing or a head shows it."""

    name: str
    size_bytes: int
    modified_at: datetime


class ObjectStore(Protocol):
    """Flat, named, immutable-by-convention objects."""

    @property
    def url(self) -> str:
        """Where the store is, for people and settings."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the store guarantees, as far as is known without asking it."""
        ...

    def get(self, name: str) -> bytes:
        """All bytes of an object; ``NotFound`` names store and object."""
        ...

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``start``; ``Corrupt`` when the object ends before that."""
        ...

    def head(self, name: str) -> ObjectInfo:
        """Size and time of one object; ``NotFound`` when there is none."""
        ...

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        """Write (or replace) an object from its pieces in order; returns the bytes written (D1, D2)."""
        ...

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        """Write an object that must not exist; ``Conflict`` when it does (D1, D2, D3)."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose name starts with ``prefix``, in bytewise order of name (D4). A prefix that
        ends inside a segment is allowed."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; one that is already gone is not an error."""
        ...

    def now(self) -> datetime:
        """The store's own time (local: the clock of the file system, S3: LastModified of a probe)."""
        ...


@runtime_checkable
class LockingStore(ObjectStore, Protocol):
    """A store that can keep objects from being destroyed by anybody until a time (S3 object lock)."""

    @property
    def lock_period(self) -> timedelta:
        """For how long what a snapshot needs is to be locked when it is taken."""
        ...

    def lock_until(self, names: Iterable[str], until: datetime) -> int:
        """Make sure that each of these objects stays locked at least until a time; returns how many it had to extend.
        A lock is never shortened. ``NotFound`` names an object that is not there."""
        ...

    def locked_until(self, name: str) -> datetime | None:
        """Until when an object is locked; ``None`` when it is not."""
        ...


def locking(store: ObjectStore) -> LockingStore | None:
    """The store as one that locks, or ``None`` where it does not."""
    if not store.capabilities.object_lock:
        return None
    if not isinstance(store, LockingStore):
        raise Internal(f"{store.url} claims object lock and cannot lock.")
    return store


def probe_exclusive_create(store: ObjectStore) -> bool:
    """Whether the store honours exclusive create, found out by trying: of two creates of one name the second must lose
    and must not have replaced the first. Some servers accept the condition and ignore it.

    Where a server decides, racers are sent as well: a server that looks and then writes passes every try in sequence,
    and was measured to let 4 to 11 of 16 win (``rclone serve sftp`` without its cache).
    """
    capabilities = store.capabilities
    if not capabilities.exclusive_create:
        return False
    name = f"{PROBE_FOLDER}create-{system_random(8).hex()}"
    store.create(name, [b"first"])
    try:
        # The first create made the store ask its server; a store that then looks before it puts would pass the second.
        if not _claims_exclusive_create(store) or not _second_loses(store, name):
            return False
    finally:
        store.delete(name)
    return capabilities.is_proven or all(_one_wins(store) for _ in range(PROBE_ROUNDS))


def _claims_exclusive_create(store: ObjectStore) -> bool:
    return store.capabilities.exclusive_create


def _second_loses(store: ObjectStore, name: str) -> bool:
    try:
        store.create(name, [b"second"])
    except Conflict:
        if store.get(name) != b"first":
            raise Internal(f"{store.url} reported a conflict and replaced {name} all the same.") from None
        return True
    return False


def _one_wins(store: ObjectStore) -> bool:
    name = f"{PROBE_FOLDER}race-{system_random(8).hex()}"
    try:
        return count_winners(lambda number: store.create(name, [f"racer {number}".encode()]), PROBE_RACERS) == 1
    finally:
        store.delete(name)


def count_winners(create: Callable[[int], object], racers: int) -> int:
    """How many of so many racers, each in a thread of its own, create something without a ``Conflict``. What else one
    of them raises comes through when all have ended."""
    start = threading.Barrier(racers)

    def race(number: int) -> bool:
        start.wait()
        try:
            create(number)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(racers, thread_name_prefix="reopen-race") as pool:
        return sum(list(pool.map(race, range(racers))))


def proven(store: ObjectStore) -> Capabilities:
    """The store's capabilities, after asking its server where that decides and nobody asked in this process yet."""
    if not store.capabilities.is_proven:
        # Its first create asks the server.
        name = f"{PROBE_FOLDER}ask-{system_random(8).hex()}"
        store.create(name, [b"ask"])
        store.delete(name)
    return store.capabilities


def probe_time(store: ObjectStore) -> datetime:
    """A store's own time, read off an object that is written and removed: of its clock, ours says nothing."""
    probe = f"{PROBE_FOLDER}clock-{system_random(8).hex()}"
    store.put(probe, [b"now"])
    try:
        return store.head(probe).modified_at
    finally:
        store.delete(probe)
