"""Owns the values that a contract becomes: what must survive, how soon, in which order. Pure data, no I/O.

A contract file is parsed once by :mod:`reopen.contracts.load` into these frozen values; every other room reads
these and never the YAML. All durations are ``timedelta``, all sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class SourceKind(StrEnum):
    """Where a dataset lives and how it is captured; one file in ``reopen/sources/`` for each."""

    FILES = "files"


class Temperature(StrEnum):
    """How ready the standby is kept: restore when needed, staged, or staged with consumers' views."""

    COLD = "cold"
    WARM = "warm"
    HOT = "hot"


class TableFormat(StrEnum):
    """How the files of a tabular dataset are encoded."""

    PARQUET = "parquet"
    CSV = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What the business asked for. ``rpo``: data it can lose, as time; ``rto``: time until it runs again."""

    rpo: timedelta
    rto: timedelta


class TierDefaults(Protocol):
    """What a tier promises where a contract is silent; the settings provide it."""

    @property
    def rpo(self) -> timedelta | None:
        """Recovery point objective."""
        ...

    @property
    def rto(self) -> timedelta | None:
        """Recovery time objective."""
        ...

    @property
    def temperature(self) -> str | None:
        """One of the values of :class:`Temperature`."""
        ...

    @property
    def approval(self) -> bool:
        """Whether a person approves a plan that moves a dataset of the tier."""
        ...

    @property
    def retention(self) -> Mapping[str, int | timedelta]:
        """Rules by name, as the fields of :class:`RetentionRule`; empty for none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a dataset lives at one site: a prefix (folder) URL or path, and the table's file pattern below it."""

    site: str
    url: str
    """A directory: an absolute local path (relative ones were resolved against the settings file) or a store's URL."""
    pattern: str = "**"
    """Glob below ``url`` that names the table's files, for example ``*.parquet``; ``**`` when it is not a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One way to reach the owner, from the contract's ``support`` section. ``scope`` says what it is for."""

    name: str
    tool: str
    url: str
    scope: str = ""


PERIODS = ("hourly", "daily", "weekly", "monthly", "quarterly", "yearly")
"""What retention keeps one snapshot of; weeks are those of ISO 8601."""

COUNT_RULES = ("last", *PERIODS)
WITHIN_RULES = ("within", *(f"within_{period}" for period in PERIODS))

UNLIMITED = -1
"""The count of a rule that never runs out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """restic's rules as the contract states them, OR'd; ``None`` means the rule is not used.

    Counts are from 1, or :data:`UNLIMITED`. A contract that states only a period (``retention: 35 d``) gives
    ``within``: every snapshot that young is kept. ``within_daily`` keeps one a day of those that young, and so on.
    :mod:`reopen.protect.retain.rules` applies them.
    """

    last: int | None = None
    hourly: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    quarterly: int | None = None
    yearly: int | None = None
    within: timedelta | None = None
    within_hourly: timedelta | None = None
    within_daily: timedelta | None = None
    within_weekly: timedelta | None = None
    within_monthly: timedelta | None = None
    within_quarterly: timedelta | None = None
    within_yearly: timedelta | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """The counting rules in use, by name."""
        return {name: value for name in COUNT_RULES if (value := getattr(self, name)) is not None}

    @property
    def periods(self) -> Mapping[str, timedelta]:
        """The rules with a period that are in use, by name."""
        return {name: value for name in WITHIN_RULES if (value := getattr(self, name)) is not None}

    @property
    def is_empty(self) -> bool:
        """Whether no rule is in use: then nothing expires."""
        return not self.counts and not self.periods


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The tabular side of a dataset: what the checks are compiled from.

    ``schema`` is the contract's schema object as plain data, already valid against the ODCS JSON schema; the compiler
    in :mod:`reopen.recover.checks` reads it. ``classified`` columns never leave min or max in a profile.
    """

    name: str
    format: TableFormat
    schema: Mapping[str, Any]
    classified: tuple[str, ...] = ()
    show_failing_rows: bool = False
    """Whether results of checks may show values of rows that break a rule; never those of classified columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One dataset as its contract promises it.

    ``contract_digest`` is the BLAKE3 hex digest of the contract file's bytes: records and plans quote it, so that an
    edited contract is seen. ``depends_on`` names datasets that must serve before this one can.
    """

    name: str
    contract_path: Path
    contract_id: str
    contract_version: str
    contract_digest: str
    kind: SourceKind
    tier: int
    """The tier that the contract states; 1 reopens first. ``Contracts.effective_tiers`` may raise it."""
    depends_on: tuple[str, ...]
    temperature: Temperature
    objective: Objective
    locations: Mapping[str, Location]
    """By site name, for example ``production`` and ``standby``."""
    include: tuple[str, ...] = ()
    """gitignore-style patterns; empty means everything."""
    exclude: tuple[str, ...] = ()
    schedule: str | None = None
    """Cron expression of the snapshot schedule."""
    drill_schedule: str | None = None
    drill_every: timedelta | None = None
    """How often a drill is to prove it."""
    frequency: timedelta | None = None
    retention: RetentionRule = field(default_factory=RetentionRule)
    owner: str = ""
    channels: tuple[Channel, ...] = ()
    table: Table | None = None
    description: str = ""
    consistency_group: str = ""
    """Datasets of one group begin to serve together, or none of them; empty: it switches by itself."""
    approval: bool = False
    """Whether a person approves the plan of a failover that moves it."""
    automatic_failover: bool = False
    """Whether a failover that nobody asked for may move it without approval."""

    def location(self, site: str) -> Location:
        """The dataset's location at a site; :class:`KeyError` is a programmer's mistake (loading checks sites)."""
        return self.locations[site]
