"""Owns the one name of a column type: Arrow, Parquet tools, SQL and contracts spell the same type differently.

The one name is DuckDB's own (``BIGINT``, ``DECIMAL(15,2)``, ``TIMESTAMP WITH TIME ZONE``), because DuckDB reads the
restored files. Nested types keep only their kind (``LIST``, ``STRUCT``, ``MAP``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

_ARROW = {
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "halffloat": "FLOAT",
    "float": "FLOAT",
    "float32": "FLOAT",
    "double": "DOUBLE",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "string": "VARCHAR",
    "large_string": "VARCHAR",
    "string_view": "VARCHAR",
    "utf8": "VARCHAR",
    "binary": "BLOB",
    "large_binary": "BLOB",
    "binary_view": "BLOB",
    "date32[day]": "DATE",
    "date32": "DATE",
    "date64[ms]": "DATE",
    "date64": "DATE",
}
_NESTED = (("list", "LIST"), ("large_list", "LIST"), ("fixed_size_list", "LIST"), ("struct", "STRUCT"), ("map", "MAP"))
_SQL_TYPE = re.compile(r"[A-Za-z_][\w ]*(\(\s*\d+\s*(,\s*\d+\s*)?\))?[\w ]*(\[\d*\])*")
"""What may be put into a cast: a name, a precision, array brackets. A contract's text goes into SQL only if it fits."""

_FAMILIES = {
    "integer": {
        "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT",
        "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
    },
    "number": {"FLOAT", "DOUBLE", "DECIMAL"},
    "string": {"VARCHAR", "UUID"},
    "boolean": {"BOOLEAN"},
    "date": {"DATE"},
    "time": {"TIME", "TIME WITH TIME ZONE", "TIME_NS"},
    "timestamp": {"TIMESTAMP", "TIMESTAMP WITH TIME ZONE"},
    "object": {"STRUCT", "JSON"},
    "array": {"LIST"},
    "map": {"MAP"},
    "vector": {"LIST"},
}  # fmt: skip
"""ODCS logical types and the DuckDB types that can carry them."""


def base(name: str) -> str:
    """A DuckDB type without its parts: ``DECIMAL(15,2)`` → ``DECIMAL``, ``BIGINT[]`` → ``LIST``, no unit of time."""
    if name.endswith("]"):
        return "LIST"
    head = name.split("(")[0].strip().upper()
    return "TIMESTAMP" if head in ("TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS") else head


def is_nested(name: str) -> bool:
    """Whether values of the type have parts, so that they have no order worth a profile."""
    return base(name) in ("LIST", "STRUCT", "MAP", "UNION", "VARIANT")


def family(name: str) -> str:
    """The ODCS logical type that a DuckDB type belongs to; its base name when there is none."""
    kind = base(name)
    return next((logical for logical, members in _FAMILIES.items() if kind in members), kind)


def carries(logical: str, name: str) -> bool:
    """Whether a DuckDB type can carry an ODCS logical type. ``number`` is carried by integers too."""
    kind = base(name)
    if logical == "number" and kind in _FAMILIES["integer"]:
        return True
    return kind in _FAMILIES.get(logical, {kind})


def from_arrow(text: str) -> str | None:
    """The DuckDB name of an Arrow type's text, ``None`` when the text is not one."""
    name = text.strip()
    if name in _ARROW:
        return _ARROW[name]
    if match := re.fullmatch(r"decimal(?:32|64|128|256)?\((\d+),\s*(-?\d+)\)", name):
        return f"DECIMAL({match[1]},{match[2]})"
    if match := re.fullmatch(r"timestamp\[(s|ms|us|ns)(,\s*tz=.*)?\]", name):
        return "TIMESTAMP WITH TIME ZONE" if match[2] else "TIMESTAMP"
    if re.fullmatch(r"time(32|64)\[\w+\]", name):
        return "TIME"
    if match := re.fullmatch(r"dictionary<values=([^,]+),.*>", name):
        return from_arrow(match[1])
    return next((kind for prefix, kind in _NESTED if name.startswith(f"{prefix}<")), None)


def from_sql(con: duckdb.DuckDBPyConnection, text: str) -> str | None:
    """The DuckDB name of an SQL type (``NUMERIC(12,2)`` → ``DECIMAL(12,2)``, ``TEXT`` → ``VARCHAR``).

    ``None`` when DuckDB does not know it. The parser itself is asked, so that no table of aliases can grow stale.
    """
    import duckdb

    if not _SQL_TYPE.fullmatch(text.strip()):
        return None
    try:
        # fetchall everywhere in this package: after fetchone the connection counts as busy and refuses other work.
        rows = con.execute(f"SELECT typeof(CAST(NULL AS {text}))").fetchall()
    except duckdb.Error:
        return None
    return str(rows[0][0])


def same(left: str, right: str) -> bool:
    """Whether two DuckDB names mean one type; units of a timestamp and the parts of nested types do not count."""
    return _comparable(left) == _comparable(right)


def _comparable(name: str) -> str:
    kind = base(name)
    return re.sub(r"\s", "", name.upper()) if kind == "DECIMAL" else kind
