"""Owns the history of vaults as Arrow tables: one row a record, one row a fact, and where their parts lie.

Records are read a dataset at a time and become columns at once, so that a history of many snapshots is never held as
Python objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import pyarrow as pa

from reopen.storage.canonical import encode
from reopen.vault import Fact, SnapshotRecord, TableRef, Totals, Vault

_INSTANT = pa.timestamp("us", "UTC")

TOTALS = tuple(field.name for field in fields(Totals))

RECORDS = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("snapshot", pa.string(), nullable=False),
        pa.field("vault", pa.string(), nullable=False),
        pa.field("site", pa.string(), nullable=False),
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("confirmed", pa.bool_(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("consistent_at", _INSTANT, nullable=False),
        pa.field("committed_at", _INSTANT, nullable=False),
        pa.field("scan_started_at", _INSTANT, nullable=False),
        pa.field("scan_ended_at", _INSTANT, nullable=False),
        pa.field("contract_id", pa.string(), nullable=False),
        pa.field("contract_version", pa.string(), nullable=False),
        pa.field("contract_digest", pa.string(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in TOTALS),
        pa.field("manifest_snapshot", pa.string(), nullable=False),
        pa.field("profile_snapshot", pa.string()),
        pa.field("source_kind", pa.string(), nullable=False),
        pa.field("source_url", pa.string(), nullable=False),
        pa.field("program", pa.string(), nullable=False),
        pa.field("writer", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
    ]
)
"""One row a committed snapshot. ``manifest_snapshot`` and ``profile_snapshot`` name the snapshot that owns the parts.
"""

FACTS = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("snapshot", pa.string(), nullable=False),
        pa.field("vault", pa.string(), nullable=False),
        pa.field("stated_at", _INSTANT, nullable=False),
        pa.field("signer", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("body", pa.string(), nullable=False),
    ]
)
"""One row a signed fact of the ledger; ``body`` is canonical JSON."""

_COLUMNS: dict[str, Callable[[SnapshotRecord], Any]] = {
    "snapshot": lambda record: record.id,
    "contract_id": lambda record: record.contract.id,
    "contract_version": lambda record: record.contract.version,
    "contract_digest": lambda record: record.contract.digest,
    "manifest_snapshot": lambda record: record.manifest.snapshot,
    "profile_snapshot": lambda record: None if record.profile is None else record.profile.snapshot,
}
"""How a column is found in a record, where it is not the attribute of the same name."""

PartKind = Literal["manifests", "profiles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPlace:
    """The parts of one manifest or profile: which vault they are read from, and the reference that pins them."""

    kind: PartKind
    vault: Vault
    dataset: str
    reference: TableRef


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that vaults recorded. ``parts`` names each manifest and profile once, by its owner."""

    records: pa.Table
    facts: pa.Table
    parts: tuple[PartPlace, ...]


def read_history(vaults: Sequence[Vault]) -> History:
    """The history of vaults, replicas merged: of equal records and facts the first vault's count."""
    batches: list[pa.Table] = []
    parts: dict[tuple[str, PartKind, str, str], PartPlace] = {}
    seen: set[tuple[str, str, int, str]] = set()
    for vault in vaults:
        for dataset in vault.datasets():
            fresh = []
            for record in vault.records(dataset):
                identity = (vault.id, record.dataset, record.seq, record.id)
                if identity not in seen:
                    seen.add(identity)
                    fresh.append(record)
                    _note_parts(parts, vault, record)
            batches.append(_record_columns(vault, fresh))
    return History(
        records=pa.concat_tables(batches) if batches else RECORDS.empty_table(),
        facts=_fact_columns(vaults),
        parts=tuple(parts.values()),
    )


def _note_parts(parts: dict[tuple[str, PartKind, str, str], PartPlace], vault: Vault, record: SnapshotRecord) -> None:
    references: list[tuple[PartKind, TableRef | None]] = [("manifests", record.manifest), ("profiles", record.profile)]
    for kind, reference in references:
        if reference is not None:
            place = PartPlace(kind=kind, vault=vault, dataset=record.dataset, reference=reference)
            parts.setdefault((vault.id, kind, record.dataset, reference.snapshot), place)


def _record_columns(vault: Vault, records: Sequence[SnapshotRecord]) -> pa.Table:
    columns: dict[str, list[Any]] = {}
    for name in RECORDS.names:
        if name == "vault":
            columns[name] = [vault.id] * len(records)
        elif name in TOTALS:
            columns[name] = [getattr(record.totals, name) for record in records]
        elif name in _COLUMNS:
            columns[name] = list(map(_COLUMNS[name], records))
        else:
            columns[name] = [getattr(record, name) for record in records]
    return pa.table(columns, schema=RECORDS)


def _fact_columns(vaults: Iterable[Vault]) -> pa.Table:
    found: dict[tuple[str, str], tuple[str, Fact]] = {}
    for vault in vaults:
        for fact in vault.facts():
            found.setdefault((vault.id, fact.name), (vault.id, fact))
    facts = sorted(found.values(), key=lambda item: (item[1].at, item[1].name))
    columns = {
        "kind": [fact.kind for _, fact in facts],
        "dataset": [fact.dataset for _, fact in facts],
        "snapshot": [fact.snapshot for _, fact in facts],
        "vault": [vault_id for vault_id, _ in facts],
        "stated_at": [fact.at for _, fact in facts],
        "signer": [fact.signer for _, fact in facts],
        "name": [fact.name for _, fact in facts],
        "body": [encode(dict(fact.body)).decode() for _, fact in facts],
    }
    return pa.table(columns, schema=FACTS)
