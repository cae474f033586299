"""Owns what ``last-clean`` may choose: which snapshots of a dataset stand after a suspicion that nobody has cleared.

Three things are said of a snapshot: that its numbers look like an encryption (:mod:`reopen.vault.suspicion`, which
every reader derives by itself), that a scan or a person found it bad (a ``clean`` fact with the verdict ``suspect`` or
``infected``), and that a person looked at it and it is fine (a ``clean`` fact with the verdict ``cleared`` and a
reason). They are walked in the order of ``seq``: what is bad begins a suspicion, what is cleared ends it.

Invariants
    C1  A snapshot is clean when no suspicion began at it or before it that was not ended at it or before it. Where
        nothing is known against a dataset all of it is; this says that nothing is known, not that it was proven.
    C2  Of facts about one snapshot the newest decides. One that cannot be believed (:meth:`Vault.facts`) says nothing,
        so a writer clears nothing; nor does a clearing without a reason, or one of another record than is stored.
    C3  Expiry takes no suspicion away: before records go, retention writes into their stubs where one began
        (:func:`suspicions_json`), and a fact that has a ``seq`` keeps its place after its record went.
    C4  Where it is not known which place the snapshot of a verdict had, it had the first.

Called by :meth:`Vault.find`, by planning, by retention, and by what shows snapshots.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reopen.errors import InvalidInput, NotFound
from reopen.vault.record import Fact, SnapshotRecord
from reopen.vault.suspicion import SUSPECT, judge_all

if TYPE_CHECKING:
    from reopen.vault.vault import Vault

CLEAN = "clean"
"""The kind of fact."""
CLEARED = "cleared"
BAD_VERDICTS = (SUSPECT, "infected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """Where a suspicion began. ``seq`` is 0 where the snapshot's place is not known (C4)."""

    snapshot: str
    seq: int
    verdict: str
    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.verdict} since snapshot {self.snapshot[:8]}: {'; '.join(self.reasons) or 'no reason was given'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known against a dataset: ``unclean`` has the suspicion that each snapshot stands under, by id.
    ``derived`` are those that no fact states, the first after each clearing: what retention has to note (C3)."""

    unclean: Mapping[str, Suspicion]
    derived: tuple[Suspicion, ...]


def standing_of(vault: Vault, dataset: str, *, records: Sequence[SnapshotRecord] | None = None) -> Standing:
    """What is known against a dataset's snapshots. Reads all its records, and manifests where much changed at once.

    :param records: all of the dataset, where they were read already.
    """
    records = vault.records(dataset) if records is None else records
    facts = vault.facts(CLEAN, dataset)
    cleared = cleared_snapshots(records, facts)
    complete = [record for record in records if record.state == "complete"]
    expired = vault.facts("expired", dataset)
    places = {fact.snapshot: _seq(fact.body) for fact in expired} | {record.id: record.seq for record in records}
    derived = {item.snapshot: item for item in _recorded(expired)}
    for snapshot, reasons in judge_all(vault, complete, cleared=cleared, lenient=True).items():
        derived[snapshot] = Suspicion(snapshot=snapshot, seq=places[snapshot], verdict=SUSPECT, reasons=reasons)
    stated = {fact.snapshot: _of_verdict(fact, places) for fact in _bad(facts)}
    return Standing(
        unclean=_walk(records, _not_cleared(derived | stated, cleared), cleared),
        derived=tuple(dict.fromkeys(_walk(records, _not_cleared(derived, cleared), cleared).values())),
    )


def cleared_snapshots(records: Sequence[SnapshotRecord], facts: Sequence[Fact]) -> dict[str, int]:
    """The ``seq`` of each snapshot that a person looked at and found fine, by id; of expired ones too.

    :param facts: ``clean`` facts, oldest first.
    """
    digests = {record.id: record.digest for record in records}
    cleared: dict[str, int] = {}
    for fact in facts:
        body = fact.body
        if body.get("verdict") in BAD_VERDICTS:
            cleared.pop(fact.snapshot, None)
        elif body.get("verdict") == CLEARED and str(body.get("reason", "")).strip() and _seq(body):
            if digests.get(fact.snapshot, body.get("record")) != body.get("record"):
                continue
            cleared[fact.snapshot] = _seq(body)
    return cleared


def clear_snapshot(vault: Vault, record: SnapshotRecord, *, reason: str, by: str) -> tuple[Fact, Standing]:
    """Say that a person looked at a snapshot and that it is fine: it and what follows are clean, up to the next
    suspicion. What stood before it stays as it is. Returns the fact, and what stands now.

    :raises InvalidInput: there is no reason, or the snapshot is incomplete.
    :raises NotFound: nothing is known against it.
    :raises Refused: the verifier key is not here. A writer's is not enough: whoever encrypted may have it.
    """
    if not reason.strip():
        raise InvalidInput("to clear a snapshot needs a reason.", hint="Give one with --reason; it is signed and kept.")
    if record.state != "complete":
        raise InvalidInput(
            f"snapshot {record.id} of {record.dataset} is incomplete, so it is no recovery point.",
            hint="Clear a complete one that you looked at.",
        )
    vault.keyring.signer("verifier")
    if record.id not in standing_of(vault, record.dataset).unclean:
        raise NotFound(
            f"nothing is known against snapshot {record.id} of {record.dataset}.",
            hint=f"`reopen snapshots {record.dataset}` shows which snapshots are suspect.",
            dataset=record.dataset,
        )
    before = [fact for fact in vault.facts(CLEAN, record.dataset) if fact.snapshot == record.id]
    body = {"verdict": CLEARED, "reason": reason, "by": by, "record": record.digest, "seq": record.seq}
    fact = vault.record_fact(
        CLEAN, dataset=record.dataset, snapshot=record.id, body=body, after=before[-1].at if before else None
    )
    return fact, standing_of(vault, record.dataset)


def suspicions_json(suspicions: Iterable[Suspicion]) -> list[dict[str, Any]]:
    """As it stands in a stub (C3)."""
    return [{"snapshot": it.snapshot, "seq": it.seq, "reasons": list(it.reasons)} for it in suspicions]


def _walk(
    records: Sequence[SnapshotRecord], suspicions: Sequence[Suspicion], cleared: Mapping[str, int]
) -> dict[str, Suspicion]:
    """The suspicion that each record stands under: the first that began after the last clearing (C1)."""
    unclean = {}
    for record in records:
        ended = max((seq for seq in cleared.values() if seq <= record.seq), default=-1)
        under = next((item for item in suspicions if ended <= item.seq <= record.seq), None)
        if under is not None and record.id not in cleared:
            unclean[record.id] = under
    return unclean


def _recorded(expired: Sequence[Fact]) -> Iterable[Suspicion]:
    """What retention noted in stubs (C3)."""
    for fact in expired:
        noted = fact.body.get("suspicions", ())
        for item in noted if isinstance(noted, Sequence) else ():
            if isinstance(item, Mapping) and isinstance(item.get("snapshot"), str):
                reasons = item.get("reasons", ())
                yield Suspicion(
                    snapshot=item["snapshot"], seq=_seq(item), verdict=SUSPECT, reasons=tuple(map(str, reasons))
                )


def _of_verdict(fact: Fact, places: Mapping[str, int]) -> Suspicion:
    body = fact.body
    said = body.get("reasons") or body.get("reason") or ()
    reasons = (said,) if isinstance(said, str) else tuple(str(reason) for reason in said)
    return Suspicion(
        snapshot=fact.snapshot,
        seq=places.get(fact.snapshot) or _seq(body),
        verdict=str(body["verdict"]),
        reasons=reasons or (f"a scan said so at {fact.at:%Y-%m-%d %H:%M} UTC",),
    )


def _bad(facts: Sequence[Fact]) -> Iterable[Fact]:
    """The bad verdicts that no later scan took back. What a person cleared is not looked at here."""
    bad: dict[str, Fact] = {}
    for fact in facts:
        verdict = fact.body.get("verdict")
        if verdict in BAD_VERDICTS:
            bad[fact.snapshot] = fact
        elif verdict != CLEARED:
            bad.pop(fact.snapshot, None)
    return bad.values()


def _not_cleared(found: Mapping[str, Suspicion], cleared: Mapping[str, int]) -> list[Suspicion]:
    begun = [item for item in found.values() if item.snapshot not in cleared]
    return sorted(begun, key=lambda item: (item.seq, item.snapshot))


def _seq(body: Mapping[str, Any]) -> int:
    seq = body.get("seq")
    return seq if type(seq) is int and seq > 0 else 0
