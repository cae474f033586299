"""Where bytes live. :func:`open_store` chooses the implementation; the demands are in :mod:`reopen.storage.base`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reopen.storage.base import (
    Capabilities,
    LockingStore,
    ObjectInfo,
    ObjectStore,
    Piece,
    locking,
    probe_exclusive_create,
    proven,
)
from reopen.storage.filesystem import FsspecStore, is_object_store, local_path, open_filesystem, scheme_of
from reopen.storage.local import LocalStore
from reopen.storage.locked import LockedS3Store, split_lock_settings
from reopen.storage.looking import LookedAtStore, Silences
from reopen.storage.objects import OBJECT_SCHEMES, ObstoreStore
from reopen.storage.patience import FOR_LOOKING, FOR_SMALL, PATIENCE, Patience
from reopen.storage.sftp import SFTP_SCHEMES, SftpStore
from reopen.urls import refuse_secret

__all__ = [
    "Capabilities",
    "LockingStore",
    "ObjectInfo",
    "ObjectStore",
    "Piece",
    "is_object_store",
    "local_path",
    "locking",
    "looking",
    "open_filesystem",
    "open_small",
    "open_store",
    "probe_exclusive_create",
    "proven",
    "scheme_of",
    "watch_stores",
]

_watchers: list[list[str]] = []
"""Lists that every store's URL is added to while somebody watches."""
_looks: list[Silences] = []
"""The look that goes on in this process, if one does; looks inside it are part of it."""


@contextmanager
def looking() -> Iterator[None]:
    """Stores that are opened inside are only looked at: one that is silent is given up, and soon
    (:mod:`reopen.storage.looking`)."""
    _looks.append(_looks[-1] if _looks else Silences())
    try:
        yield
    finally:
        _looks.pop()


@contextmanager
def watch_stores() -> Iterator[list[str]]:
    """The URLs of the stores that this process opens inside, in order; for whoever must show what was not opened."""
    opened: list[str] = []
    _watchers.append(opened)
    try:
        yield opened
    finally:
        # By identity: two that watch at once may have seen the same.
        _watchers[:] = [watcher for watcher in _watchers if watcher is not opened]


def open_store(url: str, *, patience: Patience = PATIENCE) -> ObjectStore:
    """The store behind a path or URL; nothing is read or made yet.

    :param patience: how long and how often a remote one is asked.
    :raises InvalidInput: a scheme that no installed package serves, a query that nobody knows, or a secret in the URL.
    """
    refuse_secret(url)
    if _looks and local_path(url) is None:
        look = _looks[-1]
        patience = min(patience, FOR_LOOKING, key=lambda known: known.retry_seconds)
        # Some connect as soon as they are made.
        store: ObjectStore = LookedAtStore(look.ask(url, lambda: _store_at(url, patience)), look)
    else:
        store = _store_at(url, patience)
    for watcher in _watchers:
        watcher.append(store.url)
    return store


def open_small(url: str) -> ObjectStore:
    """The store of small objects behind a path or URL, the control store: one that does not answer is given up soon."""
    return open_store(url, patience=FOR_SMALL)


def _store_at(url: str, patience: Patience) -> ObjectStore:
    url, lock = split_lock_settings(url)
    if lock is not None:
        return LockedS3Store(url, lock, patience=patience)
    path = local_path(url)
    if path is not None:
        return LocalStore(path)
    if scheme_of(url) in OBJECT_SCHEMES or scheme_of(url) == "memory":
        return ObstoreStore(url, patience=patience)
    if scheme_of(url) in SFTP_SCHEMES:
        return SftpStore(url, patience=patience)
    return FsspecStore(url)
