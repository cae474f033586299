"""Owns asking a catalog: a file that is brought up to date first, or one in memory that is made of what is asked for.

Invariants
    Q1  An answer is as new as the listing that was made for it; what a question does not need is not read. Only who
        asks for the file as it is gets an older one, and is told of when it is.
    Q2  Who finds the file in use, damaged, foreign or not to be written is answered from memory and told so.
    Q3  A question about entries is refused while the manifest of a snapshot cannot be read: an answer that leaves out
        files looks like an answer. Plain DuckDB on the file answers without them; ``snapshots`` says which.
    Q4  A query cannot change the file: it is open read-only.

The catalog is for looking. Only a verify or a restore checks that the content is there.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from reopen.errors import Corrupt, InvalidInput, NotFound, ReopenError, TargetUnwritable
from reopen.progress import SILENT, Progress
from reopen.review.catalog.file import (
    CatalogBusy,
    CatalogDamaged,
    NotACatalog,
    open_for_reading,
    open_for_refresh,
    open_in_memory,
)
from reopen.review.catalog.macros import MACROS
from reopen.review.catalog.sources import ALL, Needs, Sources
from reopen.review.catalog.sync import Refreshed, RefreshPlan, execute_refresh, plan_refresh, unreadable_snapshots
from reopen.review.catalog.tables import get_meta, set_meta
from reopen.review.catalog.views import VIEWS

BUSY_SECONDS = 5.0
"""How long a question waits for another process that refreshes; then it is answered from memory."""
_LOOK_SECONDS = 0.05
BATCH_ROWS = 50_000
"""Rows of a long answer that are held at a time."""


class Catalog:
    """An open catalog; close it, or use it as a context manager.

    :param path: the file; None for memory.
    :param note: told what people should know of the way to an answer (Q2).
    :param as_is: whether the file is asked as it is, and no vault.
    """

    def __init__(
        self,
        sources: Sources,
        path: Path | None = None,
        *,
        progress: Progress = SILENT,
        note: Callable[[str], None] = lambda text: None,
        busy_seconds: float = BUSY_SECONDS,
        as_is: bool = False,
    ) -> None:
        self._sources = sources
        self._path = path
        self._progress = progress
        self._note = note
        self._busy_seconds = busy_seconds
        self._as_is = as_is
        self._temporary = tempfile.TemporaryDirectory(prefix="reopen-catalog-", ignore_cleanup_errors=True)
        self._connection: duckdb.DuckDBPyConnection | None = None

    def connection(self, needs: Needs = ALL) -> duckdb.DuckDBPyConnection:
        """A connection to what a question needs, up to date (Q1).

        :raises ReopenError: a source that it needs cannot be read.
        """
        if self._as_is:
            return self._as_it_is()
        if self._path is not None:
            try:
                return self._of_file(self._path, needs)
            except (CatalogBusy, CatalogDamaged, NotACatalog, TargetUnwritable) as error:
                self._note(f"{error.message} Answered from memory.")
                self.close_connection()
                self._path = None
        if self._connection is None:
            self._connection = open_in_memory(Path(self._temporary.name))
        plan = plan_refresh(self._connection, self._sources, needs)
        self._tell(plan, needs)
        if not plan.is_empty:
            done = execute_refresh(self._connection, plan, progress=self._progress)
            self._tell_waiting(done.waiting if needs.entries else 0)
        return self._connection

    def query(
        self, sql: str, values: Mapping[str, object] | Sequence[object] | None = None, *, rows_max: int | None = None
    ) -> pa.Table:
        """The result of a statement as an Arrow table; empty for one that has none.

        :param values: of the statement's parameters (``$name`` or ``?``).
        :param rows_max: how many of the first rows are wanted; all when left out.
        :raises InvalidInput: DuckDB does not understand the statement, or cannot carry it out.
        :raises Corrupt: a part of the history is missing or damaged (Q3).
        """
        relation = self._asked(sql, values)
        if relation is None:
            return pa.table({})
        try:
            return (relation if rows_max is None else relation.limit(rows_max)).to_arrow_table()
        except (duckdb.Error, pa.ArrowException) as error:
            raise _translated(error) from error

    def batches(
        self, sql: str, values: Mapping[str, object] | None = None
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The same as batches, for a result of any length: columns, then rows as they come. The catalog stays open."""
        relation = self._asked(sql, values)
        if relation is None:
            return pa.schema([]), iter(())
        try:
            reader = relation.to_arrow_reader(BATCH_ROWS)
        except (duckdb.Error, pa.ArrowException) as error:
            raise _translated(error) from error
        return reader.schema, _read(reader)

    def close_connection(self) -> None:
        """Let go of the file, or of what is in memory."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close, and remove what was written for this catalog only."""
        self.close_connection()
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked(
        self, sql: str, values: Mapping[str, object] | Sequence[object] | None
    ) -> duckdb.DuckDBPyRelation | None:
        """A statement, not yet carried out; None where it was and has no result, which the types do not say."""
        needs = Needs.of(sql)
        connection = self.connection(needs)
        if needs.entries or needs.profiles:
            self._check_whole(connection)
        try:
            relation: duckdb.DuckDBPyRelation | None = connection.sql(sql, params=values or None)
        except (duckdb.Error, pa.ArrowException) as error:
            raise _translated(error) from error
        return relation

    def _as_it_is(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = None if self._path is None else open_for_reading(self._path)
            if self._connection is None:
                where = "in memory" if self._path is None else f"in {self._path}"
                raise NotFound(
                    f"there is no catalog {where} that could be asked as it is.",
                    hint="`reopen catalog` builds one, where a vault can be read.",
                )
            self._note(f"asked as it was at {_known_at(self._connection)}; no vault was read.")
        return self._connection

    def _of_file(self, path: Path, needs: Needs) -> duckdb.DuckDBPyConnection:
        """The file, refreshed if anything is new. What is read only is shared, so an empty plan disturbs nobody."""
        until = time.monotonic() + self._busy_seconds
        while True:
            try:
                self._connection = self._connection or open_for_reading(path)
                if self._connection is not None and get_meta(self._connection, "datasets") == "":
                    plan = self._planned(self._connection, needs)
                    if plan.is_empty:
                        self._tell(plan, needs)
                        return self._connection
                self.close_connection()
                plan, done = refresh_file(self._sources, path, needs=needs, progress=self._progress)
                self._tell(plan, needs)
                self._tell_waiting(done.waiting if needs.entries else 0)
                self._connection = open_for_reading(path)
                if self._connection is not None:
                    return self._connection
            except CatalogBusy:
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK_SECONDS)

    def _planned(self, connection: duckdb.DuckDBPyConnection, needs: Needs) -> RefreshPlan:
        try:
            return plan_refresh(connection, self._sources, needs)
        except ReopenError as error:
            # What was lost with the vault may be asked at the very moment that matters; but never by mistake.
            error.hint = f"{error.hint} With --as-is the catalog of {_known_at(connection)} is asked.".strip()
            raise

    def _tell(self, plan: RefreshPlan, needs: Needs) -> None:
        if "control" in plan.problems and needs.control and not needs.everywhere:
            raise plan.problems["control"]
        for place, error in plan.problems.items():
            self._note(f"{place} was not read: {error.message}")

    def _tell_waiting(self, count: int) -> None:
        if count:
            self._note(f"what {count} of the snapshots hold is not in the answer: their vault is out of reach.")

    def _check_whole(self, connection: duckdb.DuckDBPyConnection) -> None:
        found = unreadable_snapshots(connection)
        if found:
            named = ", ".join(f"{snapshot} of {dataset}" for dataset, snapshot in found[:3])
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise Corrupt(
                f"what snapshot {named}{more} holds cannot be read.",
                hint="`reopen verify --level structure` names what is damaged; `reopen repair` may have it back.",
            )


def refresh_file(
    sources: Sources, path: Path, *, needs: Needs = ALL, rebuild: bool = False, progress: Progress = SILENT
) -> tuple[RefreshPlan, Refreshed]:
    """Build or refresh a catalog file. Every manifest is taken, whatever the needs: the file is always whole.

    :raises CatalogBusy: another process has it open.
    :raises InvalidInput: it is no catalog, or one of another choice of datasets.
    """
    whole = replace(needs, entries=True, profiles=True)
    with open_for_refresh(path, rebuild=rebuild) as connection:
        choice = ",".join(sorted(sources.datasets))
        held = get_meta(connection, "datasets")
        if held is not None and held != choice:
            raise InvalidInput(
                f"{path} is a catalog of {held or 'all datasets'}, not of {choice or 'all datasets'}.",
                hint="Name the same datasets, another file with --to, or make it anew with --rebuild.",
                file=path,
            )
        set_meta(connection, "datasets", choice)
        plan = plan_refresh(connection, sources, whole)
        done = execute_refresh(connection, plan, progress=progress)
        connection.execute("CHECKPOINT")
    return plan, done


def describe_views() -> Mapping[str, str]:
    """What each view and macro holds, by name, for help and errors."""
    views = {name: view.comment for name, view in VIEWS.items()}
    return views | {f"{name}({', '.join(macro.parameters)})": macro.comment for name, macro in MACROS.items()}


def _read(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            # Arrow's stream of C tells every error of DuckDB as one of input and output.
            raise _translated(error) from error
        yield batch


def _known_at(connection: duckdb.DuckDBPyConnection) -> str:
    """When the vault was read that was read longest ago."""
    [(instant,)] = connection.execute("SELECT min(read_at) FROM sites").fetchall()
    return "an unknown time" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _translated(error: Exception) -> ReopenError:
    # "Catalog Error" is DuckDB's word for its own catalog, and would be taken for ours.
    text = re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", str(error).strip())
    hint = "Statements are in DuckDB's SQL; `reopen sql --list` shows questions that have names."
    if "read-only mode" in text:
        hint = "The catalog is read-only here; copy what you need with CREATE TEMP TABLE, or --out."
    elif "More than one row returned by a subquery" in text:
        return InvalidInput("more than one snapshot's id begins so.", hint="Write more of the id.")
    elif "no snapshot begins with" in text or "of two datasets" in text:
        hint = "`reopen snapshots` lists the ids."
    elif "Table with name" in text or "Function with name" in text:
        hint = "`reopen sql` without a question lists the views and macros."
    elif "Referenced column" in text or "does not have a column" in text:
        hint = '`reopen sql "DESCRIBE files"` shows the columns of a view.'
    return InvalidInput(f"DuckDB cannot answer: {text}", hint=hint)
