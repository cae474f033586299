"""Owns opening what lies below a folder without ever following a symlink on the way.

Between the listing of a tree and the opening of a file in it, somebody may put a symlink in the place of a folder. A
path is resolved by name each time, so it would be followed, out of the tree. Here every folder is opened in its parent,
by one name and with ``O_NOFOLLOW``, and stays open while it is in use.
"""

from __future__ import annotations

import os
from collections import OrderedDict

OPEN_FOLDERS_MAX = 64
"""Folders kept open: far below the 1,024 descriptors that a process may have by default."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OpenFolder:
    """An open folder; closed when nobody refers to it any more, so it is never closed under somebody's hands."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class Folders:
    """The folders below a root, opened on demand. Safe to use from many threads."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._open: OrderedDict[bytes, OpenFolder] = OrderedDict()
        self._last: tuple[bytes, OpenFolder] | None = None

    def folder(self, name: bytes) -> OpenFolder:
        """A folder by its name relative to the root (empty: the root itself, which may be reached by a symlink).

        :raises OSError: as ``open`` does; ``ELOOP`` or ``ENOTDIR`` where a symlink or a file took a folder's place.
        """
        last = self._last
        if last is not None and last[0] == name:
            return last[1]
        missing = []
        at, found = name, self._open.get(name)
        while found is None and at:
            missing.append(at)
            at = at.rpartition(b"/")[0]
            found = self._open.get(at)
        if found is None:
            found = self._keep(b"", os.open(self._root, _FOLDER_FLAGS & ~os.O_NOFOLLOW))
        for at in reversed(missing):
            found = self._keep(at, os.open(at.rpartition(b"/")[2], _FOLDER_FLAGS, dir_fd=found.descriptor))
        self._last = name, found
        return found

    def forget(self) -> None:
        """Open every folder anew from now on: what was open may have been replaced by another of its name."""
        self._last = None
        self._open.clear()

    def _keep(self, name: bytes, descriptor: int) -> OpenFolder:
        found = self._open[name] = OpenFolder(descriptor)
        while len(self._open) > OPEN_FOLDERS_MAX:
            try:
                self._open.popitem(last=False)
            except KeyError:
                break  # Another thread took the last one.
        return found
