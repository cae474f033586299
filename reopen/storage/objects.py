"""Owns the store on object storage (S3, GCS, Azure) and in memory, through obstore.

obstore's ``put(mode="create")`` was measured to have one winner on S3, local and memory; servers that ignore the
condition exist (``docs/vault-format.md``, "Stores"), so :func:`reopen.storage.probe_exclusive_create` asks the
server itself when a vault is made. Credentials and endpoints come from the environment in the vendors' own
variables (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, …); obstore retries what is transient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from reopen.errors import Conflict, Corrupt, NotFound, Refused, ReopenError, Transient, VaultUnwritable
from reopen.storage.base import Capabilities, ObjectInfo, Piece, probe_time

OBJECT_SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "adl", "azure", "abfs", "abfss")

_memory_stores: dict[str, Any] = {}


class ObstoreStore:
    """Objects below one prefix of a bucket."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._store = _open(self._url)

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(exclusive_create=True)

    def get(self, name: str) -> bytes:
        import obstore

        try:
            return bytes(obstore.get(self._store, name).bytes())
        except Exception as error:
            raise self._translate(error, name) from error

    def get_range(self, name: str, start: int, length: int) -> bytes:
        import obstore

        try:
            data = bytes(obstore.get_range(self._store, name, start=start, length=length))
        except Exception as error:
            # A range that begins past the end is an error without a kind of its own; the object's size tells.
            if isinstance(error, FileNotFoundError) or self.head(name).size_bytes >= start + length:
                raise self._translate(error, name) from error
            data = b""
        if len(data) != length:
            raise Corrupt(
                f"{name} in {self.url} ends before byte {start + length}.",
                hint="`reopen verify --level stored` lists every damaged object.",
                object=name,
            )
        return data

    def head(self, name: str) -> ObjectInfo:
        import obstore

        try:
            return _info(obstore.head(self._store, name))
        except Exception as error:
            raise self._translate(error, name) from error

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        return self._put(name, pieces, "overwrite")

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        return self._put(name, pieces, "create")

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        import obstore

        # Object stores match whole segments; the rest of the prefix is filtered here.
        folder, _, _ = prefix.rpartition("/")
        found: list[ObjectInfo] = []
        try:
            for batch in obstore.list(self._store, prefix=folder or None):
                found.extend(_info(meta) for meta in batch if meta["path"].startswith(prefix))
        except Exception as error:
            raise self._translate(error, prefix or "/") from error
        yield from sorted(found, key=lambda info: info.name.encode())

    def delete(self, name: str) -> None:
        import obstore

        try:
            obstore.delete(self._store, name)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._translate(error, name) from error

    def now(self) -> datetime:
        return probe_time(self)

    def _put(self, name: str, pieces: Sequence[Piece], mode: Any) -> int:
        import obstore

        data = b"".join(pieces)
        try:
            # One PUT, never multipart: a multipart upload is not subject to the condition everywhere.
            obstore.put(self._store, name, data, mode=mode, use_multipart=False)
        except Exception as error:
            raise self._translate(error, name) from error
        return len(data)

    def _translate(self, error: Exception, name: str) -> ReopenError:
        from obstore import exceptions

        if isinstance(error, ReopenError):
            return error
        if isinstance(error, FileNotFoundError):
            return NotFound(f"{name} is not in {self.url}.", object=name)
        if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
            return Conflict(f"{name} already exists in {self.url}.", object=name)
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            hint = "Check the credentials in the environment and the bucket's policy."
            return VaultUnwritable(f"{self.url} denies access to {name}.", hint=hint, object=name)
        if isinstance(error, exceptions.NotSupportedError):
            return Refused(f"{self.url} does not support what {name} needs: {error}.", object=name)
        if "NoSuchBucket" in str(error) or "404 Not Found" in str(error):
            hint = "Make the bucket, or correct the URL and the endpoint in the environment."
            return NotFound(f"the bucket of {self.url} does not exist.", hint=hint, object=name)
        return Transient(f"{self.url} did not answer for {name}: {_first_line(error)}.", object=name)


def _open(url: str) -> Any:
    import obstore.store

    if url.startswith("memory://"):
        # A memory store lives as long as the process; the same URL is the same store.
        return _memory_stores.setdefault(url, obstore.store.MemoryStore())
    return obstore.store.from_url(url)


def _info(meta: Any) -> ObjectInfo:
    modified_at = meta["last_modified"].astimezone(UTC)
    return ObjectInfo(name=meta["path"], size_bytes=meta["size"], modified_at=modified_at)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
