"""Owns what the words for recovery points mean: which snapshot of a dataset a selector names. Pure over what is listed.

Selectors
    ``last-verified``  newest complete snapshot whose stored bytes or content were verified and found good
    ``last-clean``     the same, of those that stand under no suspicion (:mod:`reopen.vault.clean`)
    ``latest``         newest complete snapshot, verified or not
    ``at:<RFC 3339>``  newest complete snapshot that stands for that instant or an earlier one
    ``<snapshot id>``  exactly that one, complete or not

Invariants
    I1  Only a named id reaches an incomplete snapshot, or one that a site wrote without its role confirmed: it may have
        diverged from what served.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from reopen.clock import from_text, to_text
from reopen.errors import InvalidInput
from reopen.vault.record import Fact, SnapshotRecord

LAST_VERIFIED = "last-verified"
LAST_CLEAN = "last-clean"
LATEST = "latest"
AT_PREFIX = "at:"
SUFFICIENT_LEVELS = ("stored", "content")
"""Levels of verification that read every byte; ``structure`` alone does not make a snapshot a recovery point."""
CLEAN_MEANS = (
    "last-clean: nothing is known against these points; an encryption that is slow, or spares most files, is not seen"
)
"""What whoever chose it should know."""

_SNAPSHOT_ID = re.compile(r"[0-9a-f]{16}")
_ID_BEGINNING = re.compile(r"[0-9a-f]{1,16}")
_WORDS = (LAST_VERIFIED, LAST_CLEAN, LATEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSnapshot:
    """Why there is none, and what to do."""

    problem: str
    hint: str


def is_id(selector: str) -> bool:
    """Whether a selector is a whole snapshot id."""
    return _SNAPSHOT_ID.fullmatch(selector) is not None


def check_selector(selector: str, *, beginnings: bool = False) -> None:
    """Refuse a text that is no selector.

    :param beginnings: whether the beginning of an id is one.
    :raises InvalidInput: with the selectors that there are.
    """
    if selector in _WORDS or is_id(selector) or (beginnings and _ID_BEGINNING.fullmatch(selector)):
        return
    if selector.startswith(AT_PREFIX):
        instant_of(selector)
        return
    raise InvalidInput(
        f"{selector!r} is not a recovery point.",
        hint=f"Choose {', '.join(_WORDS)}, {AT_PREFIX}<time> or a snapshot id of 16 hex digits.",
    )


def instant_of(selector: str) -> datetime:
    """The instant of an ``at:`` selector. :raises InvalidInput: it names none."""
    try:
        return from_text(selector.removeprefix(AT_PREFIX))
    except ValueError as error:
        raise InvalidInput(
            f"{selector!r} is not a recovery point: {error}.",
            hint="Write the instant as RFC 3339 with an offset, for example at:2026-01-31T12:00:00Z.",
        ) from error


def candidates(
    dataset: str,
    selector: str,
    snapshots: Sequence[SnapshotRecord],
    verified: Sequence[Fact],
    unclean: Collection[str] | None = None,
) -> tuple[SnapshotRecord, ...] | NoSnapshot:
    """The snapshots that a selector allows, the newest last; never empty.

    :param snapshots: the dataset's committed snapshots, in the order of ``seq``.
    :param verified: ``verified`` facts about them.
    :param unclean: ids of those that stand under a suspicion; asked for with ``last-clean`` only.
    :raises InvalidInput: no selector, or the beginning of more than one id.
    """
    check_selector(selector, beginnings=True)
    usable = [snapshot for snapshot in snapshots if snapshot.state == "complete" and snapshot.confirmed]
    listed = f"`reopen snapshots {dataset}` lists those it has."
    if selector in (LAST_VERIFIED, LAST_CLEAN):
        proofs = proofs_of(verified)
        found = [snapshot for snapshot in usable if snapshot.id in proofs]
        problem = f"{dataset} has no complete snapshot that was verified"
        hint = f"`reopen verify --level stored {dataset}` proves one; --at {LATEST} takes the newest unproven."
        if selector == LAST_CLEAN and found:
            if unclean is None:
                raise ValueError("last-clean is chosen from what is known to be suspect")
            found = [snapshot for snapshot in found if snapshot.id not in unclean]
            problem = f"{dataset} has no verified snapshot that is clean"
            hint = f"{listed} After a look at one, `reopen clear {dataset} --at SNAPSHOT --reason ...` says it is fine."
    elif selector == LATEST:
        found, problem = usable, f"{dataset} has no complete snapshot"
        hint = f"An incomplete one is taken only by its id; `reopen snapshots {dataset}` lists them."
    elif selector.startswith(AT_PREFIX):
        limit = instant_of(selector)
        found = [snapshot for snapshot in usable if snapshot.consistent_at <= limit]
        problem, hint = f"{dataset} has no complete snapshot of {to_text(limit)} or before", listed
    else:
        found = [snapshot for snapshot in snapshots if snapshot.id.startswith(selector)]
        problem, hint = f"{dataset} has no snapshot {selector}", listed
        if len({snapshot.id for snapshot in found}) > 1:
            ids = ", ".join(snapshot.id for snapshot in found)
            message = f"{selector!r} begins more than one snapshot of {dataset}: {ids}."
            raise InvalidInput(message, hint="Write more of the id.")
    if found:
        # ``seq`` is the order of snapshots; clocks are not.
        return tuple(sorted(found, key=lambda snapshot: snapshot.seq))
    unconfirmed = sum(1 for s in snapshots if s.state == "complete" and not s.confirmed)
    if unconfirmed and not _ID_BEGINNING.fullmatch(selector):
        hint = f"{unconfirmed} more were written without the role confirmed and are taken only by their id. {hint}"
    return NoSnapshot(problem=problem, hint=hint)


def proofs_of(verified: Sequence[Fact]) -> dict[str, Fact]:
    """The fact that proves a snapshot, by snapshot id.

    Of the facts that read every byte, the newest decides: damage found later takes an earlier proof back; so does
    damage that a check of the structure found.
    """
    newest = {
        fact.snapshot: fact
        for fact in sorted(verified, key=lambda fact: fact.at)
        if fact.body.get("level") in SUFFICIENT_LEVELS or fact.body.get("result", "ok") != "ok"
    }
    return {snapshot: fact for snapshot, fact in newest.items() if fact.body.get("result", "ok") == "ok"}
