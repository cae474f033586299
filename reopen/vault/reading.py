"""Owns reading many small objects, records and facts, where a store is far away: several requests are made at once.

A vault of years has thousands of them, and a bucket answers each in tens of milliseconds. Each is checked by who asked,
one by one and in the order of the names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from reopen.errors import Corrupt, NotFound
from reopen.storage import ObjectStore, local_path

READERS = 8
"""Reads under way at once."""


def read_each(store: ObjectStore, names: Sequence[str]) -> Iterator[tuple[str, bytes | Corrupt | NotFound]]:
    """Each name with the bytes of its object, or with the error that reading it gave.

    :raises ReopenError: the store did not answer, or refused.
    """

    def read(name: str) -> bytes | Corrupt | NotFound:
        try:
            return store.get(name)
        except (Corrupt, NotFound) as error:
            return error

    if len(names) < READERS or local_path(store.url) is not None:
        # Threads gain nothing here, and a process that has none may fork.
        yield from ((name, read(name)) for name in names)
        return
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="reopen-read")
    try:
        yield from zip(names, pool.map(read, names), strict=True)
    finally:
        # A store that stopped answering is not asked for what is left.
        pool.shutdown(cancel_futures=True)
