"""Owns touching a local tree: folders opened one by one, files by way of temporary ones, links, modes and times.

Invariants
    I1  A file appears under its name whole or not at all: it grows below the work folder and is renamed.
    I2  No write, no read and no removal follows a symlink: every folder on the way is opened by its own name in the
        folder above it, as a folder or not at all, and everything is done relative to what is open. A folder that
        somebody swaps for a symlink meanwhile is an error, not a way out.
    I3  Nothing is removed but what the restore itself replaces, and what a caller names.

An owner that this system does not have, or may not set, is passed over as it is for a user who is not root. Nothing
here is shared between threads: whoever works on a tree opens it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from reopen.errors import Conflict, Internal, ReopenError, TargetUnwritable

if TYPE_CHECKING:
    from reopen.recover.entries import Attributes

WORK_FOLDER = b".reopen-restore"
"""Where files grow: in the root of the target, until the restore is finished."""
FOLDERS_OPEN_MAX = 64
GROWING_OPEN_MAX = 16
SHARED = b"shared"
"""The folder in the work folder with files that more than one shard writes, each named by its row."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_EXISTING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_GROWING = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = b"file"
"""The one temporary name of a writer: a name that is used again costs the kernel less than a new one."""
_COPY_BYTES = 1 << 20
_COPY_RANGE_BYTES = 1 << 30
_STOPS_ALL = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ESTALE,
    errno.ENODEV,
}
"""Errors of the whole target, not of one entry: to go on would fail with every entry that follows."""

TREE_ERRORS = (OSError, ValueError, OverflowError)
"""What the operating system's calls raise for an entry; the last two for a NUL in a link or a time beyond all times."""


class Tree:
    """A folder and the folders below it, opened without following a symlink (I2)."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._open: dict[bytes, int] = {b"": os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every folder."""
        while self._open:
            os.close(self._open.popitem()[1])

    def folder(self, name: bytes) -> int:
        """A descriptor of a folder, good until another folder is asked for; an ``OSError`` when there is none."""
        found = self._open.get(name)
        if found is not None:
            return found
        missing, above = [], name
        while above not in self._open:
            missing.append(above)
            above = above.rpartition(b"/")[0]
        descriptor = self._open[above]
        for step in reversed(missing):
            descriptor = os.open(step.rpartition(b"/")[2], _FOLDER, dir_fd=descriptor)
            self._keep(step, descriptor)
        return descriptor

    def place(self, name: bytes) -> tuple[int, bytes]:
        """The folder that an entry is in, as :meth:`folder` gives it, and the entry's own name."""
        parent, _, base = name.rpartition(b"/")
        return self.folder(parent), base

    def shown(self, name: bytes) -> str:
        """The full path of an entry, for people."""
        return os.fsdecode(os.path.join(self.root, name) if name else self.root)

    def open_existing(self, name: bytes) -> int | None:
        """A descriptor of the regular file that is there, or ``None`` (no file, or something else)."""
        try:
            folder, base = self.place(name)
            descriptor = os.open(base, _EXISTING, dir_fd=folder)
        except OSError:
            return None  # Absent, a symlink, or not readable: in each case it is written anew.
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return descriptor

    def status(self, name: bytes) -> os.stat_result | None:
        """What is under a name, symlinks not followed; ``None`` when nothing is."""
        try:
            folder, base = self.place(name)
            return os.stat(base, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def link_target(self, name: bytes) -> bytes | None:
        """Where a symlink points to; ``None`` when there is no symlink."""
        try:
            folder, base = self.place(name)
            return os.readlink(base, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL, errno.ENOTDIR):
                return None
            raise

    def walk(self, without: bytes = b"") -> Iterator[tuple[bytes, bool]]:
        """Every entry that is there (and whether it is a folder), folders after what they hold.

        :param without: a folder in the root that is left out with all that it holds.
        """
        pending: list[tuple[bytes, bool]] = [(b"", False)]
        while pending:
            name, is_listed = pending.pop()
            if is_listed:
                yield name, True
                continue
            if name:
                pending.append((name, True))
            prefix = name + b"/" if name else b""
            with os.scandir(self.folder(name)) as entries:
                found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
            for base, is_folder in sorted(found):
                if prefix + base == without:
                    continue
                if is_folder:
                    pending.append((prefix + base, False))
                else:
                    yield prefix + base, False

    def remove(self, name: bytes, *, folder: bool) -> bool:
        """Remove a file or an empty folder; ``False`` when a folder is not empty."""
        above, base = self.place(name)
        try:
            (os.rmdir if folder else os.unlink)(base, dir_fd=above)
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                return False
            raise
        return True

    def _keep(self, name: bytes, descriptor: int) -> None:
        if len(self._open) > FOLDERS_OPEN_MAX:
            oldest = next(other for other in self._open if other)
            os.close(self._open.pop(oldest))
        self._open[name] = descriptor


class TreeWriter(Tree):
    """Writes entries of a tree. Two writers of one tree have two names."""

    def __init__(self, root: bytes, work: bytes, name: bytes) -> None:
        """
        :param work: the work folder in the root, which is there, and in it :data:`SHARED`.
        :param name: of the folder for this writer's own temporary files; what is in it is removed.
        """
        super().__init__(root)
        self._may_chown = os.geteuid() == 0
        self._growing: dict[int, int] = {}
        above = self.folder(work)
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=above)
        # Kept apart from the folders that are closed in turn.
        self._own = os.open(name, _FOLDER, dir_fd=above)
        self._shared = os.open(SHARED, _FOLDER, dir_fd=above)
        for left in os.listdir(self._own):
            os.unlink(left, dir_fd=self._own)
        # The mask, default access lists and set-group-id folders decide what a new file begins with.
        probe = os.open(_FILE, _NEW, 0o777, dir_fd=self._own)
        status = os.fstat(probe)
        os.close(probe)
        os.unlink(_FILE, dir_fd=self._own)
        self._bits = stat.S_IMODE(status.st_mode)
        self._owner = (status.st_uid, status.st_gid)

    def close(self) -> None:
        """Close everything that is open."""
        super().close()
        while self._growing:
            os.close(self._growing.popitem()[1])
        for descriptor in (self._own, self._shared):
            os.close(descriptor)

    def write_file(self, name: bytes, data: memoryview, attributes: Attributes) -> None:
        """Write a whole file (I1)."""
        folder, base = self.place(name)
        mode = attributes.mode
        at_first = 0o600 if mode is None else mode & self._bits & 0o777
        descriptor = os.open(_FILE, _NEW, at_first, dir_fd=self._own)
        try:
            try:
                if data:
                    write_all(descriptor, data, 0)
                self._apply(descriptor, attributes, at_first, self._owner)
            finally:
                os.close(descriptor)
            self._rename(self._own, _FILE, folder, base)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(_FILE, dir_fd=self._own)
            raise

    def copy_file(self, name: bytes, source: int, attributes: Attributes) -> None:
        """Copy a whole file that is open (I1); blocks are shared where the file system can."""
        folder, base = self.place(name)
        descriptor = os.open(_FILE, _NEW, 0o600, dir_fd=self._own)
        try:
            try:
                _copy_all(source, descriptor)
                self._apply(descriptor, attributes, None, None)
            finally:
                os.close(descriptor)
            self._rename(self._own, _FILE, folder, base)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(_FILE, dir_fd=self._own)
            raise

    def write_piece(self, row: int, offset: int, data: memoryview) -> None:
        """Write bytes of a growing file, which more than one writer may do."""
        descriptor = self._growing.get(row)
        if descriptor is None:
            if len(self._growing) >= GROWING_OPEN_MAX:
                os.close(self._growing.pop(next(iter(self._growing))))
            descriptor = self._growing[row] = os.open(b"%d" % row, _GROWING, 0o600, dir_fd=self._shared)
        write_all(descriptor, data, offset)

    def finish_file(self, row: int, name: bytes, attributes: Attributes) -> None:
        """Give a growing file that is whole its attributes and its name (I1)."""
        descriptor = self._growing.pop(row, None)
        growing = b"%d" % row
        if descriptor is None:
            descriptor = os.open(growing, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._shared)
        try:
            self._apply(descriptor, attributes, None, None)
        finally:
            os.close(descriptor)
        folder, base = self.place(name)
        self._rename(self._shared, growing, folder, base)

    def drop_file(self, row: int) -> None:
        """Forget a growing file that will not become whole."""
        descriptor = self._growing.pop(row, None)
        if descriptor is not None:
            os.close(descriptor)
        with suppress(FileNotFoundError):
            os.unlink(b"%d" % row, dir_fd=self._shared)

    def set_attributes(self, descriptor: int, attributes: Attributes) -> bool:
        """Set attributes that differ on a file or folder that is open; whether any did."""
        status = os.fstat(descriptor)
        mode, uid, gid, mtime_ns = attributes
        wrong_owner = self._may_chown and None not in (uid, gid) and (status.st_uid, status.st_gid) != (uid, gid)
        wrong_mode = mode is not None and stat.S_IMODE(status.st_mode) != mode
        wrong_time = mtime_ns is not None and status.st_mtime_ns != mtime_ns
        if not (wrong_owner or wrong_mode or wrong_time):
            return False
        self._apply(descriptor, attributes, None, None if wrong_owner else (status.st_uid, status.st_gid))
        return True

    def write_symlink(self, name: bytes, target: bytes, attributes: Attributes) -> bool:
        """Make a symlink; whether it had to be made."""
        if self.link_target(name) == target:
            return False
        folder, base = self.place(name)
        os.symlink(target, _FILE, dir_fd=self._own)
        try:
            if self._may_chown and attributes.uid is not None and attributes.gid is not None:
                with _owner_may_stay():
                    os.chown(_FILE, attributes.uid, attributes.gid, dir_fd=self._own, follow_symlinks=False)
            if attributes.mtime_ns is not None:
                times = (attributes.mtime_ns, attributes.mtime_ns)
                os.utime(_FILE, ns=times, dir_fd=self._own, follow_symlinks=False)
            self._rename(self._own, _FILE, folder, base)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(_FILE, dir_fd=self._own)
            raise
        return True

    def write_hard_link(self, name: bytes, first: bytes) -> bool:
        """Make ``name`` a hard link to ``first``; whether it had to be made."""
        there, of = self.status(name), self.status(first)
        if there is not None and of is not None and os.path.samestat(there, of):
            return False
        folder, base = self.place(first)
        os.link(base, _FILE, src_dir_fd=folder, dst_dir_fd=self._own, follow_symlinks=False)
        try:
            folder, base = self.place(name)
            self._rename(self._own, _FILE, folder, base)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(_FILE, dir_fd=self._own)
            raise
        return True

    def _apply(
        self, descriptor: int, attributes: Attributes, mode_now: int | None, owner_now: tuple[int, int] | None
    ) -> None:
        """Set attributes; what is known to be right already costs no call."""
        mode, uid, gid, mtime_ns = attributes
        if self._may_chown and uid is not None and gid is not None and (uid, gid) != owner_now:
            with _owner_may_stay():
                os.fchown(descriptor, uid, gid)
        if mode is not None and mode != mode_now:
            os.fchmod(descriptor, mode)  # After chown, which clears set-id bits.
        if mtime_ns is not None:
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))

    def _rename(self, source: int, growing: bytes, folder: int, base: bytes) -> None:
        try:
            os.rename(growing, base, src_dir_fd=source, dst_dir_fd=folder)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy_over(source, growing, folder, base)

    def _copy_over(self, source: int, growing: bytes, folder: int, base: bytes) -> None:
        """As a rename, where another file system is mounted below the target: the temporary file is beside the name."""
        beside = b".reopen-restore." + base[-200:]
        status = os.stat(growing, dir_fd=source, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EXDEV, "a link cannot be made across two file systems")
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)
        reader = os.open(growing, _EXISTING, dir_fd=source)
        try:
            writer = os.open(beside, _NEW, 0o600, dir_fd=folder)
            try:
                offset = 0
                while data := os.pread(reader, _COPY_BYTES, offset):
                    write_all(writer, memoryview(data), offset)
                    offset += len(data)
                from reopen.recover.entries import Attributes

                copied = Attributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns)
                self._apply(writer, copied, None, None)
            finally:
                os.close(writer)
            os.rename(beside, base, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(reader)
        os.unlink(growing, dir_fd=source)


def _copy_all(source: int, target: int) -> None:
    """Copy an open file by the kernel, or where it cannot through memory."""
    try:
        while os.copy_file_range(source, target, _COPY_RANGE_BYTES):
            pass
    except AttributeError:
        pass  # Not on this system.
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    else:
        return
    offset = os.lseek(target, 0, os.SEEK_CUR)
    while data := os.pread(source, _COPY_BYTES, offset):
        write_all(target, memoryview(data), offset)
        offset += len(data)


def write_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all bytes at an offset: one call may take fewer than it was given."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        if written == 0:
            raise Internal("the system wrote nothing and said nothing.")
        data, offset = data[written:], offset + written


@contextmanager
def _owner_may_stay() -> Iterator[None]:
    """Pass over an owner that cannot be set here: unknown to a container, or without meaning to the file system."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL, errno.ENOTSUP):
            raise


def target_error(error: Exception, path: str) -> ReopenError:
    """What went wrong in the target, for people."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free space there, then run the same command again: it goes on where it stopped."
        return TargetUnwritable(f"the target is full: {path} was not written.", hint=hint, path=path)
    if number == errno.EEXIST and not os.path.isdir(path):
        return Conflict(f"{path} is there and is no folder.", hint="Name a folder, or another place for it.", path=path)
    if number in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
        return Conflict(
            f"{path} is a folder, and the snapshot has a file or link there.",
            hint="Move it aside, or restore into an empty folder.",
            path=path,
        )
    if number in (errno.ENOTDIR, errno.ELOOP):
        return Conflict(
            f"{path} cannot be reached: something else is in the way where the snapshot has a folder.",
            hint="Move it aside, or restore into an empty folder.",
            path=path,
        )
    if not isinstance(error, OSError):
        # Owners and times of a manifest are as wide as its columns; the operating system takes less.
        hint = "The snapshot says of it what no file can have; restore the rest with --path."
        return TargetUnwritable(f"{path} cannot be made: {error}.", hint=hint, path=path)
    reason = error.strerror or str(error)
    return TargetUnwritable(
        f"{path} cannot be written: {reason}.",
        hint="Fix the cause, then run the same command again: what is restored already is not written twice.",
        path=path,
    )


def stops_all(error: Exception) -> bool:
    """Whether an error is of the whole target and not of one entry."""
    return isinstance(error, OSError) and error.errno in _STOPS_ALL
