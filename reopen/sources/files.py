"""Owns what the kind ``files`` is: a tree that can be scanned and whose files can be opened, and which names it takes.

A folder on a local file system is :mod:`reopen.sources.local`, a prefix on any fsspec file system
:mod:`reopen.sources.remote`.

Invariants
    I1  A listing that fails is an error or a recorded unreadable folder, never an empty listing: a root that does not
        exist raises, so a dataset whose disk is not mounted is not taken for one whose files were deleted.
    I2  Names are bytes; what is not UTF-8 keeps its bytes in ``path_raw``.
    I3  The scan table is sorted bytewise by name and has the columns of :data:`reopen.vault.tables.MANIFEST` that a
        scan can know; the rest is filled in while the files are read.
    I4  A file is opened without following a symlink that took its place, or that of a folder above it, since the scan.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import pyarrow as pa

from reopen.errors import SourceUnreadable
from reopen.storage import local_path
from reopen.storage.entries import ENTRY_FIELDS

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

SCAN = pa.schema([*ENTRY_FIELDS, pa.field("error", pa.string())])
"""What a scan knows of an entry; ``error`` is set for a folder that could not be listed and for an entry that could not
be examined, of which only name and kind are known."""


class Stamp(NamedTuple):
    """What tells whether a file changed: size, modification time and, where there are, change time and inode. A tuple,
    because two are made for each file that is read."""

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

    def scan(self, *, processes: int = 1) -> pa.Table:
        """Every entry, schema :data:`SCAN` (I1, I3).

        :param processes: how many may list a large tree at a time.
        """
        ...

    def open(self, name: bytes) -> SourceFile:
        """Open a file by its raw name; ``FileNotFoundError`` when it is gone, ``SourceUnreadable`` otherwise."""
        ...


def open_source(url: str, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> FileSource:
    """The source behind a path or URL, restricted by gitignore-style patterns."""
    from reopen.sources.local import LocalFiles
    from reopen.sources.remote import RemoteFiles

    chosen = Selection(include, exclude)
    path = local_path(url)
    return LocalFiles(path, chosen) if path is not None else RemoteFiles(url, chosen)


class Selection:
    """Which names a contract protects: all, or what ``include`` matches, less what ``exclude`` matches."""

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = _compiled(include)
        self._exclude = _compiled(exclude)

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


def _compiled(patterns: Iterable[str]) -> GitIgnoreSpec | None:
    """What matches these patterns; None where there are none, as in most contracts."""
    patterns = tuple(patterns)
    if not patterns:
        return None
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(patterns)


def text_name(name: bytes) -> tuple[str, bytes | None]:
    """A name as text, and its bytes when the text cannot hold them (I2)."""
    try:
        return name.decode("utf-8"), None
    except UnicodeDecodeError:
        return name.decode("utf-8", "backslashreplace"), name


def unreadable(path: bytes, error: OSError) -> SourceUnreadable:
    """The error of a file or folder that the operating system does not let us read."""
    reason = error.strerror or type(error).__name__
    return SourceUnreadable(f"{os.fsdecode(path)} cannot be read: {reason}.", path=os.fsdecode(path), reason=reason)
