"""Owns the files of a prefix on any fsspec file system: names, sizes, times and ETags.

There are no modes, links or empty folders there.
I1 to I4 are the invariants of :mod:`reopen.sources.files`.
"""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from reopen.errors import NotFound, Transient
from reopen.sources import VERSIONS_FOLDER
from reopen.sources.files import SCAN, Selection, SourceFile, Stamp, unreadable
from reopen.storage import open_filesystem
from reopen.storage.filesystem import modified_at_of, walk_files


class RemoteFiles:
    """A prefix on an fsspec file system: names, sizes, times and ETags; no modes, links or empty folders."""

    def __init__(self, url: str, selection: Selection) -> None:
        self._url = url
        self._filesystem, self._root = open_filesystem(url)
        self._selection = selection

    @property
    def url(self) -> str:
        return self._url

    def scan(self, *, processes: int = 1) -> pa.Table:
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
        rows: list[dict[str, Any]] = []
        for full, info in found:
            path = full[len(self._root) :].lstrip("/")
            if not path or self._left_out(path) or not self._selection.takes(path):
                continue
            modified_ns = _unix_ns(modified_at_of(info))
            rows.append(
                {
                    "path": path,
                    "type": "file",
                    "size_bytes": int(info.get("size") or 0),
                    "mtime_s": modified_ns // 1_000_000_000,
                    "mtime_ns": modified_ns % 1_000_000_000,
                    "etag": _etag(info),
                }
            )
        return pa.Table.from_pylist(rows, schema=SCAN).sort_by("path")

    def open(self, name: bytes) -> SourceFile:
        return _RemoteFile(self._filesystem, f"{self._root}/{name.decode()}")

    def _left_out(self, path: str) -> bool:
        parts = path.split("/")
        folders = ("/".join(parts[:count]) for count in range(1, len(parts)))
        if VERSIONS_FOLDER in parts[:-1]:
            return True
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
            raise unreadable(path.encode(), error) from error

    def readinto(self, buffer: memoryview) -> int:
        try:
            data = self._file.read(len(buffer))
        except OSError as error:
            raise unreadable(self._path.encode(), error) from error
        buffer[: len(data)] = data
        return len(data)

    def stamp(self) -> Stamp:
        try:
            info = self._filesystem.info(self._path)
        except OSError as error:
            raise unreadable(self._path.encode(), error) from error
        return Stamp(size_bytes=int(info.get("size") or 0), mtime_ns=_unix_ns(modified_at_of(info)), etag=_etag(info))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _unix_ns(instant: datetime) -> int:
    return int(instant.timestamp() * 1_000_000) * 1000


def _etag(info: dict[str, Any]) -> str | None:
    value = info.get("ETag") or info.get("e_tag") or info.get("etag")
    return str(value) if value else None
