"""Whole validations through the real child and the real engine. One child serves this file: its start takes long."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reopen.contracts.model import Dataset, TableFormat
from reopen.recover.checks import (
    CheckKind,
    CheckResult,
    CheckStatus,
    Severity,
    ValidationRequest,
    ValidationResult,
    Validator,
)
from tests.recover.checks.kit import (
    CUSTOMERS,
    CUSTOMERS_SCHEMA,
    ORDERS,
    ORDERS_SCHEMA,
    by_rule,
    dataset,
    profile_of,
    write,
)

pytestmark = pytest.mark.slow

PASS, FAIL, ERROR, SKIPPED = CheckStatus.PASS, CheckStatus.FAIL, CheckStatus.ERROR, CheckStatus.SKIPPED


@pytest.fixture(scope="session")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Validator]:
    with Validator(work=tmp_path_factory.mktemp("checks"), memory_limit="256MB", threads=2) as started:
        yield started


@pytest.fixture
def customers(tmp_path: Path) -> Mapping[str, tuple[Dataset, str]]:
    return {"customers": (dataset("customers", CUSTOMERS_SCHEMA), write(tmp_path / "c", {"1.parquet": CUSTOMERS}))}


def with_rules(*rules: Mapping[str, Any], **changes: Mapping[str, Any]) -> dict[str, Any]:
    """The orders' schema with more rules: of the schema, and of properties by name."""
    properties = [{**entry, **changes.get(entry["name"], {})} for entry in ORDERS_SCHEMA["properties"]]
    return {**ORDERS_SCHEMA, "properties": properties, "quality": list(rules)}


def run(
    validator: Validator,
    folder: Path,
    schema: Mapping[str, Any],
    data: pa.Table | Mapping[str, Any],
    related: Mapping[str, tuple[Dataset, str]] | None = None,
    profile: pa.Table | None = None,
    **options: Any,
) -> ValidationResult:
    files = {"part 1.parquet": data} if isinstance(data, pa.Table) else data
    path = write(folder / "orders", files)
    request = ValidationRequest(
        dataset=dataset("orders", schema, **options), folder=path, related=related or {}, profile=profile
    )
    return validator.validate(request, timeout_seconds=120)


def only(result: ValidationResult, rule: str) -> CheckResult:
    (check,) = by_rule(result)[rule]
    return check


def test_a_dataset_that_is_what_its_contract_says_passes(
    validator: Validator, tmp_path: Path, customers: Mapping[str, tuple[Dataset, str]]
) -> None:
    result = run(validator, tmp_path, ORDERS_SCHEMA, ORDERS, customers)
    assert (result.status, result.broken) == (PASS, ())
    assert {check.kind for check in result.checks} == set(CheckKind)
    assert result.versions.keys() == {"python", "duckdb", "great-expectations", "sqlalchemy"}
    assert result.peak_bytes > 100 << 20
    assert result.raw is not None
    raw = json.loads(result.raw.read_bytes())
    assert raw["verdict"]
    assert raw["explanation"] == []


BAD = ORDERS.set_column(0, "id", pa.array([1, 1, None, 4], pa.int64())).set_column(
    2, "status", pa.array(["new", "lost", "paid", "sent"])
)


def test_each_kind_of_broken_rule_is_found_counted_and_shown(
    validator: Validator, tmp_path: Path, customers: Mapping[str, tuple[Dataset, str]]
) -> None:
    schema = with_rules(
        {"metric": "rowCount", "mustBeGreaterThan": 4},
        {"metric": "duplicateValues", "arguments": {"properties": ["customer", "id"]}, "mustBe": 0},
        {"type": "sql", "query": "SELECT count(*) FROM {object} o JOIN customers c ON c.id = o.customer", "mustBe": 0},
        {"type": "sql", "query": "SELECT '{}' || max(nothing) FROM {object}", "mustBe": 0},
        {"type": "text", "description": "Amounts are gross."},
        {"metric": "nullValues", "mustBe": 0, "severity": "warning"},
        {
            "type": "custom",
            "engine": "greatExpectations",
            "implementation": {
                "type": "expect_column_max_to_be_between",
                "kwargs": {"column": "amount", "max_value": 4},
            },
        },
        {"type": "custom", "engine": "greatExpectations", "implementation": {"type": "expect_nothing_at_all"}},
        amount={"logicalTypeOptions": {"exclusiveMaximum": 4.5, "multipleOf": 1}},
        mail={"logicalTypeOptions": {"pattern": "^[ab]@", "maxLength": 12}},
    )
    data = BAD.set_column(1, "customer", pa.array([10, 10, 99, None], pa.int64()))
    result = run(validator, tmp_path, schema, data, customers)
    assert result.status is FAIL
    found = {
        rule: [(check.status, check.unexpected_count, check.observed, check.sample) for check in checks]
        for rule, checks in by_rule(list(result.broken)).items()
    }
    assert found == {
        "properties/id/required": [(FAIL, 1, "1 of 4 rows", "id NULL")],
        "properties/id/primaryKey": [(FAIL, 2, "2 of 4 rows", "id 1; id 1")],
        "properties/customer/relationships/0": [(FAIL, 1, "1", "99")],
        "properties/status/enum": [(FAIL, 1, "1 of 4 rows", "id 1, status lost")],
        "properties/amount/logicalTypeOptions/exclusiveMaximum": [(FAIL, 1, "1 of 4 rows", "id 4, amount 4.5")],
        "properties/amount/logicalTypeOptions/multipleOf": [(FAIL, 4, "4", "1.50; 2.50; 3.50; 4.50")],
        "properties/mail/logicalTypeOptions/pattern": [(FAIL, 1, "1 of 4 rows", "id NULL, mail c@example.org")],
        "properties/mail/logicalTypeOptions/maxLength": [
            (FAIL, 3, "3 of 4 rows", "id 1, mail a@example.org; id 1, mail b@example.org; id NULL, mail c@example.org")
        ],
        "quality/0": [(FAIL, None, "4", "")],
        "quality/1": [(FAIL, 1, "1", "10, 1")],
        "quality/2": [(FAIL, None, "2", "")],
        "quality/3": [(ERROR, None, "", "")],
        "quality/5": [(ERROR, None, "", "")],
        "quality/6": [(FAIL, None, "4.5", "")],
        "quality/7": [(ERROR, None, "", "")],
    }
    assert only(result, "quality/4").status is SKIPPED
    assert "nothing" in only(result, "quality/3").message
    assert "expect_nothing_at_all" in only(result, "quality/7").message


def test_a_broken_warning_is_reported_and_the_dataset_passes(validator: Validator, tmp_path: Path) -> None:
    schema = with_rules({"id": "many", "metric": "rowCount", "mustBeGreaterThan": 4, "severity": "warning"})
    result = run(validator, tmp_path, schema, ORDERS)
    assert result.status is PASS
    assert [(check.rule, check.status, check.severity) for check in result.broken] == [
        ("quality/0", FAIL, Severity.WARNING)
    ]


def test_types_and_columns_are_checked_in_every_file(validator: Validator, tmp_path: Path) -> None:
    other = ORDERS.set_column(3, "amount", ORDERS["amount"].cast(pa.decimal128(12, 3)))
    other = other.append_column("extra", pa.array([1] * 4))
    result = run(validator, tmp_path, ORDERS_SCHEMA, {"a.parquet": ORDERS, "b.parquet": other})
    kind = only(result, "properties/amount/physicalType")
    assert (kind.status, kind.observed) == (FAIL, "DECIMAL(12,2), DECIMAL(12,3)")
    assert (kind.expected, kind.sample) == ("DECIMAL(12,2)", "b.parquet: DECIMAL(12,3)")
    columns = only(result, "properties")
    assert (columns.status, columns.observed) == (FAIL, "unexpected: extra")
    assert only(result, "files/uniform").severity is Severity.WARNING


def test_a_column_that_is_missing_fails_its_type_and_its_rules_are_not_run(
    validator: Validator, tmp_path: Path
) -> None:
    result = run(validator, tmp_path, ORDERS_SCHEMA, ORDERS.drop_columns(["status"]))
    assert result.status is FAIL
    assert only(result, "properties").observed == "missing: status"
    assert only(result, "properties/status/physicalType").status is FAIL
    assert only(result, "properties/status/enum").message == "not run: the data has no column status"


def test_values_of_a_classified_column_are_nowhere_in_the_result(validator: Validator, tmp_path: Path) -> None:
    schema = with_rules(
        {"metric": "duplicateValues", "arguments": {"properties": ["mail", "id"]}, "mustBe": 9},
        {
            "type": "custom",
            "engine": "gx",
            "implementation": {
                "type": "expect_column_max_to_be_between",
                "kwargs": {"column": "mail", "max_value": "a"},
            },
        },
        mail={
            "logicalTypeOptions": {"pattern": "^x"},
            "enum": [{"value": "x"}],
            "required": True,
            "quality": [{"type": "sql", "query": "SELECT max({property}) FROM {object}", "mustBe": "x"}],
        },
    )
    result = run(validator, tmp_path, schema, ORDERS, classified=("mail",))
    assert result.status is FAIL
    assert only(result, "properties/mail/enum").unexpected_count == 3
    assert result.raw is not None
    assert b"example.org" not in result.raw.read_bytes()
    assert "example.org" not in json.dumps(result.as_dict())


def test_values_of_failing_rows_are_masked_unless_the_contract_shows_them(
    validator: Validator, tmp_path: Path, customers: Mapping[str, tuple[Dataset, str]]
) -> None:
    schema = with_rules(
        {"metric": "duplicateValues", "arguments": {"properties": ["customer", "id"]}, "mustBe": 0},
        {"type": "sql", "query": "SELECT max(mail) FROM {object}", "mustBe": "x"},
        {"type": "sql", "query": "SELECT CAST(max(mail) AS INTEGER) FROM {object}", "mustBe": 1},
        {
            "type": "custom",
            "engine": "greatExpectations",
            "implementation": {
                "type": "expect_column_max_to_be_between",
                "kwargs": {"column": "amount", "max_value": 4},
            },
        },
        mail={"logicalTypeOptions": {"pattern": "^[ab]@"}},
    )
    result = run(validator, tmp_path, schema, BAD, customers, show_failing_rows=False)

    assert result.status is FAIL
    assert only(result, "properties/status/enum").sample == "id •••, status •••"
    assert only(result, "properties/id/required").sample == "id NULL"
    assert only(result, "quality/0").sample == "•••, •••"
    assert (only(result, "quality/1").observed, only(result, "quality/3").observed) == ("•••", "4.5")
    assert only(result, "properties/status/enum").unexpected_count == 1
    assert result.raw is not None
    said = json.dumps(result.as_dict()) + result.raw.read_bytes().decode()
    assert "lost" not in said
    assert "example.org" not in said
    assert "•••" in result.raw.read_bytes().decode()


def test_odd_names_of_columns_tables_and_folders_are_no_trouble(validator: Validator, tmp_path: Path) -> None:
    name = 'it\'s "a" {col}: 100%'
    schema = {
        "name": "the 'table' \"x\" */",
        "properties": [
            {
                "name": name,
                "physicalType": "BIGINT",
                "required": True,
                "unique": True,
                "logicalTypeOptions": {"minimum": 1, "multipleOf": 2},
                "quality": [{"metric": "nullValues", "mustBeLessThan": 5, "unit": "percent"}],
            }
        ],
    }
    folder = tmp_path / 'fol\'der [1] "*"'
    result = run(validator, folder, schema, {"da'ta?.parquet": pa.table({name: pa.array([2, 4])})})
    assert (result.status, result.broken) == (PASS, ())


def test_csv_is_validated_like_parquet(validator: Validator, tmp_path: Path) -> None:
    text = "id,customer,status,amount,mail\n1,10,new,1.50,a@example.org\n2,,gone,2.50,\n"
    result = run(validator, tmp_path, ORDERS_SCHEMA, {"o.csv": text}, format=TableFormat.CSV)
    assert [check.rule for check in result.broken] == ["properties/status/enum"]


def test_the_profile_is_part_of_the_result(validator: Validator, tmp_path: Path) -> None:
    rows = [("part 1.parquet", "id", "int64", 5, 0, "1", "5")]
    result = run(
        validator, tmp_path, {"name": "orders", "properties": []}, ORDERS.select(["id"]), profile=profile_of(rows)
    )
    assert [check.rule for check in result.broken] == ["profile/rows", "profile/max"]


@pytest.mark.parametrize("files", [{}, {"a.txt": "not of the table"}], ids=["empty", "no such file"])
def test_no_files_is_a_failure_and_the_rules_are_not_run(
    validator: Validator, tmp_path: Path, files: dict[str, Any]
) -> None:
    result = run(validator, tmp_path, ORDERS_SCHEMA, files)
    assert (result.status, only(result, "files/readable").status) == (FAIL, FAIL)
    assert only(result, "properties/id/required").message == "not run: there are no files"


def test_a_damaged_file_is_named_and_the_rules_are_not_run(validator: Validator, tmp_path: Path) -> None:
    result = run(validator, tmp_path, ORDERS_SCHEMA, {"a.parquet": ORDERS, "b.parquet": "PAR1 and nothing more"})
    assert result.status is FAIL
    assert only(result, "files/readable").sample.startswith("b.parquet: ")
    assert only(result, "properties/status/enum").status is ERROR


def test_a_related_dataset_that_cannot_be_read_makes_its_foreign_key_an_error(
    validator: Validator, tmp_path: Path
) -> None:
    customers = {"customers": (dataset("customers", CUSTOMERS_SCHEMA), write(tmp_path / "c", {"1.parquet": "no"}))}
    result = run(validator, tmp_path, ORDERS_SCHEMA, ORDERS, customers, depends_on=("customers",))
    assert result.status is ERROR
    assert only(result, "properties/customer/relationships/0").message == "customers is not restored"
    assert "1.parquet" in only(result, "related/customers").message


def test_a_rule_reads_no_file_outside_the_restored_folders(validator: Validator, tmp_path: Path) -> None:
    secret = write(tmp_path / "other", {"secret.csv": "s\n1\n"})
    rule = {"type": "sql", "query": f"SELECT count(*) FROM '{secret}/secret.csv'", "mustBe": 1}
    result = run(validator, tmp_path, with_rules(rule), ORDERS)
    assert (result.status, only(result, "quality/0").status) == (ERROR, ERROR)


def test_too_little_memory_is_an_error_with_a_hint(tmp_path: Path) -> None:
    """The limit is given to the child's database: only a child of its own can have another one."""
    columns = {f"c{number}": ["x" * 1000 + str(row) for row in range(2000)] for number in range(4)}
    with Validator(work=tmp_path / "w", memory_limit="1MB", threads=1) as small:
        result = run(small, tmp_path, {"name": "orders", "properties": []}, pa.table(columns))
    assert result.status is ERROR
    assert "raise `limits.validation_memory`" in result.checks[0].message


ENDLESS = {
    "type": "sql",
    "query": "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range < b.range",
    "mustBe": 0,
}


def test_a_child_killed_in_the_middle_of_a_query_yields_an_error(tmp_path: Path) -> None:
    with Validator(work=tmp_path / "w", memory_limit="256MB") as doomed:
        killer = threading.Thread(target=kill_when_asked, args=(doomed, tmp_path / "w"))
        killer.start()
        result = run(doomed, tmp_path, with_rules(ENDLESS), ORDERS)
        killer.join()
    assert result.status is ERROR
    assert "killed by SIGKILL" in result.checks[0].observed
    assert "Hint" in result.checks[0].message


def kill_when_asked(validator: Validator, work: Path) -> None:
    # The spill folder appears when the child has taken up the request.
    while not list(work.glob("orders-*/spill")):
        time.sleep(0.01)
    pid = validator.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_a_child_whose_parent_is_gone_ends_in_the_middle_of_a_query(tmp_path: Path) -> None:
    """The end of a parent shows as the end of the pipe. Only the test can still see the child, because it holds it."""
    doomed = Validator(work=tmp_path / "w", memory_limit="256MB")
    asked = threading.Thread(target=run, args=(doomed, tmp_path, with_rules(ENDLESS), ORDERS))
    asked.start()
    while not list((tmp_path / "w").glob("orders-*/spill")):
        time.sleep(0.01)
    process = doomed._child.process if doomed._child else None
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) == 0
    asked.join()


def test_a_query_that_does_not_end_is_ended_at_the_limit(tmp_path: Path) -> None:
    with Validator(work=tmp_path / "w", memory_limit="256MB", timeout_seconds=1) as hung:
        path = write(tmp_path / "orders", {"a.parquet": ORDERS})
        pid = hung.pid
        result = hung.validate(ValidationRequest(dataset=dataset("orders", with_rules(ENDLESS)), folder=path))
    assert result.status is ERROR
    assert "did not answer within 1 s" in result.checks[0].observed
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
