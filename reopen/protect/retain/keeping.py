"""Owns the decision over one dataset's snapshots: the rules, and what stands above them. Pure, over what was read.

Invariants (those of ``docs/0004-retention.md``)
    T1  Without rules nothing expires.
    T2  Whatever the rules say these stay: what is held; the newest record; the newest complete snapshot; the newest
        that is complete, confirmed and not known to be bad; the newest of those that was proven; what claims an
        impossible time.
    T3  A dataset with a record or fact that cannot be believed loses nothing.
    T5  A snapshot that has a stub and is still there is decided on like any other.

Called by :mod:`reopen.protect.retain.retain`, which reads and deletes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reopen.clock import to_text
from reopen.contracts import RetentionRule
from reopen.errors import Corrupt, MadeByNewer, Refused, ReopenError
from reopen.protect.retain.holds import HELD, RELEASED, Hold, holds_of
from reopen.protect.retain.rules import Candidate, instead_of_counts, reasons_to_keep, rule_text
from reopen.protect.retain.stubs import EXPIRED, Stub, stub_of
from reopen.vault import Fact, SnapshotRecord

TIME_MARGIN = timedelta(days=1)
"""How far the time that a record claims may be from the store's time of its object. Long enough for a snapshot that
takes a night, and for clocks; short enough that planted dates cannot be spread over a week."""

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
    """What becomes of a dataset's snapshots, by ``seq``, the highest first. ``error``: why nothing of it expires,
    though rules say so; ``findings``: what a person should look at; ``notes``: what is worth telling."""

    dataset: str
    rule: RetentionRule
    decisions: tuple[Decision, ...]
    error: ReopenError | None = None
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def expiring(self) -> tuple[Decision, ...]:
        """The snapshots that go, in the order in which they do: newest first, so that a crash leaves a history of
        which the same ones go (:mod:`reopen.protect.retain.rules`, P4)."""
        going = [decision for decision in self.decisions if not decision.keep]
        return tuple(sorted(going, key=lambda item: (item.record.consistent_at, item.record.seq), reverse=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything about one dataset that decides: believed records by ``seq``, the store's time of each one's object by
    its name, believed facts oldest first, and what could not be believed."""

    records: tuple[SnapshotRecord, ...]
    stored_at: Mapping[str, datetime]
    facts: tuple[Fact, ...]
    unbelievable: tuple[ReopenError, ...]

    def of(self, *kinds: str) -> list[Fact]:
        """The facts of these kinds, oldest first."""
        return [fact for fact in self.facts if fact.kind in kinds]


def decide(name: str, read: History, rule: RetentionRule, *, guarded: bool, is_replica: bool) -> DatasetPlan:
    """What becomes of each snapshot of a dataset.

    :param guarded: the vault is append-only.
    :param is_replica: objects are younger than the snapshots they hold, which is then no sign of a planted time.
    """
    implausible = _implausible(read, strict=guarded and not is_replica)
    flaws = _flaws(read)
    holds = holds_of(read.of(HELD, RELEASED))
    candidates = [
        Candidate(id=record.id, seq=record.seq, at=record.consistent_at, flaw=flaws.get(record.id, ""))
        for record in read.records
        if record.id not in implausible
    ]
    # Whatever a record claims: what counts is when the store got the newest one, which never goes.
    now = read.stored_at[read.records[-1].name] if read.records else datetime.max.replace(tzinfo=UTC)
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


def _above_rules(read: History, flaws: Mapping[str, str], holds: Sequence[Hold]) -> dict[str, list[str]]:
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


def _flaws(read: History) -> dict[str, str]:
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


def _newest_checks(read: History) -> dict[str, Fact]:
    """The newest fact on each snapshot's bytes; a structure check proves nothing, but may find damage."""
    return {
        fact.snapshot: fact
        for fact in read.of("verified")
        if fact.body.get("level") in _PROVING_LEVELS or fact.body.get("result") != "ok"
    }


def _proofs(read: History) -> set[str]:
    return {snapshot for snapshot, fact in _newest_checks(read).items() if fact.body.get("result") == "ok"}


def _implausible(read: History, *, strict: bool) -> dict[str, str]:
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


def _stopped(name: str, read: History, rule: RetentionRule, guarded: bool) -> ReopenError | None:
    if rule.is_empty:
        return None
    if read.unbelievable:
        first = read.unbelievable[0]
        newer = next((error for error in read.unbelievable if isinstance(error, MadeByNewer)), None)
        if newer is not None:
            # Whoever moved it aside, as is told of damage, would give prune what only it needs.
            return MadeByNewer(f"nothing of {name} expires: {newer.message}", dataset=name)
        return Corrupt(
            f"nothing of {name} expires: {len(read.unbelievable)} of its records and facts cannot be believed, the "
            f"first: {first.message}",
            hint="It may be a damaged hold. `reopen repair --from SITE` takes it from a replica; else look at it, and "
            "move it to aside/.",
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


def _time_findings(read: History, implausible: Mapping[str, str]) -> list[str]:
    return [
        f"{item.name}: {implausible[item.id]}; kept, not counted" for item in read.records if item.id in implausible
    ]


def _lost_holds(read: History, holds: Sequence[Hold], stubs: Mapping[str, Stub]) -> list[str]:
    """Holds on a snapshot whose record went all the same: placed as it was deleted, by a run that died right then."""
    present = {record.id for record in read.records}
    gone = {stub.snapshot: stub for stub in stubs.values() if stub.snapshot not in present}
    return [
        f"{gone[hold.snapshot].record_name} is held ({hold.text}) and gone: `reopen repair --from SITE` takes "
        "it from a replica"
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
