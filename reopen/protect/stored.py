"""Owns reading stored bytes again in pieces, hashed on the way: what an object is, not what it is said to be.

A pack is 64 MiB; read whole by each of several threads it would be most of a program's memory. In pieces it is hashed
while the last one is still in the processor's cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from blake3 import blake3

from reopen.storage import ObjectStore

PIECE_BYTES = 4 << 20
"""Large enough that a request to an object store is mostly transfer, small enough for a processor's cache."""


def pieces(store: ObjectStore, name: str, size_bytes: int) -> Iterator[bytes]:
    """The bytes of an object of a known size, piece by piece.

    :raises NotFound: it is gone. :raises Corrupt: it ends before that size.
    """
    if size_bytes <= PIECE_BYTES:
        yield store.get(name)
        return
    for start in range(0, size_bytes, PIECE_BYTES):
        yield store.get_range(name, start, min(PIECE_BYTES, size_bytes - start))


def digest_of(
    store: ObjectStore, name: str, size_bytes: int, advance: Callable[[int], None] = lambda amount: None
) -> str:
    """The BLAKE3 (hex) of a stored object; at most one piece of it is in memory.

    :param advance: called with the size of each piece.
    """
    digest = blake3()
    for piece in pieces(store, name, size_bytes):
        digest.update(piece)
        advance(len(piece))
    return digest.hexdigest()


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
