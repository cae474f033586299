"""Owns the files of a folder on the local file system, with all that restores it: modes, times, links, odd names.

I1 to I4 are the invariants of :mod:`reopen.sources.files`. Further
    L1  What was scanned is kept in columns of numbers, a few thousand entries at a time, so that a tree of a million
        files costs no object a file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from operator import attrgetter
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reopen.errors import NotFound, SourceUnreadable
from reopen.pool import Advance, Part, Stopped, can_fork, run_parts
from reopen.sources import VERSIONS_FOLDER
from reopen.sources.files import SCAN, Selection, SourceFile, Stamp, text_name, unreadable
from reopen.storage.entries import names_of
from reopen.storage.folders import Folders

# Without O_NONBLOCK a pipe that took a file's place would hold the snapshot up for ever.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FORMAT = 0o170000
_REGULAR, _FOLDER, _SYMLINK = 0o100000, 0o040000, 0o120000
_KINDS = ("file", "dir", "symlink", "special")
_STATUS_FIELDS = (
    "st_mode",
    "st_ino",
    "st_dev",
    "st_nlink",
    "st_uid",
    "st_gid",
    "st_size",
    "st_mtime_ns",
    "st_ctime_ns",
)
_ROWS_AT_ONCE = 8192
_ENTRIES_WORTH_PROCESSES = 20_000
"""A tree that is no larger is scanned before other processes would have begun to help."""
_PARTS_A_PROCESS = 8
"""Folders differ in size: with several parts each, all processes end at about the same time."""
_NO_STATUS = os.stat("/")
"""Stands for a status that could not be had; its numbers are masked."""
_NANOSECONDS = 1_000_000_000


class LocalFiles:
    """A folder on a local file system."""

    def __init__(self, root: str, selection: Selection) -> None:
        self._root = os.fsencode(root)
        self._selection = selection
        self._folders = Folders(self._root)

    @property
    def url(self) -> str:
        return os.fsdecode(self._root)

    def scan(self, *, processes: int = 1) -> pa.Table:
        entries, pending = _Entries(), [""]
        self._walk(pending, entries, until=_ENTRIES_WORTH_PROCESSES if processes > 1 else None)
        if pending:
            self._walk_apart(pending, entries, processes)
        return entries.to_table(every_folder=self._selection.keeps_every_folder)

    def _walk(self, pending: list[str], entries: _Entries, until: int | None = None) -> None:
        """List the pending folders and what lies in them, or stop when so many entries were found and there is enough
        left for others."""
        folders = Folders(self._root)
        while pending:
            if until is not None and len(entries.paths) >= until and len(pending) > 1:
                return
            prefix = pending.pop()
            try:
                descriptor = folders.folder(os.fsencode(prefix.rstrip("/"))).descriptor
                below = self._list(descriptor, prefix, entries)
            except FileNotFoundError:
                if prefix:
                    continue  # Removed since its parent was listed: it is recorded as it was then, empty.
                raise self._no_root() from None
            except OSError as error:
                if not prefix and error.errno == errno.ENOTDIR:
                    raise SourceUnreadable(
                        f"{self.url} is no folder.",
                        hint="A dataset is a folder: correct the path of the contract's server. For one file in it, "
                        "name the folder, and the file below `include`.",
                        path=self.url,
                    ) from error
                if not prefix:
                    raise SourceUnreadable(
                        f"{self.url} cannot be listed: {error.strerror}.",
                        hint="Give the user that takes snapshots the right to read it.",
                        path=self.url,
                    ) from error
                entries.unlisted[prefix.rstrip("/")] = f"cannot be listed: {error.strerror}"
                continue
            pending.extend(below)

    def _walk_apart(self, pending: list[str], entries: _Entries, processes: int) -> None:
        """List the pending folders in several processes: examining an entry holds the interpreter's lock for most of
        its time."""
        count = min(len(pending), processes * _PARTS_A_PROCESS)

        def prepare() -> Part:
            def walk(number: int, advance: Advance, stopped: Stopped) -> _Entries:
                found = _Entries()
                self._walk(pending[number::count], found)
                found.settle()
                return found

            return walk

        for found in run_parts(
            prepare, count, at_once=processes, fork=can_fork(), advance=lambda _: None, purpose="the scan"
        ):
            entries.absorb(found)

    def open(self, name: bytes) -> SourceFile:
        folder, _, base = name.rpartition(b"/")
        try:
            try:
                descriptor = os.open(base, _FILE_FLAGS, dir_fd=self._folders.folder(folder).descriptor)
            except FileNotFoundError:
                # The folder that is open may be one that was replaced since by another of its name.
                self._folders.forget()
                descriptor = os.open(base, _FILE_FLAGS, dir_fd=self._folders.folder(folder).descriptor)
        except FileNotFoundError:
            raise
        except OSError as error:
            path = os.path.join(self._root, name)
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                raise FileNotFoundError(path) from error  # Something else took its place (I4).
            raise unreadable(path, error) from error
        return _LocalFile(descriptor, self._root, name)

    def _list(self, descriptor: int, prefix: str, entries: _Entries) -> list[str]:
        """Add a folder's entries; returns the prefixes of the folders among them."""
        below: list[str] = []
        selection = None if self._selection.everything else self._selection
        paths, statuses = entries.paths, entries.statuses
        with os.scandir(descriptor) as found:
            for entry in found:
                if entry.name == VERSIONS_FOLDER:
                    continue
                path = prefix + entry.name
                if selection is not None and _left_out(selection, entry, path):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                    kind = status.st_mode & _FORMAT
                    if kind == _SYMLINK:
                        entries.targets[len(entries.paths)] = os.readlink(entry.name, dir_fd=descriptor)
                    elif kind == _FOLDER:
                        below.append(path + "/")
                except FileNotFoundError:
                    continue
                except OSError as error:
                    # A folder that may be listed but not entered shows names and kinds, nothing else (I1).
                    entries.add_unexamined(path, _listed_kind(entry), f"cannot be examined: {error.strerror or error}")
                    continue
                paths.append(path)
                statuses.append(status)
                if len(statuses) >= _ROWS_AT_ONCE:
                    entries.settle()
        return below

    def _no_root(self) -> NotFound:
        return NotFound(
            f"{self.url} does not exist, so there is nothing to protect.",
            hint="Is the disk mounted, and is the contract's server path right? Earlier snapshots are untouched.",
            path=self.url,
        )


class _LocalFile:
    __slots__ = ("_descriptor", "_name", "_root", "_status")

    def __init__(self, descriptor: int, root: bytes, name: bytes) -> None:
        self._descriptor = descriptor
        self._root = root
        self._name = name
        self._status: os.stat_result | None = os.fstat(descriptor)
        if self._status.st_mode & _FORMAT != _REGULAR:
            os.close(descriptor)
            raise FileNotFoundError(os.path.join(root, name))

    def readinto(self, buffer: memoryview) -> int:
        try:
            return os.readv(self._descriptor, [buffer])
        except OSError as error:
            raise unreadable(os.path.join(self._root, self._name), error) from error

    def stamp(self) -> Stamp:
        # What was asked when it was opened serves for the first stamp.
        status, self._status = self._status, None
        if status is None:
            try:
                status = os.fstat(self._descriptor)
            except OSError as error:
                raise unreadable(os.path.join(self._root, self._name), error) from error
        return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, _signed(status.st_ino))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


class _Entries:
    """What a scan found, by row in the order of finding. ``statuses`` are those of the rows that are not settled yet,
    ``targets`` says by row where symlinks lead, ``unlisted`` by path why a folder could not be listed."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.targets: dict[int, str] = {}
        self.unlisted: dict[str, str] = {}
        self._errors: dict[int, str] = {}
        self._unexamined: dict[int, str] = {}
        self.statuses: list[os.stat_result] = []
        self._numbers: list[NDArray[np.int64]] = []

    def add_unexamined(self, path: str, kind: str, error: str) -> None:
        """An entry of which only name and kind are known."""
        self._unexamined[len(self.paths)] = kind
        self._errors[len(self.paths)] = error
        self.paths.append(path)
        self.statuses.append(_NO_STATUS)

    def absorb(self, other: _Entries) -> None:
        """Take over what another found."""
        self.settle()
        start = len(self.paths)
        self.paths += other.paths
        self._numbers += other._numbers
        self.unlisted |= other.unlisted
        for mine, theirs in (
            (self.targets, other.targets),
            (self._errors, other._errors),
            (self._unexamined, other._unexamined),
        ):
            mine |= {row + start: text for row, text in theirs.items()}

    def to_table(self, *, every_folder: bool) -> pa.Table:
        """The entries in the order of their names, schema :data:`reopen.sources.files.SCAN`."""
        self.settle()
        count = len(self.paths)
        if self.unlisted:
            self._errors |= {row: self.unlisted[path] for row, path in enumerate(self.paths) if path in self.unlisted}
        numbers = (
            np.concatenate(self._numbers, axis=1) if self._numbers else np.zeros((len(_STATUS_FIELDS), 0), np.int64)
        )
        mode, inode, device, links, uid, gid, size, mtime, ctime = numbers
        kinds = _kinds(mode)
        for row, kind in self._unexamined.items():
            kinds[row] = _KINDS.index(kind)
        unknown = np.zeros(count, dtype=np.bool_)
        unknown[list(self._unexamined)] = True
        not_file = (kinds != 0) | unknown
        paths, raws = _names(self.paths)
        targets = {row: text_name(os.fsencode(target)) for row, target in self.targets.items()}
        linked = np.flatnonzero((links > 1) & ~not_file)
        groups = {int(row): f"{device[row].view(np.uint64):x}:{inode[row].view(np.uint64):x}" for row in linked}
        columns = {
            "path": paths,
            "path_raw": raws,
            "type": _words(kinds, _KINDS),
            "size_bytes": pa.array(np.where(not_file, 0, size)),
            "mode": pa.array((mode & 0o7777).astype(np.int32), mask=unknown),
            "uid": pa.array(uid, mask=unknown),
            "gid": pa.array(gid, mask=unknown),
            "owner": _accounts(uid, unknown, _user),
            "group": _accounts(gid, unknown, _group),
            "mtime_s": pa.array(mtime // _NANOSECONDS, mask=unknown),
            "mtime_ns": pa.array((mtime % _NANOSECONDS).astype(np.int32), mask=unknown),
            "ctime_ns": pa.array(ctime, mask=not_file),
            "inode": pa.array(inode, mask=not_file),
            "etag": pa.nulls(count, pa.string()),
            "link_target": _by_row({row: text for row, (text, _) in targets.items()}, count, pa.string()),
            "link_target_raw": _by_row({row: raw for row, (_, raw) in targets.items()}, count, pa.binary()),
            "link_group": _by_row(groups, count, pa.string()),
            "error": _by_row(self._errors, count, pa.string()),
        }
        table = pa.Table.from_arrays([columns[name] for name in SCAN.names], schema=SCAN)
        if not every_folder:
            table = table.filter(pa.array(self._held(kinds)))
        return table.take(pc.sort_indices(names_of(table)))

    def settle(self) -> None:
        """Turn the statuses at hand into numbers (L1)."""
        count = len(self.statuses)
        if count == 0:
            return
        settled = np.empty((len(_STATUS_FIELDS), count), np.int64)
        for column, name in zip(settled, _STATUS_FIELDS, strict=True):
            values = map(attrgetter(name), self.statuses)
            # Inodes and devices are u64, kept in two's complement.
            column[:] = np.fromiter(values, np.uint64 if name in ("st_ino", "st_dev") else np.int64, count).view(
                np.int64
            )
        self._numbers.append(settled)
        self.statuses.clear()

    def _held(self, kinds: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which entries stay where folders are kept only for what they hold. One that could not be read stays: what it
        holds is not known, and that must be seen (I1)."""
        is_folder = kinds == 1
        kept = [path for row, path in enumerate(self.paths) if not is_folder[row] or row in self._errors]
        holders = {parent for path in kept for parent in _parents(path)}
        held = [row in self._errors or path in holders for row, path in enumerate(self.paths)]
        return np.asarray(~is_folder | np.array(held), dtype=np.bool_)


def _left_out(selection: Selection, entry: os.DirEntry[str], path: str) -> bool:
    is_folder = entry.is_dir(follow_symlinks=False)
    return selection.leaves_out(path, folder=is_folder) or (not is_folder and not selection.takes(path))


def _listed_kind(entry: os.DirEntry[str]) -> str:
    """The kind that the listing itself states."""
    if entry.is_symlink():
        return "symlink"
    if entry.is_dir(follow_symlinks=False):
        return "dir"
    return "file" if entry.is_file(follow_symlinks=False) else "special"


def _kinds(mode: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of :data:`_KINDS`."""
    form = mode & _FORMAT
    return np.asarray(np.select([form == _REGULAR, form == _FOLDER, form == _SYMLINK], [0, 1, 2], 3), dtype=np.int64)


def _words(numbers: NDArray[np.int64], words: tuple[str, ...]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(numbers.astype(np.int8)), pa.array(words)).cast(pa.string())


def _names(paths: list[str]) -> tuple[pa.Array, pa.Array]:
    """Names as text, and as bytes where they are not UTF-8 (I2)."""
    try:
        return pa.array(paths, pa.string()), pa.nulls(len(paths), pa.binary())
    except UnicodeEncodeError:
        # The operating system's bytes that are no text came as lone surrogates.
        names = [text_name(os.fsencode(path)) for path in paths]
        return pa.array([text for text, _ in names], pa.string()), pa.array([raw for _, raw in names], pa.binary())


def _by_row(values: Mapping[int, Any], count: int, kind: pa.DataType) -> pa.Array:
    """A column that is null but for a few rows."""
    return pa.array([values.get(row) for row in range(count)], kind) if values else pa.nulls(count, kind)


def _accounts(numbers: NDArray[np.int64], unknown: NDArray[np.bool_], name_of: Callable[[int], str | None]) -> pa.Array:
    """The names of users or groups, each looked up once."""
    distinct, codes = np.unique(numbers, return_inverse=True)
    words = pa.array([name_of(int(number)) for number in distinct], pa.string())
    return words.take(pa.array(codes.reshape(-1), mask=unknown))


@lru_cache
def _user(number: int) -> str | None:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return None


@lru_cache
def _group(number: int) -> str | None:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return None


def _parents(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _signed(inode: int) -> int:
    return inode - (1 << 64) if inode >= 1 << 63 else inode
