"""Owns asking in SQL what serves: ``serving.duckdb`` of a site, with objects read through our own store where DuckDB
would need an extension.

Only what the views stand over can be read, and nothing can be written.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from reopen.errors import InvalidInput, NotFound
from reopen.recover.checks.sql import literal
from reopen.recover.standby.views import SERVING_DATABASE, open_objects
from reopen.storage import local_path, open_store

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from reopen.storage.reading import ReadOnlyObjects


def ask_serving(folder: str, sql: str, *, memory_limit: str) -> pa.Table:
    """The result of a statement over the views of what serves; empty for one that has none.

    :param folder: where a site keeps its pointer. :param memory_limit: what DuckDB may hold, for example ``1GB``.
    :raises NotFound: there is no ``serving.duckdb``. :raises InvalidInput: DuckDB cannot carry the statement out.
    :raises Transient: a store does not answer.
    """
    import duckdb
    import pyarrow as pa

    store = open_store(folder)
    try:
        data = store.get(SERVING_DATABASE)
    except NotFound as error:
        raise NotFound(
            f"{store.url} has no {SERVING_DATABASE}.",
            hint="It is made by a promotion, and by `reopen locate --refresh` at the primary.",
        ) from error
    with tempfile.TemporaryDirectory(prefix="reopen-serving-") as scratch:
        # A copy: DuckDB keeps a file open in a process by its path, and a promotion replaces it.
        path = Path(scratch, SERVING_DATABASE)
        path.write_bytes(data)
        with closing(duckdb.connect(str(path), read_only=True)) as con:
            con.execute(f"SET memory_limit = {literal(memory_limit)}")
            con.execute("SET autoinstall_known_extensions = false")
            objects = _confine(con, scratch)
            try:
                relation: duckdb.DuckDBPyRelation | None = con.sql(sql)
                return pa.table({}) if relation is None else relation.to_arrow_table()
            except (duckdb.Error, pa.ArrowException) as error:
                if objects is not None and objects.trouble is not None:
                    raise objects.trouble from error
                text = str(error).strip()
                # What our own reader raised comes with its traceback, and stands last.
                told = text.splitlines()[-1] if text.startswith("Traceback ") else text
                hint = "`reopen locate` shows what serves; its views are named after the datasets."
                raise InvalidInput(f"what serves cannot answer this: {told}", hint=hint) from error


def _confine(con: duckdb.DuckDBPyConnection, scratch: str) -> ReadOnlyObjects | None:
    """Let a database read what its views stand over and no more."""
    from reopen.recover.checks.tables import confine

    views = "SELECT DISTINCT comment FROM duckdb_views() WHERE NOT internal AND comment IS NOT NULL"
    rows = con.execute(views).fetchall()
    folders = sorted(str(row[0]) for row in rows)
    objects = open_objects(folders)
    if objects is not None:
        for folder in folders:
            if local_path(folder) is None:
                objects.lend(folder)
        con.register_filesystem(objects)
    confine(con, (*folders, scratch))
    return objects
