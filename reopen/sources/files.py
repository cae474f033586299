"""Owns the kind ``files``: a folder on the local file system or a prefix on any fsspec file system.

Invariants
    I1  A listing that fails is an error or a recorded unreadable folder, never an empty listing: a root that does not
        exist raises, so a dataset whose disk is not mounted is not taken for one whose files were deleted.
    I2  Names are bytes; what is not UTF-8 keeps its bytes in ``path_raw``.
    I3  The scan table is sorted bytewise by name and has the columns of :data:`reopen.vault.tables.MANIFEST` that a
        scan can know; the rest is filled in while the files are read.
    I4  A file is opened without following a symlink that took its place since the scan.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self

import pathspec
import pyarrow as pa

from reopen.errors import NotFound, SourceUnreadable, Transient
from reopen.storage import local_path, open_filesystem
from reopen.storage.entries import ENTRY_FIELDS
from reopen.storage.filesystem import modified_at_of, walk_files

SCAN = pa.schema([*ENTRY_FIELDS, pa.field("error", pa.string())])
"""What a scan knows of an entry; ``error`` is set for a folder that could not be listed and for an entry that could not
be examined, of which only name and kind are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What tells whether a file changed: size, modification time and, where there are, change time and inode."""

    size_bytes: int
    mtime_ns: int | None
    ctime_ns: int | None = None
    inode: int | None = None
    etag: str | None = None


class SourceFile(Protocol):
    """One open file of a source."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer; 0 is the end. OS errors come out as ``SourceUnreadable``."""
        ...

    def stamp(self) -> Stamp:
        """The file's stamp now."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class FileSource(Protocol):
    """A tree of files that can be protected."""

    @property
    def url(self) -> str:
        """Where it is."""
        ...

    def scan(self) -> pa.Table:
        """Every entry, schema :data:`SCAN` (I1, I3)."""
        ...

    def open(self, name: bytes) -> SourceFile:
        """Open a file by its raw name; ``FileNotFoundError`` when it is gone, ``SourceUnreadable`` otherwise."""
        ...


def open_source(url: str, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> FileSource:
    """The source behind a path or URL, restricted by gitignore-style patterns."""
    chosen = Selection(include, exclude)
    path = local_path(url)
    return LocalFiles(path, chosen) if path is not None else RemoteFiles(url, chosen)


class Selection:
    """Which names a contract protects: all, or what ``include`` matches, less what ``exclude`` matches."""

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        include, exclude = tuple(include), tuple(exclude)
        self._include = pathspec.GitIgnoreSpec.from_lines(include) if include else None
        self._exclude = pathspec.GitIgnoreSpec.from_lines(exclude) if exclude else None

    @property
    def everything(self) -> bool:
        """Whether no pattern restricts the dataset."""
        return self._include is None and self._exclude is None

    @property
    def keeps_every_folder(self) -> bool:
        """Whether a folder is kept for its own sake; under ``include`` it is kept only for what lies in it."""
        return self._include is None

    def leaves_out(self, path: str, *, folder: bool) -> bool:
        """Whether a name is excluded; an excluded folder takes everything below with it."""
        return self._exclude is not None and self._exclude.match_file(path + "/" if folder else path)

    def takes(self, path: str) -> bool:
        """Whether a file is included."""
        return self._include is None or self._include.match_file(path)


class _Columns:
    """Entries as columns while a scan runs: one list a column, no object an entry."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.values: dict[str, list[Any]] = {field.name: [] for field in SCAN if field.name not in ("path", "path_raw")}

    def add(self, name: bytes, **values: Any) -> None:
        self.names.append(name)
        for column, items in self.values.items():
            items.append(values.get(column))

    def to_table(self, wanted_folders: bool) -> pa.Table:
        paths, raws = [], []
        for name in self.names:
            path, raw = text_name(name)
            paths.append(path)
            raws.append(raw)
        arrays = {"path": pa.array(paths, pa.string()), "path_raw": pa.array(raws, pa.binary())}
        for field in SCAN:
            if field.name in self.values:
                arrays[field.name] = pa.array(self.values[field.name], field.type)
        keep = list(range(len(self.names)))
        if not wanted_folders:
            holders = {parent for name in self._kept_files() for parent in _parents(name)}
            types, errors = self.values["type"], self.values["error"]
            # A folder that could not be read stays: what it holds is not known, and that must be seen (I1).
            keep = [row for row in keep if types[row] != "dir" or errors[row] or self.names[row] in holders]
        order = sorted(keep, key=self.names.__getitem__)
        table = pa.Table.from_arrays([arrays[field.name] for field in SCAN], schema=SCAN)
        return table.take(pa.array(order, pa.int64()))

    def _kept_files(self) -> Iterable[bytes]:
        facts = zip(self.names, self.values["type"], self.values["error"], strict=True)
        return (name for name, kind, error in facts if kind != "dir" or error)


class LocalFiles:
    """A folder on a local file system, with everything that restores it: modes, times, links, odd names."""

    def __init__(self, root: str, selection: Selection) -> None:
        self._root = os.fsencode(root)
        self._selection = selection

    @property
    def url(self) -> str:
        return os.fsdecode(self._root)

    def scan(self) -> pa.Table:
        columns = _Columns()
        names = _AccountNames()
        pending: list[tuple[bytes, bytes]] = [(self._root, b"")]
        while pending:
            folder, prefix = pending.pop()
            try:
                with os.scandir(folder) as found:
                    entries = list(found)
            except FileNotFoundError:
                if prefix:
                    continue  # Removed since its parent was listed: it is recorded as it was then, empty.
                raise self._no_root() from None
            except OSError as error:
                if not prefix:
                    raise SourceUnreadable(
                        f"{self.url} cannot be listed: {error.strerror}.",
                        hint="Give the user that takes snapshots the right to read it.",
                        path=self.url,
                    ) from error
                _mark_unreadable(columns, prefix.rstrip(b"/"), error)
                continue
            for entry in entries:
                name = prefix + entry.name
                if self._add(columns, names, entry, name):
                    pending.append((entry.path, name + b"/"))
        return columns.to_table(wanted_folders=self._selection.keeps_every_folder)

    def open(self, name: bytes) -> SourceFile:
        path = os.path.join(self._root, name)
        try:
            # Without O_NONBLOCK a pipe that took the file's place would hold the snapshot up for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                raise FileNotFoundError(path) from error  # Something else took its place (I4).
            raise _unreadable(path, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(path)
        return _LocalFile(descriptor, path)

    def _add(self, columns: _Columns, names: _AccountNames, entry: os.DirEntry[bytes], name: bytes) -> bool:
        is_folder = entry.is_dir(follow_symlinks=False)
        if not self._selection.everything:
            path = name.decode("utf-8", "surrogateescape")
            if self._selection.leaves_out(path, folder=is_folder):
                return False
            if not is_folder and not self._selection.takes(path):
                return False
        try:
            status = entry.stat(follow_symlinks=False)
            target = os.readlink(entry.path) if stat.S_ISLNK(status.st_mode) else None
        except FileNotFoundError:
            return False
        except OSError as error:
            # A folder that may be listed but not entered shows names and kinds, nothing else (I1).
            columns.add(
                name, type=_listed_kind(entry), size_bytes=0, error=f"cannot be examined: {error.strerror or error}"
            )
            return False
        kind = _kind(status.st_mode)
        text_target, raw_target = text_name(target) if target is not None else (None, None)
        columns.add(
            name,
            type=kind,
            size_bytes=status.st_size if kind == "file" else 0,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            owner=names.user(status.st_uid),
            group=names.group(status.st_gid),
            mtime_s=status.st_mtime_ns // 1_000_000_000,
            mtime_ns=status.st_mtime_ns % 1_000_000_000,
            ctime_ns=status.st_ctime_ns if kind == "file" else None,
            inode=_signed(status.st_ino) if kind == "file" else None,
            link_target=text_target,
            link_target_raw=raw_target,
            link_group=f"{status.st_dev:x}:{status.st_ino:x}" if kind == "file" and status.st_nlink > 1 else None,
        )
        return kind == "dir"

    def _no_root(self) -> NotFound:
        return NotFound(
            f"{self.url} does not exist, so there is nothing to protect.",
            hint="Is the disk mounted, and is the contract's server path right? Earlier snapshots are untouched.",
            path=self.url,
        )


class _LocalFile:
    def __init__(self, descriptor: int, path: bytes) -> None:
        self._descriptor = descriptor
        self._path = path

    def readinto(self, buffer: memoryview) -> int:
        try:
            return os.readv(self._descriptor, [buffer])
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def stamp(self) -> Stamp:
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise _unreadable(self._path, error) from error
        return Stamp(
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            inode=_signed(status.st_ino),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


class RemoteFiles:
    """A prefix on an fsspec file system: names, sizes, times and ETags; no modes, links or empty folders."""

    def __init__(self, url: str, selection: Selection) -> None:
        self._url = url
        self._filesystem, self._root = open_filesystem(url)
        self._selection = selection

    @property
    def url(self) -> str:
        return self._url

    def scan(self) -> pa.Table:
        try:
            self._filesystem.invalidate_cache()
            # Not exists(): that takes any failure for absence.
            self._filesystem.info(self._root)
            found = list(walk_files(self._filesystem, self._root))
        except FileNotFoundError as error:
            raise NotFound(
                f"{self._url} does not exist, so there is nothing to protect.",
                hint="Check the contract's server location and the credentials. Earlier snapshots are untouched.",
            ) from error
        except OSError as error:
            raise Transient(f"{self._url} cannot be listed: {error}.") from error
        columns = _Columns()
        for full, info in found:
            path = full[len(self._root) :].lstrip("/")
            if not path or self._left_out(path) or not self._selection.takes(path):
                continue
            modified_ns = _unix_ns(modified_at_of(info))
            columns.add(
                path.encode(),
                type="file",
                size_bytes=int(info.get("size") or 0),
                mtime_s=modified_ns // 1_000_000_000,
                mtime_ns=modified_ns % 1_000_000_000,
                etag=_etag(info),
            )
        return columns.to_table(wanted_folders=True)

    def open(self, name: bytes) -> SourceFile:
        return _RemoteFile(self._filesystem, f"{self._root}/{name.decode()}")

    def _left_out(self, path: str) -> bool:
        parts = path.split("/")
        folders = ("/".join(parts[:count]) for count in range(1, len(parts)))
        return self._selection.leaves_out(path, folder=False) or any(
            self._selection.leaves_out(folder, folder=True) for folder in folders
        )


class _RemoteFile:
    def __init__(self, filesystem: Any, path: str) -> None:
        self._filesystem = filesystem
        self._path = path
        try:
            # Asked first: some file systems complain on the terminal about a file that went while it was opened.
            filesystem.info(path)
            self._file = filesystem.open(path, "rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unreadable(path.encode(), error) from error

    def readinto(self, buffer: memoryview) -> int:
        try:
            data = self._file.read(len(buffer))
        except OSError as error:
            raise _unreadable(self._path.encode(), error) from error
        buffer[: len(data)] = data
        return len(data)

    def stamp(self) -> Stamp:
        try:
            info = self._filesystem.info(self._path)
        except OSError as error:
            raise _unreadable(self._path.encode(), error) from error
        return Stamp(size_bytes=int(info.get("size") or 0), mtime_ns=_unix_ns(modified_at_of(info)), etag=_etag(info))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class _AccountNames:
    """User and group names by number, looked up once."""

    def __init__(self) -> None:
        self._users: dict[int, str | None] = {}
        self._groups: dict[int, str | None] = {}

    def user(self, number: int) -> str | None:
        if number not in self._users:
            import pwd

            try:
                self._users[number] = pwd.getpwuid(number).pw_name
            except KeyError:
                self._users[number] = None
        return self._users[number]

    def group(self, number: int) -> str | None:
        if number not in self._groups:
            import grp

            try:
                self._groups[number] = grp.getgrgid(number).gr_name
            except KeyError:
                self._groups[number] = None
        return self._groups[number]


def text_name(name: bytes) -> tuple[str, bytes | None]:
    """A name as text, and its bytes when the text cannot hold them (I2)."""
    try:
        return name.decode("utf-8"), None
    except UnicodeDecodeError:
        return name.decode("utf-8", "backslashreplace"), name


def _parents(name: bytes) -> Iterable[bytes]:
    parts = name.split(b"/")
    return (b"/".join(parts[:count]) for count in range(1, len(parts)))


def _mark_unreadable(columns: _Columns, name: bytes, error: OSError) -> None:
    row = columns.names.index(name)
    columns.values["error"][row] = f"cannot be listed: {error.strerror}"


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "dir"
    return "symlink" if stat.S_ISLNK(mode) else "special"


def _listed_kind(entry: os.DirEntry[bytes]) -> str:
    """The kind that the listing itself states."""
    if entry.is_symlink():
        return "symlink"
    if entry.is_dir(follow_symlinks=False):
        return "dir"
    return "file" if entry.is_file(follow_symlinks=False) else "special"


def _signed(inode: int) -> int:
    return inode - (1 << 64) if inode >= 1 << 63 else inode


def _unix_ns(instant: datetime) -> int:
    return int(instant.timestamp() * 1_000_000) * 1000


def _etag(info: dict[str, Any]) -> str | None:
    value = info.get("ETag") or info.get("e_tag") or info.get("etag")
    return str(value) if value else None


def _unreadable(path: bytes, error: OSError) -> SourceUnreadable:
    reason = error.strerror or type(error).__name__
    return SourceUnreadable(f"{os.fsdecode(path)} cannot be read: {reason}.", path=os.fsdecode(path), reason=reason)
