"""Owns the values of a validation: the request, the result of one check, the result of a dataset, and their JSON.

Invariants
    I1  A dataset passes only when every check of severity ``error`` passed or was skipped with a reason.
    I2  ``fail`` (we know that it is bad) goes before ``error`` (we could not tell); neither is ever a pass.
    I3  ``from_dict(as_dict(x)) == x``: results cross a pipe and are kept in records.

Called by everything in this package and by the recover room. Imports no heavy library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from reopen.contracts.model import Dataset, TableFormat

if TYPE_CHECKING:
    import pyarrow as pa


class CheckStatus(StrEnum):
    """What came of a check. ``error``: it could not be run. ``skipped``: it is not for a machine, see the message."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"
    SKIPPED = "skipped"


class CheckKind(StrEnum):
    """What a check compares the restored data with: its own encoding, the snapshot's profile, or the contract."""

    INTEGRITY = "integrity"
    PROFILE = "profile"
    CONTRACT = "contract"


class Severity(StrEnum):
    """How much a broken rule weighs: only ``error`` fails the dataset, the others are reported."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @classmethod
    def parse(cls, text: object) -> Severity:
        """The severity a contract means. The standard leaves the words open; an unknown one is taken as ``error``,
        because a rule whose weight we do not understand must not be made lighter."""
        return _SEVERITIES.get(str(text).strip().lower(), cls.ERROR)


_SEVERITIES = {
    "warning": Severity.WARNING,
    "warn": Severity.WARNING,
    "medium": Severity.WARNING,
    "info": Severity.INFO,
    "information": Severity.INFO,
    "low": Severity.INFO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One rule and what came of it; every text is short enough for a table's cell."""

    rule: str
    """Where the rule stands: ``properties/o_orderkey/unique``, ``quality/rows``, ``profile/nulls``."""
    kind: CheckKind
    type: str
    """What ran: an expectation's name, or one of our own (``file decode``, ``column type``)."""
    severity: Severity
    status: CheckStatus
    column: str | None = None
    observed: str = ""
    expected: str = ""
    unexpected_count: int | None = None
    """Rows (or values, files) that break the rule, where that was counted."""
    sample: str = ""
    """The first offenders; withheld for a classified column."""
    message: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The check as plain JSON values."""
        return {
            "rule": self.rule,
            "kind": self.kind.value,
            "type": self.type,
            "severity": self.severity.value,
            "status": self.status.value,
            "column": self.column,
            "observed": self.observed,
            "expected": self.expected,
            "unexpected_count": self.unexpected_count,
            "sample": self.sample,
            "message": self.message,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """What :meth:`as_dict` wrote."""
        return cls(
            **{
                **value,
                "kind": CheckKind(value["kind"]),
                "severity": Severity(value["severity"]),
                "status": CheckStatus(value["status"]),
            }
        )


def verdict(checks: Iterable[CheckResult]) -> CheckStatus:
    """The status of a dataset from its checks (I1, I2): ``pass``, ``fail`` or ``error``, never ``skipped``."""
    statuses = {check.status for check in checks if check.severity is Severity.ERROR}
    if CheckStatus.FAIL in statuses:
        return CheckStatus.FAIL
    return CheckStatus.ERROR if CheckStatus.ERROR in statuses else CheckStatus.PASS


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """What came of the validation of one dataset."""

    dataset: str
    status: CheckStatus
    """``pass``, ``fail`` or ``error``."""
    checks: tuple[CheckResult, ...]
    seconds: float
    """Wall time of this dataset's checks, without the start of the child."""
    raw: Path | None = None
    """Great Expectations' own results as JSON, beside the other work files; values of classified columns withheld."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of Python, DuckDB, Great Expectations and SQLAlchemy that ran the checks."""
    peak_bytes: int = 0
    """Largest resident memory of the child since it started; 0 when it never answered."""

    @property
    def broken(self) -> tuple[CheckResult, ...]:
        """The checks that failed or could not run, whatever their severity."""
        return tuple(check for check in self.checks if check.status in (CheckStatus.FAIL, CheckStatus.ERROR))

    def count(self, status: CheckStatus) -> int:
        """How many checks have a status."""
        return sum(check.status is status for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return {
            "dataset": self.dataset,
            "status": self.status.value,
            "checks": [check.as_dict() for check in self.checks],
            "seconds": self.seconds,
            "raw": None if self.raw is None else str(self.raw),
            "versions": dict(self.versions),
            "peak_bytes": self.peak_bytes,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """What :meth:`as_dict` wrote."""
        return cls(
            dataset=value["dataset"],
            status=CheckStatus(value["status"]),
            checks=tuple(CheckResult.from_dict(check) for check in value["checks"]),
            seconds=float(value["seconds"]),
            raw=None if value["raw"] is None else Path(value["raw"]),
            versions=dict(value["versions"]),
            peak_bytes=int(value["peak_bytes"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The part of a :class:`~reopen.contracts.model.Dataset` that the checks need, small enough for a pipe.

    ``patterns`` are the table's file patterns of all sites: a restored folder has the layout of the site that was
    captured, and the validator is not told which one that was.
    """

    dataset: str
    table: str
    format: TableFormat
    schema: Mapping[str, Any]
    classified: tuple[str, ...]
    patterns: tuple[str, ...]
    depends_on: tuple[str, ...]
    show_failing_rows: bool = False
    """Whether values of rows that break a rule may leave the child; never those of classified columns."""

    @classmethod
    def of(cls, dataset: Dataset) -> Self | None:
        """The subject of a dataset; ``None`` when it is not a table."""
        if dataset.table is None:
            return None
        return cls(
            dataset=dataset.name,
            table=dataset.table.name,
            format=dataset.table.format,
            schema=dataset.table.schema,
            classified=dataset.table.classified,
            patterns=tuple(sorted({location.pattern for location in dataset.locations.values()})) or ("**",),
            depends_on=dataset.depends_on,
            show_failing_rows=dataset.table.show_failing_rows,
        )

    def as_dict(self) -> dict[str, Any]:
        """The subject as JSON values (the schema may still hold dates, which the writer turns to text)."""
        return {
            "dataset": self.dataset,
            "table": self.table,
            "format": self.format.value,
            "schema": dict(self.schema),
            "classified": list(self.classified),
            "patterns": list(self.patterns),
            "depends_on": list(self.depends_on),
            "show_failing_rows": self.show_failing_rows,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """What :meth:`as_dict` wrote."""
        return cls(
            dataset=value["dataset"],
            table=value["table"],
            format=TableFormat(value["format"]),
            schema=value["schema"],
            classified=tuple(value["classified"]),
            patterns=tuple(value["patterns"]),
            depends_on=tuple(value["depends_on"]),
            show_failing_rows=bool(value["show_failing_rows"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRequest:
    """One dataset to validate.

    :param folder: where it was restored, a local folder.
    :param profile: the snapshot's profile (columns ``path, column, type, rows, nulls, min, max, source``; one row a
        file and column), or ``None`` when the snapshot has none: the profile check is then left out, and says so.
    :param related: other restored datasets by name, for foreign keys and SQL rules that name them.
    """

    dataset: Dataset
    folder: str
    profile: pa.Table | None = None
    related: Mapping[str, tuple[Dataset, str]] = field(default_factory=dict)
