"""Owns the store on an S3 bucket with object lock: a vault's objects are written so that nobody can destroy them early.

The URL asks for it: ``s3://bucket/prefix?object_lock_days=30`` and, where wanted, ``&object_lock_mode=compliance``
(``governance`` if not said: an administrator with a special right may still remove; ``compliance``: nobody, not even
the owner of the account). obstore cannot send the headers of object lock, so writes go through boto3; reads stay with
obstore.

Invariants
    I1  An object below :data:`LOCKED_PREFIXES` is created with its lock, in one request: there is no moment without.
    I2  A lock is only ever extended. ``lock_until`` asks for each object and extends those with less than wanted.
    I3  Dates are reckoned from the server's clock; a wrong clock here could lock for years what nobody may unlock.
    I4  ``delete`` refuses what is locked. S3 itself would not: on such a bucket it puts a *delete marker* on top, and
        the object looks gone while its bytes stay. What is not locked is removed in all its versions.

A listing shows what is on top: a delete marker that an intruder put hides an object, and a version that he put replaces
it in every read. Neither destroys; ``docs/0006-stores.md`` says how to get the bytes back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, urlparse

from reopen.errors import Conflict, InvalidInput, Refused, ReopenError, Transient
from reopen.storage.answers import error_of_answer
from reopen.storage.base import Capabilities, ObjectInfo, Piece
from reopen.storage.objects import BUSY_TRIES_MAX, PUT_BYTES_MAX, S3_SCHEMES, ObstoreStore
from reopen.storage.patience import PATIENCE, Patience

Mode = Literal["GOVERNANCE", "COMPLIANCE"]
Result = TypeVar("Result")

LOCKED_PREFIXES = (
    "vault.json",
    "keys/",
    "trust/",
    "packs/",
    "index/",
    "manifests/",
    "profiles/",
    "snapshots/",
    "ledger/",
)
"""What is written with a lock. Leases, announcements, probes, tombstones, grants and passphrases must be removable."""

SPARE_SHARE = 0.25
"""How much longer than asked for an object is locked, as a share of the period: so an object in use is extended once in
a quarter of the period and not by every snapshot."""

LOCK_THREADS = 8
_DAYS_MAX = 36_500


@dataclass(frozen=True, slots=True, kw_only=True)
class LockSettings:
    """What the URL asks for: for how long at least, and whether anybody may lift it."""

    period: timedelta
    mode: Mode


def split_lock_settings(url: str) -> tuple[str, LockSettings | None]:
    """A store's URL without its query, and what the query asks for.

    :raises InvalidInput: a key that is unknown, a value that is wrong, or a lock where only S3 has one.
    """
    base, separator, query = url.partition("?")
    if not separator or urlparse(url).scheme not in S3_SCHEMES:
        return url, None
    values = dict(parse_qsl(query, keep_blank_values=True))
    days, mode = values.pop("object_lock_days", ""), values.pop("object_lock_mode", "governance").upper()
    hint = "Write s3://bucket/prefix?object_lock_days=30, and &object_lock_mode=compliance or governance if wanted."
    if values or not days.isdecimal() or not 1 <= int(days) <= _DAYS_MAX or mode not in ("GOVERNANCE", "COMPLIANCE"):
        raise InvalidInput(f"the query of {base} asks for something that is not known.", hint=hint, url=base)
    return base, LockSettings(period=timedelta(days=int(days)), mode="COMPLIANCE" if mode[0] == "C" else "GOVERNANCE")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    """One version of an object, or a delete marker, which nothing can lock."""

    id: str
    locked_until: datetime | None = None


class LockedS3Store:
    """Objects below a prefix of a bucket, locked as they are written."""

    def __init__(self, url: str, settings: LockSettings, *, patience: Patience = PATIENCE) -> None:
        self._inner = ObstoreStore(url, patience=patience)
        self._settings = settings
        self._patience = patience
        parsed = urlparse(self._inner.url)
        self._bucket, self._prefix = parsed.netloc, parsed.path.strip("/")
        self._connecting = threading.Lock()
        self._connected: Any = None
        self._ahead = timedelta(0)

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def capabilities(self) -> Capabilities:
        known = self._inner.capabilities
        return Capabilities(exclusive_create=known.exclusive_create, is_proven=known.is_proven, object_lock=True)

    @property
    def lock_period(self) -> timedelta:
        """For how long what a snapshot needs is to be locked when it is taken."""
        return self._settings.period

    def get(self, name: str) -> bytes:
        return self._inner.get(name)

    def get_range(self, name: str, start: int, length: int) -> bytes:
        return self._inner.get_range(name, start, length)

    def head(self, name: str) -> ObjectInfo:
        return self._inner.head(name)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._inner.list(prefix)

    def now(self) -> datetime:
        return self._inner.now()

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        if not name.startswith(LOCKED_PREFIXES):
            return self._inner.put(name, pieces)
        return self._put(name, b"".join(pieces), {})

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        if not name.startswith(LOCKED_PREFIXES):
            return self._inner.create(name, pieces)
        data = b"".join(pieces)
        if self._inner.honours_conditions():
            return self._put(name, data, {"IfNoneMatch": "*"})
        if any(info.name == name for info in self.list(name)):
            raise Conflict(f"{name} already exists in {self.url}.", object=name)
        return self._put(name, data, {})

    def delete(self, name: str) -> None:
        versions = self._versions(name)
        now = self._server_now()
        held = [version.locked_until for version in versions if version.locked_until and version.locked_until > now]
        if held:
            raise Refused(
                f"{name} in {self.url} is locked until {max(held):%Y-%m-%d %H:%M} UTC.",
                hint="It can go after that; nobody here can lift the lock.",
                object=name,
                locked_until=max(held).isoformat(),
            )
        for version in versions:
            self._remove(name, version.id)

    def lock_until(self, names: Iterable[str], until: datetime) -> int:
        """As :class:`reopen.storage.LockingStore` says; what is extended gets :data:`SPARE_SHARE` on top."""

        def extend(name: str) -> bool:
            found = self._call(name, lambda client, key: client.head_object(**key))
            held = found.get("ObjectLockRetainUntilDate")
            if held is not None and held >= until:
                return False
            mode = found.get("ObjectLockMode") or self._settings.mode
            retention = {"Mode": mode, "RetainUntilDate": until + self._settings.period * SPARE_SHARE}
            self._call(
                name,
                lambda client, key: client.put_object_retention(
                    **key, VersionId=found["VersionId"], Retention=retention
                ),
                is_write=True,
            )
            return True

        with ThreadPoolExecutor(LOCK_THREADS, thread_name_prefix="reopen-lock") as pool:
            return sum(list(pool.map(extend, names)))

    def locked_until(self, name: str) -> datetime | None:
        """Until when the object is locked; ``None`` when it is not."""
        found = self._call(name, lambda client, key: client.head_object(**key))
        held = found.get("ObjectLockRetainUntilDate")
        return held.astimezone(UTC) if held is not None else None

    def close(self) -> None:
        """End the connections of writes."""
        with self._connecting:
            client, self._connected = self._connected, None
        if client is not None:
            client.close()

    def _put(self, name: str, data: bytes, condition: dict[str, str]) -> int:
        if len(data) > PUT_BYTES_MAX:
            raise Refused(f"{name} has {len(data)} bytes; one write takes at most {PUT_BYTES_MAX}.", object=name)
        until = self._server_now() + self._settings.period * (1 + SPARE_SHARE)
        lock = {"ObjectLockMode": self._settings.mode, "ObjectLockRetainUntilDate": until}
        for tries in range(1, BUSY_TRIES_MAX + 1):
            try:
                self._call(
                    name, lambda client, key: client.put_object(**key, Body=data, **lock, **condition), is_write=True
                )
                return len(data)
            except Conflict:
                if self._inner.holds(name, data):
                    return len(data)  # The library tried again after a lost answer, and met its own first try.
                raise
            except _BusyError:
                threading.Event().wait(self._patience.backoff(tries))
        raise Transient(f"{self.url} is busy with other writers of {name}.", object=name)

    def _versions(self, name: str) -> Sequence[_Version]:
        """Every version and delete marker of exactly this name, with what locks it."""
        key = self._key(name)

        def pages(client: Any, _: dict[str, str]) -> Any:
            return tuple(client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=key))

        found: Any = self._call(name, pages)
        markers = [each["VersionId"] for page in found for each in page.get("DeleteMarkers", ()) if each["Key"] == key]
        versions = [each["VersionId"] for page in found for each in page.get("Versions", ()) if each["Key"] == key]
        return [
            *(_Version(id=marker) for marker in markers),
            *(_Version(id=version, locked_until=self._held(name, version)) for version in versions),
        ]

    def _held(self, name: str, version: str) -> datetime | None:
        head: Any = self._call(name, lambda client, key: client.head_object(**key, VersionId=version))
        held: datetime | None = head.get("ObjectLockRetainUntilDate")
        return held

    def _remove(self, name: str, version: str) -> None:
        self._call(name, lambda client, key: client.delete_object(**key, VersionId=version), is_write=True)

    def _server_now(self) -> datetime:
        self._client()
        return datetime.now(UTC) + self._ahead

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _call(self, name: str, call: Callable[[Any, dict[str, str]], Result], *, is_write: bool = False) -> Result:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._client()
        try:
            return call(client, {"Bucket": self._bucket, "Key": self._key(name)})
        except (ClientError, BotoCoreError) as error:
            raise self._translate(error, name, is_write=is_write) from error

    def _translate(self, error: Exception, name: str, *, is_write: bool) -> ReopenError:
        answer = getattr(error, "response", {})
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = str(answer.get("Error", {}).get("Code", ""))
        if status == 409:
            return _BusyError(f"{self.url} is busy with another writer of {name}.", object=name)
        detail = str(error).strip().splitlines()[0].rstrip(".")
        return error_of_answer(
            status=status, code="" if code.isdecimal() else code, detail=detail, url=self.url, name=name,
            is_write=is_write,
        )  # fmt: skip

    def _client(self) -> Any:
        with self._connecting:
            if self._connected is None:
                client = self._connect()
                try:
                    self._ahead = self._check(client)
                except BaseException:
                    client.close()
                    raise
                self._connected = client
            return self._connected

    def _connect(self) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            hint = "Install it: pip install 'reopen[object-lock]'."
            raise InvalidInput(
                f"the object lock of {self.url} needs boto3, which is not installed.", hint=hint
            ) from error
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        endpoint = endpoint or os.environ.get("AWS_ENDPOINT")
        config = Config(
            connect_timeout=self._patience.connect_seconds,
            read_timeout=self._patience.write_seconds,
            retries={"mode": "standard", "total_max_attempts": self._patience.retries + 1},
            max_pool_connections=2 * LOCK_THREADS,
            # As obstore does: other servers than Amazon's seldom have a name for each bucket.
            s3={"addressing_style": "path" if endpoint else "auto"},
        )
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return boto3.session.Session().client("s3", endpoint_url=endpoint, region_name=region, config=config)

    def _check(self, client: Any) -> timedelta:
        """Refuse a bucket that has no object lock; how far the server's clock is ahead of ours (I3)."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = client.get_object_lock_configuration(Bucket=self._bucket)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ObjectLockConfigurationNotFoundError":
                raise self._without_lock() from error
            raise self._translate(error, "the bucket's object lock", is_write=False) from error
        except BotoCoreError as error:
            raise self._translate(error, "the bucket's object lock", is_write=False) from error
        if found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
            raise self._without_lock()
        date = found["ResponseMetadata"]["HTTPHeaders"].get("date")
        # Imported here, because few stores lock, and the mail package is large.
        from email.utils import parsedate_to_datetime

        return parsedate_to_datetime(date) - datetime.now(UTC) if date else timedelta(0)

    def _without_lock(self) -> ReopenError:
        return Refused(
            f"the bucket of {self.url} has no object lock, and the URL asks for one.",
            hint="Make a bucket with object lock (and so with versions), or leave ?object_lock_days out of the URL.",
        )


class _BusyError(Transient):
    """Another writer of the same name is under way."""
