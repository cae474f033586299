"""Owns what a scenario of a drill is: its name, what it arranges before the clock starts, and what it found.

Invariants
    S1  Whatever a scenario does to bytes it does to copies: in the drill's own folder, or in memory over a store.
    S2  What it arranges is before the first step and on no clock; the steps are the plan's, run by the plan's driver.
    S3  The same seed chooses the same snapshots, files and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from blake3 import blake3

from reopen.recover.context import RecoveryContext
from reopen.recover.plan import RecoveryPlan
from reopen.recover.steps import Outcomes


class DrillScenario(StrEnum):
    """What is supposed to have happened."""

    SITE_LOSS = "site-loss"
    """The primary is gone: nothing of it is opened, everything comes from the other site's vault."""
    RANSOMWARE = "ransomware"
    """Somebody encrypts the data: an earlier recovery point that is not suspect is found and recovered."""
    OPERATOR_ERROR = "operator-error"
    """Somebody removes a file: just that is brought back, and nothing else is touched."""
    BIT_ROT = "bit-rot"
    """A byte of the replica is wrong: it is found, and repaired from another site or said to be lost."""


PROVING = ("", DrillScenario.SITE_LOSS, DrillScenario.RANSOMWARE)
"""Scenarios that recover whole datasets, and so prove the plan: only they become ``drilled`` facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a scenario did and saw, as JSON values. A ``problem`` fails the drill although every step was done."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arranged:
    """A scenario that is set up: the context that the steps run in, and what to ask when they are settled."""

    context: RecoveryContext
    findings: Callable[[Outcomes], Findings] = lambda outcomes: Findings()


Arrange = Callable[[RecoveryPlan, RecoveryContext], Arranged]
"""Sets a scenario up in the drill's folder, which is there, empty, and removed whatever happens."""


def as_it_is(plan: RecoveryPlan, context: RecoveryContext) -> Arranged:
    """Nothing is arranged: the plan is carried out as it stands."""
    return Arranged(context=context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everything about a drill that its plan does not say.

    ``selection`` says how the recovery points were chosen; ``opened`` gives the stores that this process opened, and
    ``source_store`` the primary's; ``readiness`` is the state of the target before the first step.
    """

    scenario: str = ""
    arrange: Arrange = as_it_is
    selection: Mapping[str, Any] = field(default_factory=dict)
    opened: Callable[[], Sequence[str]] = lambda: ()
    source_store: str = ""
    readiness: Mapping[str, Any] = field(default_factory=dict)


def pick(seed: int, purpose: str, count: int) -> int:
    """A number below ``count`` that a seed and a purpose decide, today and in every later version (S3)."""
    return int.from_bytes(blake3(f"{seed}\0{purpose}".encode()).digest(8), "big") % count
