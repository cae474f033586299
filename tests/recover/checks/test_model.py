"""The values of a validation: its verdict and its way through JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reopen.recover.checks.model import (
    CheckKind,
    CheckResult,
    CheckStatus,
    Severity,
    Subject,
    ValidationResult,
    verdict,
)
from tests.recover.checks.kit import ORDERS_SCHEMA, dataset, subject


def check(status: CheckStatus, severity: Severity = Severity.ERROR) -> CheckResult:
    return CheckResult(rule="r", kind=CheckKind.CONTRACT, type="t", severity=severity, status=status)


def test_a_failed_rule_fails_the_dataset() -> None:
    assert verdict([check(CheckStatus.PASS), check(CheckStatus.FAIL)]) is CheckStatus.FAIL


def test_a_rule_that_could_not_run_is_not_a_pass() -> None:
    assert verdict([check(CheckStatus.PASS), check(CheckStatus.ERROR)]) is CheckStatus.ERROR


def test_known_to_be_bad_goes_before_could_not_tell() -> None:
    assert verdict([check(CheckStatus.ERROR), check(CheckStatus.FAIL)]) is CheckStatus.FAIL


@pytest.mark.parametrize("severity", [Severity.WARNING, Severity.INFO])
@pytest.mark.parametrize("status", [CheckStatus.FAIL, CheckStatus.ERROR])
def test_a_warning_is_reported_and_fails_nothing(severity: Severity, status: CheckStatus) -> None:
    assert verdict([check(status, severity)]) is CheckStatus.PASS


def test_a_skipped_rule_fails_nothing() -> None:
    assert verdict([check(CheckStatus.SKIPPED)]) is CheckStatus.PASS


@pytest.mark.parametrize(
    ("text", "severity"),
    [("warning", "warning"), ("Info", "info"), (None, "error"), ("critical", "error"), ("catastrophic", "error")],
)
def test_a_severity_that_nobody_knows_is_not_made_lighter(text: str | None, severity: str) -> None:
    assert Severity.parse(text) == severity


def test_a_result_survives_json() -> None:
    result = ValidationResult(
        dataset="orders",
        status=CheckStatus.FAIL,
        checks=(check(CheckStatus.FAIL), check(CheckStatus.SKIPPED, Severity.INFO)),
        seconds=1.5,
        raw=Path("raw.json"),
        versions={"duckdb": "2"},
        peak_bytes=7,
    )
    assert ValidationResult.from_dict(json.loads(json.dumps(result.as_dict()))) == result
    assert result.broken == result.checks[:1]
    assert result.count(CheckStatus.SKIPPED) == 1


def test_a_subject_survives_json() -> None:
    made = subject("orders", ORDERS_SCHEMA, classified=("mail",), depends_on=("customers",))
    assert Subject.from_dict(json.loads(json.dumps(made.as_dict()))) == made


def test_a_dataset_that_is_not_a_table_has_no_subject() -> None:
    assert Subject.of(dataset("documents", None)) is None
