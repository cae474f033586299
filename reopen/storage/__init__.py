"""Where bytes live. :func:`open_store` chooses the implementation; the demands are in :mod:`reopen.storage.base`."""

from __future__ import annotations

from reopen.errors import Conflict, Internal
from reopen.ids import system_random
from reopen.storage.base import Capabilities, ObjectInfo, ObjectStore, Piece
from reopen.storage.filesystem import FsspecStore, local_path, open_filesystem, scheme_of
from reopen.storage.local import LocalStore
from reopen.storage.objects import OBJECT_SCHEMES, ObstoreStore

__all__ = [
    "Capabilities",
    "ObjectInfo",
    "ObjectStore",
    "Piece",
    "local_path",
    "open_filesystem",
    "open_store",
    "probe_exclusive_create",
    "scheme_of",
]


def open_store(url: str) -> ObjectStore:
    """The store behind a path or URL; nothing is read or made yet.

    :raises InvalidInput: a scheme that no installed package serves.
    """
    path = local_path(url)
    if path is not None:
        return LocalStore(path)
    if scheme_of(url) in OBJECT_SCHEMES or scheme_of(url) == "memory":
        return ObstoreStore(url)
    return FsspecStore(url)


def probe_exclusive_create(store: ObjectStore) -> bool:
    """Whether the store honours exclusive create, found out by trying: two creates of one name, the second must
    lose and must not have replaced the first. Some servers accept the condition and ignore it."""
    if not store.capabilities.exclusive_create:
        return False
    name = f"probe/create-{system_random(8).hex()}"
    store.create(name, [b"first"])
    try:
        store.create(name, [b"second"])
    except Conflict:
        if store.get(name) != b"first":
            raise Internal(f"{store.url} reported a conflict and replaced {name} all the same.") from None
        return True
    finally:
        store.delete(name)
    return False
