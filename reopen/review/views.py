"""Owns the views of the catalog: their columns, their SQL and what they say of themselves.

The inner schema ``reopen`` holds what they stand on: the tables ``records`` and ``facts``, ``manifests`` and
``profiles``, which :mod:`reopen.review.catalog` points at Parquet parts, and ``recoveries``, which comes from the
control store. Column names avoid the words that DuckDB reserves (``at``, ``column``, ``group``), so that no query needs
quotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import duckdb
import pyarrow as pa

from reopen.recover.history import HISTORY
from reopen.review.history import History, PartKind
from reopen.vault.tables import MANIFEST, PROFILE


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One supported view: what it holds, its SQL, and notes on columns whose name does not say it all."""

    comment: str
    sql: str
    columns: Mapping[str, str] = field(default_factory=dict)


# The name of an entry is its bytes; the text is only how it is shown.
_NAME = "coalesce({0}.path_raw, encode({0}.path))"

_ENTRY_COLUMNS = """
    m.path, m.type, m.size_bytes,
    CASE WHEN r.manifest_snapshot = r.snapshot THEN m.change ELSE 'unchanged' END AS change,
    make_timestamptz(m.mtime_s * 1000000 + m.mtime_ns // 1000) AS modified_at,
    m.mode, m.owner, m."group" AS group_name, m.uid, m.gid, m.link_target, m.link_group,
    octet_length(m.chunks) // 32 AS chunks, m.read_state, m.error, m.path_raw,
    r.seq, r.consistent_at, r.vault
"""

_BY_RECOVERY = """
    SELECT number, evidence, kind, scenario, site, started_at, finished_at,
        CASE WHEN bool_or(verdict = 'failed') THEN 'failed' WHEN bool_or(verdict = 'missed') THEN 'missed'
            ELSE 'met' END AS verdict,
        count(*) AS datasets, count(*) FILTER (verdict = 'met') AS met, CAST(sum(bytes) AS BIGINT) AS bytes,
        CAST(sum(files) AS BIGINT) AS files, max(rta_seconds) AS rta_seconds_max, max(rpa_seconds) AS rpa_seconds_max,
        CAST(sum(checks_passed) AS BIGINT) AS checks_passed, CAST(sum(checks_total) AS BIGINT) AS checks_total, machine
    FROM reopen.recoveries {where}
    GROUP BY ALL ORDER BY number
"""

_RECORD_COMMENTS = {
    "state": "complete or incomplete; an incomplete one is a recovery point only when it is named",
    "consistent_at": "the instant that the copy stands for; for files, the start of the scan",
    "confirmed": "whether the epoch log could be reached and said that this site is the primary",
    "new_raw_bytes": "bytes read that no earlier snapshot held",
    "stored_bytes": "what this snapshot's packs take in the vault",
    "manifest_snapshot": "the snapshot whose manifest this one uses; another one's when nothing had changed",
}

VIEWS: Mapping[str, View] = MappingProxyType(
    {
        "snapshots": View(
            comment="One row a committed snapshot: when, of what, its totals and its contract.",
            sql="SELECT * EXCLUDE (previous_manifest) FROM reopen.records",
            columns=_RECORD_COMMENTS,
        ),
        "files": View(
            comment="One row a file or symlink a snapshot.",
            sql="SELECT * FROM entries WHERE type IN ('file', 'symlink')",
            columns={"change": "added, modified, metadata or unchanged, against the snapshot before"},
        ),
        "entries": View(
            comment="One row an entry a snapshot, folders and special files too.",
            sql=f"""SELECT r.dataset, r.snapshot, {_ENTRY_COLUMNS}
                FROM reopen.records r
                JOIN reopen.manifests m ON m.dataset = r.dataset AND m.snapshot = r.manifest_snapshot""",
            columns={
                "change": "added, modified, metadata or unchanged, against the snapshot before",
                "path_raw": "the name's bytes where it is not UTF-8; path shows them with \\xNN",
                "read_state": "ok, changed_while_read or unreadable",
                "chunks": "how many chunks hold the content",
            },
        ),
        "changes": View(
            comment="One row an entry that differs from the snapshot before, with what was removed.",
            sql=f"""SELECT dataset, snapshot, path, type, size_bytes, change, path_raw, seq, consistent_at, vault
                FROM entries WHERE change <> 'unchanged'
                UNION ALL
                SELECT r.dataset, r.snapshot, p.path, p.type, p.size_bytes, 'removed', p.path_raw, r.seq,
                    r.consistent_at, r.vault
                FROM reopen.records r
                JOIN reopen.manifests p ON p.dataset = r.dataset AND p.snapshot = r.previous_manifest
                WHERE r.previous_manifest <> r.manifest_snapshot AND NOT EXISTS (
                    SELECT 1 FROM reopen.manifests m
                    WHERE m.dataset = r.dataset AND m.snapshot = r.manifest_snapshot
                        AND {_NAME.format("m")} = {_NAME.format("p")})""",
            columns={"change": "added, modified, metadata or removed"},
        ),
        "profiles": View(
            comment="One row a column a file a snapshot of a tabular dataset, from the captured bytes.",
            sql="""SELECT r.dataset, r.snapshot, p.path, p."column" AS column_name, p.type, p."rows" AS rows, p.nulls,
                    p.min, p.max, p.source, r.seq, r.consistent_at, r.vault
                FROM reopen.records r
                JOIN reopen.profiles p ON p.dataset = r.dataset AND p.snapshot = r.profile_snapshot""",
            columns={
                "rows": "rows of the file, repeated for each of its columns",
                "min": "least value as text; null where the contract classifies the column",
                "max": "greatest value as text; null where the contract classifies the column",
            },
        ),
        "verifications": View(
            comment="One row a signed statement that a snapshot was verified.",
            sql="""SELECT dataset, snapshot, body ->> 'level' AS level, stated_at AS verified_at,
                    coalesce(body ->> 'result', 'ok') = 'ok' AS ok, signer, vault
                FROM reopen.facts WHERE kind = 'verified'""",
            columns={"level": "structure, stored or content"},
        ),
        "facts": View(
            comment="One row a signed fact of the ledger, whatever its kind; body is JSON.",
            sql="SELECT * FROM reopen.facts",
        ),
        "datasets": View(
            comment="One row a dataset: how many snapshots it has, and its newest complete one.",
            sql="""SELECT r.dataset, count(*) AS snapshots,
                    count(*) FILTER (state = 'complete') AS complete,
                    arg_max(r.snapshot, r.seq) FILTER (state = 'complete') AS latest_snapshot,
                    arg_max(r.consistent_at, r.seq) FILTER (state = 'complete') AS latest_consistent_at,
                    arg_max(r.files, r.seq) FILTER (state = 'complete') AS files,
                    arg_max(r.size_bytes, r.seq) FILTER (state = 'complete') AS size_bytes,
                    CAST(sum(r.stored_bytes) AS BIGINT) AS stored_bytes,
                    min(r.consistent_at) AS first_consistent_at,
                    (SELECT max(f.stated_at) FROM reopen.facts f
                        WHERE f.kind = 'retired' AND f.dataset = r.dataset AND f.vault = r.vault) AS retired_at,
                    r.vault
                FROM reopen.records r GROUP BY r.dataset, r.vault""",
        ),
        "recoveries": View(
            comment="One row a dataset a drill or failover: clocks against objectives, and what the steps took.",
            sql="SELECT * FROM reopen.recoveries",
            columns={
                "number": "of the evidence in its chain",
                "check_seconds": "integrity, profile and contract together",
                "rta_seconds": "null where the dataset did not reopen",
                "machine": "architecture and cores; seconds of one machine say little about another",
            },
        ),
        "drills": View(
            comment="One row a drill: when, of what, and its worst clocks.",
            sql=_BY_RECOVERY.format(where="WHERE kind = 'drill'"),
        ),
        "evidence": View(
            comment="One row a record of evidence, drills and failovers alike.",
            sql=_BY_RECOVERY.format(where=""),
        ),
        "objectives": View(
            comment="One row a dataset: its objectives against its newest recovery, and how much room is left.",
            sql="""SELECT dataset, arg_max(tier, number) AS tier, arg_max(kind, number) AS kind,
                    max(started_at) AS started_at, arg_max(verdict, number) AS verdict,
                    arg_max({'at': rta_seconds}, number).at AS rta_seconds, arg_max(rto_seconds, number) AS rto_seconds,
                    arg_max({'at': rpa_seconds}, number).at AS rpa_seconds, arg_max(rpo_seconds, number) AS rpo_seconds,
                    arg_max({'left': rto_seconds - rta_seconds}, number).left AS rto_left_seconds,
                    count(*) AS recoveries, count(*) FILTER (verdict = 'met') AS met
                FROM reopen.recoveries GROUP BY dataset""",
            columns={"rto_left_seconds": "negative where it was missed, null where the dataset did not reopen"},
        ),
    }
)
"""The supported views, by name. ``vault`` is a vault's id, which its replicas share."""

PART_KINDS_BY_VIEW: Mapping[str, tuple[PartKind, ...]] = MappingProxyType(
    {"files": ("manifests",), "entries": ("manifests",), "changes": ("manifests",), "profiles": ("profiles",)}
)
"""Which parts a view reads; the others stand on records and facts only."""

RECOVERY_VIEWS = ("recoveries", "drills", "evidence", "objectives")
"""Views of what the control store holds."""


def create_views(connection: duckdb.DuckDBPyConnection, history: History) -> None:
    """Make the inner tables, empty ``manifests`` and ``profiles``, and every supported view with its comments."""
    connection.execute("CREATE SCHEMA reopen")
    connection.register("history_records", history.records)
    connection.execute(
        """CREATE TABLE reopen.records AS
        SELECT *, lag(manifest_snapshot) OVER (PARTITION BY vault, dataset ORDER BY seq) AS previous_manifest
        FROM history_records ORDER BY dataset, seq"""
    )
    connection.unregister("history_records")
    connection.register("history_facts", history.facts)
    connection.execute("CREATE TABLE reopen.facts AS SELECT * REPLACE (body::JSON AS body) FROM history_facts")
    connection.unregister("history_facts")
    set_recoveries(connection, HISTORY.empty_table())
    for name, schema in (("manifests", MANIFEST), ("profiles", PROFILE)):
        connection.execute(f"CREATE VIEW reopen.{name} AS {_nothing(schema)}")
    # A view is bound when it is made, so what others stand on comes first.
    for name in sorted(VIEWS, key=lambda name: name != "entries"):
        view = VIEWS[name]
        connection.execute(f"CREATE VIEW {name} AS {view.sql}")
        connection.execute(f"COMMENT ON VIEW {name} IS {_quoted(view.comment)}")
        for column, comment in view.columns.items():
            connection.execute(f'COMMENT ON COLUMN {name}."{column}" IS {_quoted(comment)}')


def set_recoveries(connection: duckdb.DuckDBPyConnection, recoveries: pa.Table) -> None:
    """Make the inner table of recoveries of these rows (:data:`reopen.recover.history.HISTORY`)."""
    connection.register("history_recoveries", recoveries)
    connection.execute("CREATE OR REPLACE TABLE reopen.recoveries AS SELECT * FROM history_recoveries")
    connection.unregister("history_recoveries")


def _nothing(schema: pa.Schema) -> str:
    """A SELECT of no rows with the columns of a schema."""
    types = {pa.string(): "VARCHAR", pa.binary(): "BLOB", pa.int64(): "BIGINT", pa.int32(): "INTEGER"}
    columns = [f'CAST(NULL AS {types[column.type]}) AS "{column.name}"' for column in schema]
    inner = ["CAST(NULL AS VARCHAR) AS dataset", "CAST(NULL AS VARCHAR) AS snapshot", *columns]
    return f"SELECT {', '.join(inner)} WHERE false"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
