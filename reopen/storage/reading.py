"""Owns reading objects as files, for a library that takes a file system of fsspec's: DuckDB, which has no network of
its own here (its extension for it would have to be downloaded).

Invariants
    R1  Nothing but what lies below the given URLs can be named, and nothing can be written.
    R2  What there is, is listed once: all queries of one database see the same files.
    R3  Nothing is kept but :data:`WINDOW_BYTES` for each open file and thread. What is read again is asked for again,
        unless the library keeps it within its own limit, as DuckDB does.
    R4  A store that does not answer is not a damaged file: :attr:`ReadOnlyObjects.trouble` has the first such error.

Threads may share one, and a file as well: each has a position of its own, because DuckDB seeks and reads in two calls.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fsspec.spec import AbstractFileSystem

from reopen.errors import Corrupt, NotFound, ReopenError
from reopen.storage import open_store
from reopen.storage.base import ObjectInfo, ObjectStore
from reopen.storage.objects import OBJECT_SCHEMES
from reopen.storage.patterns import matches

WINDOW_BYTES = 1 << 20
"""What one request brings at least: the footer of a Parquet file is read in three small steps."""


class ReadOnlyObjects(AbstractFileSystem):  # type: ignore[misc]
    """Objects below some URLs, as files to be read."""

    cachable = False

    def __init__(self, urls: Iterable[str] = (), *, stores: Mapping[str, ObjectStore] | None = None) -> None:
        """
        :param urls: what may be read; see :meth:`lend`.
        :param stores: what to read each URL through, for whoever has it open already.
        """
        super().__init__()
        self.protocol = OBJECT_SCHEMES
        self.trouble: ReopenError | None = None
        self._stores = stores or {}
        self._found: dict[str, dict[str, tuple[ObjectStore, ObjectInfo]]] = {}
        self._objects: dict[str, tuple[ObjectStore, ObjectInfo]] = {}
        for url in urls:
            self.lend(url)

    def lend(self, url: str) -> None:
        """List what lies below one more URL, so that it can be read.

        :raises NotFound: the bucket is not there. :raises Transient: the store does not answer.
        """
        url = url.rstrip("/")
        if url not in self._found:
            store = self._stores.get(url) or open_store(url)
            self._found[url] = {f"{url}/{info.name}": (store, info) for info in store.list()}
            self._objects |= self._found[url]

    def sizes(self, url: str) -> dict[str, int]:
        """Bytes of each object below one of the URLs, by its name there."""
        root = url.rstrip("/")
        return {path[len(root) + 1 :]: info.size_bytes for path, (_, info) in self._found[root].items()}

    def open(self, path: str, mode: str = "rb", **options: Any) -> _LentReader:
        """Open an object.

        :raises PermissionError: to be written.
        """
        if set(mode) - {"r", "b"}:
            raise PermissionError(f"{path} is only read here")
        store, info = self._known(path)
        return _LentReader(self, store, info)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Name, size and time of an object."""
        _, info = self._known(path)
        return {"name": path, "size": info.size_bytes, "type": "file", "mtime": info.modified_at}

    def exists(self, path: str, **options: Any) -> bool:
        """Whether there is such an object."""
        return path in self._objects

    def isfile(self, path: str) -> bool:
        """Whether there is such an object; all of them are files."""
        return path in self._objects

    def isdir(self, path: str) -> bool:
        """Never: there are no folders."""
        return False

    def size(self, path: str) -> int:
        """Bytes of an object."""
        return self._known(path)[1].size_bytes

    def modified(self, path: str) -> datetime:
        """When an object was written."""
        return self._known(path)[1].modified_at

    def glob(self, path: str, maxdepth: int | None = None, **options: Any) -> list[str]:
        """The objects that a pattern means, in order."""
        if path in self._objects:
            return [path]
        return sorted(name for name in self._objects if matches(name, path))

    def unstrip_protocol(self, name: str) -> str:
        """The name: they have their scheme already."""
        return name

    def _known(self, path: str) -> tuple[ObjectStore, ObjectInfo]:
        if path not in self._objects:
            raise FileNotFoundError(path)
        return self._objects[path]


class ObjectReader:
    """One object, as an open file. Errors are those of the store."""

    mode = "rb"

    def __init__(self, store: ObjectStore, info: ObjectInfo, *, window_bytes: int = WINDOW_BYTES) -> None:
        """
        :param window_bytes: what one request brings at least.
        """
        self._store = store
        self._info = info
        self._window_bytes = window_bytes
        self._local = threading.local()

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move this thread's position."""
        origin = (0, self.tell(), self._info.size_bytes)[whence]
        self._local.position = max(0, origin + offset)
        return self.tell()

    def tell(self) -> int:
        """This thread's position."""
        return int(getattr(self._local, "position", 0))

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer only at the end of the object.

        :raises NotFound: it is gone. :raises Corrupt: it is shorter than it was. :raises Transient: no answer.
        """
        start = self.tell()
        end = self._info.size_bytes if size < 0 else min(self._info.size_bytes, start + size)
        if start >= end:
            return b""
        first, window = getattr(self._local, "window", (0, b""))
        if not first <= start <= end <= first + len(window):
            first, last = start, min(self._info.size_bytes, max(end, start + self._window_bytes))
            window = self._store.get_range(self._info.name, first, last - first)
            # Not more than was asked for ahead: a large read would be held as long as the file is open.
            self._local.window = (first, window) if len(window) <= self._window_bytes else (0, b"")
        self._local.position = end
        return bytes(window[start - first : end - first])

    def close(self) -> None:
        """Let go of what was read ahead."""
        self._local = threading.local()

    def flush(self) -> None:
        """There is nothing to write."""

    def __enter__(self) -> ObjectReader:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()


class _LentReader(ObjectReader):
    """The same for a library, which knows ``OSError``; the owner keeps what is no fault of the file (R4)."""

    def __init__(self, owner: ReadOnlyObjects, store: ObjectStore, info: ObjectInfo) -> None:
        super().__init__(store, info)
        self._owner = owner

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer only at the end of the object.

        :raises OSError: the object is gone, shorter than it was, or the store does not answer.
        """
        try:
            return super().read(size)
        except (Corrupt, NotFound) as error:
            raise OSError(error.message) from error
        except ReopenError as error:
            self._owner.trouble = self._owner.trouble or error
            raise OSError(error.message) from error
