"""Owns the answer to "how are we doing": exposure of each dataset against its RPO, who is primary, which copies exist.

Exposure is how old the newest verified recovery point is: the RPO we would have if disaster struck now. It is judged
twice where a second vault can be read: over all copies, and over those away from the primary. The worse one counts,
because a copy that is lost with the primary recovers nothing.

Invariants
    I1  A dataset without a verified recovery point is past its RPO: unknown is never ok.
    I2  What cannot be read (a vault, the epoch log) is a shown value, never an exception and never silently left out.
    I3  Nothing here reads a pack or a manifest; it is listings, records, facts and the log.

Pure over what it is handed, but for reading records and facts. Called by the CLI and the flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from reopen.clock import SKEW_MAX
from reopen.contracts import Contracts
from reopen.control.log import EpochLog
from reopen.errors import MadeByNewer, NotFound, ReopenError
from reopen.protect.needs import notes_of
from reopen.protect.retain.holds import HELD, RELEASED, holds_of
from reopen.protect.verify.coverage import WINDOWS_DAYS, coverage_of
from reopen.recover.points import LAST_VERIFIED, LATEST, RecoveryPoint, choose_point
from reopen.review.role import ControlStatus, read_control
from reopen.review.staged import StagedStatus, staged_at_sites
from reopen.vault import Fact, SnapshotRecord, Vault
from reopen.vault.statements import list_packs

WARN_FACTOR = 1
PAGE_FACTOR = 2
"""Exposure past once the RPO warns; past twice it pages: one missed snapshot is a warning, two are an outage."""


class Alarm(StrEnum):
    """How loud a dataset is."""

    OK = "ok"
    WARN = "warn"
    PAGE = "page"
    NONE = "none"
    """It has no objective: no contract describes it."""


class ContractState(StrEnum):
    """What the contracts say of a dataset."""

    IN_FORCE = "in force"
    RETIRED = "retired"
    """Its contract was withdrawn by an explicit command; the copies stay."""
    MISSING = "missing: not retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A snapshot as the status shows it."""

    snapshot: str
    consistent_at: datetime
    age_seconds: float
    verified_at: datetime | None
    verified_level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillStatus:
    """The last drill of a dataset. ``verdict`` is met, missed or failed."""

    at: datetime
    verdict: str
    rta_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStatus:
    """One dataset. ``exposure_seconds`` is None when nothing of it was ever verified; ``away_exposure_seconds`` is the
    same over copies away from the primary, and None also when no such vault could be read. ``behind`` counts, by site,
    snapshots that this vault lacks; ``holds``, by site, the legal holds that stand there, where there are any."""

    name: str
    contract: ContractState
    tier: int | None
    rpo_seconds: float | None
    rto_seconds: float | None
    alarm: Alarm
    reason: str
    exposure_seconds: float | None
    away_exposure_seconds: float | None
    newest: Point | None
    proven: Point | None
    newest_state: str
    drill: DrillStatus | None
    behind: Mapping[str, int]
    lag_seconds: Mapping[str, float]
    holds: Mapping[str, int] = field(default_factory=dict)
    staged: tuple[StagedStatus, ...] = ()
    """The newest version that is staged at each standby."""
    exposure_by_site: Mapping[str, float | None] = field(default_factory=dict)
    """The same over the copies of each site whose vault could be read; None where nothing there was verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageStatus:
    """How much of what a vault stores was read again lately. ``shares``: of the stored bytes, by days (7, 30, 90).
    ``oldest_read_at`` is None while a pack was not read within the longest of these."""

    stored_bytes: int
    stored_packs: int
    shares: Mapping[int, float]
    oldest_read_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultStatus:
    """One site's vault; ``error`` is empty when it was read. ``arrival_seconds``: how long after its commit the newest
    snapshot was in this store, by the store's own time; at a replica the lag of replication, as it was."""

    site: str
    url: str
    role: str
    vault: str
    snapshots: int
    invalid_records: int
    missing_records: tuple[str, ...]
    newest_at: datetime | None
    keys: tuple[str, ...]
    error: str
    hint: str
    coverage: CoverageStatus | None = None
    arrival_seconds: float | None = None
    newer_records: int = 0
    """Records that a newer Reopen made: what they say, this version cannot tell."""
    out_of_reach: bool = False
    """It cannot be read, and that is not because there is none yet."""
    store_notes: tuple[str, ...] = ()
    """What the store cannot do, and for how long it locks, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything at one instant. ``datasets`` are in the order of recovery, those without a contract last."""

    at: datetime
    here: str
    control: ControlStatus
    vaults: tuple[VaultStatus, ...]
    datasets: tuple[DatasetStatus, ...]

    @property
    def alarm(self) -> Alarm:
        """The loudest of all datasets."""
        loudness = (Alarm.NONE, Alarm.OK, Alarm.WARN, Alarm.PAGE)
        return max((dataset.alarm for dataset in self.datasets), key=loudness.index, default=Alarm.NONE)

    @property
    def within_objectives(self) -> bool:
        """Whether no dataset is past its RPO."""
        return self.alarm in (Alarm.OK, Alarm.NONE)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why somebody has to look, beside exposures: in a line each."""
        found = []
        if self.control.error:
            found.append("the epoch log cannot be read, so nobody knows who is primary")
        if self.control.move is not None:
            found.append(f"a move from {self.control.move.source} to {self.control.move.target} has not ended")
        if self.control.move_error:
            found.append("the log does not tell whether a move is under way")
        found += [f"the vault of {vault.site} cannot be read" for vault in self.vaults if vault.out_of_reach]
        found += [
            f"Reopen here is older than snapshots in the vault of {vault.site}: upgrade it"
            for vault in self.vaults
            if vault.newer_records
        ]
        found += [f"the vault of {vault.site} lost records" for vault in self.vaults if vault.missing_records]
        ahead = [d.name for d in self.datasets if d.newest is not None and d.newest.consistent_at - self.at > SKEW_MAX]
        if ahead:
            # An age counted from there is none at all, so any data loss would look like no loss.
            found.append(f"snapshots lie ahead of this machine's clock, so no age here is true: {', '.join(ahead)}")
        return tuple(found)

    @property
    def ok(self) -> bool:
        """Whether nothing needs a person. What cannot be read is not fine (I2)."""
        return self.within_objectives and not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteVault:
    """A site's vault as it was found: open, or the error that opening it gave."""

    site: str
    url: str
    role: str
    found: Vault | ReopenError
    missing_records: tuple[str, ...] = ()
    """Records that were seen in it before and are gone without leave: somebody rolled it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copies:
    """What one readable vault holds."""

    site: str
    vault: str
    records: Mapping[str, tuple[SnapshotRecord, ...]]
    facts: tuple[Fact, ...]


@dataclass(slots=True)
class _Gathered:
    vaults: list[VaultStatus] = field(default_factory=list)
    copies: list[_Copies] = field(default_factory=list)


def collect_status(
    sites: Sequence[SiteVault],
    contracts: Contracts,
    *,
    log: EpochLog | None,
    initial_primary: str,
    here: str,
    now: datetime,
) -> Status:
    """The status over every vault that can be read (I2).

    :param log: the epoch log; None when the settings name none.
    :param initial_primary: the site that has the role before the first epoch record.
    """
    control = read_control(log, initial_primary=initial_primary)
    gathered = _Gathered()
    for site in sites:
        _gather(site, gathered, now)
    away = [copies for copies in gathered.copies if copies.site != control.primary]
    known = {name for copies in gathered.copies for name in copies.records}
    order = [*contracts.order(), *sorted(known - set(contracts.datasets))]
    staged = staged_at_sites(log, now)
    return Status(
        at=now,
        here=here,
        control=control,
        vaults=tuple(gathered.vaults),
        datasets=tuple(
            replace(_dataset(name, contracts, gathered.copies, away, now), staged=staged.get(name, ()))
            for name in order
        ),
    )


def judge_exposure(exposure: timedelta | None, rpo: timedelta) -> Alarm:
    """``ok`` up to the RPO, ``warn`` past it, ``page`` past twice of it or when it is unknown (I1)."""
    if exposure is None or exposure > PAGE_FACTOR * rpo:
        return Alarm.PAGE
    return Alarm.WARN if exposure > WARN_FACTOR * rpo else Alarm.OK


def _gather(site: SiteVault, gathered: _Gathered, now: datetime) -> None:
    try:
        if isinstance(site.found, ReopenError):
            raise site.found
        vault = site.found
        records, unread = vault.read_records()
        newer = sum(isinstance(item.error, MadeByNewer) for item in unread)
        facts = vault.facts()
        coverage = _coverage(vault, now)
        arrival_seconds = _arrival_seconds(vault, records)
    except ReopenError as error:
        gathered.vaults.append(
            VaultStatus(
                site=site.site,
                url=site.url,
                role=site.role,
                vault="",
                snapshots=0,
                invalid_records=0,
                missing_records=(),
                newest_at=None,
                keys=(),
                error=error.message,
                hint=error.hint,
                out_of_reach=not isinstance(error, NotFound),
            )
        )
        return
    gathered.vaults.append(
        VaultStatus(
            site=site.site,
            url=site.url,
            role=site.role,
            vault=vault.id,
            snapshots=len(records),
            invalid_records=len(unread) - newer,
            newer_records=newer,
            missing_records=site.missing_records,
            newest_at=max((record.committed_at for record in records), default=None),
            keys=vault.keyring.roles,
            error="",
            hint="",
            coverage=coverage,
            arrival_seconds=arrival_seconds,
            store_notes=notes_of(vault),
        )
    )
    by_dataset: dict[str, list[SnapshotRecord]] = {}
    for record in records:
        by_dataset.setdefault(record.dataset, []).append(record)
    gathered.copies.append(
        _Copies(
            site=site.site,
            vault=vault.id,
            records={name: tuple(found) for name, found in by_dataset.items()},
            facts=tuple(facts),
        )
    )


def _coverage(vault: Vault, now: datetime) -> CoverageStatus:
    found = coverage_of(vault, list_packs(vault), now)
    return CoverageStatus(
        stored_bytes=found.stored_bytes,
        stored_packs=found.stored_packs,
        shares={days: found.share(days) for days in WINDOWS_DAYS},
        oldest_read_at=found.oldest_read_at,
    )


def _arrival_seconds(vault: Vault, records: Sequence[SnapshotRecord]) -> float | None:
    newest = max(records, key=lambda record: record.committed_at, default=None)
    if newest is None:
        return None
    arrived_at = vault.store.head(newest.name).modified_at
    return max(0.0, (arrived_at - newest.committed_at).total_seconds())


def _dataset(
    name: str,
    contracts: Contracts,
    copies: Sequence[_Copies],
    away: Sequence[_Copies],
    now: datetime,
) -> DatasetStatus:
    contract = contracts.datasets.get(name)
    facts = _merged_facts(name, copies)
    records = _merged_records(name, copies)
    newest = _point(name, LATEST, records, facts, now)
    proven = _point(name, LAST_VERIFIED, records, facts, now)
    proven_away = _point(name, LAST_VERIFIED, _merged_records(name, away), facts, now)
    state = ContractState.IN_FORCE
    alarm, reason = Alarm.NONE, ""
    if contract is None:
        is_retired = any(fact.kind == "retired" for fact in facts)
        state = ContractState.RETIRED if is_retired else ContractState.MISSING
        reason = "" if is_retired else "it has copies and no contract; `reopen retire` says that this is meant"
    else:
        alarm, reason = _judge(contract.objective.rpo, records, newest, proven, proven_away, bool(away))
    behind, lag = _behind(name, copies, records, now)
    return DatasetStatus(
        name=name,
        contract=state,
        tier=contracts.effective_tiers()[name] if contract is not None else None,
        rpo_seconds=contract.objective.rpo.total_seconds() if contract is not None else None,
        rto_seconds=contract.objective.rto.total_seconds() if contract is not None else None,
        alarm=alarm,
        reason=reason,
        exposure_seconds=proven.age_seconds if proven is not None else None,
        away_exposure_seconds=proven_away.age_seconds if proven_away is not None else None,
        newest=newest,
        proven=proven,
        newest_state=records[-1].state if records else "",
        drill=_last_drill(facts),
        behind=behind,
        lag_seconds=lag,
        exposure_by_site={
            item.site: None
            if (point := _point(name, LAST_VERIFIED, item.records.get(name, ()), facts, now)) is None
            else point.age_seconds
            for item in copies
        },
        holds={item.site: count for item in copies if (count := _standing_holds(name, item))},
    )


def _judge(
    rpo: timedelta,
    records: Sequence[SnapshotRecord],
    newest: Point | None,
    proven: Point | None,
    proven_away: Point | None,
    has_away: bool,
) -> tuple[Alarm, str]:
    if not records:
        return Alarm.PAGE, "there is no snapshot"
    if newest is None:
        return Alarm.PAGE, "there is no complete snapshot"
    if proven is None:
        return Alarm.PAGE, "no snapshot was verified (`reopen verify --level stored`)"
    alarm = judge_exposure(timedelta(seconds=proven.age_seconds), rpo)
    if has_away:
        if proven_away is None:
            return Alarm.PAGE, "no verified snapshot is away from the primary (`reopen replicate`)"
        away_alarm = judge_exposure(timedelta(seconds=proven_away.age_seconds), rpo)
        if away_alarm is not alarm:
            # The proven points away are some of all, so theirs can only be older.
            return away_alarm, "the newest verified snapshot is not away from the primary yet (`reopen replicate`)"
    if alarm is Alarm.OK:
        return alarm, "the newest snapshot is incomplete" if records[-1].state == "incomplete" else ""
    if newest.snapshot != proven.snapshot and timedelta(seconds=newest.age_seconds) <= rpo:
        return alarm, "the newest snapshot is not verified (`reopen verify --level stored`)"
    return alarm, "the newest snapshot is too old (`reopen snapshot`)"


def _merged_records(name: str, copies: Iterable[_Copies]) -> list[SnapshotRecord]:
    """A dataset's records over all copies, each once, in the order of ``seq``."""
    found = {(record.vault, record.seq, record.id): record for item in copies for record in item.records.get(name, ())}
    return sorted(found.values(), key=lambda record: (record.seq, record.id))


def _merged_facts(name: str, copies: Iterable[_Copies]) -> list[Fact]:
    found = {(item.vault, fact.name): fact for item in copies for fact in item.facts if fact.dataset == name}
    return sorted(found.values(), key=lambda fact: (fact.at, fact.name))


def _point(
    name: str, selector: str, records: Sequence[SnapshotRecord], facts: Sequence[Fact], now: datetime
) -> Point | None:
    chosen = choose_point(name, selector, records, [fact for fact in facts if fact.kind == "verified"])
    if not isinstance(chosen, RecoveryPoint):
        return None
    return Point(
        snapshot=chosen.snapshot,
        consistent_at=chosen.consistent_at,
        age_seconds=max(0.0, (now - chosen.consistent_at).total_seconds()),
        verified_at=chosen.verified_at,
        verified_level=chosen.verified_level,
    )


def _last_drill(facts: Sequence[Fact]) -> DrillStatus | None:
    drills = [fact for fact in facts if fact.kind == "drilled"]
    if not drills:
        return None
    body: Mapping[str, Any] = drills[-1].body
    rta = body.get("rta")
    return DrillStatus(
        at=drills[-1].at,
        verdict=str(body.get("verdict", "unknown")),
        rta_seconds=float(rta) if isinstance(rta, int | float) else None,
    )


def _standing_holds(name: str, copies: _Copies) -> int:
    return len(holds_of([fact for fact in copies.facts if fact.dataset == name and fact.kind in (HELD, RELEASED)]))


def _behind(
    name: str, copies: Sequence[_Copies], records: Sequence[SnapshotRecord], now: datetime
) -> tuple[dict[str, int], dict[str, float]]:
    """By site, how many snapshots its vault lacks, and for how long the oldest of them has waited."""
    behind: dict[str, int] = {}
    lag: dict[str, float] = {}
    for item in copies:
        present = {record.id for record in item.records.get(name, ())}
        # What a vault let go by its own retention is not what it lacks.
        present |= {fact.snapshot for fact in item.facts if fact.kind == "expired" and fact.dataset == name}
        missing = [record for record in records if record.vault == item.vault and record.id not in present]
        behind[item.site] = len(missing)
        lag[item.site] = max((max(0.0, (now - record.committed_at).total_seconds()) for record in missing), default=0.0)
    return behind, lag
