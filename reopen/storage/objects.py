"""Owns the store on object storage (S3, GCS, Azure) and in memory, through obstore.

obstore's ``put(mode="create")`` was measured to have one winner on S3, local and memory. Servers that accept the
condition and ignore it exist, so the first ``create`` in a process asks the server itself; where it ignores the
condition, ``create`` asks for the name and then puts, and :attr:`ObstoreStore.capabilities` says so. Credentials and
endpoints come from the environment in the vendors' own variables (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, …).

Invariants
    I1  An object is one PUT, never multipart: a multipart upload is not subject to the condition everywhere, and one
        that is interrupted leaves parts that cost money and that no listing shows.
    I2  Reads have a limit on silence, writes a limit on the whole: see :mod:`reopen.storage.patience`.
    I3  A ``create`` that finds its own bytes has succeeded: an answer was lost, and the library's second try met the
        first. What is created exclusively in a vault has a random part, so equal bytes are one writer's.
    I4  What the server refused has the class that a handler needs: see :mod:`reopen.storage.answers`.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from reopen.errors import Conflict, Corrupt, NotFound, Refused, ReopenError, Transient
from reopen.ids import system_random
from reopen.storage.answers import error_of_answer
from reopen.storage.base import PROBE_FOLDER, Capabilities, ObjectInfo, Piece, count_winners, probe_time
from reopen.storage.patience import PATIENCE, Patience

S3_SCHEMES = ("s3", "s3a")
OBJECT_SCHEMES = (*S3_SCHEMES, "gs", "gcs", "az", "adl", "azure", "abfs", "abfss")

PUT_BYTES_MAX = 5_000_000_000
"""The largest single PUT that S3 takes. A pack has at most 1 GiB."""

BUSY_TRIES_MAX = 5
"""S3 answers 409 to a conditional write while another one on the name is under way: then nobody has won yet."""

LEARN_RACERS = 4
LEARN_ROUNDS = 2
"""Sent by the first ``create`` of a process: each round takes the time of two requests. A server that looks and then
puts lets nearly all of them win."""

CLIENT_OPTIONS = (
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "http1_only",
    "http2_only",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_url",
    "proxy_ca_certificate",
    "proxy_excludes",
    "timeout",
    "user_agent",
)
"""What the vendors' variables may set of the client (``AWS_ALLOW_HTTP``). obstore ignores them all as soon as one
option is given by code, so they are read here."""

Result = TypeVar("Result")

_VARIABLE_PREFIXES = {"s": "AWS", "g": "GOOGLE", "a": "AZURE"}
_NOT_PARTIAL = "Received non-partial response"
_PIECE_BYTES = 1 << 20
_MAYBE_SHORT = (0, 416)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")

_WAITED = re.compile(r" in (\d+(?:\.\d+)?)s\b")
_TIMED_OUT = "kind: Timeout"

_memory_stores: dict[str, Any] = {}


class ObstoreStore:
    """Objects below one prefix of a bucket."""

    def __init__(self, url: str, *, patience: Patience = PATIENCE) -> None:
        self._url = url.rstrip("/")
        self._patience = patience
        self._reader = _open(self._url, patience, "read")
        self._writer = _open(self._url, patience, "write")
        self._has_ranges = True
        self._learning = threading.Lock()
        # In memory there is no server to ask.
        self._has_conditions: bool | None = True if self._url.startswith("memory://") else None

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        known = self._has_conditions
        return Capabilities(exclusive_create=known is not False, is_proven=known is not None)

    def get(self, name: str) -> bytes:
        import obstore

        return bytes(self._read(name, lambda: obstore.get(self._reader, name).bytes()))

    def get_range(self, name: str, start: int, length: int) -> bytes:
        import obstore

        try:
            if self._has_ranges:
                data = bytes(obstore.get_range(self._reader, name, start=start, length=length))
            else:
                data = self._read_up_to(name, start, length)
        except Exception as error:
            if _NOT_PARTIAL in str(error):
                # rclone's server sends the range as 200 instead of 206, and the library believes the status.
                self._has_ranges = False
                return self.get_range(name, start, length)
            # A range that begins past the end is an error without a kind of its own; the object's size tells.
            if _status(error) not in _MAYBE_SHORT or self.head(name).size_bytes >= start + length:
                raise self._translate(error, name) from error
            data = b""
        if len(data) != length:
            raise Corrupt(
                f"{name} in {self.url} ends before byte {start + length}.",
                hint="`reopen verify --level stored` lists every damaged object.",
                object=name,
            )
        return data

    def _read_up_to(self, name: str, start: int, length: int) -> bytes:
        """A range of a server that has none: read from the beginning, kept from where it starts, left where it ends."""
        import obstore

        position, found = 0, bytearray()
        for piece in obstore.get(self._reader, name).stream(min_chunk_size=_PIECE_BYTES):
            view = memoryview(piece)
            found += view[max(0, start - position) : start + length - position]
            position += len(view)
            if position >= start + length:
                break
        return bytes(found)

    def head(self, name: str) -> ObjectInfo:
        import obstore

        return self._read(name, lambda: _info(obstore.head(self._reader, name)))

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        data = b"".join(pieces)
        self._put(name, data, "overwrite")
        return len(data)

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        data = b"".join(pieces)
        if self.honours_conditions():
            self._create_once(name, data)
        elif self._exists(name):
            raise Conflict(f"{name} already exists in {self.url}.", object=name)
        else:
            self._put(name, data, "overwrite")
        return len(data)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        import obstore

        # Object stores match whole segments; the rest of the prefix is filtered here.
        folder, _, _ = prefix.rpartition("/")
        found: list[ObjectInfo] = []
        try:
            for batch in obstore.list(self._reader, prefix=folder or None):
                found.extend(_info(meta) for meta in batch if meta["path"].startswith(prefix))
        except Exception as error:
            raise self._translate(error, prefix or "/") from error
        yield from sorted(found, key=lambda info: info.name.encode())

    def delete(self, name: str) -> None:
        import obstore

        try:
            obstore.delete(self._writer, name)
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._translate(error, name, is_write=True) from error
        except Exception as error:
            raise self._translate(error, name, is_write=True) from error

    def top(self) -> tuple[Sequence[str], Sequence[str]]:
        """Names right below: of common prefixes, and of objects; each sorted."""
        import obstore

        found = self._read("/", lambda: obstore.list_with_delimiter(self._reader))
        prefixes = sorted(path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"])
        return prefixes, sorted(meta["path"].rpartition("/")[2] for meta in found["objects"])

    def upload(self, name: str, made: Path) -> None:
        """Write an object from a local file of any size, in parts where it is large: for data, not for a vault (I1)."""
        import obstore

        try:
            obstore.put(self._writer, name, made)
        except Exception as error:
            raise self._translate(error, name, is_write=True) from error

    def copy(self, source: str, name: str) -> None:
        """Let the server copy one of its objects."""
        import obstore

        try:
            obstore.copy(self._writer, source, name)
        except Exception as error:
            raise self._translate(error, name, is_write=True) from error

    def now(self) -> datetime:
        return probe_time(self)

    def honours_conditions(self) -> bool:
        """Whether the server honours ``If-None-Match``: of a few racers for one name one must win."""
        with self._learning:
            if self._has_conditions is None:
                self._has_conditions = all(self._one_wins() for _ in range(LEARN_ROUNDS))
            return self._has_conditions

    def _one_wins(self) -> bool:
        name = f"{PROBE_FOLDER}condition-{system_random(8).hex()}"
        try:
            winners = count_winners(lambda number: self._create_once(name, f"racer {number}".encode()), LEARN_RACERS)
        except Refused as error:
            if "does not support" in error.message:
                return False  # 501: the server says plainly that it has no conditions.
            raise
        finally:
            self.delete(name)
        if winners == 0:
            raise Transient(f"{self.url} let nobody create {name}.", object=name)
        return winners == 1

    def _create_once(self, name: str, data: bytes) -> None:
        for tries in range(1, BUSY_TRIES_MAX + 1):
            try:
                self._put(name, data, "create")
                return
            except Conflict:
                # The library tries again when an answer is lost, and then loses against itself.
                if self.holds(name, data):
                    return
                raise
            except _BusyError as error:
                if self._exists(name):
                    raise Conflict(f"{name} already exists in {self.url}.", object=name) from error
                time.sleep(self._patience.backoff(tries))
        raise Transient(f"{self.url} is busy with other writers of {name}.", object=name)

    def holds(self, name: str, data: bytes) -> bool:
        """Whether the object has exactly these bytes: then whoever wrote it meant the same.

        One that is gone holds nothing: a server without conditions takes an object away while it is being replaced.
        """
        try:
            return self.head(name).size_bytes == len(data) and self.get(name) == data
        except NotFound:
            return False

    def _exists(self, name: str) -> bool:
        try:
            self.head(name)
        except NotFound:
            return False
        return True

    def _put(self, name: str, data: bytes, mode: Literal["create", "overwrite"]) -> None:
        import obstore

        if len(data) > PUT_BYTES_MAX:
            raise Refused(f"{name} has {len(data)} bytes; one write takes at most {PUT_BYTES_MAX}.", object=name)
        try:
            obstore.put(self._writer, name, data, mode=mode, use_multipart=False)
        except Exception as error:
            raise self._translate(error, name, is_write=True) from error

    def _read(self, name: str, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except Exception as error:
            raise self._translate(error, name) from error

    def _translate(self, error: Exception, name: str, *, is_write: bool = False) -> ReopenError:
        from obstore import exceptions

        if isinstance(error, ReopenError):
            return error
        text = str(error).partition("Debug source")[0]
        status, found_code = _status(error), _CODE.search(text)
        code = found_code[1] if found_code else ""
        if status == 409:
            return _BusyError(f"{self.url} is busy with another writer of {name} ({code}).", object=name)
        # A class of the library stands in where it gives no status: in memory, or after it decided by itself.
        if not status and isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
            status = 412
        elif not status and isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            status = 403
        elif not status and isinstance(error, exceptions.NotSupportedError):
            status = 501
        detail = _silence(error) or _detail(text) or type(error).__name__
        return error_of_answer(status=status, code=code, detail=detail, url=self.url, name=name, is_write=is_write)


class _BusyError(Transient):
    """Another writer of the same name is under way."""


def _open(url: str, patience: Patience, use: Literal["read", "write"]) -> Any:
    import obstore.store

    if url.startswith("memory://"):
        # A memory store lives as long as the process; the same URL is the same store.
        return _memory_stores.setdefault(url, obstore.store.MemoryStore())
    prefix = _VARIABLE_PREFIXES[url[0]]
    options: dict[str, Any] = {"connect_timeout": timedelta(seconds=patience.connect_seconds)}
    if use == "read":
        options["timeout"] = timedelta(seconds=patience.read_seconds)
        options["read_timeout"] = timedelta(seconds=patience.silence_seconds)
    else:
        options["timeout"] = timedelta(seconds=patience.write_seconds)
    # What somebody set in the environment on purpose stands above our defaults.
    options |= {key: os.environ[name] for key in CLIENT_OPTIONS if (name := f"{prefix}_{key.upper()}") in os.environ}
    retries: Any = {
        "max_retries": patience.retries,
        "retry_timeout": timedelta(seconds=patience.retry_seconds),
        "backoff": {
            "init_backoff": timedelta(seconds=patience.backoff_seconds),
            "max_backoff": timedelta(seconds=patience.backoff_seconds_max),
            "base": 2,
        },
    }
    client: Any = options
    return obstore.store.from_url(url, client_options=client, retry_config=retries)


def _info(meta: Any) -> ObjectInfo:
    modified_at = meta["last_modified"].astimezone(UTC)
    return ObjectInfo(name=meta["path"], size_bytes=meta["size"], modified_at=modified_at)


def _status(error: Exception) -> int:
    """The HTTP status behind a library's error; 0 when there was no answer."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 404 if isinstance(error, FileNotFoundError) else 0


def _silence(error: Exception) -> str:
    """What people can read of a time-out; the library says of it that an "error sending request" came."""
    text = str(error)
    waited = _WAITED.search(text)
    return f"nothing came within {float(waited[1]):.0f} s" if waited and _TIMED_OUT in text else ""


def _detail(text: str) -> str:
    first = text.strip().splitlines()[0] if text.strip() else ""
    # The library repeats the verb, the URL and its own settings; what went wrong stands last.
    return first.rpartition(" - ")[2].partition("<?xml")[0].partition("<Error")[0].strip().rstrip(".:")
