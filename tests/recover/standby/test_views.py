"""The database that consumers query after a failover: same names, one version whole, and what the business adds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reopen.contracts.load import Contracts
from reopen.contracts.model import Location, Table, TableFormat
from reopen.recover.standby.views import make_views
from tests.recover.business import a_dataset

COLUMNS = [
    {"name": "key", "logicalType": "integer", "physicalType": "BIGINT"},
    {"name": "price", "logicalType": "number", "physicalType": "DOUBLE"},
]


def a_table(name: str, *, pattern: str = "*.parquet", **changes: Any) -> Any:
    options: dict[str, Any] = {"format": TableFormat.PARQUET, "schema": {"name": name, "properties": COLUMNS}}
    table = Table(name=name, **{**options, **changes})
    locations = {
        site: Location(site=site, url=f"/{site}/{name}", pattern=pattern) for site in ("production", "standby")
    }
    return replace(a_dataset(name, table=table), locations=locations)


def write(folder: Path, name: str, keys: Sequence[int], **columns: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"key": list(keys), "price": [1.5] * len(keys), **columns}), folder / name)


def database(tmp_path: Path, contracts: Contracts, folders: dict[str, str]) -> tuple[duckdb.DuckDBPyConnection, Any]:
    made = make_views(contracts, folders)
    path = tmp_path / f"serving-{len(list(tmp_path.glob('serving-*')))}.duckdb"
    path.write_bytes(made.data)
    return duckdb.connect(str(path), read_only=True), made


def only(dataset: Any) -> Contracts:
    return Contracts(datasets={dataset.name: dataset})


def test_a_query_of_production_runs_over_a_folder_with_spaces_and_brackets(tmp_path: Path) -> None:
    folder = tmp_path / "the [1st] site's *data*" / "orders"
    write(folder, "a.parquet", range(3))
    write(folder, "b.parquet", range(3, 5))
    con, made = database(tmp_path, only(a_table("orders")), {"orders": str(folder)})
    assert con.execute("SELECT count(*), sum(key) FROM Orders WHERE price > 1").fetchall() == [(5, 10)]
    assert [name for name, *_ in con.execute("DESCRIBE orders").fetchall()] == ["key", "price"]
    assert made.problems == ()


def test_what_the_business_adds_is_seen_and_what_does_not_match_the_pattern_is_not(tmp_path: Path) -> None:
    write(tmp_path / "o", "a.parquet", range(3))
    con, _ = database(tmp_path, only(a_table("orders")), {"orders": str(tmp_path / "o")})
    write(tmp_path / "o", "b.parquet", range(2))
    write(tmp_path / "o", "c.pq", range(9))
    assert con.execute("SELECT count(*) FROM orders").fetchall() == [(5,)]


def test_files_of_two_layouts_are_read_by_name(tmp_path: Path) -> None:
    write(tmp_path / "o", "a.parquet", [1])
    pq.write_table(pa.table({"note": ["x"], "price": [2.5], "key": [2]}), tmp_path / "o/b.parquet")
    con, _ = database(tmp_path, only(a_table("orders")), {"orders": str(tmp_path / "o")})
    rows = con.execute("SELECT key, price, note FROM orders ORDER BY key").fetchall()
    assert rows == [(1, 1.5, None), (2, 2.5, "x")]


@pytest.mark.parametrize("pattern", ["**", "**/*.parquet"])
def test_files_in_folders_are_read_with_their_partition(tmp_path: Path, pattern: str) -> None:
    columns = [*COLUMNS, {"name": "month", "logicalType": "string", "physicalType": "VARCHAR", "partitioned": True}]
    # A segment above the dataset must not be taken for a column.
    folder = tmp_path / "year=1999" / "o"
    write(folder, "month=2026-01/a.parquet", [1])
    write(folder, "month=2026-02/a.parquet", [2])
    table = a_table("orders", pattern=pattern, schema={"name": "orders", "properties": columns})
    con, _ = database(tmp_path, only(table), {"orders": str(folder)})
    rows = con.execute("SELECT * FROM orders ORDER BY key").fetchall()
    assert rows == [(1, 1.5, "2026-01"), (2, 1.5, "2026-02")]


def test_the_layout_is_that_of_whichever_site_was_captured(tmp_path: Path) -> None:
    dataset = a_table("orders")
    locations = {**dataset.locations, "standby": replace(dataset.locations["standby"], pattern="tables/*.parquet")}
    write(tmp_path / "o", "a.parquet", [1])
    con, _ = database(tmp_path, only(replace(dataset, locations=locations)), {"orders": str(tmp_path / "o")})
    assert con.execute("SELECT count(*) FROM orders").fetchall() == [(1,)]


def test_csv_has_the_contract_s_types_also_where_files_differ(tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o/a.csv").write_text("key,price\n007,1.5\n")
    table = a_table("orders", format=TableFormat.CSV, pattern="*.csv")
    con, _ = database(tmp_path, only(table), {"orders": str(tmp_path / "o")})
    (tmp_path / "o/b.csv").write_text("key,price\n8,2.5\n")
    assert con.execute("SELECT sum(key), sum(price) FROM orders").fetchall() == [(15, 4.0)]
    (tmp_path / "o/c.csv").write_text("price,key\n1.0,1\n")
    con, _ = database(tmp_path, only(table), {"orders": str(tmp_path / "o")})
    assert con.execute("SELECT sum(key), sum(price) FROM orders").fetchall() == [(16, 5.0)]


def test_a_table_without_a_file_has_its_columns_and_no_row(tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    con, made = database(tmp_path, only(a_table("orders")), {"orders": str(tmp_path / "o")})
    assert con.execute("SELECT count(*), max(price) FROM orders").fetchall() == [(0, None)]
    assert made.problems == ()


def test_a_table_that_cannot_be_read_costs_no_other_its_view(tmp_path: Path) -> None:
    write(tmp_path / "a", "1.parquet", [1])
    (tmp_path / "b").mkdir()
    (tmp_path / "b/1.parquet").write_bytes(b"no table")
    contracts = Contracts(datasets={"a": a_table("a"), "b": a_table("b"), "c": a_table("c")})
    folders = {"a": str(tmp_path / "a"), "b": str(tmp_path / "b"), "c": "s3://bucket/c"}
    con, made = database(tmp_path, contracts, folders)
    assert [name for (name,) in con.execute("SHOW TABLES").fetchall()] == ["a"]
    assert [problem.partition(":")[0] for problem in made.problems] == ["b", "c"]


def test_each_table_has_its_own_name_and_its_dataset_s_where_that_is_free(tmp_path: Path) -> None:
    write(tmp_path / "x", "1.parquet", [1])
    first = replace(a_table("sales", schema={"name": "sales", "physicalName": "ORDERS", "properties": COLUMNS}))
    second = replace(a_table("orders"), name="orders")
    contracts = Contracts(datasets={"orders": second, "sales": first})
    _, made = database(tmp_path, contracts, dict.fromkeys(("orders", "sales"), str(tmp_path / "x")))
    assert made.views == {"orders": ("orders",), "sales": ("sales",)}


def test_a_dataset_that_is_not_a_table_has_no_view(tmp_path: Path) -> None:
    con, made = database(tmp_path, only(a_dataset("papers")), {"papers": str(tmp_path)})
    assert con.execute("SHOW TABLES").fetchall() == []
    assert made.problems == ()


def test_no_work_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    make_views(Contracts(datasets={}), {})
    assert os.listdir(tmp_path) == []
