"""Owns the scratch prefix of a drill on a store of objects: named like a scratch folder, and emptied like one.

``<scratch>/drill-<id>/…`` holds what is restored, and ``<scratch>/drill-<id>.lock`` says since when it is there. A
store has no locks that end with a process, so that what a drill that was killed left is told by age alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from reopen.errors import ReopenError, TargetUnwritable
from reopen.storage import ObjectStore, open_store

FOLDER_PREFIX = "drill-"
LOCK_SUFFIX = ".lock"
LEFT_AFTER = timedelta(days=1)
"""A drill takes minutes to hours; one whose prefix is older was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied:
    """What came of removing a prefix: the problem in words, empty when there was none, and leftovers of drills that
    were killed, which were removed."""

    problem: str
    leftovers: tuple[str, ...]


@contextmanager
def scratch_prefix(scratch: str, folder: str) -> Iterator[Callable[[], Emptied]]:
    """Have a prefix below ``scratch``, and remove it whatever happens. The yielded function removes it now and tells.

    :param folder: the prefix, whole.
    :raises TargetUnwritable: nothing can be written there.
    """
    try:
        store = open_store(scratch)
        name = folder.rpartition("/")[2]
        store.put(name + LOCK_SUFFIX, [b"a drill restores here\n"])
        leftovers = _remove_leftovers(store, but=name)
    except ReopenError as error:
        raise TargetUnwritable(
            f"the drill's prefix {folder} cannot be made: {error.message}",
            hint=error.hint or "Set the site's scratch in the settings to a place that can be written.",
        ) from error
    try:
        yield lambda: Emptied(problem=_remove(store, name), leftovers=leftovers)
    finally:
        # The mark goes last: while it is there, a later drill finds what is left.
        if not _remove(store, name):
            _remove(store, name, LOCK_SUFFIX)


def _remove_leftovers(store: ObjectStore, *, but: str) -> tuple[str, ...]:
    now, removed = store.now(), []
    for info in store.list(FOLDER_PREFIX):
        name = info.name.removesuffix(LOCK_SUFFIX)
        if name in (info.name, but) or "/" in name or now - info.modified_at < LEFT_AFTER:
            continue
        if not _remove(store, name):
            _remove(store, name, LOCK_SUFFIX)
            removed.append(f"{store.url}/{name}")
    return tuple(removed)


def _remove(store: ObjectStore, name: str, suffix: str = "/") -> str:
    """Remove what lies below a prefix, or one object; the problem as text, empty when there was none."""
    try:
        for found in [info.name for info in store.list(name + suffix)]:
            store.delete(found)
    except ReopenError as error:
        return error.message
    return ""
