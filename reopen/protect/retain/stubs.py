"""Owns the stub: the signed ``expired`` fact that says which record was let go, so that its absence is no roll-back.

Invariants
    I1  Only a fact that retention signed, with every field of the record's identity, is a stub. It excuses the one
        record that it names (dataset, ``seq`` and id) and the one digest that a later record may quote.
    I2  A stub whose record is still there excuses nothing yet and orders nothing: the record counts.

Called by retention (which writes them), by verification and the witness (which miss records).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reopen.clock import to_text
from reopen.vault import Fact, SnapshotRecord, Vault
from reopen.vault.canonical import JsonObject
from reopen.vault.clean import Suspicion, suspicions_json
from reopen.vault.record import record_name

EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stub:
    """What is left of an expired record: ``digest`` is the BLAKE3 (hex) of its stored bytes, ``prev`` the one that it
    quoted; ``at`` is when retention signed."""

    dataset: str
    snapshot: str
    seq: int
    digest: str
    prev: str | None
    at: datetime

    @property
    def record_name(self) -> str:
        """The name that the record had."""
        return record_name(self.dataset, self.seq, self.snapshot)


def read_stubs(vault: Vault, dataset: str | None = None) -> dict[str, Stub]:
    """Every stub in the ledger that can be believed, by the name of its record."""
    stubs = (stub_of(fact) for fact in vault.facts(EXPIRED, dataset))
    return {stub.record_name: stub for stub in stubs if stub is not None}


def stub_of(fact: Fact) -> Stub | None:
    """The stub that an ``expired`` fact is; None when its body lacks what a stub needs (I1)."""
    digest, seq, prev = fact.body.get("record"), fact.body.get("seq"), fact.body.get("prev")
    if not isinstance(digest, str) or type(seq) is not int or not isinstance(prev, str | None):
        return None
    return Stub(dataset=fact.dataset, snapshot=fact.snapshot, seq=seq, digest=digest, prev=prev, at=fact.at)


def stub_body(record: SnapshotRecord, reasons: tuple[str, ...], suspicions: Sequence[Suspicion] = ()) -> JsonObject:
    """The body of the fact that lets a record go.

    :param suspicions: those of the dataset that could not be derived any more without this record.
    """
    noted: JsonObject = {"suspicions": suspicions_json(suspicions)} if suspicions else {}
    return noted | {
        "record": record.digest,
        "seq": record.seq,
        "prev": record.prev,
        "consistent_at": to_text(record.consistent_at),
        "committed_at": to_text(record.committed_at),
        "state": record.state,
        "reasons": list(reasons),
    }
