"""Restored files as views: every odd name is read, nothing else is, and no type is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from reopen.contracts.model import TableFormat
from reopen.errors import InvalidInput
from reopen.recover.checks import tables
from tests.recover.checks.kit import database, subject, write

ONE = {"name": "t", "properties": [{"name": "n", "physicalType": "VARCHAR"}]}
ODD_NAMES = [
    "a b.parquet", "it's.parquet", 'a"b.parquet', "a*b.parquet", "a?b.parquet", "a[b]c.parquet", "[*].parquet",
    "a\\b.parquet", "a{b}.parquet",
    "ü.parquet", "a\nb.parquet", "k=1/p.parquet", "a%20b.parquet", "aXb.parquet",
]  # fmt: skip


def rows(con: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return con.execute(sql).fetchall()


@pytest.mark.parametrize(
    ("folder_name", "names"),
    [("it's [a] *folder*", [name for name in ODD_NAMES if "\\" not in name]), ("plain", ODD_NAMES)],
    ids=["odd folder", "plain folder"],
)
def test_each_oddly_named_file_is_read_once_and_as_itself(tmp_path: Path, folder_name: str, names: list[str]) -> None:
    folder = write(tmp_path / folder_name, {name: pa.table({"n": [name]}) for name in names})
    table_subject = subject("t", ONE)
    con = database(tmp_path, [folder])
    table = tables.open_table(con, table_subject, folder)
    assert [file.error for file in table.files] == [""] * len(names)
    tables.create_view(con, table, ['view "one"'])
    assert sorted(rows(con, 'SELECT n FROM "view ""one"""')) == sorted((name,) for name in names)
    source = tables.relation(table_subject, table.files, with_file=True)
    found = rows(con, f'SELECT n, "{tables.FILE_COLUMN}" FROM {source}')
    assert sorted(found) == sorted((name, str(Path(folder) / name)) for name in names)


@pytest.mark.parametrize(("name", "reason"), [("b\udcff.parquet", "UTF-8"), ("b\\c*.parquet", "backslash")])
def test_a_name_that_duckdb_cannot_take_is_reported_with_its_reason(tmp_path: Path, name: str, reason: str) -> None:
    folder = write(tmp_path / "t", {"a.parquet": pa.table({"n": ["a"]}), name: pa.table({"n": ["b"]})})
    table = tables.open_table(database(tmp_path, [folder]), subject("t", ONE), folder)
    assert [bool(file.error) for file in table.files] == [False, True]
    assert reason in table.files[1].error


def test_a_pattern_picks_the_tables_files_and_two_stars_pick_by_format(tmp_path: Path) -> None:
    files = {"a.parquet": "", "b/c.parquet": "", "_SUCCESS": "", "notes.txt": "", "d.csv": ""}
    folder = write(tmp_path, dict(files))

    def found(pattern: str, kind: TableFormat = TableFormat.PARQUET) -> list[str]:
        return [file.path for file in tables.find_files(subject("t", ONE, pattern=pattern, format=kind), folder)]

    assert found("**") == ["a.parquet", "b/c.parquet"]
    assert found("*.parquet") == ["a.parquet"]
    assert found("**/*.parquet") == ["a.parquet", "b/c.parquet"]
    assert found("**", TableFormat.CSV) == ["d.csv"]
    assert found("*.orc") == []


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.parquet", "a/../../*"])
def test_a_pattern_that_leads_out_of_the_folder_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InvalidInput, match="leads out"):
        tables.find_files(subject("t", ONE, pattern=pattern), str(tmp_path))


def test_a_folder_that_does_not_exist_has_no_files(tmp_path: Path) -> None:
    assert tables.find_files(subject("t", ONE), str(tmp_path / "gone")) == []


def test_a_database_reads_nothing_outside_its_folders_and_writes_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "t", {"a.parquet": pa.table({"n": ["a"]})})
    other = write(tmp_path / "other", {"secret.parquet": pa.table({"n": ["s"]})})
    con = database(tmp_path, [folder])
    with pytest.raises(duckdb.PermissionException):
        con.execute(f"SELECT * FROM read_parquet('{other}/secret.parquet')")
    with pytest.raises(duckdb.PermissionException):
        con.execute(f"COPY (SELECT 1) TO '{tmp_path}/out.csv'")
    with pytest.raises(duckdb.InvalidInputException):
        con.execute("SET enable_external_access = true")


def test_a_database_at_its_memory_limit_spills_into_its_own_folder(tmp_path: Path) -> None:
    con = database(tmp_path, [], memory_limit="40MB")
    sql = "SELECT count(*) FROM (SELECT i, count(*) FROM range(3000000) r(i) GROUP BY i HAVING count(*) > 1)"
    assert rows(con, sql) == [(0,)]


def test_files_with_more_columns_are_read_together_by_name(tmp_path: Path) -> None:
    older = pa.table({"n": ["a"]})
    newer = pa.table({"extra": [1], "n": ["b"]})
    folder = write(tmp_path / "t", {"1.parquet": older, "2.parquet": newer})
    con = database(tmp_path, [folder])
    table = tables.open_table(con, subject("t", ONE), folder)
    assert len(table.groups()) == 2
    tables.create_view(con, table, ["t"])
    assert rows(con, "SELECT n, extra FROM t ORDER BY n") == [("a", None), ("b", 1)]


def test_partition_columns_come_from_the_folders_below_the_dataset_only(tmp_path: Path) -> None:
    schema = {
        "name": "t",
        "properties": [
            {"name": "n", "physicalType": "VARCHAR"},
            {"name": "month", "physicalType": "DATE", "partitioned": True},
            {"name": "place", "physicalType": "VARCHAR", "partitioned": True},
        ],
    }
    files = {
        "month=2026-01-01/place=a%20b/p.parquet": pa.table({"n": ["x"]}),
        "month=2026-02-01/place=__HIVE_DEFAULT_PARTITION__/p.parquet": pa.table({"n": ["y"]}),
    }
    folder = write(tmp_path / "month=1999-01-01" / "t", files)
    con = database(tmp_path, [folder])
    table = tables.open_table(con, subject("t", schema), folder)
    assert tables.partition_names(table) == ["month", "place"]
    tables.create_view(con, table, ["t"])
    assert rows(con, "SELECT n, month::VARCHAR, place FROM t ORDER BY n") == [
        ("x", "2026-01-01", "a b"),
        ("y", "2026-02-01", None),
    ]
    assert tables.describe(con, "t") == (("n", "VARCHAR"), ("month", "DATE"), ("place", "VARCHAR"))


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()], ids=str)
def test_a_rule_sees_the_nan_that_a_footers_maximum_leaves_out(tmp_path: Path, kind: pa.DataType) -> None:
    folder = write(tmp_path / "t", {"a.parquet": pa.table({"v": pa.array([0.5, float("nan"), -0.0, None], kind)})})
    con = database(tmp_path, [folder])
    tables.create_view(con, tables.open_table(con, subject("t", ONE), folder), ["t"])
    assert rows(con, "SELECT count(*) FROM t WHERE NOT v <= 1") == [(1,)]
    assert rows(con, "SELECT count(*) FROM t WHERE isnan(v)") == [(1,)]
    assert rows(con, "SELECT isnan(max(v)), count(v), min(CAST(v AS VARCHAR)) FROM t") == [(True, 3, "-0.0")]
    assert tables.describe(con, "t")[0][1] in ("FLOAT", "DOUBLE")


def test_a_maximum_is_read_from_the_rows(tmp_path: Path) -> None:
    """A footer that promises too much is not believed: its statistics were written for a larger value."""
    folder = write(tmp_path / "t", {"a.parquet": pa.table({"v": pa.array([7, 1000], pa.int64())})})
    path = Path(folder) / "a.parquet"
    content = path.read_bytes()
    footer = content.rindex(b"PAR1") - int.from_bytes(content[-8:-4], "little") - 4
    lie = content[footer:].replace((1000).to_bytes(8, "little"), (2000).to_bytes(8, "little"))
    assert lie != content[footer:]
    path.write_bytes(content[:footer] + lie)
    con = database(tmp_path, [folder])
    tables.create_view(con, tables.open_table(con, subject("t", ONE), folder), ["t"])
    assert rows(con, "SELECT max(v) FROM t") == [(1000,)]


CSV_SCHEMA = {
    "name": "t",
    "properties": [
        {"name": "n", "logicalType": "integer"},
        {"name": "word", "logicalType": "string"},
        {"name": "day", "physicalType": "DATE"},
    ],
}


def csv_table(con: duckdb.DuckDBPyConnection, folder: str, schema: object = CSV_SCHEMA) -> tables.RestoredTable:
    return tables.open_table(con, subject("t", schema, format=TableFormat.CSV), folder)  # type: ignore[arg-type]


def test_csv_takes_its_types_from_the_contract_and_its_names_from_the_header(tmp_path: Path) -> None:
    """The second file has its columns in another order: they are matched by name, not by place."""
    files = {"1.csv": 'n,word,day\n1,"a\nb",2026-01-01\n,"",\n', "2.csv": "day,n,word\n2026-01-02,2,007\n"}
    folder = write(tmp_path / "t", dict(files))
    con = database(tmp_path, [folder])
    table = csv_table(con, folder)
    tables.create_view(con, table, ["t"])
    assert tables.describe(con, "t") == (("n", "BIGINT"), ("word", "VARCHAR"), ("day", "DATE"))
    assert rows(con, "SELECT n, word, day::VARCHAR FROM t ORDER BY n") == [
        (1, "a\nb", "2026-01-01"),
        (2, "007", "2026-01-02"),
        (None, None, None),
    ]


def test_a_csv_value_that_is_not_of_its_type_is_not_turned_into_null(tmp_path: Path) -> None:
    folder = write(tmp_path / "t", {"1.csv": "n,word,day\nmany,a,2026-01-01\n"})
    con = database(tmp_path, [folder])
    tables.create_view(con, csv_table(con, folder), ["t"])
    with pytest.raises(duckdb.ConversionException):
        con.execute("SELECT * FROM t").fetchall()


def test_a_csv_dialect_is_what_the_contract_says(tmp_path: Path) -> None:
    options = [("csvDelimiter", "|"), ("csvHeader", False), ("csvNull", "-")]
    schema = {**CSV_SCHEMA, "customProperties": [{"property": name, "value": value} for name, value in options]}
    folder = write(tmp_path / "t", {"1.csv": "1|a,b|2026-01-01\n2|-|2026-01-02\n"})
    con = database(tmp_path, [folder])
    tables.create_view(con, csv_table(con, folder, schema), ["t"])
    assert rows(con, "SELECT n, word FROM t ORDER BY n") == [(1, "a,b"), (2, None)]


def test_an_empty_csv_file_has_no_header_and_says_so(tmp_path: Path) -> None:
    folder = write(tmp_path / "t", {"1.csv": ""})
    (file,) = csv_table(database(tmp_path, [folder]), folder).files
    assert "header" in file.error


def test_a_file_that_is_no_parquet_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "t", {"a.parquet": pa.table({"n": ["a"]}), "b.parquet": "not parquet at all"})
    table = tables.open_table(database(tmp_path, [folder]), subject("t", ONE), folder)
    assert [bool(file.error) for file in table.files] == [False, True]
    assert [file.path for file in table.readable] == ["a.parquet"]
