"""Owns reading stored bytes again in pieces, hashed on the way: what an object is, not what it is said to be.

A pack is 64 MiB; read whole by each of several threads it would be most of a program's memory, and every fresh page of
it a fault. In pieces it is hashed, and written elsewhere, while the piece is still in the processor's cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import overload

from blake3 import blake3

from reopen.errors import Corrupt
from reopen.storage import ObjectStore, local_path

PIECE_BYTES = 8 << 20
"""Of a remote store: large enough that a request is mostly transfer."""

LOCAL_PIECE_BYTES = 1 << 20
"""Of a local one, where a read is a copy: small enough for a processor's cache."""

Advance = Callable[[int], None]


def piece_bytes(store: ObjectStore) -> int:
    """How much of an object is read at a time."""
    return PIECE_BYTES if local_path(store.url) is None else LOCAL_PIECE_BYTES


def pieces(store: ObjectStore, name: str, size_bytes: int) -> Iterator[bytes]:
    """The bytes of an object of a known size, piece by piece.

    :raises NotFound: it is gone. :raises Corrupt: it ends before that size.
    """
    length = piece_bytes(store)
    if size_bytes <= length:
        yield store.get(name)
        return
    for start in range(0, size_bytes, length):
        yield store.get_range(name, start, min(length, size_bytes - start))


def digest_of(store: ObjectStore, name: str, size_bytes: int, advance: Advance = lambda amount: None) -> str:
    """The BLAKE3 (hex) of a stored object; at most one piece of it is in memory.

    :param advance: called with the size of each piece.
    """
    digest = blake3()
    for piece in pieces(store, name, size_bytes):
        digest.update(piece)
        advance(len(piece))
    return digest.hexdigest()


class CheckedPieces(Sequence[bytes]):
    """A stored object to be written elsewhere while it is read. Whoever takes the last piece learns whether the bytes
    are the right ones: if not, the iteration raises, so a store that shows an object only when it has all its pieces
    never shows a wrong one. Every pass reads anew, so a store may try again."""

    def __init__(self, store: ObjectStore, name: str, size_bytes: int, pin: str, advance: Advance) -> None:
        self._store = store
        self._name = name
        self._size_bytes = size_bytes
        self._pin = pin
        self._advance = advance
        self._length = piece_bytes(store)
        self.digest = ""
        """The BLAKE3 (hex) of what the last whole pass read; empty before one."""

    def __len__(self) -> int:
        return max(1, -(-self._size_bytes // self._length))

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        return list(self)[at]

    def __iter__(self) -> Iterator[bytes]:
        """The pieces in order. :raises Corrupt: after the last one, when they are not what the pin says."""
        digest = blake3()
        read = 0
        for piece in pieces(self._store, self._name, self._size_bytes):
            digest.update(piece)
            read += len(piece)
            self._advance(len(piece))
            yield piece
        found = digest.hexdigest()
        if read != self._size_bytes or (self._pin and found != self._pin):
            what = f"pack {self._pin}" if self._name.startswith("packs/") else self._name
            raise Corrupt(f"{what} fails its digest at the source.", object=self._name)
        self.digest = found


class Budget:
    """How many bytes several threads may hold together; one object alone may be larger."""

    def __init__(self, size_bytes_max: int) -> None:
        self._max = size_bytes_max
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Wait until so many bytes may be held, and hold them."""
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + size_bytes <= self._max)
            self._held += size_bytes
        try:
            yield
        finally:
            with self._changed:
                self._held -= size_bytes
                self._changed.notify_all()
