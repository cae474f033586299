"""Owns what a report is made of, and what it says: values only.

Invariants
    S1  What could not be looked at is an error value in its place, never left out and never taken for good news.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from reopen.errors import ReopenError
from reopen.recover.anchor import Anchor
from reopen.recover.plan import RecoveryPlan
from reopen.recover.readiness import Mark, Readiness
from reopen.review.status import Status

Row = Mapping[str, Any]
"""A dataset in a recovery, by the columns of :data:`reopen.recover.history.HISTORY`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A snapshot as trends need it. ``proven_at`` is when it was first verified, None where it never was;
    ``size_bytes`` and ``stored_bytes`` are None of one that expired, of which no more than its times is kept."""

    dataset: str
    consistent_at: datetime
    committed_at: datetime
    proven_at: datetime | None
    size_bytes: int | None
    stored_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Everything that was found, before it is judged.

    ``site``, ``settings``, ``host`` and ``version`` say from where and by what it was looked at. ``readiness`` is None
    where nobody looked. ``suspects`` has the reasons of each dataset's newest snapshot that may be encrypted.
    """

    at: datetime
    site: str
    settings: str
    host: str
    version: str
    status: Status
    target: str
    readiness: Readiness | ReopenError | None
    plan: RecoveryPlan | ReopenError
    history: Sequence[Row] | ReopenError
    head: Anchor | ReopenError | None
    chain_problem: str
    suspects: Mapping[str, Sequence[str]] | ReopenError
    kept: Sequence[Kept] = field(default=())
    kit_problem: str = ""
    """What is wrong with the recovery kit at the standby; empty where nothing is, or nobody looked."""


class Answer(StrEnum):
    """Are we able to reopen?"""

    YES = "yes"
    UNPROVEN = "not proven"
    """Nothing speaks against it, and something that would have to speak for it is not known."""
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The answer, in a sentence that begins with it, what speaks ``against``, and what is ``unknown``."""

    answer: Answer
    sentence: str
    against: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """Something that a person should look at. ``about`` is a dataset, a site, or empty."""

    mark: Mark
    what: str
    about: str
    found: str
    what_to_do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A dataset's newest recovery, drill or failover. ``rta_seconds`` is None where it did not reopen."""

    number: int
    kind: str
    at: datetime
    verdict: str
    rta_seconds: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetLine:
    """A dataset as the report shows it. Every ``*_seconds`` that is not known is None; ``expected`` says in a word
    whether the prediction keeps the RTO: keeps, may miss, will miss, unknown."""

    name: str
    tier: int | None
    owner: str
    rpo_seconds: float | None
    rto_seconds: float | None
    loses_seconds: float | None
    exposure_seconds: float | None
    problem: str
    recovered: Recovered | None
    p50_seconds: float | None
    p95_seconds: float | None
    expected: str
    size_bytes: int | None
    files: int | None
    lost: str
    """What the recovery point lacks of the newest known snapshot, in words; empty where nobody counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierLine:
    """The worst of a tier's datasets; objectives are the tightest, and None of any dataset makes None."""

    tier: int
    answer: Answer
    datasets: tuple[str, ...]
    rpo_seconds: float
    rto_seconds: float
    loses_seconds: float | None
    rta_seconds: float | None
    p50_seconds: float | None
    p95_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillLine:
    """One recovery. ``used`` is the largest share of an RTO that one of its datasets took; None where one did not
    reopen."""

    number: int
    kind: str
    scenario: str
    at: datetime
    verdict: str
    datasets: int
    rta_seconds: float | None
    used: float | None
    machine: str
