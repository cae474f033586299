"""Owns the marks beside versions on a store of objects, where there is neither a link nor a lock nor a rename.

``<version>.promoted``
    was promoted: nothing of ours writes there or removes it, whatever log is in use.
``.removing-<version>``
    goes: its record was removed when the mark was made, so that no plan names it from then on; its objects are removed
    by a run that comes :data:`REMOVE_AFTER` later, if no open plan names it by then.

Invariants (docs/0012-standby-versions.md)
    V6  What was promoted, what an open plan names and the newest good version stay.
    K1  A restore into a version takes the mark away first; whoever removes looks for the mark before each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

from reopen.recover.standby.versions import PROMOTED_SUFFIX, REMOVING_PREFIX, is_version, versions_url
from reopen.storage import ObjectStore, open_store
from reopen.storage.canonical import JsonObject, encode
from reopen.storage.places import open_place

REMOVE_AFTER = timedelta(hours=1)
"""A failover that was planned with a version, before its record went, stands in the log by then."""
BATCH = 500
"""Objects that are removed between two looks at the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What lies right beside the versions of a dataset: the versions, and those that are marked."""

    versions: tuple[str, ...]
    promoted: frozenset[str]
    removing: frozenset[str]


def read_marks(place: str, dataset: str) -> Marks:
    """Look beside the versions of a dataset on a store of objects.

    :raises NotFound: the bucket is not there. :raises Transient: no answer.
    """
    folders, files = open_place(versions_url(place, dataset)).top()
    return Marks(
        versions=tuple(name for name in folders if is_version(name)),
        promoted=frozenset(name.removesuffix(PROMOTED_SUFFIX) for name in files if name.endswith(PROMOTED_SUFFIX)),
        removing=frozenset(name.removeprefix(REMOVING_PREFIX) for name in files if name.startswith(REMOVING_PREFIX)),
    )


def mark_promoted(place: str, dataset: str, version: str, mark: JsonObject) -> None:
    """Say that a version was promoted; said twice it is the same."""
    _store(place, dataset).put(version + PROMOTED_SUFFIX, [encode(mark)])


def keep(place: str, dataset: str, version: str) -> None:
    """Take a version back from removal (K1)."""
    _store(place, dataset).delete(REMOVING_PREFIX + version)


def remove_versions(
    place: str,
    dataset: str,
    *,
    stays: Callable[[], Collection[str]],
    forget: Callable[[str], None],
) -> tuple[str, ...]:
    """Mark the versions that go, and remove those that were marked long ago; the names of both.

    :param stays: versions that must stay, by the log as it is now.
    :param forget: removes the record of a version.
    :raises VaultUnwritable: the store refuses. :raises Transient: no answer.
    """
    store, marks = _store(place, dataset), read_marks(place, dataset)
    protected = {*stays(), *marks.promoted}
    going = []
    for version in marks.versions:
        if version in protected:
            if version in marks.removing:
                keep(place, dataset, version)
        elif version not in marks.removing:
            # Its record first: a version without one is nobody's, a record without a version misleads.
            forget(version)
            store.put(REMOVING_PREFIX + version, [b"this version is not needed any more\n"])
            going.append(version)
    for version in sorted(marks.removing - protected):
        if store.now() - store.head(REMOVING_PREFIX + version).modified_at >= REMOVE_AFTER:
            _remove(store, place, dataset, version, stays)
            going.append(version)
    return tuple(going)


def _remove(store: ObjectStore, place: str, dataset: str, version: str, stays: Callable[[], Collection[str]]) -> None:
    names = [info.name for info in store.list(f"{version}/")]
    for first in range(0, len(names), BATCH):
        if version in stays() or version not in read_marks(place, dataset).removing:
            return
        for name in names[first : first + BATCH]:
            store.delete(name)
    # Last: while it is there, the next run goes on.
    store.delete(REMOVING_PREFIX + version)


def _store(place: str, dataset: str) -> ObjectStore:
    return open_store(versions_url(place, dataset))
