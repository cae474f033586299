"""Owns the target of a local restore: who may write to it, its folders, and what is left when a restore ends.

Invariants
    I1  One restore at a time writes to a target: whoever holds the lock on the work folder, the processes that a
        restore started included. A second one waits for :data:`LOCK_SECONDS_MAX`, then is told.
    I2  While the work folder is there, the target is not finished. An interrupted restore leaves it; the next one
        empties it and takes it over.
    I3  Folders get their modes and times last, when nothing is written into them any more.
    I4  Nothing is deleted that the snapshot has under any name that the file system takes for the same.
    I5  When :meth:`Target.finish` returns, what was written is on the disk, as far as the file system keeps promises.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from reopen.errors import Conflict
from reopen.recover.entries import Attributes
from reopen.recover.names import Folding
from reopen.recover.tree import SHARED, TREE_ERRORS, WORK_FOLDER, Tree, TreeWriter, stops_all, target_error

LOCK_SECONDS_MAX = 10
"""The processes of a restore that was killed end at their next frame, well within this."""
_LOCK_POLL_SECONDS = 0.05
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNER_ALL = 0o700
_PROBES = ("Probe-\u00e9", "pROBE-\u00e9", "Probe-e\u0301")
"""One name, then in other case, then composed in another way."""


class Target:
    """A folder that a restore has to itself, from :meth:`begin` to :meth:`finish` or the end of the ``with`` block."""

    def __init__(self, path: str, names: Iterable[bytes]) -> None:
        """
        :param names: the entries that will be written; the work folder takes none of their names.
        """
        self.root = os.fsencode(path)
        self.work = _work_name(names)
        self.was_empty = False
        self.folding = Folding()
        self._opened: dict[bytes, int] = {}
        self._tree: Tree | None = None
        self._work: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._work is not None:
            # The room is needed for the next attempt; the empty folder says that there must be one (I2).
            with suppress(OSError):
                _empty(self._work)
        self._close()

    @property
    def tree(self) -> Tree:
        """The target's folders; only after :meth:`begin`."""
        if self._tree is None:
            raise AssertionError("the target has not begun.")
        return self._tree

    def begin(self) -> None:
        """Make the target and its work folder, see whether anything is there, and how its file system takes names.

        :raises Conflict: another restore writes to it. :raises TargetUnwritable: it cannot be written.
        """
        with self._translated():
            os.makedirs(self.root, exist_ok=True)
            self._tree = Tree(self.root)
            self._work = self._lock()
            _empty(self._work)
            self.was_empty = os.listdir(self.tree.folder(b"")) == [os.fsdecode(self.work)]
            self.folding = probe_folding(self._work)
            os.mkdir(SHARED, _OWNER_ALL, dir_fd=self._work)

    def writer(self, name: bytes) -> TreeWriter:
        """Someone who writes entries; two at a time have two names."""
        with self._translated():
            return TreeWriter(self.root, self.work, name)

    def make_folders(self, names: Iterable[bytes]) -> dict[bytes, Exception]:
        """Make folders where there are none, those above before those in them.

        :returns: those that could not be made, each with the reason; what was to be in them will fail too.
        :raises Conflict: something else is under a folder's name.
        """
        failed: dict[bytes, Exception] = {}
        for name in sorted(names):
            try:
                folder, base = self.tree.place(name)
                try:
                    os.mkdir(base, _OWNER_ALL, dir_fd=folder)
                except FileExistsError:
                    self._accept_folder(folder, base, name)
            except TREE_ERRORS as error:
                if stops_all(error):
                    raise target_error(error, self.tree.shown(name)) from error
                failed[name] = error
        return failed

    def finish_folders(
        self, names: Sequence[bytes], attributes: Sequence[Attributes], writer: TreeWriter
    ) -> dict[bytes, Exception]:
        """Give folders their attributes, deepest first (I3); returns those that could not get them, with the reason."""
        failed: dict[bytes, Exception] = {}
        for name, mode in sorted(self._opened.items(), reverse=True):
            folder, base = self.tree.place(name)
            os.chmod(base, mode, dir_fd=folder)
        for at in sorted(range(len(names)), key=lambda at: names[at].count(b"/"), reverse=True):
            try:
                folder, base = writer.place(names[at])
                descriptor = os.open(base, _FOLDER, dir_fd=folder)
                try:
                    writer.set_attributes(descriptor, attributes[at])
                finally:
                    os.close(descriptor)
            except TREE_ERRORS as error:
                if stops_all(error):
                    raise target_error(error, writer.shown(names[at])) from error
                failed[names[at]] = error
        return failed

    def delete_others(self, keep: Iterable[bytes]) -> int:
        """Delete every entry that is not to be kept; returns how many (I4).

        :param keep: names of entries and of the folders above them.
        """
        fold = self.folding.key if self.folding else bytes
        kept = {fold(name) for name in keep}
        deleted = 0
        for name, is_folder in self.tree.walk(without=self.work):
            if fold(name) not in kept:
                with self._translated(name):
                    deleted += self.tree.remove(name, folder=is_folder)
        return deleted

    def finish(self) -> None:
        """Remove the work folder and make everything written durable (I5)."""
        with self._translated():
            if self._work is not None:
                _empty(self._work)
                os.rmdir(self.work, dir_fd=self.tree.folder(b""))
                os.close(self._work)
                self._work = None
            _make_durable(self.tree.folder(b""))

    def _lock(self) -> int:
        """The work folder, locked (I1)."""
        root = self.tree.folder(b"")
        give_up_at = time.monotonic() + LOCK_SECONDS_MAX
        while True:
            with suppress(FileExistsError):
                os.mkdir(self.work, _OWNER_ALL, dir_fd=root)
            descriptor = os.open(self.work, _FOLDER, dir_fd=root)
            is_locked = True
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_locked = False
            except OSError:
                return descriptor  # A file system without locks; two restores at a time are the caller's to avoid.
            # Whoever had it may have removed it when done; then the lock is on a folder that is no more.
            if is_locked and (found := self.tree.status(self.work)) and os.path.samestat(found, os.fstat(descriptor)):
                return descriptor
            os.close(descriptor)
            if not is_locked and time.monotonic() > give_up_at:
                raise Conflict(
                    f"another restore is writing to {os.fsdecode(self.root)}.",
                    hint="Wait until it ends, or restore into another folder.",
                )
            time.sleep(0 if is_locked else _LOCK_POLL_SECONDS)

    def _accept_folder(self, folder: int, base: bytes, name: bytes) -> None:
        status = os.stat(base, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            raise Conflict(
                f"{self.tree.shown(name)} is in the way: the snapshot has a folder there.",
                hint="Move it aside, or restore into an empty folder.",
            )
        if status.st_uid == os.geteuid() != 0 and status.st_mode & _OWNER_ALL != _OWNER_ALL:
            # A folder that was restored read-only must take what is missing in it; it is closed again at the end.
            os.chmod(base, stat.S_IMODE(status.st_mode) | _OWNER_ALL, dir_fd=folder)
            self._opened[name] = stat.S_IMODE(status.st_mode)

    def _close(self) -> None:
        if self._work is not None:
            os.close(self._work)
            self._work = None
        if self._tree is not None:
            self._tree.close()
            self._tree = None

    @contextmanager
    def _translated(self, name: bytes = b"") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise target_error(error, os.fsdecode(os.path.join(self.root, name) if name else self.root)) from error


def probe_folding(folder: int) -> Folding:
    """Which names the file system of a folder takes for the same, found by making one and asking for the others."""
    first, other_case, other_composition = (name.encode() for name in _PROBES)
    try:
        os.close(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder))
    except OSError as error:
        if stops_all(error):
            raise
        return Folding()  # It takes no such letters at all, so they cannot collide.
    found = Folding(case=_exists(folder, other_case), composition=_exists(folder, other_composition))
    os.unlink(first, dir_fd=folder)
    return found


def _exists(folder: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _empty(folder: int) -> None:
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def _make_durable(folder: int) -> None:
    """Write a file system's changes to its disk; the disk's errors are raised, which ``sync`` would keep to itself."""
    if sys.platform != "linux":
        os.sync()
        return
    system = ctypes.CDLL(None, use_errno=True)
    if system.syncfs(folder) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _work_name(names: Iterable[bytes]) -> bytes:
    """A name for the work folder that no entry has: a dataset may hold what an interrupted restore left behind."""
    taken = {name.partition(b"/")[0].lower() for name in names if name[: len(WORK_FOLDER)].lower() == WORK_FOLDER}
    number, name = 0, WORK_FOLDER
    while name in taken:
        number += 1
        name = WORK_FOLDER + b"-%d" % number
    return name
