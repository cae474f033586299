"""Owns the catalog's file: opening it for one writer or many readers, its rights, and what is refused.

Invariants
    F1  Nobody but its owner may read it (0600), nor what DuckDB writes beside it: it holds the names of files in clear
        text.
    F2  One process writes at a time, by DuckDB's own lock. Who comes second is told so (:class:`CatalogBusy`).
    F3  A file that is no catalog is never written to. One of an older layout is emptied and made anew; one of a newer
        is left as it is, unless it is to be made anew.
    F4  A crash leaves a file that DuckDB opens: every change is a transaction.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import duckdb

from reopen.errors import Corrupt, InvalidInput, ReopenError, TargetUnwritable, Transient
from reopen.ids import new_id
from reopen.review.catalog.macros import MACROS
from reopen.review.catalog.tables import INNER, LAYOUT, create_tables, get_meta, set_meta
from reopen.review.catalog.views import COMMON, INNER_VIEWS, VIEWS

STORAGE_VERSION = "v1.0.0"
"""The oldest form; what later ones compress better is not worth a reviewer who cannot open it. DuckDB 1.1 reads it."""
MEMORY_LIMIT = "1GB"
"""What DuckDB takes while it refreshes or answers; what does not fit goes to a folder beside the file."""

_UNWRITABLE = re.compile(
    "Permission denied|Read-only file system|No space left on device|No space left|Not a directory|Is a directory"
    "|No such file or directory"
)
_LOCKED = re.compile(r"Could not set lock on file(?:.*?held in (\S+) \(PID (\d+)\))?", re.DOTALL)


class CatalogBusy(Transient):
    """Another process has the catalog open."""

    kind = "catalog-busy"


class CatalogDamaged(Corrupt):
    """DuckDB cannot use the file. It is a cache: what it held is in the vaults."""

    kind = "catalog-damaged"


class NotACatalog(InvalidInput):
    """The file is somebody else's."""

    kind = "not-a-catalog"


class NewerCatalog(NotACatalog):
    """A newer Reopen made the file. This one cannot read it, and does not take it away from that one."""

    kind = "catalog-of-newer"


@contextlib.contextmanager
def open_for_refresh(path: Path, *, rebuild: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """The catalog in a file, to be written to; made where there is none.

    :param rebuild: whether what it holds is forgotten first; a damaged file is put aside then.
    :raises CatalogBusy: another process has it open.
    :raises InvalidInput: the file is no catalog (F3).
    :raises TargetUnwritable: nothing can be written there.
    """
    with _private_files(), contextlib.closing(_connect_to_write(path, rebuild=rebuild)) as connection:
        _prepare(connection, path, rebuild=rebuild)
        _restrict(path)
        try:
            yield connection
        except duckdb.Error as error:
            raise _translated(error, path) from error
    _restrict(path)


def open_for_reading(path: Path) -> duckdb.DuckDBPyConnection | None:
    """The catalog in a file, read-only, beside any number of other readers; None where there is none to be had: no
    file, no catalog, or one of another layout or with other views.

    :raises CatalogBusy: another process writes to it.
    """
    if not path.is_file():
        return None
    try:
        connection = _connect(path, read_only=True)
    except (CatalogDamaged, NotACatalog):
        return None  # Who opens it to write tells of it.
    if _is_catalog(connection) and get_meta(connection, "definitions") == _definitions():
        return connection
    connection.close()
    return None


def open_in_memory(folder: Path) -> duckdb.DuckDBPyConnection:
    """An empty catalog that lasts as long as its connection; what memory does not hold goes to the folder."""
    connection = duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": str(folder)})
    _settle(connection)
    create_tables(connection)
    create_definitions(connection)
    return connection


def create_definitions(connection: duckdb.DuckDBPyConnection) -> None:
    """Make every view and macro, with its comments."""
    for name, sql in INNER_VIEWS.items():
        connection.execute(f"CREATE OR REPLACE VIEW {INNER}.{name} AS {sql}")
    for name, view in VIEWS.items():
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {view.sql}")
        connection.execute(f"COMMENT ON VIEW {name} IS {_quoted(view.comment)}")
    columns = "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal"
    for name, column in connection.execute(columns).fetchall():
        comment = VIEWS[name].columns.get(column, COMMON.get(column)) if name in VIEWS else None
        if comment is not None:
            connection.execute(f'COMMENT ON COLUMN {name}."{column}" IS {_quoted(comment)}')
    for name, macro in MACROS.items():
        connection.execute(f"CREATE OR REPLACE MACRO {name}({', '.join(macro.parameters)}) AS TABLE {macro.sql}")
        text = f"{macro.comment} Example: {macro.example}"
        connection.execute(f"COMMENT ON MACRO TABLE {name} IS {_quoted(text)}")
    set_meta(connection, "definitions", _definitions())


def _prepare(connection: duckdb.DuckDBPyConnection, path: Path, *, rebuild: bool) -> None:
    """Make the file a catalog of this layout (F3)."""
    try:
        names = connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE NOT internal"
        ).fetchall()
        is_ours = _is_catalog(connection, any_layout=True)
        if names and not is_ours:
            raise NotACatalog(
                f"{path} is a DuckDB database and no catalog of Reopen; it is left as it is.",
                hint="Move it elsewhere, or name another file with --to.",
            )
        layout = get_meta(connection, "layout") if is_ours else None
        if layout is not None and not rebuild and int(layout) > LAYOUT:
            raise NewerCatalog(
                f"{path} was made by a newer Reopen (layout {layout}; this one reads {LAYOUT}).",
                hint="Use that Reopen, or name another file with --to. --rebuild makes it anew with this one.",
                file=path,
            )
        if rebuild or not _is_catalog(connection):
            connection.execute("BEGIN")
            connection.execute(f"DROP SCHEMA IF EXISTS {INNER} CASCADE")
            create_tables(connection)
            connection.execute("COMMIT")
        if get_meta(connection, "definitions") != _definitions():
            connection.execute("BEGIN")
            create_definitions(connection)
            connection.execute("COMMIT")
    except duckdb.Error as error:
        raise _translated(error, path) from error


def _is_catalog(connection: duckdb.DuckDBPyConnection, *, any_layout: bool = False) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE schema_name = ? AND table_name = 'meta'", [INNER]
    ).fetchall()
    if not found[0][0]:
        return False
    return any_layout or get_meta(connection, "layout") == str(LAYOUT)


def _definitions() -> str:
    """A digest of every view and macro, so that a file of another version gets those of this one."""
    text = repr((sorted(INNER_VIEWS.items()), list(VIEWS.items()), list(MACROS.items()), list(COMMON.items())))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _connect(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    config: dict[str, Any] = {"memory_limit": MEMORY_LIMIT, "temp_directory": f"{path}.tmp"}
    if not read_only:
        # A reader may not name the version of a file that is there.
        config["storage_compatibility_version"] = STORAGE_VERSION
    try:
        connection = duckdb.connect(str(path), read_only=read_only, config=config)
    except duckdb.Error as error:
        raise _translated(error, path) from error
    _settle(connection)
    return connection


def _connect_to_write(path: Path, *, rebuild: bool) -> duckdb.DuckDBPyConnection:
    if not path.exists():
        _make_empty(path)
    try:
        return _connect(path, read_only=False)
    except CatalogDamaged:
        if not rebuild:
            raise
    # Whose it was cannot be told any more, so it is moved and not removed; its log would not fit another file.
    for file in (path, path.with_name(f"{path.name}.wal")):
        if file.exists():
            file.replace(file.with_name(f"{file.name}.damaged"))
    _make_empty(path)
    return _connect(path, read_only=False)


def _make_empty(path: Path) -> None:
    """Make an empty database whole or not at all (F4): half of one, left by a full disk or a kill, would be taken for
    somebody else's file for ever. Of two that make it at once, one does."""
    draft = path.with_name(f".{path.name}.{new_id()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        duckdb.connect(str(draft), config={"storage_compatibility_version": STORAGE_VERSION}).close()
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        except OSError:
            # A file system without links; what two of them make at once is the same.
            draft.replace(path)
    except duckdb.Error as error:
        raise _translated(error, path) from error
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error
    finally:
        for file in (draft, draft.with_name(f"{draft.name}.wal")):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def _settle(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """Files that DuckDB makes meanwhile are their owner's alone: it has no option for that, so the mask has to do."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _restrict(path: Path) -> None:
    for file in (path, path.with_name(f"{path.name}.wal")):
        with contextlib.suppress(FileNotFoundError):
            file.chmod(0o600)


def _translated(error: duckdb.Error, path: Path) -> ReopenError:
    text = str(error).strip()
    locked = _LOCKED.search(text)
    if locked is not None or "different configuration than existing connections" in text:
        who = "another process" if locked is not None else "another connection of this process"
        if locked is not None and locked[2]:
            who = f"process {locked[2]} ({Path(locked[1]).name})"
        return CatalogBusy(
            f"{path} is open in {who}.",
            hint="Wait for it, close that DuckDB, or name another file with --to; `reopen sql --memory` needs no file.",
            file=path,
        )
    first = text.splitlines()[0] if text else type(error).__name__
    if "not a valid DuckDB database file" in text:
        return NotACatalog(
            f"{path} is no DuckDB database; it is left as it is.",
            hint="Look at what it is and move it elsewhere, or name another file with --to.",
            file=path,
        )
    unwritable = _UNWRITABLE.search(text)
    if unwritable is not None:
        return _unwritable(path, unwritable[0].lower())
    return CatalogDamaged(
        f"the catalog {path} cannot be used: {first}",
        hint="It is a cache: `reopen catalog --rebuild` puts the file aside and makes another.",
        file=path,
    )


def _unwritable(path: Path, why: str) -> TargetUnwritable:
    return TargetUnwritable(
        f"{path} cannot be written: {why}.",
        hint="Name a file in a folder that can be written, with --to; `reopen sql --memory` needs none.",
        file=path,
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
