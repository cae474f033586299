"""A profile says of a file what DuckDB says of the same file; where it cannot, it says nothing rather than something
else."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reopen.contracts.model import Dataset, TableFormat
from reopen.protect import profiles
from reopen.protect.profiles import CsvTap, ParquetTap, matches
from reopen.vault import Vault
from tests.kit import a_dataset, a_table, a_vault, snapshot
from tests.trees import age, grow


def naive(*parts: int) -> datetime:
    """An instant without a zone, as tables hold it."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[misc,arg-type]


EXACT: dict[str, tuple[pa.DataType, list[Any]]] = {
    "tiny": (pa.int8(), [5, -128, 127, None]),
    "whole": (pa.int64(), [2**62, -(2**62), None, 0]),
    "natural": (pa.uint64(), [0, 2**64 - 1, 3, None]),
    "flag": (pa.bool_(), [True, None, False, True]),
    "money": (pa.decimal128(12, 2), [Decimal("-0.50"), Decimal("9999999999.99"), None, Decimal("0.00")]),
    "small_parts": (pa.decimal128(18, 9), [Decimal("0.000000001"), Decimal("0E-9"), None, Decimal("1.000000000")]),
    "wide": (pa.decimal128(38, 0), [Decimal(10**37), Decimal(-(10**37)), None, Decimal(0)]),
    "day": (pa.date32(), [date(1992, 1, 2), date(9999, 12, 31), date(1, 1, 1), None]),
    "second": (pa.timestamp("s"), [naive(2026, 1, 1), naive(1969, 12, 31, 23), None, naive(2000, 2, 29)]),
    "milli": (pa.timestamp("ms"), [naive(2026, 1, 1, 1, 2, 3, 120_000), naive(2000, 1, 1), None, None]),
    "micro": (
        pa.timestamp("us"),
        [naive(2026, 1, 1, 1, 2, 3, 123_456), naive(2026, 1, 1, 1, 2, 3, 100), None, naive(2026, 1, 2)],
    ),
    "zoned": (
        pa.timestamp("us", "UTC"),
        [datetime(2026, 1, 1, 1, 2, 3, 500_000, tzinfo=UTC), datetime(1999, 1, 1, tzinfo=UTC), None, None],
    ),
    "elsewhere": (
        pa.timestamp("us", "Europe/Berlin"),
        [datetime(2026, 7, 1, 1, 2, 3, 250_000, tzinfo=UTC), datetime(1999, 1, 1, tzinfo=UTC), None, None],
    ),
    "clock": (pa.time64("us"), [time(23, 59, 59, 999_999), time(0, 0), time(1, 2, 3, 400_000), None]),
    "word": (pa.string(), ["delta", "", "Älpha", None]),
    "letter": (pa.dictionary(pa.int8(), pa.string()), ["b", "a", None, "c"]),
    "nothing": (pa.int32(), [None, None, None, None]),
}
INEXACT: dict[str, tuple[pa.DataType, list[Any]]] = {
    "ratio": (pa.float64(), [0.1, float("nan"), -1e300, None]),
    "single": (pa.float32(), [0.1, 3.5, None, -0.0]),
    "bytes": (pa.binary(), [b"\xff", b"", None, b"a"]),
    "long": (pa.string(), ["x" * 70, "y" * 70, None, "z" * 200]),
    "nested": (pa.list_(pa.int32()), [[1, 2], [], None, [3]]),
    "inner": (pa.struct([("a", pa.int32())]), [{"a": 1}, None, {"a": None}, {"a": 2}]),
    "far": (pa.date32(), [pa.scalar(10_000_000, pa.int32()).cast(pa.date32()), None, None, None]),
    "early": (pa.timestamp("s"), [pa.scalar(-(10**11), pa.int64()).cast(pa.timestamp("s")), None, None, None]),
    "nano": (pa.timestamp("ns"), [pa.scalar(10**18 + 1, pa.int64()).cast(pa.timestamp("ns")), None, None, None]),
}


def arrow_column(kind: pa.DataType, values: list[Any]) -> pa.Array:
    return pa.concat_arrays([value_array(kind, value) for value in values])


def value_array(kind: pa.DataType, value: Any) -> pa.Array:
    if isinstance(value, pa.Scalar):
        return pa.repeat(value, 1)
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(
            pa.array([None if value is None else ord(value) - ord("a")], pa.int8()), pa.array(["a", "b", "c"])
        )
    return pa.array([value], kind)


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def measured(relation: str) -> dict[str, tuple[Any, ...]]:
    """Type, rows, nulls, least and greatest of each column, as DuckDB says it."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = {}
        for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall():
            extremes = f'CAST(min("{name}") AS VARCHAR), CAST(max("{name}") AS VARCHAR)'
            query = f'SELECT count(*), count(*) - count("{name}"), {extremes} FROM {relation}'
            row = connection.execute(query).fetchone()
            assert row is not None
            found[name] = (kind, *row)
        return found


def profiled(rows: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    return {row["column"]: (row["type"], row["rows"], row["nulls"], row["min"], row["max"]) for row in rows}


def footer(data: bytes, **options: Any) -> dict[str, tuple[Any, ...]]:
    tap = ParquetTap(a_table(**options), "t.parquet")
    for start in range(0, len(data), 1000):
        tap.feed(data[start : start + 1000])
    return profiled(tap.finish())


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("name", EXACT)
def test_a_footer_says_what_duckdb_computes(tmp_path: Path, name: str, groups: int) -> None:
    """Over several row groups too, of which one may hold nulls only."""
    table = pa.table({name: arrow_column(*EXACT[name])})
    data = parquet_bytes(table, row_group_size=-(-4 // groups))
    (tmp_path / "t.parquet").write_bytes(data)
    assert footer(data) == measured(f"'{tmp_path}/t.parquet'")


@pytest.mark.parametrize("name", INEXACT)
def test_where_a_footer_is_not_exact_it_gives_no_extremes(tmp_path: Path, name: str) -> None:
    data = parquet_bytes(pa.table({name: arrow_column(*INEXACT[name])}))
    (tmp_path / "t.parquet").write_bytes(data)
    kind, rows, nulls, least, greatest = footer(data)[name]
    expected = measured(f"'{tmp_path}/t.parquet'")[name]
    assert (rows, nulls) in (expected[1:3], (expected[1], None))
    assert (least, greatest) in ((None, None), expected[3:])
    if not pa.types.is_nested(INEXACT[name][0]):
        assert kind == expected[0]


def test_an_empty_table_has_columns_and_no_extremes(tmp_path: Path) -> None:
    table = pa.table({name: arrow_column(*EXACT[name]) for name in EXACT}).slice(0, 0)
    data = parquet_bytes(table)
    (tmp_path / "t.parquet").write_bytes(data)
    assert {name: row[1:] for name, row in footer(data).items()} == {
        name: (0, row[2] or 0, None, None) for name, row in measured(f"'{tmp_path}/t.parquet'").items()
    }


def test_a_file_without_statistics_gives_rows_and_types_only(tmp_path: Path) -> None:
    data = parquet_bytes(pa.table({"n": [1, 2, None]}), write_statistics=False)
    assert footer(data) == {"n": ("BIGINT", 3, None, None, None)}


def test_a_column_that_the_contract_classifies_shows_no_value() -> None:
    data = parquet_bytes(pa.table({"name": ["Anna", "Zoe"], "n": [1, 2]}))
    found = footer(data, classified=("name",))
    assert found == {"name": ("VARCHAR", 2, 0, None, None), "n": ("BIGINT", 2, 0, "1", "2")}


def test_a_footer_is_read_from_the_tail_of_a_file_that_is_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    data = parquet_bytes(pa.table({"n": list(range(50_000))}), compression="none", use_dictionary=False)
    monkeypatch.setattr(profiles, "FOOTER_BYTES_MAX", 5000)
    assert len(data) > 100_000
    assert footer(data) == {"n": ("BIGINT", 50_000, 0, "0", "49999")}


CSV_TYPES = [
    ("id", "BIGINT"),
    ("price", "DECIMAL(12,2)"),
    ("ratio", "DOUBLE"),
    ("day", "DATE"),
    ("at", "TIMESTAMP"),
    ("open", "BOOLEAN"),
    ("name", "VARCHAR"),
    ("note", "VARCHAR"),
]
CSV_TEXT = (
    b"id,price,ratio,day,at,open,name,note\n"
    b'1,0.50,0.1,1992-01-02,2026-01-01 01:02:03.5,true,"with, comma",\n'
    b'-5,-12345.00,1e20,1998-12-01,2026-01-02 00:00:00,false,"line\nbreak",\n'
    b'7,,,,,,NA,""\n'
    b"3,7.25,2.5,1995-06-17,2026-01-01 12:00:00.123456,true,null,\n"
)


def csv(data: bytes, block: int = 7, **options: Any) -> dict[str, tuple[Any, ...]]:
    tap = CsvTap(a_table(TableFormat.CSV, options.pop("properties", CSV_TYPES), **options), "t.csv")
    for start in range(0, len(data), block):
        tap.feed(data[start : start + block])
    return profiled(tap.finish())


@pytest.mark.parametrize("block", [1, 7, 10_000])
def test_a_csv_file_says_what_duckdb_computes(tmp_path: Path, block: int) -> None:
    """Commas and line breaks in quotes, empty values, texts that look like nulls elsewhere."""
    (tmp_path / "t.csv").write_bytes(CSV_TEXT)
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in CSV_TYPES)
    relation = f"read_csv('{tmp_path}/t.csv', columns = {{{columns}}}, header = true, auto_detect = false, "
    relation += "delim = ',', quote = '\"', escape = '\"', new_line = '\\n')"
    assert csv(CSV_TEXT, block) == measured(relation)


def test_a_csv_file_with_a_header_alone_has_columns(tmp_path: Path) -> None:
    found = csv(CSV_TEXT.splitlines(keepends=True)[0])
    assert found["price"] == ("DECIMAL(12,2)", 0, 0, None, None)


def test_classified_columns_of_csv_show_no_value_even_where_they_cannot_be_parsed() -> None:
    found = csv(CSV_TEXT, classified=("name",))
    assert found["name"][3:] == (None, None)
    for text in (b"pin\nsecret-word\n", b"pin\n1\nsecret: 1,2:3\n"):
        tap = CsvTap(a_table(TableFormat.CSV, [("pin", "BIGINT")], classified=("pin",)), "t.csv")
        tap.feed(text)
        (row,) = tap.finish()
        assert row["source"].startswith("undecodable")
        assert "secret" not in row["source"]


@pytest.mark.parametrize(
    ("format_", "name", "content"),
    [
        (TableFormat.PARQUET, "t.parquet", b"PAR1 but not really PAR1"),
        (TableFormat.PARQUET, "t.parquet", b""),
        (TableFormat.PARQUET, "t.parquet", b"x" * 50_000),
        (TableFormat.CSV, "t.csv", b"id\nnot a number\n"),
        (TableFormat.CSV, "t.csv", b""),
        (TableFormat.CSV, "t.csv", b"id\n1,2,3\n"),
        (TableFormat.CSV, "t.csv", b"id\n" + b"1\n" * 50_000 + b"broken,row\n" + b"2\n" * 2_000_000),
    ],
)
def test_what_cannot_be_profiled_leaves_a_row_that_says_why_and_the_snapshot_is_complete(
    tmp_path: Path, format_: TableFormat, name: str, content: bytes
) -> None:
    good = parquet_bytes(pa.table({"id": [1]})) if format_ is TableFormat.PARQUET else b"id\n1\n"
    source = grow(tmp_path / "source", {name: content, f"good-{name}": good})
    vault = a_vault()
    table = a_table(format_, [("id", "BIGINT")])
    record = snapshot(vault, a_dataset("it", source, table=table, pattern="*.*")).record
    assert record.state == "complete"
    bad, fine = sorted(vault.profile(record).to_pylist(), key=lambda row: str(row["path"]), reverse=True)
    assert (bad["path"], bad["column"], bad["rows"]) == (name, "", 0)
    assert bad["source"].startswith("undecodable: ")
    assert (fine["path"], fine["rows"], fine["min"]) == (f"good-{name}", 1, "1")


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    files = {f"{n}.parquet": parquet_bytes(pa.table({"n": [n], "who": [f"w{n}"]})) for n in range(3)}
    return grow(tmp_path / "source", files)


def rows(vault: Vault, dataset: Dataset) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = vault.profile(snapshot(vault, dataset).record).to_pylist()
    return found


def test_unchanged_files_keep_their_rows_and_an_unchanged_profile_is_not_written_again(tables: Path) -> None:
    vault = a_vault()
    dataset = a_dataset("it", tables, table=a_table(), pattern="*.parquet")
    first = rows(vault, dataset)
    assert [(row["path"], row["column"], row["max"]) for row in first] == [
        (f"{n}.parquet", column, value) for n in range(3) for column, value in (("n", str(n)), ("who", f"w{n}"))
    ]
    (tables / "1.parquet").write_bytes(parquet_bytes(pa.table({"n": [9], "who": [None]})))
    (tables / "2.parquet").unlink()
    (tables / "unrelated.txt").write_text("x")
    age(tables)
    second = rows(vault, dataset)
    assert second[:2] == first[:2]
    assert [(row["path"], row["max"]) for row in second] == [
        ("0.parquet", "0"),
        ("0.parquet", "w0"),
        ("1.parquet", "9"),
        ("1.parquet", None),
    ]
    (tables / "unrelated.txt").write_text("y")
    rows(vault, dataset)
    records = vault.records("it")
    assert records[2].manifest != records[1].manifest
    assert records[2].profile == records[1].profile


def test_a_column_classified_since_loses_its_values_in_files_that_did_not_change(tables: Path) -> None:
    vault = a_vault()
    rows(vault, a_dataset("it", tables, table=a_table(), pattern="*.parquet"))
    found = rows(vault, a_dataset("it", tables, table=a_table(classified=("who",)), pattern="*.parquet"))
    assert {(row["column"], row["min"] is None, row["max"] is None) for row in found} == {
        ("n", False, False),
        ("who", True, True),
    }


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.parquet", "a.parquet", True),
        ("*.parquet", "sub/a.parquet", False),
        ("**/*.parquet", "a.parquet", True),
        ("**/*.parquet", "x/y/a.parquet", True),
        ("year=*/*.parquet", "year=2026/a.parquet", True),
        ("year=*/*.parquet", "year=2026/deep/a.parquet", False),
        ("**", "anything/at all", True),
        ("*.csv", "a.parquet", False),
    ],
)
def test_a_table_s_pattern_chooses_its_files(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


def test_a_contract_that_gains_a_table_has_its_unchanged_files_profiled(tmp_path: Path) -> None:
    vault = a_vault()
    source = tmp_path / "it"
    source.mkdir()
    pq.write_table(pa.table({"a": [1, 2, 3]}), source / "t.parquet")
    age(source)
    assert snapshot(vault, a_dataset("it", source)).record.profile is None
    second = snapshot(vault, a_dataset("it", source, table=a_table(), pattern="*.parquet")).record
    assert [row["column"] for row in vault.profile(second).to_pylist()] == ["a"]
    assert (second.totals.read_files, second.totals.new_raw_bytes) == (1, 0)
    third = snapshot(vault, a_dataset("it", source, table=a_table(), pattern="*.parquet")).record
    assert third.totals.read_files == 0
