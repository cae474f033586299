"""Owns the choice of recovery points: which snapshot of a dataset a recovery begins from, and why that one.

Selectors
    ``last-verified``  newest complete snapshot whose stored bytes or content were verified and found good (the default)
    ``latest``         newest complete snapshot, verified or not
    ``at:<RFC 3339>``  newest complete snapshot that stands for that instant or an earlier one
    ``<snapshot id>``  exactly that one, complete or not

Only a named id reaches an incomplete snapshot, or one that a fenced site wrote. Pure over what the vault lists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reopen.clock import from_text, to_text
from reopen.control.values import Instant, stored
from reopen.errors import InvalidInput
from reopen.vault.record import Fact, SnapshotRecord

LAST_VERIFIED = "last-verified"
LATEST = "latest"
AT_PREFIX = "at:"
SUFFICIENT_LEVELS = ("stored", "content")
"""Levels of verification that read every byte; ``structure`` alone does not make a snapshot a recovery point."""

_SNAPSHOT_ID = re.compile(r"[0-9a-f]{16}")


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPoint:
    """The chosen snapshot. ``record_digest`` pins its record, and so its manifest and every byte of it."""

    snapshot: str
    seq: int
    consistent_at: Instant
    record_digest: str
    state: str
    files: int
    size_bytes: int
    selector: str
    verified_at: Instant | None = None
    verified_level: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPoint:
    """Why there is none, and what to do."""

    problem: str
    hint: str


def check_selector(selector: str) -> None:
    """Refuse a text that is no selector.

    :raises InvalidInput: with the selectors that there are.
    """
    if selector in (LAST_VERIFIED, LATEST) or _SNAPSHOT_ID.fullmatch(selector):
        return
    if selector.startswith(AT_PREFIX):
        try:
            from_text(selector.removeprefix(AT_PREFIX))
        except ValueError as error:
            raise InvalidInput(
                f"{selector!r} is not a recovery point: {error}.",
                hint="Write the instant as RFC 3339 with an offset, for example at:2026-01-31T12:00:00Z.",
            ) from error
        return
    raise InvalidInput(
        f"{selector!r} is not a recovery point.",
        hint=f"Choose {LAST_VERIFIED}, {LATEST}, {AT_PREFIX}<time> or a snapshot id of 16 hex digits.",
    )


def choose_point(
    dataset: str, selector: str, snapshots: Sequence[SnapshotRecord], verified: Sequence[Fact]
) -> RecoveryPoint | NoPoint:
    """The recovery point that a selector means for one dataset.

    :param snapshots: the dataset's committed snapshots, in the order of ``seq``.
    :param verified: ``verified`` facts about them.
    """
    proofs = proofs_of(verified)
    # What a site wrote without its role confirmed may have diverged from what served: it is taken only by its id.
    usable = [snapshot for snapshot in snapshots if snapshot.state == "complete" and snapshot.confirmed]
    if _SNAPSHOT_ID.fullmatch(selector):
        candidates = [snapshot for snapshot in snapshots if snapshot.id == selector]
        none = NoPoint(
            problem=f"{dataset} has no snapshot {selector}", hint=f"`reopen snapshots {dataset}` lists those it has."
        )
    elif selector.startswith(AT_PREFIX):
        limit = from_text(selector.removeprefix(AT_PREFIX))
        candidates = [s for s in usable if s.consistent_at <= limit]
        none = NoPoint(
            problem=f"{dataset} has no complete snapshot of {to_text(limit)} or before",
            hint=f"`reopen snapshots {dataset}` lists those it has.",
        )
    elif selector == LATEST:
        candidates = usable
        none = NoPoint(
            problem=f"{dataset} has no complete snapshot",
            hint=f"An incomplete one is taken only by its id; `reopen snapshots {dataset}` lists them.",
        )
    else:
        candidates = [s for s in usable if s.id in proofs]
        none = NoPoint(
            problem=f"{dataset} has no complete snapshot that was verified",
            hint=f"`reopen verify --level stored {dataset}` proves one; --point {LATEST} takes the newest unproven.",
        )
    if not candidates:
        return none
    # ``seq`` is the order of snapshots; clocks are not.
    chosen = max(candidates, key=lambda snapshot: snapshot.seq)
    proof = proofs.get(chosen.id)
    return RecoveryPoint(
        snapshot=chosen.id,
        seq=chosen.seq,
        consistent_at=chosen.consistent_at,
        record_digest=chosen.digest,
        state=chosen.state,
        files=chosen.totals.files,
        size_bytes=chosen.totals.size_bytes,
        selector=selector,
        verified_at=proof.at if proof else None,
        verified_level=str(proof.body["level"]) if proof else "",
    )


def proofs_of(verified: Sequence[Fact]) -> dict[str, Fact]:
    """The fact that proves a snapshot, by snapshot id.

    Of the facts that read every byte, the newest decides: damage found later takes an earlier proof back.
    """
    newest = {
        fact.snapshot: fact
        for fact in sorted(verified, key=lambda fact: fact.at)
        if fact.body.get("level") in SUFFICIENT_LEVELS
    }
    return {snapshot: fact for snapshot, fact in newest.items() if fact.body.get("result", "ok") == "ok"}
