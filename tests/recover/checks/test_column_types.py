"""Names of column types from different worlds mean the same type."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from reopen.recover.checks import column_types


@pytest.mark.parametrize(
    "kind",
    [
        pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float32(),
        pa.float64(), pa.bool_(), pa.string(), pa.large_string(), pa.binary(), pa.date32(), pa.time64("us"),
        pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("us", tz="UTC"), pa.decimal128(15, 2),
        pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.int64()),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)  # fmt: skip
def test_arrows_name_of_a_type_and_duckdbs_are_the_same_type(kind: pa.DataType) -> None:
    """DuckDB itself says what it makes of an Arrow column."""
    column = pa.array([None], kind)
    con = duckdb.connect()
    con.register("given", pa.table({"c": column}))
    (row,) = con.execute("DESCRIBE given").fetchall()
    name = column_types.from_arrow(str(kind))
    assert name is not None
    # An Arrow dictionary becomes an ENUM here, and VARCHAR once it was written to Parquet and read again.
    measured = "VARCHAR" if str(row[1]).startswith("ENUM") else str(row[1])
    assert column_types.same(name, measured), (name, measured)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NUMERIC(12, 2)", "DECIMAL(12,2)"),
        ("text", "VARCHAR"),
        ("VARCHAR(25)", "VARCHAR"),
        ("int", "INTEGER"),
        ("timestamp with time zone", "TIMESTAMP WITH TIME ZONE"),
        ("BIGINT[]", "BIGINT[]"),
        ("NUMBER(10,2)", None),
        ("BIGINT)); DROP TABLE x; --", None),
    ],
)
def test_a_type_of_sql_gets_duckdbs_name_or_none(text: str, name: str | None) -> None:
    assert column_types.from_sql(duckdb.connect(), text) == name


def test_precision_is_part_of_a_decimal_and_a_timestamps_unit_is_not() -> None:
    assert not column_types.same("DECIMAL(15,2)", "DECIMAL(15,3)")
    assert column_types.same("TIMESTAMP_NS", "TIMESTAMP")
    assert not column_types.same("TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


@pytest.mark.parametrize(
    ("logical", "kind", "carried"),
    [
        ("integer", "BIGINT", True), ("integer", "VARCHAR", False), ("number", "DECIMAL(15,2)", True),
        ("number", "INTEGER", True), ("array", "BIGINT[]", True), ("timestamp", "TIMESTAMP WITH TIME ZONE", True),
        ("date", "TIMESTAMP", False), ("object", "STRUCT(a BIGINT)", True),
    ],
)  # fmt: skip
def test_a_logical_type_is_carried_by_its_family(logical: str, kind: str, carried: bool) -> None:
    assert column_types.carries(logical, kind) is carried
