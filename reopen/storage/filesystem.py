"""Owns the only use of fsspec: file systems for sources and targets, and a plain store for the rest.

Object stores go through obstore's fsspec face, so that one set of credentials serves vault and data alike.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlparse

from reopen.errors import (
    Conflict,
    Corrupt,
    InvalidInput,
    NotFound,
    Refused,
    ReopenError,
    Transient,
    VaultUnwritable,
)
from reopen.ids import system_random
from reopen.storage.base import Capabilities, ObjectInfo, Piece, probe_time
from reopen.storage.objects import OBJECT_SCHEMES
from reopen.storage.sftp import SFTP_SCHEMES
from reopen.urls import refuse_secret


def scheme_of(url: str) -> str:
    """The URL's scheme in lower case; ``file`` for a plain path (``C:`` style drives are not supported)."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else "file"


def is_object_store(url: str) -> bool:
    """Whether a URL is on S3, GCS or Azure."""
    return scheme_of(url) in OBJECT_SCHEMES


def local_path(url: str) -> str | None:
    """The path behind a local URL or plain path, or ``None`` when the URL is remote."""
    if "://" not in url:
        return os.path.abspath(url)
    if scheme_of(url) in ("file", "local"):
        return os.path.abspath(unquote(urlparse(url).path))
    return None


def open_filesystem(url: str) -> tuple[Any, str]:
    """An fsspec file system and the root path within it for any URL that fsspec knows.

    :raises InvalidInput: unknown scheme, a scheme whose package is not installed (the message names it), or a secret in
        the URL. :raises Transient: a server that is asked at once does not answer.
    """
    import fsspec

    refuse_secret(url)
    scheme = scheme_of(url)
    try:
        if scheme in OBJECT_SCHEMES:
            import obstore.fsspec

            obstore.fsspec.register(scheme)
        elif scheme in SFTP_SCHEMES:
            from reopen.storage.sshfiles import register

            register()
        filesystem, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InvalidInput(
            f"{url} cannot be opened: {str(error).rstrip('.')}.",
            hint="Install the fsspec package for this scheme, or use a local path.",
            url=url,
        ) from error
    except OSError as error:
        # Some file systems connect as soon as they are made.
        raise Transient(f"{url} did not answer: {error.strerror or error}.", url=url) from error
    return (_ForEachThread(url) if scheme in ("ftp", *SFTP_SCHEMES) else filesystem), root.rstrip("/")


class _ForEachThread:
    """A file system whose instances hold one conversation with their server, which threads must not share: of eight
    that read at once over FTP most were told that their file is not there. fsspec keeps an instance for each thread."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # What copies and pickles asks for, before there is a URL.
        import fsspec

        return getattr(fsspec.core.url_to_fs(self._url)[0], name)


class FsspecStore:
    """A store on any other fsspec file system (WebDAV, FTP, SMB, …): good as a single writer's vault or a replica.

    There is no exclusive create here (fsspec's ``mode="create"`` let several racers win), so ``capabilities`` says
    so and what needs it is refused above. ``create`` still refuses to replace what it can see. What was written is as
    durable as the file system behind it makes it: fsspec has no fsync.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._filesystem, self._root = open_filesystem(url)

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(exclusive_create=False)

    def get(self, name: str) -> bytes:
        try:
            return bytes(self._filesystem.cat_file(self._path(name)))
        except Exception as error:
            raise self._translate(error, name) from error

    def get_range(self, name: str, start: int, length: int) -> bytes:
        try:
            data = bytes(self._filesystem.cat_file(self._path(name), start=start, end=start + length))
        except Exception as error:
            raise self._translate(error, name) from error
        if len(data) != length:
            raise Corrupt(f"{name} in {self.url} ends before byte {start + length}.", object=name)
        return data

    def head(self, name: str) -> ObjectInfo:
        try:
            return self._info(name, self._filesystem.info(self._path(name)))
        except Exception as error:
            raise self._translate(error, name) from error

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        data = b"".join(pieces)
        final = self._path(name)
        temporary = f"{final.rpartition('/')[0]}/.tmp-{system_random(8).hex()}"
        try:
            self._filesystem.makedirs(final.rpartition("/")[0], exist_ok=True)
            # Never write in place: an exception inside fsspec's writer leaves a truncated file behind.
            self._filesystem.pipe_file(temporary, data)
            self._filesystem.mv(temporary, final)
        except Exception as error:
            self._remove_temporary(temporary)
            raise self._translate(error, name, is_write=True) from error
        return len(data)

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        try:
            # Not fsspec's exists(): that takes any failure for absence.
            self.head(name)
        except NotFound:
            return self.put(name, pieces)
        raise Conflict(f"{name} already exists in {self.url}.", object=name)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder, _, _ = prefix.rpartition("/")
        try:
            self._filesystem.invalidate_cache()
            base = self._path(folder) if folder else self._root
            files = list(walk_files(self._filesystem, base))
            found = [self._info(path[len(self._root) :].lstrip("/"), info) for path, info in files]
        except Exception as error:
            raise self._translate(error, prefix or "/") from error
        for info in sorted(found, key=lambda info: info.name.encode()):
            if info.name.startswith(prefix) and not info.name.rpartition("/")[2].startswith(".tmp-"):
                yield info

    def delete(self, name: str) -> None:
        try:
            self._filesystem.rm_file(self._path(name))
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._translate(error, name, is_write=True) from error

    def now(self) -> datetime:
        return probe_time(self)

    def _remove_temporary(self, path: str) -> None:
        try:
            self._filesystem.rm_file(path)
        except Exception:  # noqa: BLE001 - whatever it is, the error that brought us here is the one to tell
            return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _info(self, name: str, info: dict[str, Any]) -> ObjectInfo:
        return ObjectInfo(name=name, size_bytes=int(info.get("size") or 0), modified_at=modified_at_of(info))

    def _translate(self, error: Exception, name: str, *, is_write: bool = False) -> ReopenError:
        if isinstance(error, ReopenError):
            return error
        if isinstance(error, FileNotFoundError):
            return NotFound(f"{name} is not in {self.url}.", object=name)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "Free space there, then run the same command again."
            return VaultUnwritable(f"{self.url} is full: {name} was not written.", hint=hint, object=name)
        if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
            denied = VaultUnwritable if is_write else Refused
            hint = "Check the account and its rights there."
            return denied(f"{self.url} denies access to {name}.", hint=hint, object=name)
        return Transient(f"{self.url} did not answer for {name}: {error}.", object=name)


def walk_files(filesystem: Any, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Full path and ``info`` of every file below a folder of an fsspec file system; nothing when it does not exist.

    Not fsspec's ``find``: that passes over folders which cannot be listed, and a listing that fails must never look
    like one that is empty. What the file system raises comes through.
    """
    pending = [folder]
    while pending:
        folder = pending.pop()
        try:
            entries = filesystem.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for info in entries:
            path = str(info["name"]).rstrip("/")
            if path == folder:
                continue  # Some file systems list a folder, or a file asked for as one, as its own entry.
            if info["type"] == "directory":
                pending.append(path)
            else:
                yield path, info


def modified_at_of(info: dict[str, Any]) -> datetime:
    """The modification time in an fsspec ``info`` dict, under whichever name the file system uses; the Unix
    epoch when it has none."""
    for key in ("mtime", "LastModified", "last_modified", "modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value).astimezone(UTC)
            except ValueError:
                continue  # A text that is no ISO date says nothing; the next key may.
    return datetime.fromtimestamp(0, UTC)
