"""Owns letting snapshots go: reading what decides, the signed stub, and the deletion of records. What stays and why is
decided in :mod:`reopen.protect.retain.keeping`.

Order: stubs durable and read back → records read again → holds listed → records deleted → holds listed once more. Only
records go; packs, manifests and indexes are prune's, and stay while a present record names them.

Invariants (those of ``docs/0004-retention.md``)
    T4  A record is deleted after its stub was read back from the store and believed.
    T5  A crash anywhere is finished by the next run, which decides anew on what has a stub and is still there.
    T6  Only records go.
    T7  A hold wins against a stub, and against a deletion that it meets.

A crash leaves stubs whose records are still there, which count as there. Called by the CLI and by ``flows.retain``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from blake3 import blake3

from reopen.clock import to_text
from reopen.contracts import RetentionRule
from reopen.errors import Conflict, Corrupt, NotFound, ReopenError
from reopen.progress import SILENT, Progress
from reopen.protect.retain.holds import HELD, RELEASED, Hold, active_holds, put_back
from reopen.protect.retain.keeping import DatasetPlan, Decision, History, decide
from reopen.protect.retain.stubs import EXPIRED, stub_body, stub_of
from reopen.protect.witness import Witness
from reopen.storage import locking
from reopen.vault import Fact, SnapshotRecord, Vault
from reopen.vault.clean import Suspicion, standing_of
from reopen.vault.features import APPEND_ONLY, optional_features

PLAN_SECONDS_MAX = 3600
"""A plan older than this is not carried out: damage that was found since could have made what it lets go the best there
is."""

BATCH = 100
"""Records that go between two looks at the holds; their bytes are remembered for as long."""

READERS = 8
"""Reads of small objects under way at once: a store far away answers each in tens of milliseconds."""

_OF_THE_DATASET = (HELD, RELEASED, EXPIRED)
_OF_A_SNAPSHOT = ("verified", "clean")
"""Of these only what speaks of a present record is read: every night adds one a snapshot, and none is ever removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainPlan:
    """What a run will let go. Nothing was changed to make it."""

    vault: Vault
    made_at_seconds: float
    datasets: tuple[DatasetPlan, ...]

    @property
    def ok(self) -> bool:
        """Whether no person is needed."""
        return not any(dataset.error or dataset.findings for dataset in self.datasets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spared:
    """A snapshot that was to go and stayed, because a hold was placed meanwhile. ``restored``: its record was gone
    already and was created again."""

    dataset: str
    snapshot: str
    reason: str
    restored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainResult:
    """What a run did. ``failed`` has the error of each dataset that it could not finish; the next run goes on there."""

    expired: tuple[Decision, ...]
    spared: tuple[Spared, ...]
    failed: Mapping[str, ReopenError]
    seconds: float


def plan_retain(
    vault: Vault,
    rules: Mapping[str, RetentionRule],
    *,
    datasets: Sequence[str] = (),
    is_replica: bool = False,
    witness: Witness | None = None,
    progress: Progress = SILENT,
) -> RetainPlan:
    """Decide which snapshots go. Changes nothing.

    :param rules: by dataset; of one without rules nothing expires.
    :param datasets: only these; none stands for all in the vault.
    :param is_replica: its objects are younger than the snapshots they hold, which is then no sign of a planted time.
    :param witness: what this reader saw of the vault before.
    :raises NotFound: a named dataset has no snapshot here.
    :raises Refused: the vault lost records that the witness saw.
    """
    if witness is not None:
        witness.require_all(vault)
    present = vault.datasets()
    for name in datasets:
        if name not in present:
            raise vault.no_snapshot_of(name)
    guarded = APPEND_ONLY in optional_features(vault)
    chosen = list(datasets or present)
    progress.start("read records", len(chosen), "datasets")
    plans = []
    for name in chosen:
        rule = rules.get(name, RetentionRule())
        decided = decide(name, _read(vault, name), rule, guarded=guarded, is_replica=is_replica)
        plans.append(_without_locked(vault, decided))
        progress.advance(1)
    progress.finish()
    return RetainPlan(vault=vault, made_at_seconds=vault.clock.elapsed_seconds(), datasets=tuple(plans))


def execute_retain(plan: RetainPlan, *, progress: Progress = SILENT) -> RetainResult:
    """Let go what the plan says.

    :raises Refused: the retention key is not here.
    :raises Conflict: the plan is too old.
    """
    vault = plan.vault
    vault.keyring.signer("retention")
    started = vault.clock.elapsed_seconds()
    if started - plan.made_at_seconds > PLAN_SECONDS_MAX:
        raise Conflict("the plan is more than an hour old.", hint="Plan again: facts that came since may change it.")
    progress.start("let snapshots go", sum(len(item.expiring) for item in plan.datasets), "snapshots")
    expired: list[Decision] = []
    spared: list[Spared] = []
    failed: dict[str, ReopenError] = {}
    for item in plan.datasets:
        try:
            # What goes is what later snapshots are compared with: without it they would look clean.
            suspicions = standing_of(vault, item.dataset).derived if item.expiring else ()
            for start in range(0, len(item.expiring), BATCH):
                batch = item.expiring[start : start + BATCH]
                stayed = _let_go(vault, item.dataset, batch, suspicions)
                kept = {one.snapshot for one in stayed}
                spared += stayed
                expired += [decision for decision in batch if decision.record.id not in kept]
                progress.advance(len(batch))
        except ReopenError as error:
            failed[item.dataset] = error
    progress.finish()
    seconds = vault.clock.elapsed_seconds() - started
    return RetainResult(expired=tuple(expired), spared=tuple(spared), failed=failed, seconds=seconds)


def _let_go(vault: Vault, dataset: str, batch: Sequence[Decision], suspicions: Sequence[Suspicion]) -> list[Spared]:
    """Delete the records of a batch but what is held; returns what stayed."""
    for decision in batch:
        if suspicions or not decision.marked:
            _write_stub(vault, decision, suspicions)
    remembered = _remember(vault, batch)
    spared: list[Spared] = []
    held = _held(batch, active_holds(vault, dataset))
    for decision in batch:
        record = decision.record
        if record.id in held:
            spared.append(_spare(record, held[record.id], restored=False))
        else:
            vault.store.delete(record.name)
    # A hold that met the deletion: who placed it may have seen the record still there.
    late = {
        snapshot: hold for snapshot, hold in _held(batch, active_holds(vault, dataset)).items() if snapshot not in held
    }
    for decision in batch:
        record = decision.record
        if record.id in late and record.id in remembered:
            put_back(vault, record.name, remembered[record.id])
            spared.append(_spare(record, late[record.id], restored=True))
    return spared


def _without_locked(vault: Vault, plan: DatasetPlan) -> DatasetPlan:
    """The plan without what the store would refuse to delete: a stub for it would lie for as long as the lock lasts."""
    store = locking(vault.store)
    if store is None or not plan.expiring:
        return plan
    now, decisions = store.now(), []
    for item in plan.decisions:
        until = None if item.keep else store.locked_until(item.record.name)
        if until is not None and until > now:
            item = replace(item, keep=True, reasons=(f"locked by the store until {to_text(until)}",))
        decisions.append(item)
    return replace(plan, decisions=tuple(decisions))


def _write_stub(vault: Vault, decision: Decision, suspicions: Sequence[Suspicion]) -> None:
    """Sign the stub and believe it as a reader would: with a key whose certificate does not cover the dataset, the
    deletion would look like a loss (T4)."""
    record = decision.record
    body = stub_body(record, decision.reasons, suspicions)
    fact = vault.record_fact(EXPIRED, dataset=record.dataset, snapshot=record.id, body=body)
    stub = stub_of(vault.parse_fact(fact.name, vault.store.get(fact.name)))
    if stub is None or (stub.record_name, stub.digest) != (record.name, record.digest):
        raise Corrupt(f"{fact.name} does not read as it was written.", object=fact.name)


def _remember(vault: Vault, batch: Sequence[Decision]) -> dict[str, bytes]:
    """The bytes of each record that is still there, which must be what was planned for."""
    remembered = {}
    for decision in batch:
        record = decision.record
        try:
            data = vault.store.get(record.name)
        except NotFound:
            continue  # Another run was here first.
        if blake3(data).hexdigest() != record.digest:
            raise Conflict(f"{record.name} changed since it was planned for.", hint="Plan again.", object=record.name)
        remembered[record.id] = data
    return remembered


def _held(batch: Sequence[Decision], holds: Sequence[Hold]) -> dict[str, Hold]:
    return {item.record.id: hold for item in batch for hold in holds if hold.covers(item.record)}


def _spare(record: SnapshotRecord, hold: Hold, *, restored: bool) -> Spared:
    return Spared(dataset=record.dataset, snapshot=record.id, reason=hold.text, restored=restored)


# Reading


def _read(vault: Vault, dataset: str) -> History:
    """Records first, then facts: a record that is listed and then gone has a stub that is listed."""
    infos = list(vault.store.list(f"snapshots/dataset={dataset}/"))
    unbelievable: list[ReopenError] = []
    records: list[SnapshotRecord] = []
    for name, data in _get_all(vault, [info.name for info in infos]):
        try:
            record = vault.parse_record(name, data)
        except Corrupt as error:
            unbelievable.append(error)
            continue
        if record is not None:
            records.append(record)
    facts: list[Fact] = []
    for name, data in _get_all(vault, _fact_names(vault, dataset, {record.id for record in records})):
        try:
            facts.append(vault.parse_fact(name, data))
        except Corrupt as error:
            unbelievable.append(error)
    return History(
        records=tuple(sorted(records, key=lambda record: (record.seq, record.id))),
        stored_at={info.name: info.modified_at for info in infos},
        facts=tuple(sorted(facts, key=lambda fact: (fact.at, fact.name))),
        unbelievable=tuple(unbelievable),
    )


def _fact_names(vault: Vault, dataset: str, present: set[str]) -> list[str]:
    names = [info.name for kind in _OF_THE_DATASET for info in vault.store.list(f"ledger/{kind}/dataset={dataset}/")]
    for kind in _OF_A_SNAPSHOT:
        listed = [info.name for info in vault.store.list(f"ledger/{kind}/dataset={dataset}/")]
        names += [name for name in listed if name.rpartition("/")[2].partition("-")[0] in present]
    return names


def _get_all(vault: Vault, names: Sequence[str]) -> list[tuple[str, bytes]]:
    """The bytes of objects; those that went since they were listed are left out: fewer snapshots never let more go."""

    def get(name: str) -> bytes | None:
        try:
            return vault.store.get(name)
        except NotFound:
            return None

    with ThreadPoolExecutor(READERS, thread_name_prefix="reopen-retain") as pool:
        return [(name, data) for name, data in zip(names, pool.map(get, names), strict=True) if data is not None]
