"""Owns restored files as DuckDB views: which files a table has, what each of them holds, and how SQL reads them.

Invariants
    I1  SQL names every file of a table explicitly; no pattern of ours or of a file's name is left to DuckDB's globbing.
    I2  What a file holds comes from the file (Parquet) or from contract and header (CSV); no type is ever guessed, so
        a check of types means something.
    I3  A file that cannot be opened is a value with its reason, not an exception: the report names every one.
    I4  A database that runs checks reads only the folders it was given, writes only its work folder, and loads no
        extension: a contract's SQL is text from outside.

Files on an object store are read where they lie, through :mod:`reopen.storage.reading`; a folder is a URL then.

CSV follows the dialect of :mod:`reopen.contracts.csv`.

A Hive-partitioned layout (``month=2026-01/part.parquet``) yields a column for each property that the contract marks
``partitioned`` and that the files themselves do not hold.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import duckdb

from reopen.contracts.csv import dialect_of
from reopen.contracts.model import TableFormat
from reopen.errors import InvalidInput
from reopen.recover.checks import column_types
from reopen.recover.checks.model import Subject
from reopen.recover.checks.sql import identifier, literal
from reopen.storage import local_path
from reopen.storage.patterns import matches

if TYPE_CHECKING:
    from reopen.storage.reading import ReadOnlyObjects

FILE_COLUMN = "__reopen_file"
"""Name under which a scan carries the file of each row; a table's own columns do not start like this."""

_SUFFIXES = {
    TableFormat.PARQUET: (".parquet", ".parq", ".pq"),
    TableFormat.CSV: (".csv", ".csv.gz", ".csv.zst"),
}
_CSV_TYPES = {
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "time": "TIME",
}
_GLOB = re.compile(r"[*?\[]")
_MESSAGE_CHARACTERS_MAX = 300

Columns = tuple[tuple[str, str], ...]
"""Names and DuckDB types, in the file's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file of a table as it was found. ``path`` is relative to the dataset's folder, with ``/``."""

    path: str
    location: str
    size_bytes: int
    columns: Columns = ()
    error: str = ""
    """Why it cannot be read; empty when it was opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredTable:
    """All files of one restored table."""

    subject: Subject
    folder: str
    files: tuple[DataFile, ...]

    @property
    def readable(self) -> tuple[DataFile, ...]:
        """The files that could be opened."""
        return tuple(file for file in self.files if not file.error)

    def groups(self) -> list[tuple[Columns, list[DataFile]]]:
        """Readable files that hold the same columns in the same order; one scan reads one group."""
        found: dict[Columns, list[DataFile]] = {}
        for file in self.readable:
            found.setdefault(file.columns, []).append(file)
        return list(found.items())


def short(error: BaseException | str) -> str:
    """What went wrong, in one line that a report can show.

    DuckDB's messages quote the SQL and, for CSV, the row: its first line says the kind and place and quotes nothing.
    What the reader of objects raised comes with its traceback, and stands last.
    """
    lines = str(error).strip().splitlines()
    if lines and lines[0].startswith("Traceback "):
        lines = lines[-1:]
    return (lines[0] if lines else type(error).__name__)[:_MESSAGE_CHARACTERS_MAX]


def name_of(definition: Mapping[str, Any]) -> str:
    """How a property (or schema object) is called in the data."""
    return str(definition.get("physicalName") or definition["name"])


def open_objects(folders: Iterable[str]) -> ReadOnlyObjects | None:
    """What reads those folders that are on an object store; None where all are local.

    :raises ReopenError: one cannot be listed.
    """
    remote = [folder for folder in folders if local_path(folder) is None]
    if not remote:
        return None
    # Imported here: it loads the clients of object stores.
    from reopen.storage.reading import ReadOnlyObjects

    return ReadOnlyObjects(remote)


def open_database(
    *,
    memory_limit: str,
    threads: int | None,
    temporary: Path,
    folders: Iterable[str],
    objects: ReadOnlyObjects | None = None,
) -> duckdb.DuckDBPyConnection:
    """A database in memory that may read ``folders`` and nothing else (I4).

    :param memory_limit: DuckDB's own limit, for example ``512MB``; above it, it spills into ``temporary``.
    :param objects: reads those of the folders that are on an object store.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    con = duckdb.connect(
        config={
            "memory_limit": memory_limit,
            "temp_directory": str(temporary),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            **({} if threads is None else {"threads": str(threads)}),
        }
    )
    # Text forms of instants must not depend on the machine's zone: the profile was taken on another machine.
    con.execute("SET TimeZone = 'UTC'")
    # A check reads values. With this optimizer on, DuckDB 2.0 answers max(x) and isnan(x) from a Parquet footer, which
    # was not what was asked, and which leaves NaN out. It made no difference to the time.
    con.execute("SET disabled_optimizers = 'statistics_propagation'")
    # Every expectation binds the view again; without the cache each would read every footer again.
    con.execute("SET parquet_metadata_cache = true")
    if objects is not None:
        con.register_filesystem(objects)
    confine(con, (*folders, str(temporary)))
    return con


def confine(con: duckdb.DuckDBPyConnection, folders: Iterable[str]) -> None:
    """Let a database reach these folders and nothing else, for good (I4)."""
    plain = [f"{root_of(folder)}/" for folder in folders]
    # What is allowed is compared with a file's name as SQL writes it, and then with the one it stands for.
    allowed = [literal(form) for folder in plain for form in (folder, _escaped(folder))]
    con.execute(f"SET allowed_directories = [{', '.join(allowed)}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")


def root_of(folder: str) -> str:
    """A folder as the names of the files in it begin: an absolute path, or a URL."""
    return str(Path(folder).absolute()) if local_path(folder) is not None else folder.rstrip("/")


def find_files(subject: Subject, folder: str, objects: ReadOnlyObjects | None = None) -> list[DataFile]:
    """The table's files below ``folder``, sorted by path; none when the folder is missing.

    :param objects: reads the folder, when it is on an object store.
    :raises InvalidInput: a pattern leads out of the folder.
    """
    root = root_of(folder)
    found: dict[str, int] = {}
    for pattern in subject.patterns:
        if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
            raise InvalidInput(
                f"The file pattern {pattern!r} of {subject.dataset} leads out of the dataset's folder.",
                hint="Write it relative to the location's folder, for example `*.parquet`.",
                dataset=subject.dataset,
            )
        # In Python 3.11 a final `**` yields folders only; here it means every file below.
        everything = PurePosixPath(pattern).name == "**"
        below = f"{pattern}/*" if everything else pattern
        matching = _local_files(Path(root), below) if objects is None else _objects(objects, root, below)
        suffixes = _SUFFIXES[subject.format]
        found |= {name: size for name, size in matching if not everything or name.lower().endswith(suffixes)}
    return [
        DataFile(path=path, location=f"{root}/{path}", size_bytes=found[path])
        for path in sorted(found, key=os.fsencode)
    ]


def _local_files(root: Path, pattern: str) -> Iterator[tuple[str, int]]:
    return ((path.relative_to(root).as_posix(), path.stat().st_size) for path in root.glob(pattern) if path.is_file())


def _objects(objects: ReadOnlyObjects, root: str, pattern: str) -> Iterator[tuple[str, int]]:
    return ((name, size) for name, size in objects.sizes(root).items() if matches(name, pattern))


def open_table(
    con: duckdb.DuckDBPyConnection, subject: Subject, folder: str, objects: ReadOnlyObjects | None = None
) -> RestoredTable:
    """Find a table's files and read what each says about itself (I2, I3)."""
    lent = objects if local_path(folder) is None else None
    declared = contract_types(con, subject)
    files = [opened(con, subject, file, declared) for file in find_files(subject, folder, lent)]
    return RestoredTable(subject=subject, folder=root_of(folder), files=tuple(files))


def contract_types(con: duckdb.DuckDBPyConnection, subject: Subject) -> dict[str, str]:
    """The DuckDB type of each property as the contract states it; what it does not state is ``VARCHAR``."""
    types = {}
    for definition in subject.schema.get("properties") or ():
        physical = definition.get("physicalType")
        known = column_types.from_sql(con, str(physical)) if physical else None
        types[name_of(definition)] = known or _CSV_TYPES.get(str(definition.get("logicalType")), "VARCHAR")
    return types


def table_patterns(subject: Subject, pattern: str) -> list[str]:
    """A contract's file pattern as DuckDB takes it: one that stands for everything names the table's own endings."""
    if PurePosixPath(pattern).name != "**":
        return [pattern]
    return [f"{pattern}/*{suffix}" for suffix in _SUFFIXES[subject.format]]


def opened(con: duckdb.DuckDBPyConnection, subject: Subject, file: DataFile, declared: Mapping[str, str]) -> DataFile:
    """A file with what it says of itself (I2, I3); ``declared`` are the :func:`contract_types`."""
    if reason := _unnameable(file.location):
        return replace(file, error=reason)
    try:
        if subject.format is TableFormat.PARQUET:
            rows = con.execute(f"DESCRIBE SELECT * FROM {relation(subject, [file])}").fetchall()
            columns = tuple((str(row[0]), str(row[1])) for row in rows)
        else:
            if dialect_of(subject.schema).header and file.size_bytes == 0:
                return replace(file, error="it is empty, not even a header")
            names = _csv_names(con, subject, file, tuple(declared))
            columns = tuple((name, declared.get(name, "VARCHAR")) for name in names)
    except duckdb.Error as error:
        return replace(file, error=short(error))
    return replace(file, columns=columns)


def _csv_names(
    con: duckdb.DuckDBPyConnection, subject: Subject, file: DataFile, declared: tuple[str, ...]
) -> tuple[str, ...]:
    if not dialect_of(subject.schema).header:
        return declared
    # Given types, DuckDB matches columns by position and never compares the header; so it is read first, as text.
    options = f"header = true, all_varchar = true, null_padding = true, {_csv_dialect(subject)}"
    rows = con.execute(f"DESCRIBE SELECT * FROM read_csv([{_path(file.location)}], {options})").fetchall()
    return tuple(str(row[0]) for row in rows)


def relation(
    subject: Subject,
    files: Sequence[DataFile],
    *,
    columns: Columns = (),
    by_name: bool = False,
    with_file: bool = False,
) -> str:
    """The table function that reads ``files`` (I1). CSV files must hold the same ``columns``."""
    paths = ", ".join(_path(file.location) for file in files)
    carried = [f"filename = {literal(FILE_COLUMN)}"] if with_file else []
    return _reading(subject, paths, carried, columns=columns, by_name=by_name)


def growing_relation(
    subject: Subject, folder: str, patterns: Sequence[str], *, columns: Columns = (), by_name: bool = False
) -> str:
    """The table function that reads whatever matches a pattern below a folder at the time of the query, and carries
    each row's file: for views of consumers, whose table grows. CSV files must hold the same ``columns``."""
    paths = ", ".join(literal(f"{_escaped(root_of(folder))}/{pattern}") for pattern in patterns)
    return _reading(subject, paths, [f"filename = {literal(FILE_COLUMN)}"], columns=columns, by_name=by_name)


def _reading(subject: Subject, paths: str, carried: list[str], *, columns: Columns, by_name: bool) -> str:
    # Off: it would also take `name=value` segments of folders above the dataset for columns.
    carried = [*carried, "hive_partitioning = false"]
    if subject.format is TableFormat.PARQUET:
        return f"read_parquet([{paths}], {', '.join([*carried, f'union_by_name = {str(by_name).lower()}'])})"
    typed = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in columns)
    header = f"header = {str(dialect_of(subject.schema).header).lower()}"
    strict = f"auto_detect = false, strict_mode = true, columns = {{{typed}}}"
    return f"read_csv([{paths}], {', '.join([*carried, header, strict, _csv_dialect(subject)])})"


def create_view(
    con: duckdb.DuckDBPyConnection, table: RestoredTable, names: Iterable[str], *, staged: Path | None = None
) -> None:
    """Make views called ``names`` over a table's readable files, of which there must be at least one.

    :param staged: for CSV, a database file to make, into which the rows are decoded once. A contract is some twenty
        queries, and decoding text is what they would all spend their time on (TPC-H lineitem at scale 1, 731 MB: 26 s
        without, 11 s with). Parquet is read where it lies.
    """
    groups = table.groups()
    partitions = partition_columns(con, table)
    chosen = ", ".join([f"* EXCLUDE ({identifier(FILE_COLUMN)}){_seen_nan(table)}", *partitions])
    if table.subject.format is TableFormat.PARQUET:
        source = relation(table.subject, table.readable, by_name=len(groups) > 1, with_file=True)
        body = f"SELECT {chosen} FROM {source}"
    else:
        body = " UNION ALL BY NAME ".join(
            f"SELECT {chosen} FROM {relation(table.subject, files, columns=columns, with_file=True)}"
            for columns, files in groups
        )
        if staged is not None:
            con.execute(f"ATTACH {literal(str(staged))} AS __reopen_staged")
            con.execute(f"CREATE TABLE __reopen_staged.decoded AS {body}")
            body = "SELECT * FROM __reopen_staged.decoded"
    for name in names:
        con.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS {body}")


def _seen_nan(table: RestoredTable) -> str:
    """A clause that keeps filters on floats out of the scan.

    There, DuckDB 2.0 leaves out row groups by their footer's minimum and maximum, which do not count NaN: a rule
    ``v <= 1`` would not see the one that breaks it. It cannot look through a CASE.
    """
    kinds = {name: kind for file in table.readable for name, kind in file.columns if kind in ("FLOAT", "DOUBLE")}
    if not kinds:
        return ""
    cases = []
    for name, kind in sorted(kinds.items()):
        nan = f"CAST('nan' AS {kind})"
        cases.append(
            f"CASE WHEN {identifier(name)} = {nan} THEN {nan} ELSE {identifier(name)} END AS {identifier(name)}"
        )
    return f" REPLACE ({', '.join(cases)})"


def describe(con: duckdb.DuckDBPyConnection, view: str) -> Columns:
    """Names and types of a view's columns."""
    rows = con.execute(f"DESCRIBE SELECT * FROM {identifier(view)}").fetchall()
    return tuple((str(row[0]), str(row[1])) for row in rows)


def partition_names(table: RestoredTable) -> list[str]:
    """Columns that the folders' names carry: declared ``partitioned``, in no file, in every path."""
    held = {name for file in table.readable for name, _ in file.columns}
    wanted = [
        name_of(definition)
        for definition in table.subject.schema.get("properties") or ()
        if definition.get("partitioned") and name_of(definition) not in held
    ]
    return [name for name in wanted if all(f"/{name}=" in f"/{file.path}" for file in table.readable)]


def partition_columns(con: duckdb.DuckDBPyConnection, table: RestoredTable) -> list[str]:
    """SQL for the columns of :func:`partition_names`, over rows that carry their file."""
    types = contract_types(con, table.subject)
    parts = []
    for name in partition_names(table):
        # The greedy prefix finds the last such segment: one above the dataset's folder must not win.
        pattern = literal(f"^.*/{re.escape(name)}=([^/]*)/")
        text = f"url_decode(regexp_extract({identifier(FILE_COLUMN)}, {pattern}, 1))"
        value = f"CAST(nullif({text}, '__HIVE_DEFAULT_PARTITION__') AS {types[name]})"
        parts.append(f"{value} AS {identifier(name)}")
    return parts


def _path(location: str) -> str:
    return literal(_escaped(location))


def _escaped(location: str) -> str:
    """A glob that only ``location`` matches. A one-character class stands for the character itself."""
    return _GLOB.sub(r"[\g<0>]", location)


def _unnameable(location: str) -> str:
    """Why SQL has no name for a file; empty when it has one."""
    try:
        location.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8, which DuckDB cannot open"
    if "\\" in location and _GLOB.search(location):
        # In a glob DuckDB takes a backslash for a separator, and nothing matches it.
        return "its path holds a backslash and one of * ? [, which DuckDB cannot open"
    return ""


def _csv_dialect(subject: Subject) -> str:
    dialect = dialect_of(subject.schema)
    delimiter, null = literal(dialect.delimiter), literal(dialect.null)
    return f"delim = {delimiter}, quote = '\"', escape = '\"', nullstr = {null}, encoding = 'utf-8'"
