"""Owns the commit record of a snapshot, the facts of the ledger and their JSON. Pure values, no I/O.

A snapshot exists when its record exists; the record is the last thing written. It pins every part it needs by name,
size and BLAKE3, quotes the record before it (``prev``) and the heads it saw, and says which site and epoch wrote it.

Names
    ``snapshots/dataset=<name>/<seq, 10 digits>-<id>.json``    a record, or a ``void`` in its place
    ``leases/dataset=<name>/<seq, 10 digits>.json``            a snapshot under way
    ``ledger/<kind>/dataset=<name>/<snapshot id>-<fact id>.json``
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from reopen.clock import from_text, to_text
from reopen.errors import Corrupt, MadeByNewer
from reopen.vault.canonical import JsonObject

DATASET_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
PACK_NAME = re.compile(r"packs/[0-9a-f]{2}/([0-9a-f]{64})")
"""A pack's name; the group is its id. The folder is the id's first two digits."""
_RECORD_NAME = re.compile(r"snapshots/dataset=([a-z][a-z0-9_-]{0,62})/(\d{10})-([0-9a-f]{16})\.json")
_OBJECT_NAME = re.compile(r"[a-z]+/[!-~]{1,1000}")

OBJECT_HINT = "`reopen repair --from SITE` takes it from a replica; --at names an earlier snapshot."
"""What to do where a part of a snapshot is damaged."""

State = Literal["complete", "incomplete"]

FACT_ROLES: Mapping[str, str] = {
    "verified": "verifier",
    "clean": "verifier",
    "drilled": "verifier",
    "read": "verifier",
    "expired": "retention",
    "held": "retention",
    "released": "retention",
    "retired": "retention",
}
"""Which role may state which kind of fact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One pinned object: its name, size in bytes and BLAKE3 (hex)."""

    name: str
    size: int
    digest: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Part:
        """The pin in a signed document; a member that this version does not know is passed over.

        :raises ValueError: a name that is none of an object: stores refuse it as they refuse a mistake of ours.
        """
        name = str(value["name"])
        if not _OBJECT_NAME.fullmatch(name) or ".." in name.split("/"):
            raise ValueError(f"{name[:200]!r} is not the name of an object")
        return cls(name=name, size=int(value["size"]), digest=str(value["digest"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRef:
    """A Parquet table in parts. ``snapshot`` is the id of the snapshot that owns the parts (an unchanged dataset
    refers to an earlier one's), ``key`` the generation of the metadata key."""

    snapshot: str
    key: int
    rows: int
    parts: tuple[Part, ...]

    def to_json(self) -> JsonObject:
        """As stored in a record."""
        return {
            "snapshot": self.snapshot,
            "key": self.key,
            "rows": self.rows,
            "parts": [asdict(part) for part in self.parts],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TableRef:
        """The reference that :meth:`to_json` wrote."""
        parts = tuple(Part.from_json(part) for part in value["parts"])
        if not parts:
            raise ValueError("a table without parts")
        return cls(snapshot=str(value["snapshot"]), key=int(value["key"]), rows=int(value["rows"]), parts=parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractRef:
    """The contract in force when the snapshot was taken; ``digest`` is the BLAKE3 of its file."""

    id: str
    version: str
    digest: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ContractRef:
        """The reference in a record; a member that this version does not know is passed over."""
        return cls(id=str(value["id"]), version=str(value["version"]), digest=str(value["digest"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts of a snapshot. ``*_bytes`` are bytes, everything else counts entries or files.

    ``read_*``: what was read from the source; ``new_raw_bytes``: of that, what no earlier snapshot held;
    ``stored_bytes``: what the packs of this snapshot take in the store.
    """

    entries: int = 0
    files: int = 0
    size_bytes: int = 0
    added: int = 0
    modified: int = 0
    metadata: int = 0
    unchanged: int = 0
    removed: int = 0
    vanished: int = 0
    unreadable: int = 0
    changed_while_read: int = 0
    read_files: int = 0
    read_bytes: int = 0
    new_raw_bytes: int = 0
    stored_bytes: int = 0
    packs: int = 0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Totals:
        """The counts in a record; one that this version does not know is passed over, one that is absent is zero."""
        return cls(**{known.name: int(value.get(known.name, 0)) for known in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRecord:
    """A committed snapshot. ``digest`` is the BLAKE3 of the record's stored bytes; ``prev`` that of the record before
    it.

    ``consistent_at`` is the source-consistent time: for files, the start of the scan.
    """

    vault: str
    dataset: str
    seq: int
    id: str
    prev: str | None
    heads: Mapping[str, str]
    site: str
    epoch: int
    confirmed: bool
    group: str | None
    scan_started_at: datetime
    scan_ended_at: datetime
    consistent_at: datetime
    committed_at: datetime
    source_kind: str
    source_url: str
    contract: ContractRef
    state: State
    manifest: TableRef
    profile: TableRef | None
    indexes: tuple[Part, ...]
    totals: Totals
    program: str
    trust: int = 0
    """Number of the newest trust statement that the writer knew."""
    writer: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The object's name in the vault."""
        return record_name(self.dataset, self.seq, self.id)

    def to_body(self) -> JsonObject:
        """The body that is signed and stored."""
        body: JsonObject = {
            "kind": "snapshot",
            "format": 1,
            "vault": self.vault,
            "dataset": self.dataset,
            "seq": self.seq,
            "id": self.id,
            "prev": self.prev,
            "heads": dict(self.heads),
            "site": self.site,
            "epoch": self.epoch,
            "confirmed": self.confirmed,
            "group": self.group,
            "scan_started_at": to_text(self.scan_started_at),
            "scan_ended_at": to_text(self.scan_ended_at),
            "consistent_at": to_text(self.consistent_at),
            "committed_at": to_text(self.committed_at),
            "source": {"kind": self.source_kind, "url": self.source_url},
            "contract": asdict(self.contract),
            "state": self.state,
            "manifest": self.manifest.to_json(),
            "profile": None if self.profile is None else self.profile.to_json(),
            "indexes": [asdict(part) for part in self.indexes],
            "totals": asdict(self.totals),
            "program": self.program,
        }
        return body | {"trust": self.trust} if self.trust else body

    @classmethod
    def from_body(cls, body: Mapping[str, Any], *, name: str, writer: str, digest: str) -> SnapshotRecord:
        """The record in a body whose signature was checked; ``Corrupt`` when a field is missing or malformed."""
        if body.get("format") != 1:
            raise MadeByNewer(f"{name} has format {body.get('format')}; this version reads format 1.", object=name)
        try:
            record = cls(
                vault=str(body["vault"]),
                dataset=str(body["dataset"]),
                seq=int(body["seq"]),
                id=str(body["id"]),
                prev=None if body["prev"] is None else str(body["prev"]),
                heads={str(dataset): str(head) for dataset, head in body["heads"].items()},
                site=str(body["site"]),
                epoch=int(body["epoch"]),
                confirmed=bool(body["confirmed"]),
                group=None if body["group"] is None else str(body["group"]),
                scan_started_at=from_text(body["scan_started_at"]),
                scan_ended_at=from_text(body["scan_ended_at"]),
                consistent_at=from_text(body["consistent_at"]),
                committed_at=from_text(body["committed_at"]),
                source_kind=str(body["source"]["kind"]),
                source_url=str(body["source"]["url"]),
                contract=ContractRef.from_json(body["contract"]),
                state=body["state"],
                manifest=TableRef.from_json(body["manifest"]),
                profile=None if body["profile"] is None else TableRef.from_json(body["profile"]),
                indexes=tuple(Part.from_json(part) for part in body["indexes"]),
                totals=Totals.from_json(body["totals"]),
                program=str(body["program"]),
                trust=int(body.get("trust", 0)),
                writer=writer,
                digest=digest,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Corrupt(f"{name} lacks or misspells a field: {error}.", object=name) from error
        if record.name != name or record.state not in ("complete", "incomplete"):
            raise Corrupt(
                f"{name} holds the record of {record.name}; a record belongs under its own name.", object=name
            )
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One signed statement of the ledger about a snapshot (or, with an empty ``snapshot``, about a dataset)."""

    kind: str
    dataset: str
    snapshot: str
    at: datetime
    signer: str
    name: str
    body: Mapping[str, Any] = field(default_factory=dict)


def record_name(dataset: str, seq: int, snapshot_id: str) -> str:
    """Where a record is stored."""
    return f"snapshots/dataset={dataset}/{seq:010d}-{snapshot_id}.json"


def parse_record_name(name: str) -> tuple[str, int, str] | None:
    """Dataset, seq and id from a record's name; ``None`` when it is not one."""
    match = _RECORD_NAME.fullmatch(name)
    return (match[1], int(match[2]), match[3]) if match else None


def fact_name(kind: str, dataset: str, snapshot: str, fact_id: str) -> str:
    """Where a fact is stored; ``snapshot`` is empty for a fact about the whole dataset."""
    return f"ledger/{kind}/dataset={dataset}/{snapshot or 'dataset'}-{fact_id}.json"


def lease_name(dataset: str, seq: int) -> str:
    """Where the lease of a snapshot under way is stored."""
    return f"leases/dataset={dataset}/{seq:010d}.json"


def part_name(kind: Literal["manifests", "profiles"], key: int, dataset: str, snapshot_id: str, number: int) -> str:
    """Where a part of a manifest or profile is stored: Hive folders, so that DuckDB reads the history as one table."""
    return f"{kind}/key={key}/dataset={dataset}/snapshot={snapshot_id}/part-{number:05d}.parquet"


def pack_name(pack_id: str) -> str:
    """Where a pack is stored, from its id in hex."""
    return f"packs/{pack_id[:2]}/{pack_id}"
