"""Owns the interface of a store and the demands it makes. Every vault byte goes through an :class:`ObjectStore`.

Demands on every implementation (the store contract in ``tests/storage/`` runs each of them against all stores)
    D1  ``put`` and ``create`` are atomic: a reader sees the whole object or none, also after a crash.
    D2  When ``put`` or ``create`` returns, the object survives power loss (local: fsync of file and folder).
    D3  ``create`` has exactly one winner among any number of racers, or the store says so in its capabilities.
    D4  ``list`` shows every object whose write returned before the call; a failing listing raises, it is never empty.
    D5  Errors are of :mod:`reopen.errors`: ``NotFound``, ``Conflict`` (create lost), ``Transient``,
        ``VaultUnwritable`` (no space, no permission), ``Refused`` (not supported).

Names are relative, ``/``-separated, ASCII, without ``.`` or ``..`` segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from reopen.ids import system_random

Piece = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a store was measured or is known to guarantee."""

    exclusive_create: bool


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


def probe_time(store: ObjectStore) -> datetime:
    """A store's own time, read off an object that is written and removed: of its clock, ours says nothing."""
    probe = f"probe/clock-{system_random(8).hex()}"
    store.put(probe, [b"now"])
    try:
        return store.head(probe).modified_at
    finally:
        store.delete(probe)
