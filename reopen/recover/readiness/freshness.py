"""Owns the checks of age: what would be lost now, how far the replica is behind, and when the bytes were last read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reopen.durations import to_text as duration_text
from reopen.errors import ReopenError
from reopen.protect.verify.coverage import coverage_of
from reopen.recover.plan import PlanKind, PlannedDataset, RecoveryPlan
from reopen.recover.readiness.model import UNKNOWN, Area, Check, Mark
from reopen.recover.scope import NO_SNAPSHOT
from reopen.vault import Vault
from reopen.vault.record import parse_record_name
from reopen.vault.statements import list_packs

WARN_FACTOR = 1
FAIL_FACTOR = 2
"""Past once the RPO warns; past twice fails: one missed snapshot is a warning, two are an outage."""

VERIFIED_AGE_WARN = timedelta(days=7)
VERIFIED_AGE_FAIL = timedelta(days=30)
"""Deployments verify every night. A proof that is a month old says nothing about the disks of today."""

COVERAGE_DAYS = 30
COVERAGE_SHARE_WARN = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far the replica of a dataset is behind: snapshots that it lacks, and how long the oldest of them waits."""

    snapshots: int
    waiting: timedelta
    newer: int = 0
    """Of these, how many a newer Reopen made: the version here neither reads nor copies them."""


def check_exposure(plan: RecoveryPlan, now: datetime) -> list[Check]:
    """For each dataset how old the point is that the plan would recover, against its RPO. What a contract protects and
    nobody has taken a snapshot of yet would be lost.

    A planned move takes its points with writers held, so what stands there before decides nothing; what it would leave
    behind is a warning, as nothing is lost.
    """
    moves = plan.kind is PlanKind.PREPARE
    todo = "Take one and bring it here: `reopen snapshot`, then `reopen replicate`."
    found = [
        _check("exposure", Mark.WARN if moves else Mark.FAIL, item.reason, todo, item.dataset)
        for item in plan.left_out
        if item.reason == NO_SNAPSHOT
    ]
    if moves:
        value = "its point is taken by the final sync"
        return [*found, *(_check("exposure", Mark.OK, value, dataset=dataset.name) for dataset in plan.datasets)]
    return [*found, *(_exposure_of(dataset, now) for dataset in plan.datasets)]


def _exposure_of(dataset: PlannedDataset, now: datetime) -> Check:
    point = dataset.point
    if point is None:
        return _check("exposure", Mark.FAIL, dataset.problem, dataset.hint, dataset.name)
    age = max(timedelta(0), now - point.consistent_at)
    value = f"{duration_text(age)} of {duration_text(dataset.objective.rpo)} (RPO)"
    todo = "Take a snapshot, replicate it, and verify it here: `reopen verify --level stored`."
    mark = judge_age(age, dataset.objective.rpo)
    if not point.verified_level:
        return _check("exposure", max_mark(mark, Mark.WARN), f"{value}, not verified", todo, dataset.name)
    return _check("exposure", mark, value, "" if mark is Mark.OK else todo, dataset.name)


def check_replication(plan: RecoveryPlan, lags: Mapping[str, Lag] | ReopenError | None) -> list[Check]:
    """How far this replica is behind its source, for each dataset; ``lags`` is None where nobody asked the source, as
    when it is the one that was lost."""
    if lags is None:
        return []
    if isinstance(lags, ReopenError):
        value = f"{UNKNOWN}: the vault of {plan.source_site} was not read: {lags.message}"
        return [_check("replication", Mark.WARN, value, lags.hint or "See whether that site can be reached.")]
    found = [_lag_of(dataset, lags.get(dataset.name)) for dataset in plan.datasets]
    if plan.kind is PlanKind.PREPARE:
        # The final sync brings what is missing; it only takes longer.
        return [replace(check, verdict=min(check.verdict, Mark.WARN, key=tuple(Mark).index)) for check in found]
    return found


def _lag_of(dataset: PlannedDataset, lag: Lag | None) -> Check:
    if lag is None or not lag.snapshots:
        return _check("replication", Mark.OK, "the replica has every snapshot", dataset=dataset.name)
    if lag.newer:
        value = f"{lag.snapshots} snapshots behind, {lag.newer} of them made by a newer Reopen, which this cannot copy"
        todo = "Upgrade Reopen here, then run `reopen replicate`."
        return _check("replication", Mark.FAIL, value, todo, dataset.name)
    value = (
        f"{lag.snapshots} snapshots behind, the oldest for {duration_text(lag.waiting)} "
        f"of {duration_text(dataset.objective.rpo)} (RPO)"
    )
    mark = judge_age(lag.waiting, dataset.objective.rpo)
    todo = "" if mark is Mark.OK else "Run `reopen replicate` at the primary, and see why it is late."
    return _check("replication", mark, value, todo, dataset.name)


def lags_of(source: Vault, replica: Vault, now: datetime) -> dict[str, Lag]:
    """How far a replica is behind, by dataset, from the records of both."""
    there = {(record.dataset, record.id) for record in replica.records()}
    # What the replica let go by its own retention is not what it lacks.
    there |= {(fact.dataset, fact.snapshot) for fact in replica.facts("expired")}
    lags: dict[str, Lag] = {}
    records, newer = source.records_and_newer()
    arrived = {info.name for info in replica.store.list("snapshots/")} if newer else set()
    for name in newer:
        # When it was committed cannot be read; that it is missing is known all the same.
        found = parse_record_name(name)
        if found is not None and name not in arrived:
            before = lags.get(found[0], Lag(snapshots=0, waiting=timedelta(0)))
            lags[found[0]] = Lag(snapshots=before.snapshots + 1, waiting=before.waiting, newer=before.newer + 1)
    for record in records:
        if (record.dataset, record.id) in there:
            continue
        before = lags.get(record.dataset, Lag(snapshots=0, waiting=timedelta(0)))
        waiting = max(before.waiting, now - record.committed_at)
        lags[record.dataset] = Lag(snapshots=before.snapshots + 1, waiting=waiting, newer=before.newer)
    return lags


def check_verified(plan: RecoveryPlan, now: datetime) -> list[Check]:
    """For each dataset when the bytes of its point were last read and found whole."""
    checks = []
    for dataset in plan.datasets:
        point = dataset.point
        if point is None or plan.kind is PlanKind.PREPARE:
            continue  # The check of its exposure has said so.
        todo = "Run `reopen verify --level stored` here."
        if point.verified_at is None:
            checks.append(_check("verified", Mark.WARN, "never", todo, dataset.name))
            continue
        age = max(timedelta(0), now - point.verified_at)
        value = f"{duration_text(age)} ago ({point.verified_level})"
        mark = Mark.FAIL if age > VERIFIED_AGE_FAIL else Mark.WARN if age > VERIFIED_AGE_WARN else Mark.OK
        checks.append(_check("verified", mark, value, "" if mark is Mark.OK else todo, dataset.name))
    return checks


def check_coverage(vault: Vault, now: datetime) -> Check:
    """Which part of what is stored was read again lately. It lists the vault."""
    found = coverage_of(vault, list_packs(vault), now)
    share = found.share(COVERAGE_DAYS)
    # Rounded down: 99.9% is not all.
    value = f"{int(100 * share)}% of {found.stored_packs} packs' bytes were read within {COVERAGE_DAYS} days"
    if share < COVERAGE_SHARE_WARN:
        return _check("coverage", Mark.WARN, value, "Run `reopen verify --level stored` here, or a sample of it often.")
    return _check("coverage", Mark.OK, value)


def judge_age(age: timedelta, rpo: timedelta) -> Mark:
    """``ok`` up to the RPO, ``warn`` up to twice of it, ``fail`` past that."""
    if age > FAIL_FACTOR * rpo:
        return Mark.FAIL
    return Mark.WARN if age > WARN_FACTOR * rpo else Mark.OK


def max_mark(one: Mark, other: Mark) -> Mark:
    """The worse of two."""
    order = tuple(Mark)
    return max(one, other, key=order.index)


def _check(name: str, mark: Mark, value: str, what_to_do: str = "", dataset: str = "") -> Check:
    return Check(name=name, area=Area.FRESHNESS, verdict=mark, value=value, what_to_do=what_to_do, dataset=dataset)
