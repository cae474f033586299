"""Owns the store in a local folder: the reference for every demand in :mod:`reopen.storage.base`.

fsspec's local file system writes in place and never calls fsync, so this one is ours.

Invariants
    I1  A name becomes visible by ``link`` or ``rename`` of a temporary file that was fsynced before (D1, D2).
    I2  The folder is fsynced after the name appears, and so is every folder made for it (D2).
    I3  ``create`` is ``link``: the kernel lets one racer win (D3).
    I4  Temporary files begin with ``.tmp-`` and never end in ``.parquet``, so no listing or glob sees them.

A crash leaves at most temporary files, which nothing refers to.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from reopen.clock import from_unix_ns
from reopen.errors import Conflict, Corrupt, NotFound, Refused, ReopenError, Transient, VaultUnwritable
from reopen.ids import system_random
from reopen.storage.base import Capabilities, ObjectInfo, Piece

TEMPORARY_PREFIX = ".tmp-"

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}
_WRITE_VECTOR_MAX = 512
"""Pieces a single ``writev`` takes; Linux allows 1024."""
_WRITE_BYTES = 1 << 20
"""What is written at once is still in the processor's cache."""


class LocalStore:
    """Objects as files below one folder, which is made on the first write."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root).absolute()
        self._known_folders: set[Path] = set()

    @property
    def url(self) -> str:
        return str(self._root)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(exclusive_create=True)

    def get(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
        except OSError as error:
            raise self._read_error(error, name) from error

    def get_range(self, name: str, start: int, length: int) -> bytes:
        try:
            with open(self._path(name), "rb", buffering=0) as file:
                data = os.pread(file.fileno(), length, start)
                # One pread may return less than asked for (2 GiB limit, signals); only end of file returns nothing.
                while len(data) < length:
                    more = os.pread(file.fileno(), length - len(data), start + len(data))
                    if not more:
                        break
                    data += more
        except OSError as error:
            raise self._read_error(error, name) from error
        if len(data) != length:
            raise Corrupt(
                f"{name} in {self.url} ends at byte {start + len(data)}; bytes up to {start + length} were expected.",
                hint="`reopen verify --level stored` lists every damaged object.",
                object=name,
            )
        return data

    def head(self, name: str) -> ObjectInfo:
        try:
            status = os.stat(self._path(name))
        except OSError as error:
            raise self._read_error(error, name) from error
        return ObjectInfo(name=name, size_bytes=status.st_size, modified_at=from_unix_ns(status.st_mtime_ns))

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        return self._write(name, pieces, exclusive=False)

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        return self._write(name, pieces, exclusive=True)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder, _, _ = prefix.rpartition("/")
        start = self._root / folder if folder else self._root
        yield from self._walk(start, f"{folder}/" if folder else "", prefix)

    def delete(self, name: str) -> None:
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
            if path.parent.exists():
                _fsync_folder(path.parent)
        except OSError as error:
            raise self._write_error(error, name) from error

    def now(self) -> datetime:
        probe = self._root / f"{TEMPORARY_PREFIX}clock-{system_random(8).hex()}"
        try:
            self._make_folder(self._root)
            probe.touch()
            status = probe.stat()
            probe.unlink()
        except OSError as error:
            raise self._write_error(error, probe.name) from error
        return from_unix_ns(status.st_mtime_ns)

    def _path(self, name: str) -> Path:
        # Names come from signed documents too, and a name must never lead out of the store.
        if name.startswith("/") or ".." in name.split("/"):
            raise Refused(f"{name!r} is not the name of an object.", object=name)
        return self._root / name

    def _walk(self, folder: Path, base: str, prefix: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(folder) as entries:
                # A folder sorts as "name/": only so is the walk in bytewise order of whole names.
                found = sorted((entry.name + ("/" if entry.is_dir() else ""), entry) for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._read_error(error, base or ".") from error
        for key, entry in found:
            name = base + key
            if entry.name.startswith(TEMPORARY_PREFIX):
                continue
            if key.endswith("/"):
                if name.startswith(prefix) or prefix.startswith(name):
                    yield from self._walk(folder / entry.name, name, prefix)
            elif name.startswith(prefix):
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue  # Deleted since the scan: a listing may miss what goes while it runs.
                except OSError as error:
                    raise self._read_error(error, name) from error
                modified_at = from_unix_ns(status.st_mtime_ns)
                yield ObjectInfo(name=name, size_bytes=status.st_size, modified_at=modified_at)

    def _write(self, name: str, pieces: Sequence[Piece], *, exclusive: bool) -> int:
        path = self._path(name)
        temporary = path.parent / f"{TEMPORARY_PREFIX}{system_random(8).hex()}"
        try:
            self._make_folder(path.parent)
            try:
                size_bytes = _write_durably(temporary, pieces)
                if exclusive:
                    os.link(temporary, path)
                else:
                    os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            _fsync_folder(path.parent)
        except FileExistsError as error:
            raise Conflict(f"{name} already exists in {self.url}.", object=name) from error
        except OSError as error:
            raise self._write_error(error, name) from error
        return size_bytes

    def _make_folder(self, folder: Path) -> None:
        if folder in self._known_folders:
            return
        if folder == self._root:
            missing = []
            while not folder.exists():
                missing.append(folder)
                folder = folder.parent
            for made in reversed(missing):
                made.mkdir(exist_ok=True)
                _fsync_folder(made.parent)
            if not missing:
                # As below. A folder above the store that may be entered but not opened is not ours to make durable.
                with contextlib.suppress(PermissionError):
                    _fsync_folder(self._root.parent)
            self._known_folders.add(self._root)
        else:
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            # Also when it was there: whoever made it may not have come to this line yet, or may have died before it.
            _fsync_folder(folder.parent)
            self._known_folders.add(folder)

    def _read_error(self, error: OSError, name: str) -> ReopenError:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return NotFound(f"{name} is not in {self.url}.", object=name)
        if error.errno == errno.EIO:
            return Corrupt(
                f"{name} in {self.url} cannot be read from the medium: {error.strerror}.",
                hint="Replace the medium; `reopen repair --from SITE` takes the object from a replica.",
                object=name,
            )
        if error.errno in _NO_RIGHT:
            hint = f"Give this user read access to {self.url}."
            return Refused(f"{self.url} does not show {name}: {error.strerror}.", hint=hint, object=name)
        return Transient(f"{name} in {self.url} cannot be read: {error.strerror}.", object=name)

    def _write_error(self, error: OSError, name: str) -> ReopenError:
        if error.errno in _NO_ROOM:
            hint = f"Free space on the file system of {self.url}, then run the same command again."
            return VaultUnwritable(f"{self.url} is full: {name} was not written.", hint=hint, object=name)
        if error.errno in _NO_RIGHT:
            hint = f"Give this user write access to {self.url}."
            return VaultUnwritable(f"{self.url} does not accept {name}: {error.strerror}.", hint=hint, object=name)
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            self._known_folders.clear()
            hint = f"Look whether {self.url} is a folder, and whether its disk is mounted; then run it again."
            return Transient(f"{self.url} changed while {name} was written: {error.strerror}.", hint=hint, object=name)
        return Transient(f"{name} could not be written to {self.url}: {error.strerror}.", object=name)


def _write_durably(path: Path, pieces: Sequence[Piece]) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        written = 0
        for batch in _batches(pieces):
            written += _write_all(descriptor, batch)
        os.fsync(descriptor)
        return written
    finally:
        os.close(descriptor)


def _batches(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Pieces that are written together. They may come from another store as they are asked for, so no more of them are
    held than a write needs."""
    batch: list[Piece] = []
    size_bytes = 0
    for piece in pieces:
        batch.append(piece)
        size_bytes += len(piece)
        if len(batch) == _WRITE_VECTOR_MAX or size_bytes >= _WRITE_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _write_all(descriptor: int, pieces: Sequence[Piece]) -> int:
    views = [memoryview(piece) for piece in pieces if len(piece)]
    total = sum(view.nbytes for view in views)
    while views:
        written = os.writev(descriptor, views)
        while views and written >= views[0].nbytes:
            written -= views[0].nbytes
            views.pop(0)
        if written:
            views[0] = views[0][written:]
    return total


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
