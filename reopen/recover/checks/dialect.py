"""Owns how SQLAlchemy, and so Great Expectations, speaks to a DuckDB connection that we opened.

A connection is *lent* under a name and reached by ``duckdb+lent:///<name>``: its views and limits stay ours, and no
database file is made. The dialect is as small as validation allows: it reads, it has no ORM and no schema changes.

Invariants
    I1  A statement has its own DuckDB cursor and fetches lazily. Great Expectations hands a connection back before it
        fetches, and reads the first rows of queries that have no limit; a cursor that fetched all would hold millions.
    I2  Closing through SQLAlchemy never closes the lent connection: its owner does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import duckdb
import sqlalchemy as sa
from sqlalchemy import pool
from sqlalchemy.dialects import registry
from sqlalchemy.engine import URL, Connection, default

_LENT: dict[str, duckdb.DuckDBPyConnection] = {}

_TYPES: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "TINYINT": sa.SMALLINT,
    "SMALLINT": sa.SMALLINT,
    "INTEGER": sa.INTEGER,
    "BIGINT": sa.BIGINT,
    "HUGEINT": sa.NUMERIC,
    "UTINYINT": sa.SMALLINT,
    "USMALLINT": sa.INTEGER,
    "UINTEGER": sa.BIGINT,
    "UBIGINT": sa.NUMERIC,
    "FLOAT": sa.FLOAT,
    "DOUBLE": sa.DOUBLE,
    "DECIMAL": sa.DECIMAL,
    "VARCHAR": sa.VARCHAR,
    "BOOLEAN": sa.BOOLEAN,
    "DATE": sa.DATE,
    "TIME": sa.TIME,
    "TIMESTAMP": sa.TIMESTAMP,
    "BLOB": sa.BLOB,
    "UUID": sa.UUID,
}


@contextmanager
def lent(con: duckdb.DuckDBPyConnection, name: str) -> Iterator[str]:
    """Lend a connection under ``name``; yields the URL that reaches it until the block ends."""
    _LENT[name] = con
    try:
        yield f"duckdb+lent:///{name}"
    finally:
        del _LENT[name]


class _Cursor:
    """One statement (I1)."""

    arraysize = 1
    rowcount = -1
    lastrowid = None

    def __init__(self, connection: _Connection) -> None:
        self.connection = connection
        self.description: list[tuple[Any, ...]] | None = None
        self._con = connection.lent.cursor()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._con.execute(sql, list(parameters) or None)
        columns = self._con.description
        self.description = [(*column[:2], None, None, None, None, None) for column in columns] if columns else None

    def executemany(self, sql: str, many: Sequence[Sequence[Any]]) -> None:
        self._con.executemany(sql, [list(parameters) for parameters in many])

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._con.fetchone()

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        return self._con.fetchmany(size)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._con.fetchall()

    def setinputsizes(self, *_: object) -> None:
        """Nothing to set: DuckDB takes parameters as they are."""

    def close(self) -> None:
        self._con.close()


class _Connection:
    """What SQLAlchemy's pool holds; stands for the lent connection (I2)."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self.lent = con

    def cursor(self) -> _Cursor:
        return _Cursor(self)

    def commit(self) -> None:
        """Nothing is written."""

    def rollback(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        """The owner closes it."""


class _Driver:
    """The face of a DB-API module."""

    apilevel = "2.0"
    paramstyle = "qmark"
    threadsafety = 1
    Error = duckdb.Error
    DatabaseError = duckdb.Error
    InterfaceError = duckdb.Error
    Warning = duckdb.Error
    OperationalError = duckdb.OperationalError
    ProgrammingError = duckdb.ProgrammingError
    IntegrityError = duckdb.IntegrityError
    DataError = duckdb.DataError
    InternalError = duckdb.InternalError
    NotSupportedError = duckdb.NotSupportedError

    @staticmethod
    def connect(name: str) -> _Connection:
        return _Connection(_LENT[name])


class LentDialect(default.DefaultDialect):
    """DuckDB for Great Expectations."""

    name = "duckdb"
    driver = "lent"
    default_paramstyle = "qmark"
    supports_statement_cache = True
    supports_native_boolean = True
    supports_native_decimal = True
    default_schema_name = "main"
    # Great Expectations asks dialects it does not know for this attribute, and then writes REGEXP_MATCHES(column,
    # pattern): in DuckDB that is its function that searches.
    DremioDialect: ClassVar[bool] = True

    @classmethod
    def import_dbapi(cls) -> Any:
        """The face that SQLAlchemy takes for a driver."""
        return _Driver

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """One connection a thread: it is the lent one anyway."""
        return pool.SingletonThreadPool

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """The URL's path is the name that a connection was lent under."""
        return [], {"name": url.database}

    def initialize(self, connection: Connection) -> None:
        """Nothing to ask the server."""

    def get_schema_names(self, connection: Connection, **_: Any) -> list[str]:
        """The only schema there is."""
        return ["main"]

    def get_table_names(self, connection: Connection, schema: str | None = None, **_: Any) -> list[str]:
        """None: what is validated are views."""
        return []

    def get_view_names(self, connection: Connection, schema: str | None = None, **_: Any) -> list[str]:
        """The views, sorted."""
        rows = connection.exec_driver_sql("SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1")
        return [str(row[0]) for row in rows]

    def has_table(self, connection: Connection, table_name: str, schema: str | None = None, **_: Any) -> bool:
        """Whether there is a view of this name."""
        sql = "SELECT count(*) FROM duckdb_views() WHERE NOT internal AND view_name = ?"
        return bool(connection.exec_driver_sql(sql, (str(table_name),)).scalar())

    def get_columns(self, connection: Connection, table_name: str, schema: str | None = None, **_: Any) -> list[Any]:
        """A view's columns with SQLAlchemy's types."""
        sql = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index"
        rows = connection.exec_driver_sql(sql, (str(table_name),)).fetchall()
        return [{"name": row[0], "type": _type(str(row[1])), "nullable": True, "default": None} for row in rows]

    def get_pk_constraint(self, connection: Connection, table_name: str, schema: str | None = None, **_: Any) -> Any:
        """A view has no key."""
        return {"constrained_columns": [], "name": None}

    def get_foreign_keys(self, *_: Any, **__: Any) -> list[Any]:
        """A view has none."""
        return []

    def get_indexes(self, *_: Any, **__: Any) -> list[Any]:
        """A view has none."""
        return []

    def get_unique_constraints(self, *_: Any, **__: Any) -> list[Any]:
        """A view has none."""
        return []


def _type(name: str) -> Any:
    head = name.split("(")[0].split(" ")[0].upper()
    kind = sa.types.NullType if name.endswith("]") else _TYPES.get(head, sa.types.NullType)
    if kind is sa.DECIMAL and "(" in name:
        precision, scale = name[name.index("(") + 1 : -1].split(",")
        return sa.DECIMAL(int(precision), int(scale))
    return kind()


registry.register("duckdb.lent", "reopen.recover.checks.dialect", "LentDialect")
