"""Owns versions of datasets at a site: their names, where they lie, which were promoted, and who may touch them.

A version of a dataset whose place is ``/srv/orders`` is a folder ``/srv/.reopen-versions/orders/<version>``; on an
object store it is a prefix of the same form. Names and URLs are pure; everything else is about local folders, and
:mod:`reopen.recover.standby.marks` is about stores.

Invariants (docs/0012-standby-versions.md)
    V1  A name that was ever promoted is given to no other version.
    V3  What stands at a place is moved aside under a name of its own (:data:`KEPT`).
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reopen.contracts.load import Contracts
from reopen.contracts.model import Temperature
from reopen.control import rules
from reopen.control.records import Promotion, Record
from reopen.errors import Conflict, Refused
from reopen.recover.tree import target_error
from reopen.sources import VERSIONS_FOLDER
from reopen.storage import local_path

KEPT = "kept-epoch-"
"""What stood at a place when something was promoted, and the number of that promotion's epoch."""
PROMOTED_SUFFIX = ".promoted"
"""Of the mark beside a version that was promoted: the log may have moved, and the folder must still not be touched."""
REMOVING_PREFIX = ".removing-"
LOCK_NAME = ".lock"
"""The lock's file; followed by a version, that version's own."""
LOCK_SECONDS_MAX = 30
"""Whoever has the lock renames a few folders; a second is long. What is written for longer is nobody's to promote."""
_LOCK_POLL_SECONDS = 0.05

_VERSION = re.compile(r"(\d{10})-([0-9a-f]{16})(-e\d+)?(-\d+)?")


def version_name(seq: int, snapshot: str, *, epoch: int | None = None, taken: Collection[str] = ()) -> str:
    """The name of a version of a snapshot, for example ``0000000042-9f3c5a7700112233``.

    :param epoch: of the recovery that writes it; none for one that is staged.
    :param taken: names that must not be used again (V1).
    """
    base = f"{seq:010d}-{snapshot}" + ("" if epoch is None else f"-e{epoch}")
    number, name = 1, base
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def is_version(name: str) -> bool:
    """Whether a name is one that :func:`version_name` gives."""
    return _VERSION.fullmatch(name) is not None


def is_staged_name(name: str) -> bool:
    """Whether a version's name is that of a staged one, and not of a recovery in some epoch."""
    found = _VERSION.fullmatch(name)
    return found is not None and found[3] is None


def versions_url(place: str, dataset: str) -> str:
    """Where the versions of a dataset lie, from its place at a site."""
    path = local_path(place)
    if path is not None:
        return os.path.join(os.path.dirname(path), VERSIONS_FOLDER, dataset)
    scheme, _, rest = place.rstrip("/").partition("://")
    bucket, _, below = rest.partition("/")
    above = below.rpartition("/")[0]
    return "/".join(part for part in (f"{scheme}://{bucket}", above, VERSIONS_FOLDER, dataset) if part)


def version_url(place: str, dataset: str, version: str) -> str:
    """Where one version lies."""
    return f"{versions_url(place, dataset)}/{version}"


def version_of(url: str) -> str:
    """The version's name in its URL; empty when the URL is none of a version."""
    name = url.rstrip("/").rpartition("/")[2]
    return name if is_version(name) and f"/{VERSIONS_FOLDER}/" in url else ""


def promoted_versions(records: Sequence[Record]) -> dict[str, frozenset[str]]:
    """Names of all versions that a log ever promoted, by dataset."""
    found: dict[str, set[str]] = {}
    for promotion in rules.values(records, Promotion):
        for member in promotion.members:
            if name := version_of(member.url):
                found.setdefault(member.dataset, set()).add(name)
    return {dataset: frozenset(names) for dataset, names in sorted(found.items())}


def marked_versions(place: str, dataset: str) -> frozenset[str]:
    """Names of versions that a local folder says were promoted: by their marks, and by what the link points to."""
    path = local_path(place)
    if path is None:
        return frozenset()
    try:
        names = os.listdir(versions_url(place, dataset))
    except (FileNotFoundError, NotADirectoryError):
        names = []
    marked = {name.removesuffix(PROMOTED_SUFFIX) for name in names if name.endswith(PROMOTED_SUFFIX)}
    if (linked := linked_version(path)) is not None:
        marked.add(linked.name)
    return frozenset(marked)


def linked_version(place: str) -> Path | None:
    """What the link at a place points to; None where there is no link."""
    try:
        return Path(place).parent / os.readlink(place)
    except OSError:
        return None


def effective_temperatures(contracts: Contracts) -> Mapping[str, Temperature]:
    """How ready each dataset is kept: as its contract says, and at least warm when a dataset that is kept warm depends
    on it, which could not be promoted before it."""
    found = {name: dataset.temperature for name, dataset in contracts.datasets.items()}
    # Dependants first, so that a dataset's own temperature is settled before it warms what it needs.
    for name in reversed(contracts.order()):
        if found[name] is Temperature.COLD:
            continue
        for needed in contracts.datasets[name].depends_on:
            if found.get(needed) is Temperature.COLD:
                found[needed] = Temperature.WARM
    return found


def check_movable(place: str) -> None:
    """Refuse a place that could not become a link, before any byte is written for it.

    :raises Refused: it is the root of a file system.
    """
    path = local_path(place)
    if path is not None and (os.path.dirname(path) == path or (not os.path.islink(path) and os.path.ismount(path))):
        raise Refused(
            f"{place} is a mount point, and a version could not take its place.",
            hint="Point the contract's server of this site at a folder inside of it.",
            place=place,
        )


@contextmanager
def locked_versions(place: str, dataset: str, version: str = "") -> Iterator[None]:
    """Hold the versions of a dataset still: nobody else renames or removes any meanwhile. Only for short work.

    :param version: hold only this one, against other writers and against its promotion, for as long as it is written.
    :raises Conflict: somebody has it for longer than :data:`LOCK_SECONDS_MAX`.
    :raises TargetUnwritable: the folder cannot be made.
    """
    if local_path(place) is None:
        yield  # There are no locks on an object store: the marks beside versions take their place.
        return
    folder = versions_url(place, dataset)
    try:
        os.makedirs(folder, exist_ok=True)
        name = f"{LOCK_NAME}-{version}" if version else LOCK_NAME
        descriptor = os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise target_error(error, folder) from error
    try:
        _take(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: str) -> None:
    give_up_at = time.monotonic() + LOCK_SECONDS_MAX
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                raise Conflict(
                    f"another process of ours has held the versions in {folder} for {LOCK_SECONDS_MAX} s.",
                    hint="Look for a `reopen stage` or failover that hangs, then run again.",
                ) from None
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return
