"""Owns what is noted of each version beside its neighbours: what the view ``changes`` is made of.

It is noted when a manifest is taken, where versions are paired with those before them anyway, and noted again at a
position that took over what had begun or ended at one that expired. So a refresh costs what is new, and a question
about a hundred nights reads what was noted instead of pairing millions of versions with each other.

Invariants
    D1  ``difference`` of a version is what ``diff`` says between the snapshot before, of those that are still there,
        and the first that has it: added, modified, metadata or unchanged. At the first position of a series there is
        none before; there it is what the manifest says.
    D2  ``size_bytes_before`` is the size of the version that it replaced. ``is_removed`` says of one that ended that
        nothing of its name began there.
    D3  All three are functions of the intervals: whatever was taken and expired in whichever order, they are as in a
        catalog that is made at once.
"""

from __future__ import annotations

import duckdb

from reopen.review.catalog.tables import INNER, OPEN

SAME_NAME = "{0}.path = {1}.path AND {0}.path_raw IS NOT DISTINCT FROM {1}.path_raw"
"""A name is its bytes; the text is only how it is shown."""

_CONTENT = ("type", "size_bytes", "content", "link_target", "read_state")
_METADATA = ("mode", "uid", "gid", "modified_at")


def difference_of(before: str, after: str) -> str:
    """What an entry is beside the one of its name before; added where there is none."""
    content, metadata = (
        f"({', '.join(f'{before}.{column}' for column in columns)}) IS DISTINCT FROM "
        f"({', '.join(f'{after}.{column}' for column in columns)})"
        for columns in (_CONTENT, _METADATA)
    )
    return f"""CASE WHEN {before}.path IS NULL THEN 'added' WHEN {content} THEN 'modified'
        WHEN {metadata} THEN 'metadata' ELSE 'unchanged' END"""


def note_inherited(connection: duckdb.DuckDBPyConnection, heirs: str) -> None:
    """Note anew what differs at positions that took over what had begun or ended at others. Within the caller's
    transaction, after the records.

    :param heirs: a table of their ``series`` and ``position``; :data:`OPEN` stands for what is there again.
    """
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE arrived AS
        SELECT v.rowid AS version, b.rowid AS version_before, b.size_bytes AS size_bytes_before,
            CASE WHEN h.position = (SELECT min(r.position) FROM {INNER}.records r WHERE r.series = h.series)
                THEN v.change ELSE {difference_of("b", "v")} END AS difference
        FROM {heirs} h JOIN {INNER}.versions v ON v.series = h.series AND v.first_position = h.position
        LEFT JOIN {INNER}.versions b
            ON b.series = v.series AND b.end_position = v.first_position AND {SAME_NAME.format("b", "v")}"""
    )
    connection.execute(
        f"""UPDATE {INNER}.versions SET difference = a.difference, size_bytes_before = a.size_bytes_before
        FROM arrived a WHERE versions.rowid = a.version"""
    )
    connection.execute(
        f"""UPDATE {INNER}.versions SET is_removed = h.position < {OPEN} AND versions.rowid NOT IN (
            SELECT version_before FROM arrived WHERE version_before IS NOT NULL)
        FROM {heirs} h WHERE versions.series = h.series AND versions.end_position = h.position
            AND (h.position < {OPEN} OR versions.is_removed)"""
    )
    connection.execute("DROP TABLE arrived")
