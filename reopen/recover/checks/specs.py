"""Owns the specs that a contract compiles to: plain data. One spec is one check to run, or the reason why not.

A :class:`Measure` is SQL that yields one row with one column ``value``; the rule is broken when the value is NULL or
``condition`` does not hold. One row, because the engine fetches what a rule returns, without a limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reopen.recover.checks.model import CheckStatus, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Where a rule stands in the contract and how much it weighs.

    ``origin`` is its path in the schema object (``properties/o_orderkey/unique``); ``label`` is what people read, the
    rule's own id or name where it has one.
    """

    origin: str
    label: str
    severity: Severity = Severity.ERROR
    column: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One Great Expectations expectation. ``columns`` are those it reads; all must exist before it is run."""

    rule: Rule
    type: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    expected: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measured rule. ``offenders`` is SQL whose rows break it, for the sample; empty when there is none."""

    rule: Rule
    type: str
    sql: str
    condition: str
    columns: tuple[str, ...] = ()
    expected: str = ""
    offenders: str = ""
    counts_offenders: bool = False
    """Whether the value is itself the number of offending rows (or keys)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRule:
    """A column's type, compared with what each file says: ``physical`` in full, else ``logical`` by family."""

    rule: Rule
    column: str
    physical: str = ""
    logical: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRun:
    """A rule that leads to no check. ``skipped``: it is not for a machine. ``error``: it should have been runnable."""

    rule: Rule
    type: str
    status: CheckStatus
    reason: str


Spec = Expectation | Measure | TypeRule | NotRun


def skipped(rule: Rule, kind: str, reason: str) -> NotRun:
    """A rule left out on purpose."""
    return NotRun(rule=rule, type=kind, status=CheckStatus.SKIPPED, reason=reason)


def refused(rule: Rule, kind: str, reason: str) -> NotRun:
    """A rule that cannot be run as it is written."""
    return NotRun(rule=rule, type=kind, status=CheckStatus.ERROR, reason=reason)
