"""Owns writing a local tree: folders, files by way of temporary ones, links, modes and times.

Invariants
    I1  A file appears under its name whole or not at all: it grows below ``.reopen-restore`` in the target and is
        renamed.
    I2  No write follows a symlink: a folder on the way must be a real folder, and a symlink under a file's name is
        replaced, not written through.
    I3  Nothing is removed but what the restore itself replaces; what it did not write stays unless asked.
    I4  Folders get their modes and times last, when nothing is written into them any more.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reopen.errors import Conflict, TargetUnwritable

WORK_FOLDER = b".reopen-restore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What an entry gets besides its bytes; ``None`` means the source did not know."""

    mode: int | None
    uid: int | None
    gid: int | None
    mtime_ns: int | None


class LocalTree:
    """The target of a restore on a local file system."""

    def __init__(self, root: str, names: Iterable[bytes] = ()) -> None:
        """
        :param names: the entries that will be written; the work folder takes none of their names.
        """
        self._root = os.fsencode(root)
        self._work = os.path.join(self._root, _work_name(names))
        self._folders: set[bytes] = set()
        self._lock = threading.Lock()
        self._may_chown = os.geteuid() == 0
        self.was_empty = False

    @property
    def root(self) -> bytes:
        """The target folder."""
        return self._root

    def begin(self) -> None:
        """Make the target and an empty work folder (what an interrupted restore left in it is removed)."""
        with self._translated(b""):
            os.makedirs(self._root, exist_ok=True)
            shutil.rmtree(self._work, ignore_errors=True)
            with os.scandir(self._root) as found:
                self.was_empty = next(found, None) is None
            os.mkdir(self._work, 0o700)

    def end(self) -> None:
        """Remove the work folder and make everything written durable."""
        with self._translated(b""):
            shutil.rmtree(self._work)
            os.sync()

    def path(self, name: bytes) -> bytes:
        """The full path of an entry."""
        return os.path.join(self._root, name)

    def make_folder(self, name: bytes) -> None:
        """Make a folder and those above it; :class:`Conflict` when something else is in the way (I2)."""
        if not name or name in self._folders:
            return
        self.make_folder(name.rpartition(b"/")[0])
        with self._translated(name), self._lock:
            try:
                os.mkdir(self.path(name), 0o700)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(self.path(name)).st_mode):
                    raise Conflict(
                        f"{os.fsdecode(self.path(name))} is in the way: the snapshot has a folder there.",
                        hint="Move it aside, or restore into an empty folder.",
                    ) from None
            self._folders.add(name)

    def open_existing(self, name: bytes) -> int | None:
        """A descriptor of the regular file that is there, or ``None`` (no file, or something else)."""
        try:
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None  # Absent, a symlink, or not readable: in each case it is written anew.
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return descriptor

    def write_at(self, name: bytes, number: int, offset: int, data: memoryview) -> None:
        """Write bytes of a growing file; ``number`` names its temporary file."""
        with self._translated(name):
            descriptor = os.open(self._growing(number), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while data:
                    written = os.pwrite(descriptor, data, offset)
                    data, offset = data[written:], offset + written
            finally:
                os.close(descriptor)

    def finish_file(self, name: bytes, number: int, attributes: Attributes) -> None:
        """Give a whole file its attributes and its name (I1)."""
        growing = self._growing(number)
        with self._translated(name):
            self._apply(growing, attributes)
            self._clear_the_way(name)
            os.replace(growing, self.path(name))

    def write_empty(self, name: bytes, number: int, attributes: Attributes) -> None:
        """Make a file without bytes."""
        with self._translated(name):
            os.close(os.open(self._growing(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        self.finish_file(name, number, attributes)

    def apply(self, name: bytes, attributes: Attributes) -> bool:
        """Set attributes that differ on an entry that is there; whether any did."""
        path = self.path(name)
        with self._translated(name):
            status = os.lstat(path)
            wrong_mode = attributes.mode is not None and stat.S_IMODE(status.st_mode) != attributes.mode
            wrong_time = attributes.mtime_ns is not None and status.st_mtime_ns != attributes.mtime_ns
            wrong_owner = (
                self._may_chown
                and attributes.uid is not None
                and (status.st_uid, status.st_gid)
                != (
                    attributes.uid,
                    attributes.gid,
                )
            )
            if wrong_mode or wrong_time or wrong_owner:
                self._apply(path, attributes)
            return wrong_mode or wrong_time or wrong_owner

    def write_symlink(self, name: bytes, target: bytes, attributes: Attributes) -> bool:
        """Make a symlink; whether it had to be made."""
        path = self.path(name)
        with self._translated(name):
            try:
                if os.readlink(path) == target:
                    return False
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINVAL):
                    raise
            growing = self._growing(-1)
            os.symlink(target, growing)
            if self._may_chown and attributes.uid is not None and attributes.gid is not None:
                os.lchown(growing, attributes.uid, attributes.gid)
            if attributes.mtime_ns is not None:
                os.utime(growing, ns=(attributes.mtime_ns, attributes.mtime_ns), follow_symlinks=False)
            self._clear_the_way(name)
            os.replace(growing, path)
            return True

    def write_hard_link(self, name: bytes, first: bytes) -> bool:
        """Make ``name`` a hard link to ``first``; whether it had to be made."""
        path, of = self.path(name), self.path(first)
        with self._translated(name):
            if os.path.lexists(path) and os.path.samestat(os.lstat(path), os.lstat(of)):
                return False
            growing = self._growing(-1)
            os.link(of, growing, follow_symlinks=False)
            self._clear_the_way(name)
            os.replace(growing, path)
            return True

    def names(self) -> Iterator[tuple[bytes, bool]]:
        """Every entry that is there (and whether it is a folder), folders after what they hold."""
        for folder, folders, files in os.walk(self._root, topdown=False):
            if folder == self._work or folder.startswith(self._work + b"/"):
                continue
            base = folder[len(self._root) :].lstrip(b"/")
            prefix = base + b"/" if base else b""
            for name in files:
                yield prefix + name, False
            for name in folders:
                full = os.path.join(folder, name)
                if full != self._work:
                    yield prefix + name, not os.path.islink(full)

    def remove(self, name: bytes, *, folder: bool) -> bool:
        """Remove a file or an empty folder that the snapshot does not have; ``False`` when a folder is not empty."""
        with self._translated(name):
            try:
                (os.rmdir if folder else os.unlink)(self.path(name))
            except OSError as error:
                if error.errno == errno.ENOTEMPTY:
                    return False
                raise
            return True

    def finish_folders(self, folders: Iterable[tuple[bytes, Attributes]]) -> None:
        """Give folders their attributes, deepest first (I4)."""
        for name, attributes in sorted(folders, key=lambda item: item[0].count(b"/"), reverse=True):
            self.apply(name, attributes)

    def _growing(self, number: int) -> bytes:
        return os.path.join(self._work, b"link" if number < 0 else b"%d" % number)

    def _clear_the_way(self, name: bytes) -> None:
        path = self.path(name)
        if os.path.isdir(path) and not os.path.islink(path):
            raise Conflict(
                f"{os.fsdecode(path)} is a folder, and the snapshot has a file or link there.",
                hint="Move it aside, or restore into an empty folder.",
            )

    def _apply(self, path: bytes, attributes: Attributes) -> None:
        if self._may_chown and attributes.uid is not None and attributes.gid is not None:
            os.lchown(path, attributes.uid, attributes.gid)
        if attributes.mode is not None:
            os.chmod(path, attributes.mode)  # After chown, which clears set-id bits.
        if attributes.mtime_ns is not None:
            os.utime(path, ns=(attributes.mtime_ns, attributes.mtime_ns))

    @contextmanager
    def _translated(self, name: bytes) -> Iterator[None]:
        try:
            yield
        except (OverflowError, ValueError) as error:
            # Owners and times of a manifest are as wide as its columns; the operating system takes less.
            path = os.fsdecode(self.path(name) if name else self._root)
            hint = "The snapshot says of it what no file can have; restore the rest with --path."
            raise TargetUnwritable(f"{path} cannot be made: {error}.", hint=hint, path=path) from error
        except OSError as error:
            path = os.fsdecode(self.path(name) if name else self._root)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                hint = "Free space there, then run the same command again: it goes on where it stopped."
                raise TargetUnwritable(f"the target is full: {path} was not written.", hint=hint, path=path) from error
            raise TargetUnwritable(
                f"{path} cannot be written: {error.strerror or error}.",
                hint="Fix the cause, then run the same command again: what is restored already is not written twice.",
                path=path,
            ) from error


def _work_name(names: Iterable[bytes]) -> bytes:
    """A name for the work folder that no entry has: a dataset may hold what an interrupted restore left behind."""
    taken = {name.partition(b"/")[0] for name in names if name.startswith(WORK_FOLDER)}
    number, name = 0, WORK_FOLDER
    while name in taken:
        number += 1
        name = WORK_FOLDER + b"-%d" % number
    return name
