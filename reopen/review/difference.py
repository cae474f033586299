"""Owns the comparison of two snapshots: what was added, removed, modified, or changed in its metadata only.

One DuckDB join over two manifests that were checked against their pins; no Python object an entry.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from reopen.vault import SnapshotRecord, Vault

DIFFERENCE = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("change", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("size_bytes_before", pa.int64()),
        pa.field("size_bytes_after", pa.int64()),
    ]
)
"""One row an entry that differs, sorted bytewise by name. ``change``: added, removed, modified (content, kind or link
target), metadata (mode, owner or time). ``type`` is the kind after, or before for what was removed."""

_SQL = """
WITH b AS (SELECT *, coalesce(path_raw, encode(path)) AS name FROM before_manifest),
     a AS (SELECT *, coalesce(path_raw, encode(path)) AS name FROM after_manifest),
joined AS (
    SELECT
        coalesce(a.name, b.name) AS name,
        coalesce(a.path, b.path) AS path,
        coalesce(a.type, b.type) AS type,
        b.size_bytes AS size_bytes_before,
        a.size_bytes AS size_bytes_after,
        CASE
            WHEN b.name IS NULL THEN 'added'
            WHEN a.name IS NULL THEN 'removed'
            WHEN (a.type, a.size_bytes, a.chunks, a.link_target, a.link_target_raw, a.read_state)
                IS DISTINCT FROM (b.type, b.size_bytes, b.chunks, b.link_target, b.link_target_raw, b.read_state)
                THEN 'modified'
            WHEN (a.mode, a.uid, a.gid, a.mtime_s, a.mtime_ns)
                IS DISTINCT FROM (b.mode, b.uid, b.gid, b.mtime_s, b.mtime_ns) THEN 'metadata'
            ELSE 'unchanged'
        END AS change
    FROM b FULL OUTER JOIN a USING (name)
)
SELECT path, change, type, size_bytes_before, size_bytes_after
FROM joined WHERE change <> 'unchanged' ORDER BY name
"""


def compare_snapshots(vault: Vault, before: SnapshotRecord, after: SnapshotRecord) -> pa.Table:
    """What differs between two snapshots of a dataset, schema :data:`DIFFERENCE`.

    :raises Corrupt: a manifest is damaged.
    """
    if before.manifest == after.manifest:
        return DIFFERENCE.empty_table()
    with duckdb.connect() as connection:
        connection.register("before_manifest", vault.manifest(before))
        connection.register("after_manifest", vault.manifest(after))
        return connection.sql(_SQL).to_arrow_table().cast(DIFFERENCE)


def count_changes(difference: pa.Table) -> dict[str, int]:
    """How many entries were added, removed, modified and changed in metadata only; all four are always there."""
    counted = {item["values"]: item["counts"] for item in difference.column("change").value_counts().to_pylist()}
    return {change: int(counted.get(change, 0)) for change in ("added", "removed", "modified", "metadata")}
