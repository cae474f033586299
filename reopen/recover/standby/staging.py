"""Owns staging: preparing the newest verified snapshot of warm and hot datasets at a standby, ahead of need.

A version is staged by the verbs of a recovery: restored into its folder, with what is equal copied from the version
before, compared with the manifest, checked against its contract and the staged versions of what it depends on; then its
record is written, and older versions are removed.

Invariants (docs/0012-standby-versions.md)
    V4  The record is the last thing written. Killed anywhere, the next run goes on in the same folder, or removes it.
    V6  A failover goes first: when one begins, staging ends, and it removes nothing that a plan names.
    G1  A dataset that fails stops those that are checked against it, and nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

from reopen.clock import Clock
from reopen.contracts.load import Contracts
from reopen.contracts.model import Temperature
from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.errors import Conflict, Corrupt, ReopenError
from reopen.recover.context import Checked, Integrity, Restored, Sign, Verbs
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.standby.clean import clean_versions, open_plans
from reopen.recover.standby.records import (
    Related,
    Staged,
    StagedRecord,
    Standby,
    StoredRecord,
    VerifySignature,
    read_staged,
    remove_record,
    write_record,
)
from reopen.recover.standby.reuse import related_of
from reopen.recover.standby.versions import is_staged_name, version_name, version_url
from reopen.storage import is_object_store, local_path

TEXT_MAX = 240
"""Characters of one observed value that a record keeps."""


class Work(StrEnum):
    """What there is to do for a dataset."""

    NONE = "none"
    """Nothing can be staged; the reason says why."""
    CURRENT = "current"
    """It is staged, and nothing has changed."""
    CHECK = "check"
    """It is staged; its contents are compared and its contract checked again."""
    STAGE = "stage"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageItem:
    """One dataset of a run. ``planned`` aims at the staged version; ``related`` is what it is checked against."""

    planned: PlannedDataset
    temperature: Temperature
    work: Work
    reason: str
    related: Mapping[str, Related]
    standing: StagedRecord | None = None
    """The record of this version, when there is one."""

    @property
    def name(self) -> str:
        """The dataset."""
        return self.planned.name


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """What came of one dataset. ``status``: ``pass``, ``fail`` or ``error`` of its checks; ``failed`` when it was not
    staged; ``none`` when there was nothing to stage."""

    dataset: str
    work: Work
    status: str
    version: str = ""
    snapshot: str = ""
    files: int = 0
    size_bytes: int = 0
    written_bytes: int = 0
    copied_bytes: int = 0
    repaired: int = 0
    seconds: float = 0.0
    removed: tuple[str, ...] = ()
    problem: str = ""
    hint: str = ""

    @property
    def ok(self) -> bool:
        """Whether the dataset is ready, or there was nothing to make ready."""
        return self.status in ("pass", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """A run of staging at a site, dependencies first."""

    site: str
    epoch: int
    items: tuple[StageItem, ...]


def plan_stage(
    recovery: RecoveryPlan,
    contracts: Contracts,
    standby: Standby,
    stored: Mapping[str, Sequence[StoredRecord]],
    *,
    check: bool = False,
    verify: VerifySignature,
    can_sign: bool,
) -> StagePlan:
    """What is to be staged; writes nothing.

    :param recovery: the failover to this site as it would be planned now, for its recovery points.
    :param stored: records of what is staged there, by dataset.
    :param check: look at what is staged already, too.
    :param can_sign: the verifier's key is at hand, so that a record without its signature is worth making again.
    """
    items: dict[str, StageItem] = {}
    for planned in recovery.datasets:
        temperature = standby.temperatures.get(planned.name, Temperature.COLD)
        items[planned.name] = _item(
            planned,
            temperature,
            contracts,
            items,
            stored=stored.get(planned.name, ()),
            taken=frozenset(standby.taken.get(planned.name, ())),
            check=check,
            is_good=lambda record: not can_sign or record.is_signed(verify),
            site=recovery.target_site,
        )
    return StagePlan(site=recovery.target_site, epoch=standby.epoch, items=tuple(items.values()))


def _item(
    planned: PlannedDataset,
    temperature: Temperature,
    contracts: Contracts,
    before: Mapping[str, StageItem],
    *,
    stored: Sequence[StoredRecord],
    taken: frozenset[str],
    check: bool,
    is_good: Callable[[StoredRecord], bool],
    site: str,
) -> StageItem:
    none = partial(StageItem, planned=planned, temperature=temperature, work=Work.NONE, related={})
    if temperature is Temperature.COLD:
        return none(reason="it is kept cold: restored when it is needed")
    if planned.point is None:
        return none(reason=planned.problem)
    if local_path(planned.serving_url) is None and not is_object_store(planned.serving_url):
        return none(reason="its place is neither a local folder nor on an object store, so it cannot be validated")
    lacking = [name for name in planned.depends_on if name not in before or before[name].work is Work.NONE]
    if lacking:
        return none(reason=f"it is checked against {', '.join(lacking)}, of which nothing can be staged")
    point = planned.point
    mine = [
        item
        for item in stored
        if item.record.staged.record_digest == point.record_digest
        and item.record.staged.version not in taken
        and is_staged_name(item.record.staged.version)
    ]
    standing = max(mine, key=lambda item: item.record.staged.version, default=None)
    version = (
        standing.record.staged.version if standing is not None else version_name(point.seq, point.snapshot, taken=taken)
    )
    aimed = replace(
        planned, version=version, staged=None, target_url=version_url(planned.serving_url, planned.name, version)
    )
    versions = {name: before[name].planned.version for name in planned.depends_on}
    related = related_of(planned.name, contracts, versions)
    make = partial(StageItem, planned=aimed, temperature=temperature, related=related)
    if standing is None:
        return make(work=Work.STAGE, reason="it is not staged")
    staged = standing.record.staged
    found = partial(make, standing=standing.record)
    reasons = (
        (staged.contract != planned.contract.digest, "its contract has changed"),
        (dict(staged.related) != related, "what it depends on has moved on"),
        (not is_good(standing), "its record is not signed by a verifier that counts"),
        (check, "asked for"),
    )
    because = next((reason for is_so, reason in reasons if is_so), "")
    return found(work=Work.CHECK if because else Work.CURRENT, reason=because)


def execute_stage(
    plan: StagePlan,
    verbs: Verbs,
    log: EpochLog,
    *,
    clock: Clock,
    sign: Sign | None,
    run: Callable[[str, Callable[[], StageResult]], StageResult] = lambda name, call: call(),
) -> tuple[StageResult, ...]:
    """Stage every dataset of a plan that can be staged.

    :param run: calls the work of a dataset, for whoever watches it: given the dataset's name and the call.
    :raises Conflict: a failover began meanwhile; what is staged by then stays staged.
    """
    results: dict[str, StageResult] = {}
    for item in plan.items:
        check_undisturbed(plan, log)
        bad = [name for name in item.planned.depends_on if name in results and not results[name].ok]
        if item.work is Work.NONE:
            results[item.name] = StageResult(dataset=item.name, work=item.work, status="none", problem=item.reason)
        elif bad:
            problem = f"it is checked against {', '.join(bad)}, which is not ready"
            results[item.name] = _failed(item, problem, f"Stage {bad[0]} first.")
        else:
            call = partial(_stage, plan, item, verbs, log, clock, sign)
            try:
                results[item.name] = run(item.name, call)
            except ReopenError as error:
                results[item.name] = _failed(item, error.message, error.next_step)
    return tuple(results.values())


def check_undisturbed(plan: StagePlan, log: EpochLog) -> None:
    """Refuse to go on when the site is about to be, or was, promoted (V6).

    :raises Conflict: it is.
    """
    records = log.records()
    for other in open_plans(log, records):
        if other.target_site == plan.site:
            raise Conflict(
                f"a failover to {plan.site} is under way; nothing is staged meanwhile.",
                hint="Run `reopen stage` again when `reopen status` shows another primary.",
            )
    if rules.primary_site(records, initial="") == plan.site:
        raise Conflict(f"{plan.site} is the primary now; nothing is staged there.", hint="Stage at the standby.")


def _failed(item: StageItem, problem: str, hint: str) -> StageResult:
    return StageResult(
        dataset=item.name, work=item.work, status="failed", version=item.planned.version, problem=problem, hint=hint
    )


def _stage(
    plan: StagePlan, item: StageItem, verbs: Verbs, log: EpochLog, clock: Clock, sign: Sign | None
) -> StageResult:
    planned, started = item.planned, clock.elapsed_seconds()
    result = StageResult(dataset=item.name, work=item.work, status="pass", version=planned.version)
    record = item.standing
    if item.work is not Work.CURRENT:
        restored, integrity, repaired = _write(plan, item, verbs, log)
        checked = verbs.validate(planned, {name: _folder(plan, name) for name in item.related})
        record = _record(plan, item, integrity, checked, clock)
        # Last: what has no record is work that was begun (V4).
        write_record(log.store, record, sign=sign)
        result = replace(result, repaired=repaired)
        if restored is not None:
            result = replace(result, written_bytes=restored.written_bytes, copied_bytes=restored.copied_bytes)
    if record is None:
        raise AssertionError(f"{item.name} is current and has no record.")
    keep = {planned.version, *_last_good(plan, item, log, record)}
    cleaned = clean_versions(log, site=plan.site, place=planned.serving_url, dataset=item.name, keep=keep)
    bad = [check for check in record.checks if check.get("status") in ("fail", "error")]
    return replace(
        result,
        status=record.staged.status,
        snapshot=record.staged.snapshot,
        files=record.files,
        size_bytes=record.size_bytes,
        seconds=round(clock.elapsed_seconds() - started, 3),
        removed=cleaned.versions,
        problem="" if record.staged.status == "pass" else _broken(bad),
        hint="" if record.staged.status == "pass" else "A failover would stop here, too; the version before is kept.",
    )


def _write(plan: StagePlan, item: StageItem, verbs: Verbs, log: EpochLog) -> tuple[Restored | None, Integrity, int]:
    """Bring the version about, and compare it whole: what was restored, the comparison, and how many entries of one
    that was staged already were found wrong.

    :raises Corrupt: it is not what the snapshot holds, though it was restored just now.
    """
    planned, repaired = item.planned, 0
    if item.work is Work.CHECK:
        integrity = verbs.check_tree(planned)
        if not integrity.bad_count:
            return None, integrity, 0
        # While it is mended it is not staged.
        remove_record(log.store, plan.site, item.name, planned.version)
        repaired = integrity.bad_count
    restored = verbs.restore(planned)
    integrity = verbs.check_tree(planned)
    if integrity.bad_count:
        first = integrity.bad[0]
        raise Corrupt(
            f"{integrity.bad_count} of {integrity.checked} entries of {item.name} are not what the snapshot holds; "
            f"the first is {first.path}: {first.status}.",
            hint="Somebody writes in the folder of versions, or the disk does not keep what it is given.",
        )
    return restored, integrity, repaired


def _folder(plan: StagePlan, name: str) -> str:
    return next(item.planned.target_url for item in plan.items if item.name == name)


def _broken(bad: Sequence[Mapping[str, Any]]) -> str:
    first = str(bad[0].get("message") or bad[0].get("rule")) if bad else "no check says why"
    return f"{len(bad)} checks did not pass: {first}"


def _record(plan: StagePlan, item: StageItem, integrity: Integrity, checked: Checked, clock: Clock) -> StagedRecord:
    planned, point = item.planned, item.planned.point
    if point is None:
        raise AssertionError(f"{item.name} has no recovery point and was restored.")
    staged = Staged(
        site=plan.site,
        dataset=item.name,
        version=planned.version,
        url=planned.target_url,
        snapshot=point.snapshot,
        seq=point.seq,
        consistent_at=point.consistent_at,
        record_digest=point.record_digest,
        contract=planned.contract.digest,
        related=item.related,
        tree=integrity.tree,
        status=checked.status,
        validated_at=clock.now(),
    )
    return StagedRecord(
        staged=staged,
        files=point.files,
        size_bytes=point.size_bytes,
        checks=tuple(_short(check) for check in checked.checks),
        seconds=checked.seconds,
        versions=checked.versions,
    )


def _short(check: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value[:TEXT_MAX] if isinstance(value, str) else value for key, value in check.items()}


def _last_good(plan: StagePlan, item: StageItem, log: EpochLog, record: StagedRecord) -> tuple[str, ...]:
    """The newest version whose checks passed, when this one's did not."""
    if record.staged.status == "pass":
        return ()
    stored, _ = read_staged(log.store, plan.site, item.name)
    good = [found.record.staged for found in stored if found.record.staged.status == "pass"]
    newest = max(good, key=lambda staged: staged.seq, default=None)
    return () if newest is None else (newest.version,)
