"""The restored files against the snapshot's profile: what equals, what differs, what cannot be compared."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from reopen.contracts.model import TableFormat
from reopen.recover.checks import profile, tables
from reopen.recover.checks.model import CheckKind, CheckResult, CheckStatus
from tests.recover.checks.kit import ORDERS, ORDERS_SCHEMA, database, profile_of, subject, write

PASS, FAIL, SKIPPED = CheckStatus.PASS, CheckStatus.FAIL, CheckStatus.SKIPPED
TWO = {"a.parquet": ORDERS.slice(0, 2), "b.parquet": ORDERS.slice(2)}
TRUE: list[tuple[Any, ...]] = [
    ("a.parquet", "id", "int64", 2, 0, "1", "2"),
    ("a.parquet", "customer", "int64", 2, 0, "10", "10"),
    ("a.parquet", "status", "string", 2, 0, "new", "paid"),
    ("a.parquet", "amount", "decimal128(12, 2)", 2, 0, "1.5", "2.50"),
    ("a.parquet", "mail", "string", 2, 0, None, None),
    ("b.parquet", "id", "BIGINT", 2, 0, "3", "4"),
    ("b.parquet", "customer", "BIGINT", 2, 1, "20", "20"),
    ("b.parquet", "status", "VARCHAR", 2, 0, "paid", "sent"),
    ("b.parquet", "amount", "DECIMAL(12,2)", 2, 0, "3.50", "4.50"),
    ("b.parquet", "mail", "VARCHAR", 2, None, None, None),
]

Compared = dict[str, CheckResult]


def compared(
    work: Path, files: dict[str, Any], given: pa.Table | None, classified: tuple[str, ...] = ("mail",)
) -> Compared:
    folder = write(work / "orders", files)
    con = database(work, [folder])
    table = tables.open_table(con, subject("orders", ORDERS_SCHEMA, classified=classified), folder)
    found = profile.scan(con, table)
    checks = [profile.readable_check(table, found), *profile.compare(con, table, found, given)]
    return {check.rule: check for check in checks}


def failing(checks: Compared) -> list[str]:
    return sorted(rule for rule, check in checks.items() if check.status is FAIL)


def changed(path: str, column: str, **values: Any) -> list[tuple[Any, ...]]:
    names = ("path", "column", "type", "rows", "nulls", "min", "max")
    return [
        tuple({**dict(zip(names, row, strict=True)), **values}.values()) if row[:2] == (path, column) else row
        for row in TRUE
    ]


def test_files_that_are_what_was_captured_pass_however_the_types_are_spelt(tmp_path: Path) -> None:
    checks = compared(tmp_path, TWO, profile_of(TRUE))
    assert failing(checks) == []
    assert checks["profile/nulls"].observed == "9 of 9 equal"
    assert checks["profile/min"].observed == "8 of 8 equal"
    assert {check.kind for rule, check in checks.items() if rule.startswith("profile")} == {CheckKind.PROFILE}


@pytest.mark.parametrize(
    ("values", "rule", "sample"),
    [
        ({"nulls": 1}, "profile/nulls", "a.parquet: id 0 ≠ 1"),
        ({"min": "0"}, "profile/min", "a.parquet: id 1 ≠ 0"),
        ({"max": "3"}, "profile/max", "a.parquet: id 2 ≠ 3"),
        ({"type": "int32"}, "profile/type", "a.parquet: id BIGINT ≠ INTEGER"),
        ({"max": "many"}, "profile/max", "a.parquet: id 2 ≠ many"),
    ],
)
def test_one_changed_figure_fails_its_own_measure(
    tmp_path: Path, values: dict[str, Any], rule: str, sample: str
) -> None:
    checks = compared(tmp_path, TWO, profile_of(changed("a.parquet", "id", **values)))
    assert failing(checks) == [rule]
    assert (checks[rule].sample, checks[rule].unexpected_count) == (sample, 1)


def test_a_lost_row_is_seen(tmp_path: Path) -> None:
    checks = compared(tmp_path, {**TWO, "a.parquet": ORDERS.slice(0, 1)}, profile_of(TRUE))
    assert "profile/rows" in failing(checks)
    assert checks["profile/rows"].sample == "a.parquet: 1 ≠ 2"


def test_a_missing_and_a_new_file_are_named(tmp_path: Path) -> None:
    checks = compared(tmp_path, {"a.parquet": ORDERS.slice(0, 2), "c.parquet": ORDERS}, profile_of(TRUE))
    assert failing(checks) == ["profile/files"]
    assert checks["profile/files"].sample == "b.parquet: missing; c.parquet: not in the profile"


def test_a_missing_and_a_new_column_are_named(tmp_path: Path) -> None:
    other = ORDERS.slice(2).rename_columns(["id", "customer", "status", "amount", "post"])
    checks = compared(tmp_path, {**TWO, "b.parquet": other}, profile_of(TRUE))
    assert failing(checks) == ["profile/columns"]
    assert checks["profile/columns"].sample == "b.parquet: mail missing; b.parquet: post not in the profile"


def test_a_file_without_rows_is_compared_like_any_other(tmp_path: Path) -> None:
    rows = [
        ("a.parquet", name, str(kind), 0, 0, None, None)
        for name, kind in zip(ORDERS.schema.names, ORDERS.schema.types, strict=True)
    ]
    checks = compared(tmp_path, {"a.parquet": ORDERS.slice(0, 0)}, profile_of(rows))
    assert failing(checks) == []
    assert checks["profile/rows"].observed == "1 of 1 equal"
    assert checks["profile/min"].status is SKIPPED


def test_a_value_that_became_null_everywhere_differs_from_a_minimum(tmp_path: Path) -> None:
    empty = ORDERS.slice(0, 2).set_column(2, "status", pa.array([None, None], pa.string()))
    checks = compared(tmp_path, {**TWO, "a.parquet": empty}, profile_of(TRUE))
    assert failing(checks) == ["profile/max", "profile/min", "profile/nulls"]


def test_without_a_profile_the_files_are_still_read_and_the_rest_says_why_not(tmp_path: Path) -> None:
    checks = compared(tmp_path, TWO, None)
    assert checks["files/readable"].status is PASS
    assert checks["profile"].status is SKIPPED
    assert "no profile" in checks["profile"].message


def test_a_classified_column_shows_no_value_even_if_the_profile_holds_some(tmp_path: Path) -> None:
    given = profile_of(changed("a.parquet", "mail", min="zz-secret", max="zz-secret"))
    checks = compared(tmp_path, TWO, given)
    assert failing(checks) == []
    assert "secret" not in "".join(check.sample for check in checks.values())


VALUES: list[tuple[pa.Array, str, str]] = [
    (pa.array([dt.date(2026, 1, 2), dt.date(2025, 1, 2)]), "2025-01-02", "2026-01-02"),
    (pa.array([1767323045], pa.timestamp("s")).cast(pa.timestamp("us")), "2026-01-02T03:04:05", "2026-01-02 03:04:05"),
    (pa.array([0], pa.timestamp("us", tz="Europe/Berlin")), "1970-01-01 01:00:00+01", "1970-01-01T00:00:00Z"),
    (pa.array([1], pa.timestamp("ns")), "1970-01-01 00:00:00.000000001", "1970-01-01 00:00:00.000000001"),
    (pa.array([0.1, float("nan"), -0.0], pa.float64()), "0.0", "0.1"),
    (pa.array([0.1], pa.float32()), "0.10000000149011612", "0.1"),
    (pa.array([1e300]), "1e+300", "1e300"),
    (pa.array([True, False]), "False", "true"),
    (pa.array(["é", "z", "Z"]), "Z", "é"),
    (pa.array([dt.time(1, 2, 3)], pa.time64("us")), "01:02:03", "01:02:03.000000"),
    (pa.array([b"ab"]), "ab", "ab"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "low", "high"), VALUES, ids=[str(values.type) for values, _, _ in VALUES])
def test_text_is_compared_as_the_value_it_stands_for(tmp_path: Path, values: pa.Array, low: str, high: str) -> None:
    rows = [("a.parquet", "v", str(values.type), len(values), 0, low, high)]
    checks = compared(tmp_path, {"a.parquet": pa.table({"v": values})}, profile_of(rows))
    assert failing(checks) == [], [check.sample for check in checks.values()]


def test_nested_columns_are_compared_by_rows_and_nulls_and_their_leaves_left_out(tmp_path: Path) -> None:
    nested = pa.table({"items": pa.array([[1], None]), "point": pa.array([{"x": 1}, {"x": 2}])})
    rows = [
        ("a.parquet", "items", "list<element: int64>", 2, 1, None, None),
        ("a.parquet", "point.x", "int64", 2, 0, "1", "2"),
    ]
    assert failing(compared(tmp_path, {"a.parquet": nested}, profile_of(rows))) == []


def test_csv_types_are_compared_by_family(tmp_path: Path) -> None:
    """A reader of CSV that is told no types finds int64 in a decimal column, and null in an empty one."""
    schema = {
        "name": "t",
        "properties": [
            {"name": "n", "physicalType": "DECIMAL(9,2)"},
            {"name": "m", "physicalType": "VARCHAR"},
            {"name": "d", "physicalType": "DATE"},
        ],
    }
    folder = write(tmp_path / "t", {"a.csv": "n,m,d\n1,,2026-01-01\n2,,2026-01-02\n"})
    con = database(tmp_path, [folder])
    table = tables.open_table(con, subject("t", schema, format=TableFormat.CSV), folder)
    found = profile.scan(con, table)
    rows = [
        ("a.csv", "n", "int64", 2, 0, "1", "2"),
        ("a.csv", "m", "null", 2, 2, None, None),
        ("a.csv", "d", "date32[day]", 2, 0, "2026-01-01", "2026-01-02"),
    ]

    def checks(given: Sequence[tuple[Any, ...]]) -> Compared:
        result = profile.compare(con, table, found, profile_of(given, source="csv decode"))
        return {check.rule: check for check in result}

    assert failing(checks(rows)) == []
    assert failing(checks([*rows[:2], ("a.csv", "d", "string", 2, 0, None, None)])) == ["profile/type"]


def damage(path: Path, at: Callable[[int], int]) -> None:
    content = bytearray(path.read_bytes())
    place = at(len(content))
    content[place : place + 40] = b"\xff" * 40
    path.write_bytes(content)


@pytest.mark.parametrize("at", [lambda size: 4, lambda size: size - 48], ids=["a page", "the footer"])
def test_a_damaged_file_is_named_and_the_others_are_compared(tmp_path: Path, at: Callable[[int], int]) -> None:
    folder = tmp_path / "orders"
    write(folder, TWO)
    damage(folder / "b.parquet", at)
    checks = compared(tmp_path, {}, profile_of(TRUE))
    readable = checks["files/readable"]
    assert (readable.status, readable.kind, readable.unexpected_count) == (FAIL, CheckKind.INTEGRITY, 1)
    assert readable.sample.startswith("b.parquet: ")
    assert failing(checks) == ["files/readable"]
    assert checks["profile/rows"].observed == "1 of 1 equal"


def test_a_truncated_file_and_a_csv_value_of_the_wrong_type_are_damage_too(tmp_path: Path) -> None:
    schema = {"name": "t", "properties": [{"name": "n", "physicalType": "INTEGER"}]}
    folder = write(tmp_path / "t", {"a.csv": "n\n1\n", "b.csv": "n\nsecret\n", "c.csv": 'n\n"1\n'})
    con = database(tmp_path, [folder])
    table = tables.open_table(con, subject("t", schema, format=TableFormat.CSV), folder)
    found = profile.scan(con, table)
    assert sorted(found.damaged) == ["b.csv", "c.csv"]
    assert "Line: 2" in found.damaged["b.csv"]
    assert "secret" not in found.damaged["b.csv"]


def test_no_files_is_a_failure_with_the_folder_in_it(tmp_path: Path) -> None:
    checks = compared(tmp_path, {}, None)
    assert checks["files/readable"].status is FAIL
    assert "orders" in checks["files/readable"].message


def test_an_empty_dataset_misses_every_file_of_the_profile(tmp_path: Path) -> None:
    assert compared(tmp_path, {}, profile_of(TRUE))["profile/files"].unexpected_count == 2


def test_want_of_memory_is_not_taken_for_damage(tmp_path: Path) -> None:
    columns = {f"c{number}": ["x" * 1000 + str(row) for row in range(2000)] for number in range(4)}
    folder = write(tmp_path / "t", {"a.parquet": pa.table(columns)})
    con = database(tmp_path, [folder], memory_limit="1MB")
    table = tables.open_table(con, subject("t", {"name": "t", "properties": []}), folder)
    with pytest.raises(duckdb.OutOfMemoryException):
        profile.scan(con, table)
