"""Owns the stored tables of a catalog: their columns, and the number of their layout.

They lie in a schema of their own (:data:`INNER`), which is no promise to anybody: people ask the views. Column names
avoid the words that DuckDB reserves, so that no query needs quotes.

Entries are kept as *intervals*. Each dataset of each vault is a *series*; each manifest of it that differs from the one
before has a *position*, a number that grows. An entry that stays as it is through a hundred snapshots is one row, which
says at which position it appeared and at which it was no more (:data:`OPEN` while it is still there). What a
snapshot held is ``first_position <= position AND position < end_position``; what changed at one is an equality.

What a version is beside the one before it, and whether anything came after it, is noted with it
(:mod:`reopen.review.catalog.deltas`).

Invariants
    T1  ``first_position < end_position``, and both are positions of records that are there (or :data:`OPEN`).
    T2  At any position a series has at most one version of a name.
    T3  No type needs an extension of DuckDB, and the file is of a form that DuckDB 1.1 reads (1.0 does not).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import duckdb
import pyarrow as pa

from reopen.recover.history import HISTORY
from reopen.review.catalog.rows import FACTS, RECORDS

LAYOUT = 2
"""An older layout is made anew from the vaults; nothing is migrated. A newer one is a newer Reopen's."""
INNER = "reopen_inner"
"""The schema of the stored tables. Not ``reopen``: a file of that name would make it ambiguous."""
OPEN = 2_147_483_647
"""The end of what is still there."""
WAITING, LOADED, UNREADABLE = "waiting", "loaded", "unreadable"
"""States of a record's manifest and profile in the catalog."""

_TYPES: Mapping[pa.DataType, str] = MappingProxyType(
    {
        pa.string(): "VARCHAR",
        pa.int64(): "BIGINT",
        pa.int32(): "INTEGER",
        pa.float64(): "DOUBLE",
        pa.bool_(): "BOOLEAN",
        pa.timestamp("us", "UTC"): "TIMESTAMPTZ",
    }
)

_INTERVAL_COLUMNS = "series INTEGER, first_position INTEGER, end_position INTEGER"


def columns_of(schema: pa.Schema) -> str:
    """The columns of an Arrow schema as DuckDB declares them."""
    return ", ".join(f'"{field.name}" {_TYPES[field.type]}' for field in schema)


TABLES: Mapping[str, str] = MappingProxyType(
    {
        "meta": "key VARCHAR PRIMARY KEY, value VARCHAR",
        "places": """site VARCHAR, role VARCHAR, url VARCHAR, vault VARCHAR, is_primary BOOLEAN, trust INTEGER,
            read_at TIMESTAMPTZ, error VARCHAR""",
        "copies": "site VARCHAR, name VARCHAR, kind VARCHAR",
        "records": f"""name VARCHAR, {columns_of(RECORDS)}, series INTEGER, position INTEGER,
            profile_position INTEGER, manifest_state VARCHAR, profile_state VARCHAR""",
        "facts": f"""{columns_of(FACTS)}, level VARCHAR, result VARCHAR, reason VARCHAR, seq BIGINT,
            consistent_at TIMESTAMPTZ""",
        "series": "series INTEGER, vault VARCHAR, dataset VARCHAR",
        "versions": f"""{_INTERVAL_COLUMNS}, path VARCHAR, path_raw BLOB, type VARCHAR, size_bytes BIGINT,
            modified_at TIMESTAMPTZ, mode INTEGER, uid BIGINT, gid BIGINT, owner VARCHAR, group_name VARCHAR,
            link_target VARCHAR, link_group VARCHAR, chunks INTEGER, content UBIGINT, read_state VARCHAR, error VARCHAR,
            change VARCHAR, difference VARCHAR, size_bytes_before BIGINT, is_removed BOOLEAN""",
        "column_versions": f"""{_INTERVAL_COLUMNS}, path VARCHAR, column_name VARCHAR, type VARCHAR, rows BIGINT,
            nulls BIGINT, min VARCHAR, max VARCHAR, source VARCHAR""",
        "contracts": "dataset VARCHAR, tier INTEGER, rpo_seconds DOUBLE, rto_seconds DOUBLE, version VARCHAR",
        "epochs": """epoch BIGINT, primary_site VARCHAR, previous_site VARCHAR, recorded_at TIMESTAMPTZ,
            scenario VARCHAR, reason VARCHAR""",
        "recoveries": columns_of(HISTORY),
        "coverage": """site VARCHAR, days INTEGER, share DOUBLE, stored_bytes BIGINT, stored_packs BIGINT,
            oldest_read_at TIMESTAMPTZ, measured_at TIMESTAMPTZ""",
    }
)
"""The stored tables, by name."""


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Make every table, empty."""
    connection.execute(f"CREATE SCHEMA {INNER}")
    for name, columns in TABLES.items():
        connection.execute(f"CREATE TABLE {INNER}.{name} ({columns})")
    set_meta(connection, "layout", str(LAYOUT))


def set_meta(connection: duckdb.DuckDBPyConnection, key: str, value: str) -> None:
    """Note something of the whole catalog."""
    connection.execute(f"INSERT OR REPLACE INTO {INNER}.meta VALUES (?, ?)", [key, value])


def get_meta(connection: duckdb.DuckDBPyConnection, key: str) -> str | None:
    """What was noted, or None."""
    rows = connection.execute(f"SELECT value FROM {INNER}.meta WHERE key = ?", [key]).fetchall()
    return str(rows[0][0]) if rows else None
