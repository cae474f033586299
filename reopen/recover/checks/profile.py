"""Owns the comparison of restored files with the snapshot's profile. Pure DuckDB; one scan per group of like files.

The scan decodes every column of every file whether or not there is a profile: a page that cannot be decoded is found
here even if no rule of the contract reads its column.

Text of a minimum or maximum is what ``CAST(x AS VARCHAR)`` gives in DuckDB, with time zone UTC. The profile's writer
aims at the same text, and both sides are cast back to the column's type before they are called different, so that
``1.5`` equals ``1.50`` and floats are compared as numbers. NaN has no place in a minimum or maximum.

Invariants
    I1  A null minimum or maximum in the profile is not comparable (classified, cut short, no statistics): left out.
    I2  Values of classified columns are neither computed nor shown.
    I3  CSV has no types of its own: there, types are compared by family (integer, number, string, …).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from reopen.recover.checks import column_types
from reopen.recover.checks.model import CheckKind, CheckResult, CheckStatus, Severity
from reopen.recover.checks.sql import identifier, literal
from reopen.recover.checks.tables import (
    FILE_COLUMN,
    Columns,
    DataFile,
    RestoredTable,
    relation,
    short,
)

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE_ROWS_MAX = 5
_EXPECTED = "as in the snapshot's profile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the restored files hold.

    ``measured`` is an Arrow table (``path, column, type, rows, nulls, min, max``), one row a file and column;
    ``damaged`` maps the path of each file that could not be decoded to the reason.
    """

    measured: pa.Table
    damaged: dict[str, str]


def is_shortage(error: duckdb.Error) -> bool:
    """Whether the machine, not the data, is at fault: no memory, no room for spilling."""
    return isinstance(error, duckdb.OutOfMemoryException) or "No space left on device" in str(error)


def scan(con: duckdb.DuckDBPyConnection, table: RestoredTable) -> Scan:
    """Read every value once.

    :raises duckdb.Error: memory or disk ran out (:func:`is_shortage`); damage in a file is a value instead.
    """
    rows: list[tuple[Any, ...]] = []
    damaged = {file.path: file.error for file in table.files if file.error}
    for columns, files in table.groups():
        try:
            rows += _measure(con, table, columns, files)
        except duckdb.Error as error:
            if is_shortage(error):
                raise
            # The message of a scan over many files does not always name the damaged one. One by one they do.
            for file in files:
                try:
                    rows += _measure(con, table, columns, [file])
                except duckdb.Error as own_error:
                    if is_shortage(own_error):
                        raise
                    damaged[file.path] = short(own_error)
    return Scan(measured=_as_arrow(rows), damaged=damaged)


def _measure(
    con: duckdb.DuckDBPyConnection, table: RestoredTable, columns: Columns, files: Sequence[DataFile]
) -> list[tuple[Any, ...]]:
    classified = set(table.subject.classified)
    measures = ["count(*)"]
    for name, kind in columns:
        measures += _aggregates(name, kind, hidden=name in classified)
    source = relation(table.subject, files, columns=columns, with_file=True)
    # Grouped even for one file: an ungrouped aggregate may be answered from the footer, without reading a page.
    sql = f"SELECT {identifier(FILE_COLUMN)}, {', '.join(measures)} FROM {source} GROUP BY ALL"
    found = {row[0]: row[1:] for row in con.execute(sql).fetchall()}
    result = []
    for file in files:
        total, *values = found.get(file.location, (0, *([0, None, None] * len(columns))))
        for index, (name, kind) in enumerate(columns):
            filled, low, high = values[3 * index : 3 * index + 3]
            result.append((file.path, name, kind, total, total - filled, low, high))
    return result


def _aggregates(name: str, kind: str, *, hidden: bool) -> list[str]:
    column = identifier(name)
    if hidden or column_types.is_nested(kind):
        return [f"count({column})", "NULL", "NULL"]
    # Parquet's statistics leave NaN out; DuckDB would sort it above every number.
    only = f" FILTER (WHERE NOT isnan({column}))" if column_types.base(kind) in ("FLOAT", "DOUBLE") else ""
    return [f"count({column})", f"CAST(min({column}){only} AS VARCHAR)", f"CAST(max({column}){only} AS VARCHAR)"]


def _as_arrow(rows: list[tuple[Any, ...]]) -> pa.Table:
    import pyarrow as pa

    fields = [("path", pa.string()), ("column", pa.string()), ("type", pa.string()), ("rows", pa.int64())]
    fields += [("nulls", pa.int64()), ("min", pa.string()), ("max", pa.string())]
    values = list(zip(*rows, strict=True)) or [()] * len(fields)
    return pa.table(
        [pa.array(column, kind) for column, (_, kind) in zip(values, fields, strict=True)], pa.schema(fields).names
    )


def readable_check(table: RestoredTable, found: Scan) -> CheckResult:
    """The check that the files are there and every value of them can be decoded."""
    damaged = found.damaged
    if not table.files:
        message = f"No file below {table.folder} matches {', '.join(table.subject.patterns)}."
        return _integrity(CheckStatus.FAIL, observed="no files", message=message)
    if damaged:
        sample = "; ".join(f"{path}: {reason}" for path, reason in sorted(damaged.items())[:SAMPLE_ROWS_MAX])
        observed = f"{len(damaged)} of {len(table.files)} files cannot be read"
        return _integrity(CheckStatus.FAIL, observed=observed, sample=sample, count=len(damaged))
    return _integrity(CheckStatus.PASS, observed=f"{len(table.files)} files")


def _integrity(
    status: CheckStatus, *, observed: str, sample: str = "", message: str = "", count: int | None = None
) -> CheckResult:
    return CheckResult(
        rule="files/readable",
        kind=CheckKind.INTEGRITY,
        type="file decode",
        severity=Severity.ERROR,
        status=status,
        observed=observed,
        expected="every file decodes",
        sample=sample,
        message=message,
        unexpected_count=count,
    )


def compare(
    con: duckdb.DuckDBPyConnection, table: RestoredTable, found: Scan, profile: pa.Table | None
) -> list[CheckResult]:
    """One check a measure: ``files``, ``columns``, ``type``, ``rows``, ``nulls``, ``min``, ``max``.

    Files that cannot be read count as present and are compared no further: :func:`readable_check` names them.
    """
    if profile is None:
        return [_result("profile", CheckStatus.SKIPPED, message="The snapshot has no profile of this dataset.")]
    con.register("profile_given", profile)
    con.register("profile_measured", found.measured)
    try:
        _prepare(con, table, found)
        return [
            _files(con, table),
            _columns(con),
            _types(con),
            _count_check(
                con, "rows", "SELECT DISTINCT path, '' AS c, g_rows::VARCHAR AS g, m_rows::VARCHAR AS m FROM pair"
            ),
            _count_check(
                con,
                "nulls",
                "SELECT path, c, g_nulls::VARCHAR AS g, m_nulls::VARCHAR AS m FROM pair WHERE g_nulls IS NOT NULL",
            ),
            _extreme(con, "min"),
            _extreme(con, "max"),
        ]
    finally:
        con.unregister("profile_given")
        con.unregister("profile_measured")


def _prepare(con: duckdb.DuckDBPyConnection, table: RestoredTable, found: Scan) -> None:
    hidden = ", ".join(map(literal, table.subject.classified)) or "NULL"
    damaged = ", ".join(map(literal, found.damaged)) or "NULL"
    # `given`: the profile without damaged files, and without the leaves of nested columns (`a.list.element`), of
    # which the scan sees only the root.
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE given AS
        SELECT g.path, g."column" AS c, g.type, g.rows, g.nulls, g.min, g.max, g.source FROM profile_given g
        WHERE (g.path NOT IN ({damaged})) IS NOT FALSE AND NOT EXISTS (
            SELECT 1 FROM profile_measured m WHERE m.path = g.path AND starts_with(g."column", m."column" || '.')
        )
        """
    )
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE pair AS
        SELECT g.path, g.c, g.source, g.type AS g_type, m.type AS m_type, g.rows AS g_rows, m.rows AS m_rows,
               g.nulls AS g_nulls, m.nulls AS m_nulls, g.min AS g_min, m.min AS m_min, g.max AS g_max, m.max AS m_max,
               (g.c IN ({hidden})) IS TRUE AS hidden
        FROM given g JOIN profile_measured m ON m.path = g.path AND m."column" = g.c
        """
    )


def _result(
    measure: str,
    status: CheckStatus,
    *,
    observed: str = "",
    sample: str = "",
    message: str = "",
    count: int | None = None,
) -> CheckResult:
    return CheckResult(
        rule=measure if measure == "profile" else f"profile/{measure}",
        kind=CheckKind.PROFILE,
        type="profile",
        severity=Severity.ERROR,
        status=status,
        observed=observed,
        expected=_EXPECTED,
        sample=sample,
        message=message,
        unexpected_count=count,
    )


def _from_differences(measure: str, compared: int, differences: list[str], count: int) -> CheckResult:
    if not compared:
        return _result(measure, CheckStatus.SKIPPED, message="The profile has no value that could be compared.")
    observed = f"{compared - count} of {compared} equal"
    if not count:
        return _result(measure, CheckStatus.PASS, observed=observed)
    return _result(
        measure, CheckStatus.FAIL, observed=observed, sample="; ".join(differences[:SAMPLE_ROWS_MAX]), count=count
    )


def _files(con: duckdb.DuckDBPyConnection, table: RestoredTable) -> CheckResult:
    given = {str(row[0]) for row in con.execute("SELECT DISTINCT path FROM profile_given").fetchall()}
    present = {file.path for file in table.files}
    differences = [f"{path}: missing" for path in sorted(given - present)]
    differences += [f"{path}: not in the profile" for path in sorted(present - given)]
    if not given | present:
        return _result("files", CheckStatus.PASS, observed="no files")
    return _from_differences("files", len(given | present), differences, len(differences))


def _columns(con: duckdb.DuckDBPyConnection) -> CheckResult:
    # Only files that both sides know; a file on one side alone is the business of `files`.
    both = "path IN (SELECT path FROM given) AND path IN (SELECT path FROM profile_measured)"
    differing = f"""
        SELECT path, c, 'missing' AS what FROM given g
        WHERE {both} AND NOT EXISTS (SELECT 1 FROM profile_measured m WHERE m.path = g.path AND m."column" = g.c)
        UNION ALL
        SELECT path, "column", 'not in the profile' FROM profile_measured m
        WHERE {both} AND NOT EXISTS (SELECT 1 FROM profile_given g WHERE g.path = m.path AND (
            g."column" = m."column" OR starts_with(g."column", m."column" || '.')))
    """
    count = _number(con, f"SELECT count(*) FROM ({differing})")
    shared = _number(con, "SELECT count(*) FROM pair")
    rows = con.execute(f"SELECT * FROM ({differing}) ORDER BY ALL LIMIT {SAMPLE_ROWS_MAX}").fetchall()
    return _from_differences("columns", shared + count, [f"{path}: {name} {what}" for path, name, what in rows], count)


def _types(con: duckdb.DuckDBPyConnection) -> CheckResult:
    compared, count, differences = 0, 0, []
    pairs = con.execute(
        "SELECT g_type, m_type, source LIKE 'csv%', count(*), min(path || ': ' || c) "
        "FROM pair GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    for given, measured, is_csv, number, first in pairs:
        compared += number
        name = column_types.from_arrow(given) or column_types.from_sql(con, given) or given
        if (
            (column_types.family(name) == column_types.family(measured))
            if is_csv
            else column_types.same(name, measured)
        ):
            continue
        if is_csv and _csv_compatible(given, name, measured):
            continue
        count += number
        differences.append(f"{first} {measured} ≠ {name}")
    return _from_differences("type", compared, differences, count)


def _csv_compatible(given: str, name: str, measured: str) -> bool:
    # A reader of CSV that is not told types finds whole numbers in a decimal column, and nothing in an empty one.
    numbers = {"integer", "number"}
    return given == "null" or {column_types.family(name), column_types.family(measured)} <= numbers


def _count_check(con: duckdb.DuckDBPyConnection, measure: str, pairs: str) -> CheckResult:
    return _differences(con, measure, pairs, "g IS DISTINCT FROM m")


def _extreme(con: duckdb.DuckDBPyConnection, measure: str) -> CheckResult:
    given, measured = f"g_{measure}", f"m_{measure}"
    columns = f"path, c, m_type, {given} AS g, {measured} AS m"
    pairs = f"SELECT {columns} FROM pair WHERE {given} IS NOT NULL AND NOT hidden"
    tests = ["WHEN g IS NOT DISTINCT FROM m THEN false", "WHEN m IS NULL THEN true"]
    for (kind,) in con.execute("SELECT DISTINCT m_type FROM pair ORDER BY 1").fetchall():
        if not column_types.is_nested(kind) and column_types.from_sql(con, kind):
            tests.append(
                f"WHEN m_type = {literal(kind)} THEN (TRY_CAST(g AS {kind}) = TRY_CAST(m AS {kind})) IS NOT TRUE"
            )
    return _differences(con, measure, pairs, f"CASE {' '.join(tests)} ELSE true END")


def _differences(con: duckdb.DuckDBPyConnection, measure: str, pairs: str, differs: str) -> CheckResult:
    compared = _number(con, f"SELECT count(*) FROM ({pairs})")
    count = _number(con, f"SELECT count(*) FROM ({pairs}) WHERE {differs}")
    sql = f"SELECT path, c, g, m FROM ({pairs}) WHERE {differs} ORDER BY path, c LIMIT {SAMPLE_ROWS_MAX}"
    rows = con.execute(sql).fetchall()
    shown = [f"{path}: {f'{name} ' if name else ''}{measured} ≠ {given}" for path, name, given, measured in rows]
    return _from_differences(measure, compared, shown, count)


def _number(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(con.execute(sql).fetchall()[0][0])
