"""Owns letting snapshots go: what stands above the rules, the signed stub, and the deletion of records.

Order: stubs durable and read back → records read again → holds listed → records deleted → holds listed once more. Only
records go; packs, manifests and indexes are prune's, and stay while a present record names them.

Invariants (those of ``docs/0004-retention.md``)
    T1  Without rules nothing expires.
    T2  Whatever the rules say these stay: what is held; the newest record; the newest complete snapshot; the newest
        that is complete, confirmed and not known to be bad; the newest of those that was proven; what claims an
        impossible time.
    T3  A dataset with a record or fact that cannot be believed loses nothing.
    T4  A record is deleted after its stub was read back from the store and believed.
    T5  A crash anywhere is finished by the next run, which decides anew on what has a stub and is still there.
    T7  A hold wins against a stub, and against a deletion that it meets.

A crash leaves stubs whose records are still there, which count as there. Called by the CLI and by ``flows.retain``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from blake3 import blake3

from reopen.clock import to_text
from reopen.contracts import RetentionRule
from reopen.errors import Conflict, Corrupt, NotFound, Refused, ReopenError
from reopen.progress import SILENT, Progress
from reopen.protect.holds import HELD, RELEASED, Hold, active_holds, holds_of, put_back
from reopen.protect.retention import Candidate, instead_of_counts, reasons_to_keep, rule_text
from reopen.protect.stubs import EXPIRED, Stub, stub_body, stub_of
from reopen.protect.witness import Witness
from reopen.vault import Fact, SnapshotRecord, Vault
from reopen.vault.features import APPEND_ONLY, optional_features

TIME_MARGIN = timedelta(days=1)
"""How far the time that a record claims may be from the store's time of its object. Long enough for a snapshot that
takes a night, and for clocks; short enough that planted dates cannot be spread over a week."""

PLAN_SECONDS_MAX = 3600
"""A plan older than this is not carried out: damage that was found since could have made what it lets go the best there
is."""

BATCH = 100
"""Records that go between two looks at the holds; their bytes are remembered for as long."""

READERS = 8
"""Reads of small objects under way at once: a store far away answers each in tens of milliseconds."""

_KINDS = (HELD, RELEASED, EXPIRED, "verified", "clean")
_BAD_VERDICTS = ("suspect", "infected")
_PROVING_LEVELS = ("stored", "content")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One snapshot: whether it stays, and why. ``marked``: an earlier run signed its stub and did not get further."""

    record: SnapshotRecord
    keep: bool
    reasons: tuple[str, ...]
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPlan:
    """What becomes of a dataset's snapshots, newest first. ``error``: why nothing of it expires, though rules say so;
    ``findings``: what a person should look at; ``notes``: what is worth telling."""

    dataset: str
    rule: RetentionRule
    decisions: tuple[Decision, ...]
    error: ReopenError | None = None
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def expiring(self) -> tuple[Decision, ...]:
        """The snapshots that go, oldest first."""
        return tuple(decision for decision in reversed(self.decisions) if not decision.keep)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """Everything about one dataset that decides. ``stored_at``: the store's time of each record's object."""

    records: tuple[SnapshotRecord, ...]
    stored_at: Mapping[str, datetime]
    facts: tuple[Fact, ...]
    unbelievable: tuple[ReopenError, ...]

    def of(self, *kinds: str) -> list[Fact]:
        return [fact for fact in self.facts if fact.kind in kinds]


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
            hint = f"Datasets in this vault: {', '.join(present) or 'none'}."
            raise NotFound(f"there is no snapshot of {name!r} in {vault.store.url}.", hint=hint, dataset=name)
    guarded = APPEND_ONLY in optional_features(vault)
    chosen = list(datasets or present)
    progress.start("read records", len(chosen), "datasets")
    plans = []
    for name in chosen:
        rule = rules.get(name, RetentionRule())
        plans.append(_plan_dataset(name, _read(vault, name), rule, guarded=guarded, is_replica=is_replica))
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
            for start in range(0, len(item.expiring), BATCH):
                batch = item.expiring[start : start + BATCH]
                stayed = _let_go(vault, item.dataset, batch)
                kept = {one.snapshot for one in stayed}
                spared += stayed
                expired += [decision for decision in batch if decision.record.id not in kept]
                progress.advance(len(batch))
        except ReopenError as error:
            failed[item.dataset] = error
    progress.finish()
    seconds = vault.clock.elapsed_seconds() - started
    return RetainResult(expired=tuple(expired), spared=tuple(spared), failed=failed, seconds=seconds)


def _let_go(vault: Vault, dataset: str, batch: Sequence[Decision]) -> list[Spared]:
    """Delete the records of a batch but what is held; returns what stayed."""
    for decision in batch:
        if not decision.marked:
            _write_stub(vault, decision)
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


def _write_stub(vault: Vault, decision: Decision) -> None:
    """Sign the stub and believe it as a reader would: with a key whose certificate does not cover the dataset, the
    deletion would look like a loss (T4)."""
    record = decision.record
    body = stub_body(record, decision.reasons)
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


def _read(vault: Vault, dataset: str) -> _Read:
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
    names = [info.name for kind in _KINDS for info in vault.store.list(f"ledger/{kind}/dataset={dataset}/")]
    for name, data in _get_all(vault, names):
        try:
            facts.append(vault.parse_fact(name, data))
        except Corrupt as error:
            unbelievable.append(error)
    return _Read(
        records=tuple(sorted(records, key=lambda record: (record.seq, record.id))),
        stored_at={info.name: info.modified_at for info in infos},
        facts=tuple(sorted(facts, key=lambda fact: (fact.at, fact.name))),
        unbelievable=tuple(unbelievable),
    )


def _get_all(vault: Vault, names: Sequence[str]) -> list[tuple[str, bytes]]:
    """The bytes of objects; those that went since they were listed are left out: fewer snapshots never let more go."""

    def get(name: str) -> bytes | None:
        try:
            return vault.store.get(name)
        except NotFound:
            return None

    with ThreadPoolExecutor(READERS, thread_name_prefix="reopen-retain") as pool:
        return [(name, data) for name, data in zip(names, pool.map(get, names), strict=True) if data is not None]


# Deciding


def _plan_dataset(name: str, read: _Read, rule: RetentionRule, *, guarded: bool, is_replica: bool) -> DatasetPlan:
    implausible = _implausible(read, strict=guarded and not is_replica)
    flaws = _flaws(read)
    holds = holds_of(read.of(HELD, RELEASED))
    candidates = [
        Candidate(id=record.id, seq=record.seq, at=record.consistent_at, flaw=flaws.get(record.id, ""))
        for record in read.records
        if record.id not in implausible
    ]
    # Whatever a record claims, nothing in the store is younger than its newest object.
    now = max(read.stored_at.values(), default=datetime.max.replace(tzinfo=UTC))
    kept_by_rules = reasons_to_keep(candidates, rule, now=now, guarded=guarded)
    above = _above_rules(read, flaws, holds)
    stubs = {stub.record_name: stub for fact in read.of(EXPIRED) if (stub := stub_of(fact)) is not None}
    error = _stopped(name, read, rule, guarded)
    decisions = []
    for record in reversed(read.records):
        reasons = [*above.get(record.id, ()), *kept_by_rules.get(record.id, ())]
        if record.id in implausible:
            reasons.append(f"its time cannot be right: {implausible[record.id]}")
        if not reasons and error is not None:
            reasons.append("nothing of this dataset expires until what was found is settled")
        keep = bool(reasons)
        reasons = reasons or [f"kept by no rule ({rule_text(rule)})"]
        decisions.append(Decision(record=record, keep=keep, reasons=tuple(reasons), marked=record.name in stubs))
    return DatasetPlan(
        dataset=name,
        rule=rule,
        decisions=tuple(decisions),
        error=error,
        findings=(*_time_findings(read, implausible), *_lost_holds(read, holds, stubs)),
        notes=tuple(_kept_after_all(decisions, stubs)),
    )


def _above_rules(read: _Read, flaws: Mapping[str, str], holds: Sequence[Hold]) -> dict[str, list[str]]:
    """Why snapshots stay whatever the rules say, by id (T2)."""
    reasons: dict[str, list[str]] = {}
    for record in read.records:
        for hold in holds:
            if hold.covers(record):
                reasons.setdefault(record.id, []).append(hold.text)
    proven = _proofs(read)
    sound = [record for record in read.records if record.id not in flaws]
    newest = (
        ("newest complete, verified, clean", [record for record in sound if record.id in proven]),
        ("newest complete, not known to be bad", sound),
        ("newest complete", [record for record in read.records if record.state == "complete"]),
        ("newest record", list(read.records)),
    )
    told: set[str] = set()
    for reason, among in newest:
        # ``seq`` is the order of snapshots; clocks are not. What was said of one with more words is not said again.
        if among and (reason == "newest record" or among[-1].id not in told):
            told.add(among[-1].id)
            reasons.setdefault(among[-1].id, []).append(reason)
    return reasons


def _flaws(read: _Read) -> dict[str, str]:
    """Why a snapshot is no good to recover from, by id."""
    damaged = {snapshot for snapshot, fact in _newest_checks(read).items() if fact.body.get("result") != "ok"}
    verdicts = {fact.snapshot: str(fact.body.get("verdict", "")) for fact in read.of("clean")}
    flaws = {}
    for record in read.records:
        words = [
            *(["incomplete"] if record.state != "complete" else []),
            *(["unconfirmed"] if not record.confirmed else []),
            *(["damaged"] if record.id in damaged else []),
            *([verdicts[record.id]] if verdicts.get(record.id) in _BAD_VERDICTS else []),
        ]
        if words:
            flaws[record.id] = " and ".join(words)
    return flaws


def _newest_checks(read: _Read) -> dict[str, Fact]:
    """The newest fact on each snapshot's bytes; a structure check proves nothing, but may find damage."""
    return {
        fact.snapshot: fact
        for fact in read.of("verified")
        if fact.body.get("level") in _PROVING_LEVELS or fact.body.get("result") != "ok"
    }


def _proofs(read: _Read) -> set[str]:
    return {snapshot for snapshot, fact in _newest_checks(read).items() if fact.body.get("result") == "ok"}


def _implausible(read: _Read, *, strict: bool) -> dict[str, str]:
    """Records whose time is not to be counted on, by id, and why."""
    seqs = Counter(record.seq for record in read.records)
    found = {}
    for record in read.records:
        stored_at = read.stored_at[record.name]
        if record.consistent_at > stored_at + TIME_MARGIN:
            found[record.id] = f"it says {to_text(record.consistent_at)}, and was stored on {to_text(stored_at)}"
        elif strict and record.consistent_at < stored_at - TIME_MARGIN:
            found[record.id] = f"it says {to_text(record.consistent_at)}, and was stored only on {to_text(stored_at)}"
        elif seqs[record.seq] > 1:
            found[record.id] = f"{seqs[record.seq]} records have the number {record.seq}"
    return found


def _stopped(name: str, read: _Read, rule: RetentionRule, guarded: bool) -> ReopenError | None:
    if rule.is_empty:
        return None
    if read.unbelievable:
        first = read.unbelievable[0]
        return Corrupt(
            f"nothing of {name} expires: {len(read.unbelievable)} of its records and facts cannot be believed, the "
            f"first: {first.message}",
            hint="Look at it: it may be a damaged hold. Copy it back from the replica, or move it to aside/.",
            dataset=name,
        )
    if guarded and rule.counts:
        return Refused(
            f"nothing of {name} expires: in an append-only vault whoever can add snapshots could use up counts "
            f"({rule_text(RetentionRule(**rule.counts))}).",  # type: ignore[arg-type]
            hint=f"Write periods instead, for example {{{instead_of_counts(rule)}}}.",
            dataset=name,
        )
    return None


def _time_findings(read: _Read, implausible: Mapping[str, str]) -> list[str]:
    return [
        f"{item.name}: {implausible[item.id]}; kept, not counted" for item in read.records if item.id in implausible
    ]


def _lost_holds(read: _Read, holds: Sequence[Hold], stubs: Mapping[str, Stub]) -> list[str]:
    """Holds on a snapshot whose record went all the same: placed as it was deleted, by a run that died right then."""
    present = {record.id for record in read.records}
    gone = {stub.snapshot: stub for stub in stubs.values() if stub.snapshot not in present}
    return [
        f"{gone[hold.snapshot].record_name} is held ({hold.text}) and gone: copy it back from the replica"
        for hold in holds
        if hold.snapshot in gone
    ]


def _kept_after_all(decisions: Sequence[Decision], stubs: Mapping[str, Stub]) -> list[str]:
    return [
        f"snapshot {item.record.id} was let go on {to_text(stubs[item.record.name].at)} and is kept: "
        f"{'; '.join(item.reasons)}"
        for item in decisions
        if item.marked and item.keep
    ]
