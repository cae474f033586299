"""Owns what is known of staged versions: the record that says one was validated, signed, and the values made from it.

A record is ``staged/<site>/<dataset>/<version>.json`` in the control store: canonical
``{"staged": {…}, "signature": {"key": …, "value": …} | null}``. The signature covers ``reopen/v1/staged`` NUL the
canonical value, which names site, dataset and version, so that a record moved to another name says nothing there.

Invariants (docs/0012-standby-versions.md)
    V4  A version is staged when its record is there, and the record is written last.
    V5  Only a record whose signature counts lets checks be used again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reopen.contracts.model import Temperature
from reopen.control.values import Instant, from_json, stored, to_json
from reopen.errors import Corrupt, NotFound
from reopen.storage.base import ObjectStore
from reopen.storage.canonical import decode, encode

STAGED_PREFIX = "staged"
SIGNED_PREFIX = b"reopen/v1/staged\0"
_STAGE_HINT = "It counts for nothing; `reopen stage` prepares the version anew."

Sign = Callable[[bytes], tuple[str, str]]
"""message -> (key id, signature as hex)."""
VerifySignature = Callable[[str, bytes, bytes], bool]
"""``(key id, message, signature) -> whether it is that key's``."""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """A dataset that a staged version was checked against: its version, and the contract that said how to read it."""

    version: str
    contract: str


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A version that was restored and validated ahead of need, and what exactly was validated (F9).

    ``record_digest`` pins the snapshot's record, ``contract`` the contract's file, ``tree`` names, kinds, link targets
    and contents of everything in it. ``status`` is that of the contract's checks: pass, fail or error.
    """

    site: str
    dataset: str
    version: str
    url: str
    snapshot: str
    seq: int
    consistent_at: Instant
    record_digest: str
    contract: str
    related: Mapping[str, Related]
    tree: str
    status: str
    validated_at: Instant


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class StagedRecord:
    """A staged version and the results of its checks, as an outcome of a recovery would have them."""

    staged: Staged
    files: int
    size_bytes: int
    checks: tuple[Mapping[str, Any], ...]
    seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A record as it was read; ``key`` signed it, None when nobody did."""

    record: StagedRecord
    key: str | None
    signature: bytes = b""

    def is_signed(self, verify: VerifySignature) -> bool:
        """Whether the signature counts (V5)."""
        return self.key is not None and verify(self.key, signed_message(self.record), self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """What planning has to know of the site where a dataset will serve: in which epoch, which names of versions are
    used up, what is staged, and how ready each dataset is kept."""

    epoch: int
    taken: Mapping[str, Collection[str]] = field(default_factory=dict)
    staged: Mapping[str, Sequence[Staged]] = field(default_factory=dict)
    temperatures: Mapping[str, Temperature] = field(default_factory=dict)


def record_name(site: str, dataset: str, version: str) -> str:
    """Where the record of a staged version is stored."""
    return f"{STAGED_PREFIX}/{site}/{dataset}/{version}.json"


def signed_message(record: StagedRecord) -> bytes:
    """The bytes that the signature of a record covers."""
    return SIGNED_PREFIX + encode(to_json(record))


def write_record(store: ObjectStore, record: StagedRecord, *, sign: Sign | None) -> str:
    """Store a record, signed when ``sign`` is given, instead of an earlier one of the version; returns its name."""
    signature = None
    if sign is not None:
        key, value = sign(signed_message(record))
        signature = {"key": key, "value": value}
    staged = record.staged
    name = record_name(staged.site, staged.dataset, staged.version)
    store.put(name, [encode({"staged": to_json(record), "signature": signature})])
    return name


def read_record(store: ObjectStore, site: str, dataset: str, version: str) -> StoredRecord | None:
    """The record of a version; None where there is none.

    :raises Corrupt: what stands there is no record of this version.
    """
    name = record_name(site, dataset, version)
    try:
        return _stored(store.get(name), name)
    except NotFound:
        return None


def read_staged(store: ObjectStore, site: str, dataset: str) -> tuple[list[StoredRecord], list[str]]:
    """Every record of a dataset at a site by version, and the problems with those that cannot be read: such a version
    is not staged, and nothing else depends on its record."""
    found, problems = [], []
    for name in _names(store, f"{STAGED_PREFIX}/{site}/{dataset}/"):
        try:
            found.append(_stored(store.get(name), name))
        except NotFound:
            continue  # Cleaned up since the listing.
        except Corrupt as error:
            problems.append(error.message)
    return found, problems


def newest_staged(store: ObjectStore) -> dict[str, list[Staged]]:
    """The newest staged version of each dataset at each site, by dataset; what cannot be read is not staged."""
    found: dict[tuple[str, str], Staged] = {}
    for name in _names(store, f"{STAGED_PREFIX}/"):
        try:
            staged = _stored(store.get(name), name).record.staged
        except (NotFound, Corrupt):
            continue
        before = found.get((staged.dataset, staged.site))
        if before is None or (before.seq, before.version) < (staged.seq, staged.version):
            found[staged.dataset, staged.site] = staged
    by_dataset: dict[str, list[Staged]] = {}
    for (dataset, _), staged in sorted(found.items()):
        by_dataset.setdefault(dataset, []).append(staged)
    return by_dataset


def remove_record(store: ObjectStore, site: str, dataset: str, version: str) -> None:
    """Forget a staged version, before its folder goes."""
    store.delete(record_name(site, dataset, version))


def _names(store: ObjectStore, prefix: str) -> Iterator[str]:
    return (info.name for info in store.list(prefix) if info.name.endswith(".json"))


def _stored(data: bytes, name: str) -> StoredRecord:
    value = decode(data, name)
    body, signature = value.get("staged"), value.get("signature")
    if set(value) != {"staged", "signature"} or not isinstance(body, dict) or not isinstance(signature, dict | None):
        raise Corrupt(f"{name} is not the record of a staged version.", hint=_STAGE_HINT, object=name)
    record = from_json(StagedRecord, body, name)
    staged = record.staged
    if record_name(staged.site, staged.dataset, staged.version) != name:
        message = f"{name} holds the record of another version, {staged.version} at {staged.site}."
        raise Corrupt(message, hint=_STAGE_HINT, object=name)
    if signature is None:
        return StoredRecord(record=record, key=None)
    try:
        return StoredRecord(record=record, key=str(signature["key"]), signature=bytes.fromhex(signature["value"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"{name} has a malformed signature.", hint=_STAGE_HINT, object=name) from error
