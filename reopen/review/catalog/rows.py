"""Owns how records and facts become rows: the Arrow schemas of both, and the conversion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import pyarrow as pa

from reopen.clock import from_text
from reopen.storage.canonical import encode
from reopen.vault import Fact, SnapshotRecord, Totals

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
MEMBERS = pa.schema(
    [
        pa.field("level", pa.string()),
        pa.field("result", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("seq", pa.int64()),
        pa.field("consistent_at", _INSTANT),
    ]
)
"""What views ask of a fact's body; DuckDB's JSON is an extension. A body that has it in no such form has none of it."""

_COLUMNS: dict[str, Callable[[SnapshotRecord], Any]] = {
    "snapshot": lambda record: record.id,
    "contract_id": lambda record: record.contract.id,
    "contract_version": lambda record: record.contract.version,
    "contract_digest": lambda record: record.contract.digest,
    "manifest_snapshot": lambda record: record.manifest.snapshot,
    "profile_snapshot": lambda record: None if record.profile is None else record.profile.snapshot,
}
"""How a column is found in a record, where it is not the attribute of the same name."""


def record_rows(records: Sequence[SnapshotRecord]) -> pa.Table:
    """Records as rows of :data:`RECORDS`."""
    columns: dict[str, list[Any]] = {}
    for name in RECORDS.names:
        if name in TOTALS:
            columns[name] = [getattr(record.totals, name) for record in records]
        elif name in _COLUMNS:
            columns[name] = list(map(_COLUMNS[name], records))
        else:
            columns[name] = [getattr(record, name) for record in records]
    return pa.table(columns, schema=RECORDS)


def fact_rows(vault: str, facts: Sequence[Fact]) -> pa.Table:
    """Facts of a vault as rows of :data:`FACTS`, then :data:`MEMBERS`."""
    columns = {
        "kind": [fact.kind for fact in facts],
        "dataset": [fact.dataset for fact in facts],
        "snapshot": [fact.snapshot for fact in facts],
        "vault": [vault] * len(facts),
        "stated_at": [fact.at for fact in facts],
        "signer": [fact.signer for fact in facts],
        "name": [fact.name for fact in facts],
        "body": [encode(dict(fact.body)).decode() for fact in facts],
        "level": [_text(fact.body.get("level")) for fact in facts],
        "result": [_text(fact.body.get("result", "ok")) for fact in facts],
        "reason": [_text(fact.body.get("reason")) or _texts(fact.body.get("reasons")) for fact in facts],
        "seq": [seq if type(seq := fact.body.get("seq")) is int else None for fact in facts],
        "consistent_at": [_instant(fact.body.get("consistent_at")) for fact in facts],
    }
    return pa.table(columns, schema=pa.schema([*FACTS, *MEMBERS]))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _texts(value: object) -> str | None:
    return "; ".join(map(str, value)) if isinstance(value, list) else None


def _instant(value: object) -> datetime | None:
    try:
        return from_text(value) if isinstance(value, str) else None
    except ValueError:
        return None
