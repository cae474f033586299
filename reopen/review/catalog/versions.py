"""Owns how manifests and profiles become intervals (:mod:`reopen.review.catalog.tables`), and how they stay true.

A manifest is read once, when its record is new: a row that goes on as it was costs nothing, one that ended or changed
costs an update and a row. A snapshot that expires takes its position away: what began or ended there moves to the next
position that is left, what was there only goes.

Invariants
    V1  A manifest is taken in one transaction, whole or not at all, after every part agreed with its pin. One that
        cannot be read is noted at its record; the others are taken.
    V2  Positions follow the order of records (``seq``, then id). A record that turns up between those that are taken
        already (of a replica that was cut off, say) makes its series start again.
    V3  A record whose vaults are all out of reach waits, and with it those of its series behind it: what is lost with
        a site stops no question about the others.
    V4  Memory is that of two parts and of DuckDB's limit, however large a manifest is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from reopen.errors import Corrupt, NotFound, ReopenError, Transient
from reopen.progress import SILENT, Progress
from reopen.review.catalog.deltas import difference_of, note_inherited
from reopen.review.catalog.sources import Place
from reopen.review.catalog.tables import INNER, LOADED, OPEN, UNREADABLE, WAITING
from reopen.vault import SnapshotRecord, TableRef
from reopen.vault.record import Part
from reopen.vault.tables import MANIFEST, PROFILE, decode_parquet

FIRST = 1
"""The position of a manifest before which a series has none."""
Finder = Callable[[str], tuple[SnapshotRecord, Sequence[Place]]]
"""Finds a record by its object's name, and the sites that hold it, the preferred first."""


class OutOfReach(Transient):
    """Every vault that holds a record cannot be opened now. It waits."""

    kind = "out-of-reach"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One table of intervals: what it is made of, what names a row, and what makes it another version."""

    name: str
    table: str
    schema: pa.Schema
    state: str
    position: str
    owner: str
    incoming: str
    """Its columns, made of those of a part."""
    key: tuple[str, ...]
    values: tuple[str, ...]
    last: tuple[str, ...] = ()
    """Columns that do not make another version, behind the others."""
    goes_on: str = "true"
    """What a row has to say to go on as it was."""

    def reference(self, record: SnapshotRecord) -> TableRef | None:
        """Where a record's rows are."""
        return record.manifest if self.schema is MANIFEST else record.profile


MANIFESTS = Kind(
    name="manifest",
    table="versions",
    schema=MANIFEST,
    state="manifest_state",
    position="position",
    owner="manifest_snapshot",
    # A time that no calendar has stays unknown; a part with one is no reason to know nothing.
    incoming="""path, path_raw, type, size_bytes,
        TRY(make_timestamptz(mtime_s * 1000000 + coalesce(mtime_ns, 0) // 1000)) AS modified_at, mode, uid, gid, owner,
        "group" AS group_name, link_target, link_group, CAST(octet_length(chunks) // 32 AS INTEGER) AS chunks,
        CASE WHEN octet_length(chunks) > 0 THEN md5_number_lower(chunks) END AS content, read_state, error, change""",
    key=("path", "path_raw"),
    values=(
        "type", "size_bytes", "modified_at", "mode", "uid", "gid", "owner", "group_name", "link_target", "link_group",
        "chunks", "content", "read_state", "error",
    ),
    last=("change",),
    goes_on="i.change = 'unchanged'",
)  # fmt: skip
PROFILES = Kind(
    name="profile",
    table="column_versions",
    schema=PROFILE,
    state="profile_state",
    position="profile_position",
    owner="profile_snapshot",
    incoming='path, "column" AS column_name, type, "rows" AS rows, nulls, min, max, source',
    key=("path", "column_name"),
    values=("type", "rows", "nulls", "min", "max", "source"),
)
KINDS = (MANIFESTS, PROFILES)


def load_waiting(
    connection: duckdb.DuckDBPyConnection, kind: Kind, find: Finder, *, progress: Progress = SILENT
) -> dict[str, ReopenError]:
    """Take every manifest (or profile) that waits, in order; returns what could not be read, by the record's name."""
    _restart_disordered(connection, kind)
    waiting = connection.execute(
        f"SELECT name, series, {kind.owner} FROM {INNER}.records WHERE {kind.state} = '{WAITING}' "
        "ORDER BY series, seq, snapshot"
    ).fetchall()
    problems: dict[str, ReopenError] = {}
    held_up: set[int] = set()
    if not waiting:
        return problems
    newest = _newest_positions(connection, kind)
    progress.start(f"read {kind.name}s", len(waiting), f"{kind.name}s")
    with ThreadPoolExecutor(1) as pool:
        for name, series, owner in waiting:
            position, newest_owner = newest.get(series, (FIRST - 1, None))
            if series in held_up:
                continue
            try:
                if owner != newest_owner:
                    position += 1
                    record, places = find(name)
                    _take(connection, kind, name, series, position, _parts(pool, kind, record, places))
                else:
                    _note(connection, kind, name, LOADED, position)
                newest[series] = (position, owner)
            except OutOfReach as error:
                problems[name] = error
                held_up.add(series)
            except (Corrupt, NotFound) as error:
                problems[name] = error
                _note(connection, kind, name, UNREADABLE, None)
            progress.advance(1)
    progress.finish()
    return problems


def readable_again(connection: duckdb.DuckDBPyConnection, kind: Kind, find: Finder) -> list[str]:
    """Names of the records whose parts could not be read and now can."""
    found = connection.execute(f"SELECT name FROM {INNER}.records WHERE {kind.state} = '{UNREADABLE}'").fetchall()
    with ThreadPoolExecutor(1) as pool:
        return [name for (name,) in found if _reads(pool, kind, find, name)]


def wait_again(connection: duckdb.DuckDBPyConnection, kind: Kind, names: Iterable[str]) -> None:
    """Let records wait that could not be read."""
    for name in names:
        connection.execute(f"UPDATE {INNER}.records SET {kind.state} = '{WAITING}' WHERE name = ?", [name])


def drop_records(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Forget records, and what only they knew. Within the caller's transaction."""
    gone = pa.table({"name": pa.array(names, pa.string())})
    connection.register("gone_names", gone)
    for kind in KINDS:
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE dead_positions AS
            SELECT DISTINCT series, {kind.position} AS position FROM {INNER}.records
            WHERE {kind.position} IS NOT NULL AND name IN (SELECT name FROM gone_names)
            EXCEPT SELECT DISTINCT series, {kind.position} FROM {INNER}.records
            WHERE name NOT IN (SELECT name FROM gone_names)"""
        )
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE moved_positions AS
            SELECT d.series, d.position, coalesce(min(r.{kind.position}), {OPEN}) AS next
            FROM dead_positions d LEFT JOIN {INNER}.records r ON r.series = d.series AND r.{kind.position} > d.position
                AND r.name NOT IN (SELECT name FROM gone_names)
            GROUP BY ALL"""
        )
        # What a later manifest says of an entry that was there before is that it did not change.
        unchanged = ", change = 'unchanged'" if kind is MANIFESTS else ""
        table = f"{INNER}.{kind.table}"
        for column, more in (("first_position", unchanged), ("end_position", "")):
            connection.execute(
                f"""UPDATE {table} SET {column} = m.next{more} FROM moved_positions m
                WHERE {table}.series = m.series AND {table}.{column} = m.position"""
            )
        connection.execute(
            f"""DELETE FROM {table}
            WHERE first_position >= end_position AND series IN (SELECT series FROM moved_positions)"""
        )
        if kind is MANIFESTS:
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE heirs AS SELECT DISTINCT series, next AS position FROM moved_positions"
            )
    connection.execute(f"DELETE FROM {INNER}.records WHERE name IN (SELECT name FROM gone_names)").fetchall()
    # After the records, because what is first in its series may be another now.
    note_inherited(connection, "heirs")
    connection.unregister("gone_names")


def _restart_disordered(connection: duckdb.DuckDBPyConnection, kind: Kind) -> None:
    """Let a series wait as a whole where a record waits before one that is taken (V2)."""
    found = connection.execute(
        f"""SELECT DISTINCT w.series FROM {INNER}.records w JOIN {INNER}.records l USING (series)
        WHERE w.{kind.state} = '{WAITING}' AND l.{kind.state} = '{LOADED}'
            AND (w.seq, w.snapshot) < (l.seq, l.snapshot)"""
    ).fetchall()
    for (series,) in found:
        connection.execute("BEGIN")
        connection.execute(f"DELETE FROM {INNER}.{kind.table} WHERE series = ?", [series])
        connection.execute(
            f"""UPDATE {INNER}.records SET {kind.position} = NULL, {kind.state} = '{WAITING}'
            WHERE series = ? AND {kind.owner} IS NOT NULL""",
            [series],
        )
        connection.execute("COMMIT")


def _newest_positions(connection: duckdb.DuckDBPyConnection, kind: Kind) -> dict[int, tuple[int, str]]:
    rows = connection.execute(
        f"""SELECT series, max({kind.position}), arg_max({kind.owner}, {kind.position}) FROM {INNER}.records
        WHERE {kind.position} IS NOT NULL GROUP BY series"""
    ).fetchall()
    return {series: (position, owner) for series, position, owner in rows}


def _note(connection: duckdb.DuckDBPyConnection, kind: Kind, name: str, state: str, position: int | None) -> None:
    connection.execute(
        f"UPDATE {INNER}.records SET {kind.state} = ?, {kind.position} = ? WHERE name = ?", [state, position, name]
    )


def _take(
    connection: duckdb.DuckDBPyConnection, kind: Kind, name: str, series: int, position: int, parts: Iterable[pa.Table]
) -> None:
    """Put the rows of one manifest behind those of the series (V1)."""
    columns = (*kind.key, *kind.values, *kind.last)
    connection.execute("BEGIN")
    try:
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE incoming AS
            SELECT {", ".join(columns)} FROM {INNER}.{kind.table} LIMIT 0"""
        )
        for part in parts:
            connection.register("part", part)
            connection.execute(f"INSERT INTO incoming SELECT {kind.incoming} FROM part").fetchall()
            connection.unregister("part")
        same = " AND ".join(f"i.{column} IS NOT DISTINCT FROM v.{column}" for column in kind.values)
        same_name = " AND ".join(f"i.{column} IS NOT DISTINCT FROM v.{column}" for column in kind.key[1:])
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE paired AS
            SELECT i.rowid AS row, v.version, v.version IS NOT NULL AND {kind.goes_on} AND {same} AS goes_on,
                {_noted(kind, position)}
            FROM incoming i LEFT JOIN (
                SELECT rowid AS version, * FROM {INNER}.{kind.table} WHERE series = {series} AND end_position = {OPEN}
            ) v ON i.{kind.key[0]} = v.{kind.key[0]} AND {same_name}"""
        )
        removed = ", is_removed = rowid NOT IN (SELECT version FROM paired WHERE version IS NOT NULL)"
        connection.execute(
            f"""UPDATE {INNER}.{kind.table} SET end_position = {position}{removed if kind is MANIFESTS else ""}
            WHERE series = {series} AND end_position = {OPEN}
                AND rowid NOT IN (SELECT version FROM paired WHERE goes_on)"""
        )
        connection.execute(
            f"""INSERT INTO {INNER}.{kind.table} (series, first_position, end_position, {", ".join(columns)}
                {", difference, size_bytes_before, is_removed" if kind is MANIFESTS else ""})
            SELECT {series}, {position}, {OPEN}, {", ".join(f"i.{column}" for column in columns)}
                {", p.difference, p.size_bytes_before, false" if kind is MANIFESTS else ""}
            FROM incoming i JOIN paired p ON p.row = i.rowid WHERE NOT p.goes_on ORDER BY i.rowid"""
        )
        _note(connection, kind, name, LOADED, position)
        connection.execute("DROP TABLE incoming; DROP TABLE paired")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _noted(kind: Kind, position: int) -> str:
    """What is noted of an entry beside the one before it (D1, D2): at the first position of a series there is none."""
    if kind is not MANIFESTS:
        return "NULL AS difference"
    difference = "i.change" if position == FIRST else difference_of("v", "i")
    return f"{difference} AS difference, v.size_bytes AS size_bytes_before"


def _parts(pool: ThreadPoolExecutor, kind: Kind, record: SnapshotRecord, places: Sequence[Place]) -> Iterator[pa.Table]:
    """The parts of a record's table, checked against their pins; one is read while another is taken (V4)."""
    reference = kind.reference(record)
    assert reference is not None, f"{record.name} waits for a {kind.name} that it does not have"
    rows = 0
    ahead: list[Future[pa.Table]] = []
    left = list(reference.parts)
    while left or ahead:
        while left and len(ahead) < 2:
            ahead.append(pool.submit(_part, kind, places, reference.key, left.pop(0)))
        table = ahead.pop(0).result()
        rows += table.num_rows
        yield table
    if rows != reference.rows:
        raise Corrupt(
            f"the {kind.name} of snapshot {reference.snapshot} has {rows} rows instead of {reference.rows}.",
            hint="`reopen verify --level structure` names what is damaged.",
        )


def _part(kind: Kind, places: Sequence[Place], key: int, part: Part) -> pa.Table:
    """One part, from the first vault that has it as it was written."""
    problem: Corrupt | NotFound | None = None
    for place in places:
        vault = place.found
        if isinstance(vault, ReopenError):
            continue
        try:
            return decode_parquet(vault.get_pinned(part), kind.schema, vault.metadata_key(key), part.name)
        except (Corrupt, NotFound) as error:
            problem = (
                error  # What a replica has whole need not be read from a damaged copy; a verify tells of that one.
            )
    if problem is not None:
        raise problem
    raise OutOfReach(f"no vault at hand holds {part.name}.", hint="`reopen status` says which vaults can be read.")


def _reads(pool: ThreadPoolExecutor, kind: Kind, find: Finder, name: str) -> bool:
    try:
        record, places = find(name)
        for _ in _parts(pool, kind, record, places):
            pass
    except (Corrupt, NotFound, OutOfReach):
        return False
    return True
