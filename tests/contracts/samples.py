"""A small, correct contract to damage, and the loading of what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from reopen.contracts import Contracts, Problem, Severity, TierDefaults, lint_contracts, load_contracts

GOOD = """\
apiVersion: v3.2.0
kind: DataContract
id: orders
name: orders
version: 1.2.0
status: active
description: {purpose: Every order placed in the shop.}
servers:
  - server: production
    type: local
    path: production/orders/*.parquet
    format: parquet
  - server: standby
    type: local
    path: standby/orders/*.parquet
    format: parquet
schema:
  - name: orders
    properties:
      - name: o_id
        logicalType: integer
        physicalType: BIGINT
        required: true
      - name: o_customer
        logicalType: string
        physicalType: VARCHAR
        classification: restricted
    quality:
      - {id: rows, metric: rowCount, mustBeGreaterThan: 0}
slaProperties:
  - {property: recoveryPointObjective, value: 15, unit: m}
  - {property: recoveryTimeObjective, value: 1, unit: h}
  - {property: frequency, value: 5, unit: m, scheduler: cron, schedule: '*/5 * * * *'}
team:
  name: checkout
support:
  - {channel: oncall, tool: email, url: 'mailto:oncall@example.org'}
customProperties:
  - {property: tier, value: 1, vendor: reopen}
"""


def named(name: str, *, depends_on: tuple[str, ...] = (), tier: int = 1) -> str:
    """The good contract under another name, with dependencies and a tier."""
    text = GOOD.replace("orders", name).replace("property: tier, value: 1", f"property: tier, value: {tier}")
    if depends_on:
        text += f"  - {{property: dependsOn, value: [{', '.join(depends_on)}], vendor: reopen}}\n"
    return text


def line_of(text: str, fragment: str) -> int:
    """The 1-based line on which a fragment first stands, so that tests do not count lines by hand."""
    return text[: text.index(fragment)].count("\n") + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A tier's defaults, as the settings would hand them in."""

    rpo: timedelta | None = None
    rto: timedelta | None = None
    temperature: str | None = None
    approval: bool = False
    retention: Mapping[str, int | timedelta] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder of contracts under test."""

    base: Path
    tiers: dict[int, TierDefaults] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.base / "contracts"

    def write(self, files: Mapping[str, str]) -> None:
        self.path.mkdir(exist_ok=True)
        for name, text in files.items():
            (self.path / f"{name}.odcs.yaml").write_text(text, encoding="utf-8")

    def load(self) -> Contracts:
        return load_contracts(self.path, base=self.base, sites=("production", "standby"), tiers=self.tiers)

    def lint(self) -> tuple[Problem, ...]:
        return lint_contracts(self.path, base=self.base, sites=("production", "standby"), tiers=self.tiers)

    def only(self, severity: Severity = Severity.ERROR) -> Problem:
        """The one problem there is, of the severity that is expected."""
        problems = self.lint()
        assert [problem.severity for problem in problems] == [severity], [str(problem) for problem in problems]
        return problems[0]

    def only_after(self, old: str, new: str, severity: Severity = Severity.ERROR) -> Problem:
        """The one problem of the good contract with one replacement."""
        assert old in GOOD, old
        self.write({"orders": GOOD.replace(old, new, 1)})
        return self.only(severity)
