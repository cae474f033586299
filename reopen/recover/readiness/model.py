"""Owns what readiness says: a check, its mark, and all checks of a site together. Values that evidence can store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reopen.control.values import Instant, stored

UNKNOWN = "unknown"
"""How the value of a check begins that could not be measured (Y1)."""


class Area(StrEnum):
    """What a check is about."""

    SOFTWARE = "software"
    CONNECTIVITY = "connectivity"
    SECURITY = "security"
    CAPACITY = "capacity"
    FRESHNESS = "freshness"
    DRIFT = "drift"


class Mark(StrEnum):
    """How a check ended, or the worst of several."""

    OK = "ok"
    WARN = "warn"
    """It works, or nobody knows; a person should look before the day it is needed."""
    FAIL = "fail"
    """A recovery here would stop at this, or would not keep what was promised."""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question and its answer. ``name`` is stable; ``dataset`` is empty where it concerns the site. ``value`` is
    what was measured, in words; ``what_to_do`` is empty where nothing is."""

    name: str
    area: Area
    verdict: Mark
    value: str
    what_to_do: str = ""
    dataset: str = ""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Everything that was checked at a site at one time. ``shape`` is that of the plan it was checked for; empty when
    no plan could be made."""

    site: str
    at: Instant
    seconds: float
    shape: str
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Mark:
        """The worst of all checks; ``fail`` when nothing was checked."""
        return worst(check.verdict for check in self.checks)

    @property
    def ok(self) -> bool:
        """Whether nothing failed. Warnings do not stop a recovery."""
        return self.verdict is not Mark.FAIL

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.verdict is Mark.FAIL)

    @property
    def warned(self) -> tuple[Check, ...]:
        """The checks that warn."""
        return tuple(check for check in self.checks if check.verdict is Mark.WARN)

    @property
    def problem(self) -> str:
        """What failed, in a line; empty when nothing did."""
        return "; ".join(describe(check) for check in self.failed)


def describe(check: Check) -> str:
    """A check in a line: its name, the dataset it concerns, and what was measured."""
    about = f" of {check.dataset}" if check.dataset else ""
    return f"{check.name}{about}: {check.value}"


def worst(marks: Iterable[Mark]) -> Mark:
    """The worst mark; ``fail`` of none, because what nobody checked is not ready."""
    order: Sequence[Mark] = tuple(Mark)
    return max(marks, key=order.index, default=Mark.FAIL)
