"""Owns ``serving.duckdb``: a database file with a view for each table that serves, so that a query that ran in
production runs after a failover unchanged.

Invariants (docs/0012-standby-versions.md)
    V2  A new file each time, handed over as bytes: whoever stores it replaces the old one by one rename.
    W1  A view names a version and not a place, so whoever reads through it reads one version whole.
    W2  A view names the contract's pattern and not files: what the business adds is seen.
    W3  A table that cannot be shown is a problem in words and costs no other table its view.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reopen.contracts.load import Contracts
from reopen.contracts.model import TableFormat
from reopen.errors import ReopenError
from reopen.recover.checks.model import Subject
from reopen.recover.checks.sql import identifier, literal
from reopen.storage import local_path
from reopen.storage.patterns import matches

if TYPE_CHECKING:
    import duckdb

    from reopen.recover.checks.tables import DataFile
    from reopen.storage.reading import ReadOnlyObjects

SERVING_DATABASE = "serving.duckdb"
STAGED_DATABASE = "staged.duckdb"
"""The same over what hot datasets have staged."""
OPENED_FILES_MAX = 256
"""A larger Parquet table is believed to have the columns of its first files; opening all would hold a promotion up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewsFile:
    """The bytes of a database, the names of its views by dataset, and what could not be shown."""

    data: bytes
    views: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...]


def make_views(
    contracts: Contracts, folders: Mapping[str, str], *, known: MutableMapping[str, str] | None = None
) -> ViewsFile:
    """A database with the tables among some datasets.

    :param folders: where each of them is, by name; others are left out.
    :param known: queries of views by folder, from an earlier call of this process: one that promotes dataset after
        dataset looks into each folder once.
    """
    queries = {} if known is None else known
    import duckdb

    problems: list[str] = []
    made: dict[str, tuple[str, ...]] = {}
    tables = {name: folders[name] for name in contracts.order() if name in folders and _is_table(contracts, name)}
    with tempfile.TemporaryDirectory(prefix="reopen-views-") as scratch:
        path = Path(scratch, SERVING_DATABASE)
        with duckdb.connect(str(path), config={"autoinstall_known_extensions": "false"}) as con:
            objects = open_objects(tables.values())
            if objects is not None:
                con.register_filesystem(objects)
            for name, names in _names(contracts, list(tables)).items():
                folder = local_path(tables[name]) or tables[name]
                try:
                    if objects is not None and local_path(folder) is None:
                        # Also where the query is known: making a view looks into the files.
                        objects.lend(folder)
                    body = queries[folder] = queries.get(folder) or _body(con, contracts, name, folder, objects)
                    for view in names:
                        con.execute(f"CREATE VIEW {identifier(view)} AS {body}")
                        # For people, and for whoever must give a reader the right to the folder.
                        con.execute(f"COMMENT ON VIEW {identifier(view)} IS {literal(folder)}")
                except (duckdb.Error, ReopenError, _NotShownError) as error:
                    problems.append(f"{name}: {_first_line(error)}")
                else:
                    made[name] = names
        return ViewsFile(data=path.read_bytes(), views=made, problems=tuple(problems))


class _NotShownError(Exception):
    """A table of which no view can be made, and why."""


def _is_table(contracts: Contracts, name: str) -> bool:
    return contracts.datasets[name].table is not None


def _names(contracts: Contracts, datasets: list[str]) -> dict[str, tuple[str, ...]]:
    """What each table is called: as production's queries call it first, then by its other names while they are free.
    SQL takes upper and lower case for the same."""
    taken: set[str] = set()
    found: dict[str, list[str]] = {name: [] for name in datasets}
    wanted: list[tuple[str, str]] = []
    for rank in range(3):
        for name in datasets:
            table = contracts.datasets[name].table
            assert table is not None
            wanted.append((name, (table.schema.get("physicalName") or table.name, table.name, name)[rank]))
    for dataset, view in wanted:
        if view.lower() not in taken:
            taken.add(view.lower())
            found[dataset].append(view)
    return {name: tuple(views) for name, views in found.items()}


def open_objects(folders: Iterable[str]) -> ReadOnlyObjects | None:
    """What reads folders on object stores, before any of them is lent to it; None where all are local."""
    if all(local_path(folder) is not None for folder in folders):
        return None
    # Imported here: it loads the clients of object stores.
    from reopen.storage.reading import ReadOnlyObjects

    return ReadOnlyObjects()


def _body(
    con: duckdb.DuckDBPyConnection, contracts: Contracts, name: str, folder: str, objects: ReadOnlyObjects | None
) -> str:
    """The query of a table's view (W2)."""
    from reopen.recover.checks import tables

    subject = Subject.of(contracts.datasets[name])
    assert subject is not None
    lent = objects if local_path(folder) is None else None
    matching = next(_matching(subject, folder, lent), None)
    if matching is None:
        return _empty(con, subject)
    pattern, files = matching
    held = [file.path for file in files]
    if len(files) > OPENED_FILES_MAX and subject.format is TableFormat.PARQUET:
        files = files[:OPENED_FILES_MAX]
    declared = tables.contract_types(con, subject)
    table = tables.RestoredTable(
        subject=subject,
        folder=folder,
        files=tuple(tables.opened(con, subject, file, declared) for file in files),
    )
    if bad := [file for file in table.files if file.error]:
        raise _NotShownError(f"{bad[0].path} cannot be read: {bad[0].error}")
    hidden = f"* EXCLUDE ({identifier(tables.FILE_COLUMN)})"
    chosen = ", ".join([hidden, *tables.partition_columns(con, table)])
    groups = table.groups()
    if subject.format is TableFormat.CSV and len(groups) > 1:
        # Files with other columns are read as what they are; a pattern could not tell them apart.
        return " UNION ALL BY NAME ".join(
            f"SELECT {chosen} FROM {tables.relation(subject, same, columns=columns, with_file=True)}"
            for columns, same in groups
        )
    patterns = [part for part in tables.table_patterns(subject, pattern) if any(matches(path, part) for path in held)]
    source = tables.growing_relation(subject, folder, patterns, columns=groups[0][0], by_name=len(groups) > 1)
    return f"SELECT {chosen} FROM {source}"


def _matching(subject: Subject, folder: str, objects: ReadOnlyObjects | None) -> Iterator[tuple[str, list[DataFile]]]:
    """The patterns of the contract's sites under which there are files, with these: the layout is that of the site that
    was captured."""
    from reopen.recover.checks import tables

    for pattern in subject.patterns:
        if files := tables.find_files(replace(subject, patterns=(pattern,)), folder, objects):
            yield pattern, files


def _empty(con: duckdb.DuckDBPyConnection, subject: Subject) -> str:
    """A table without a file: the contract's columns and no row."""
    from reopen.recover.checks import tables

    types = tables.contract_types(con, subject)
    if not types:
        raise _NotShownError("it has no file, and its contract names no column")
    columns = ", ".join(f"CAST(NULL AS {kind}) AS {identifier(name)}" for name, kind in types.items())
    return f"SELECT {columns} WHERE {literal(False)}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
