"""Owns remote folders that data is restored into and read back from: S3, GCS and Azure through our own store, anything
else through fsspec.

A vault's store (:mod:`reopen.storage.base`) takes one write for each object and ASCII names; a place takes what a
dataset has: files of any size and any name.

Invariants
    L1  A file is there whole or not at all, where the store has that: an upload in parts shows nothing until its end.
    L2  Errors are those of :mod:`reopen.errors`: ``NotFound`` (file or bucket), ``TargetUnwritable``, ``Refused``,
        ``Transient``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from reopen.errors import NotFound, Refused, ReopenError, TargetUnwritable, Transient, VaultUnwritable
from reopen.storage.filesystem import is_object_store, open_filesystem, walk_files
from reopen.storage.objects import ObstoreStore

COPY_BYTES_MAX = 5_000_000_000
"""The largest object that S3 copies in one request."""
SEQUENTIAL_BYTES = 8 << 20
"""What one request brings of a file that is read from front to back."""

_AGAIN = "Run the same command again: it goes on where it stopped."


class Readable(Protocol):
    """An open file."""

    def read(self, size: int) -> bytes:
        """The next bytes, at most so many."""
        ...


class Place(Protocol):
    """A remote folder."""

    @property
    def url(self) -> str:
        """Where it is."""
        ...

    def sizes(self) -> dict[str, int]:
        """Bytes of every file below, by name; empty when nothing is there."""
        ...

    def top(self) -> tuple[Sequence[str], Sequence[str]]:
        """Names of the folders and of the files right below, sorted."""
        ...

    def open(self, name: str) -> Any:
        """A :class:`Readable` of a file, as a context manager."""
        ...

    def put_file(self, made: Path, name: str) -> None:
        """Write a file from a local one, or replace it."""
        ...

    def copy_from(self, url: str, source: str, name: str) -> bool:
        """Let the server copy a file below another URL to here, without a byte passing through; whether it did. What it
        refuses, or is not asked for because it is on another server, is only not copied."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; one that is gone is not an error."""
        ...


def open_place(url: str) -> Place:
    """The place behind a URL; nothing is asked yet.

    :raises InvalidInput: a scheme that no installed package serves.
    """
    return ObjectPlace(url) if is_object_store(url) else FilesPlace(url)


class ObjectPlace:
    """A prefix of a bucket."""

    def __init__(self, url: str) -> None:
        self._store = ObstoreStore(url)

    @property
    def url(self) -> str:
        return self._store.url

    def sizes(self) -> dict[str, int]:
        return {info.name: info.size_bytes for info in self._store.list()}

    def top(self) -> tuple[Sequence[str], Sequence[str]]:
        return self._store.top()

    @contextmanager
    def open(self, name: str) -> Iterator[Readable]:
        from reopen.storage.reading import ObjectReader

        yield ObjectReader(self._store, self._store.head(name), window_bytes=SEQUENTIAL_BYTES)

    def put_file(self, made: Path, name: str) -> None:
        with _written(self.url):
            self._store.upload(name, made)

    def copy_from(self, url: str, source: str, name: str) -> bool:
        if _bucket(url) != _bucket(self.url):
            return False
        root = ObstoreStore(_bucket(url))
        try:
            root.copy(_key(url, source), _key(self.url, name))
        except ReopenError:
            return False  # It is restored from the vault then, and what is wrong with the store is told there.
        return True

    def delete(self, name: str) -> None:
        with _written(self.url):
            self._store.delete(name)


class FilesPlace:
    """A folder on any other file system of fsspec's."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._filesystem, self._root = open_filesystem(url)

    @property
    def url(self) -> str:
        return self._url

    def sizes(self) -> dict[str, int]:
        try:
            self._filesystem.invalidate_cache()
            found = list(walk_files(self._filesystem, self._root))
        except OSError as error:
            raise Transient(f"{self._url} cannot be listed: {error}.") from error
        return {path[len(self._root) :].lstrip("/"): int(info.get("size") or 0) for path, info in found}

    def top(self) -> tuple[Sequence[str], Sequence[str]]:
        try:
            self._filesystem.invalidate_cache()
            entries = self._filesystem.ls(self._root, detail=True)
        except FileNotFoundError:
            return [], []
        except OSError as error:
            raise Transient(f"{self._url} cannot be listed: {error}.") from error
        named = [(str(info["name"]).rstrip("/").rpartition("/")[2], info["type"] == "directory") for info in entries]
        return sorted(name for name, is_folder in named if is_folder), sorted(
            name for name, is_folder in named if not is_folder
        )

    @contextmanager
    def open(self, name: str) -> Iterator[Readable]:
        try:
            with self._filesystem.open(f"{self._root}/{name}", "rb") as file:
                yield file
        except FileNotFoundError as error:
            raise NotFound(f"{name} is not in {self._url}.") from error
        except PermissionError as error:
            raise Refused(
                f"{self._url} denies access to {name}.", hint="Check the account and its rights there."
            ) from error
        except OSError as error:
            raise Transient(f"{name} in {self._url} cannot be read: {error}.") from error

    def put_file(self, made: Path, name: str) -> None:
        target = f"{self._root}/{name}"
        try:
            self._filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._filesystem.put_file(str(made), target)
        except OSError as error:
            raise TargetUnwritable(f"{self._url} cannot be written: {error}.", hint=_AGAIN) from error

    def copy_from(self, url: str, source: str, name: str) -> bool:
        return False  # What such a server can copy by itself, fsspec does not say.

    def delete(self, name: str) -> None:
        try:
            self._filesystem.rm_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise TargetUnwritable(f"{self._url} cannot be written: {error}.", hint=_AGAIN) from error


@contextmanager
def _written(url: str) -> Iterator[None]:
    try:
        yield
    except (VaultUnwritable, NotFound) as error:
        raise TargetUnwritable(error.message, hint=error.hint or _AGAIN, target=url) from error


def _bucket(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _key(url: str, name: str) -> str:
    below = url.partition("://")[2].partition("/")[2].strip("/")
    return f"{below}/{name}" if below else name
