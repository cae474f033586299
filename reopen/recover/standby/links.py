"""Owns the link at a dataset's place: it is made and replaced by one rename, and what stood there is kept.

Invariants (docs/0012-standby-versions.md)
    V2  A reader of the place finds the old version or the new one.
    V3  What is not a link of ours is moved aside, never removed; an empty folder apart.

Steps, each of which may be the last that a dying process did, and each of which may be done again: mark the version as
promoted, make the link under another name, put it in place.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from contextlib import suppress

from reopen.errors import NotFound
from reopen.recover.standby.versions import KEPT, PROMOTED_SUFFIX, locked_versions, versions_url
from reopen.recover.tree import target_error
from reopen.storage.canonical import JsonObject, encode

_LINK_NAME = ".link"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def point_place(place: str, dataset: str, version: str, *, epoch: int, mark: JsonObject) -> str:
    """Make a local place lead to a version of its dataset.

    :param epoch: of the promotion; what stood at the place is kept under its number.
    :param mark: what the mark beside the version says, for people.
    :returns: where what stood there was moved, empty when there was nothing to move.
    :raises NotFound: the version is not there. :raises TargetUnwritable: the place cannot be changed.
    """
    folder = versions_url(place, dataset)
    target = os.path.join(folder, version)
    if not os.path.isdir(target):
        raise NotFound(
            f"{target} is not there, and {dataset} was promoted from it.",
            hint="If somebody moved it, move it back and run `reopen locate --refresh`.",
            dataset=dataset,
        )
    # The version's own lock as well: a driver that was taken over may still be writing the same bytes into it, and must
    # have ended before the business writes there.
    with locked_versions(place, dataset, version), locked_versions(place, dataset):
        try:
            _mark(os.path.join(folder, version + PROMOTED_SUFFIX), mark)
            return _put_link(place, folder, version, epoch)
        except OSError as error:
            raise target_error(error, place) from error


def _mark(path: str, mark: JsonObject) -> None:
    if os.path.exists(path):
        return
    temporary = path + ".tmp"
    with open(temporary, "wb") as file:
        file.write(encode(mark))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _put_link(place: str, folder: str, version: str, epoch: int) -> str:
    above = os.path.dirname(place)
    # Relative, so that the tree can be mounted elsewhere or moved as a whole.
    target = os.path.relpath(os.path.join(folder, version), above)
    if os.path.islink(place) and os.readlink(place) == target:
        return ""
    link = os.path.join(folder, _LINK_NAME)
    with suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(target, link)
    kept = ""
    if os.path.lexists(place) and not _is_ours(place, target):
        kept = _free_name(os.path.join(folder, f"{KEPT}{epoch}"), target)
        _move_aside(place, link, kept)
    else:
        os.rename(link, place)
    for changed in (above, folder):
        _make_durable(changed)
    return _unless_empty(kept)


def _move_aside(place: str, link: str, kept: str) -> None:
    """Put the link where a folder stands, and the folder under its new name."""
    # The link takes the name that the folder is to have, and then they change places in one step.
    os.rename(link, kept)
    if not _exchange(kept, place):
        os.rename(kept, link)
        os.rename(place, kept)
        os.rename(link, place)


def _exchange(one: str, other: str) -> bool:
    """Let two names change places in one step; whether this kernel and file system can."""
    if sys.platform != "linux":
        return False
    system = ctypes.CDLL(None, use_errno=True)
    if not hasattr(system, "renameat2"):
        return False
    first, second = os.fsencode(one), os.fsencode(other)
    if system.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), other)


def _is_ours(path: str, target: str) -> bool:
    """Whether a link leads to a version beside ``target``, as we make them; somebody's own is kept like a folder."""
    return os.path.islink(path) and os.path.dirname(os.readlink(path)) == os.path.dirname(target)


def _free_name(name: str, target: str) -> str:
    """A name that nothing has; a link of ours that an interrupted exchange left under it counts as nothing."""
    number, free = 1, name
    while os.path.lexists(free):
        if _is_ours(free, target):
            os.unlink(free)
            break
        number += 1
        free = f"{name}-{number}"
    return free


def _unless_empty(kept: str) -> str:
    """The name of what was kept; an empty folder is removed and not worth a name."""
    if not kept:
        return ""
    try:
        os.rmdir(kept)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return kept
        raise
    return ""


def _make_durable(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
