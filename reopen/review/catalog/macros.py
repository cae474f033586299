"""Owns the macros of a catalog: questions with arguments, called like tables.

Snapshots are named by their id or the beginning of it. An instant without a zone is in UTC: ``epoch_us`` reads it so in
any session, whatever its time zone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reopen.review.catalog.deltas import SAME_NAME, difference_of
from reopen.review.catalog.tables import INNER, OPEN
from reopen.review.catalog.views import SAW_CHANGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Macro:
    """One supported macro: its parameters, what it gives, and its SQL."""

    parameters: tuple[str, ...]
    comment: str
    sql: str
    example: str


def _snapshot(parameter: str) -> str:
    """The one snapshot that a text names; DuckDB refuses a subquery of two rows, so a short beginning is an error, as
    is one that nothing has."""
    found = f"(SELECT snapshot FROM {INNER}.records WHERE starts_with(snapshot, {parameter}))"
    return f"coalesce({found}, error('no snapshot begins with ' || {parameter}))"


MACROS: Mapping[str, Macro] = MappingProxyType(
    {
        "files_at": Macro(
            parameters=("dataset_name", "at_time"),
            comment="The files of a dataset as its newest complete snapshot up to an instant holds them.",
            example="FROM files_at('orders', TIMESTAMP '2026-11-22 03:00')",
            sql=f"""SELECT r.dataset, r.snapshot, r.consistent_at, v.path, v.type, v.size_bytes,
                    {SAW_CHANGE} AS change, v.modified_at, v.mode, v.owner, v.link_target, v.chunks, v.read_state
                FROM (SELECT * FROM {INNER}.records
                    WHERE dataset = dataset_name AND state = 'complete' AND confirmed AND position IS NOT NULL
                        AND epoch_us(consistent_at) <= epoch_us(at_time) ORDER BY seq DESC, snapshot DESC LIMIT 1) r
                JOIN {INNER}.versions v
                    ON v.series = r.series AND v.first_position <= r.position AND r.position < v.end_position
                WHERE v.type IN ('file', 'symlink')""",
        ),
        "diff": Macro(
            parameters=("snapshot_a", "snapshot_b"),
            comment="What differs between two snapshots of a dataset: a row an entry, as `reopen diff` tells it.",
            example="FROM diff('3fa1c2', '9be07d')",
            sql=f"""WITH a AS (SELECT * FROM {INNER}.records WHERE snapshot = {_snapshot("snapshot_a")}),
                b AS (SELECT * FROM {INNER}.records WHERE snapshot = {_snapshot("snapshot_b")}
                    AND CASE WHEN dataset = (SELECT dataset FROM a) THEN true
                        ELSE error('the snapshots are of two datasets') END),
                before_it AS (SELECT v.* FROM {INNER}.versions v JOIN a ON v.series = a.series
                    AND v.first_position <= a.position AND a.position < v.end_position),
                after_it AS (SELECT v.* FROM {INNER}.versions v JOIN b ON v.series = b.series
                    AND v.first_position <= b.position AND b.position < v.end_position),
                joined AS (
                    SELECT coalesce(n.path, o.path) AS path, coalesce(n.type, o.type) AS type,
                        CASE WHEN o.path IS NULL THEN 'added' WHEN n.path IS NULL THEN 'removed'
                            ELSE {difference_of("o", "n")} END AS change,
                        o.size_bytes AS size_bytes_before, n.size_bytes AS size_bytes_after
                    FROM before_it o FULL JOIN after_it n ON {SAME_NAME.format("o", "n")})
                SELECT path, change, type, size_bytes_before, size_bytes_after,
                    coalesce(size_bytes_after, 0) - coalesce(size_bytes_before, 0) AS grown_bytes
                FROM joined WHERE change <> 'unchanged' ORDER BY path""",
        ),
        "history": Macro(
            parameters=("file_path",),
            comment="The life of a path in every dataset: a row a version, oldest first.",
            example="FROM history('reports/2026.pdf')",
            sql=f"""SELECT r.dataset, any_value(v.path) AS path, any_value(v.change) AS change,
                    any_value(v.size_bytes) AS size_bytes, any_value(v.modified_at) AS modified_at,
                    arg_min(r.snapshot, (r.seq, r.snapshot)) AS first_snapshot, min(r.consistent_at) AS first_at,
                    arg_max(r.snapshot, (r.seq, r.snapshot)) AS last_snapshot, max(r.consistent_at) AS last_at,
                    count(*) AS snapshots, v.end_position = {OPEN} AS is_current
                FROM {INNER}.versions v JOIN {INNER}.records r
                    ON r.series = v.series AND v.first_position <= r.position AND r.position < v.end_position
                WHERE v.path = file_path
                GROUP BY r.dataset, v.series, v.first_position, v.end_position, v.path_raw
                ORDER BY r.dataset, first_at, min(r.seq)""",
        ),
    }
)
"""The supported macros, by name."""
