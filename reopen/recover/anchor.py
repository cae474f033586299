"""Owns the anchor: number and digest of the last record of evidence, for somebody outside to keep.

A chain says nothing about its own end: whoever can write the control store can cut it short, or link another past. A
digest that was printed, mailed or written down elsewhere cannot be taken back, so whoever holds one can show that the
chain no longer has the record it was of, and everything before that record with it.

Invariants (docs/0013-drills-and-evidence.md)
    N1  An anchor is ``<number>:<digest>``, the number counted over all parts of the evidence.
    N2  Finding the head costs a listing and at most two small reads, however many records there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from reopen.control.chain import Link, parse_link
from reopen.errors import Corrupt, InvalidInput, Refused
from reopen.recover.parts import AFTER, prefix_of
from reopen.storage.base import ObjectStore

if TYPE_CHECKING:
    from reopen.recover.evidence import StoredEvidence

ANCHOR = re.compile(r"(?:([1-9][0-9]{0,9}):)?([0-9a-f]{16,64})")
"""A digest of evidence, or the first 16 or more digits of it, after its number where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Which record is meant. ``number`` is None where only the digest was kept."""

    number: int | None
    digest: str

    def __str__(self) -> str:
        return self.digest if self.number is None else f"{self.number}:{self.digest}"


def parse_anchor(text: str) -> Anchor:
    """The anchor that somebody kept.

    :raises InvalidInput: it is none.
    """
    found = ANCHOR.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(
            f"{text!r} is not an anchor: the number and digest of a record, or at least the first 16 hex digits of it.",
            hint="Give it as `reopen evidence head` and every report print it, as 12:9f2c4d1e8a7b6c5d….",
        )
    return Anchor(number=int(found[1]) if found[1] else None, digest=found[2])


def head_of(store: ObjectStore) -> Anchor | None:
    """The last record that can be read, as an anchor; None where there is no evidence (N2).

    It says nothing of what is wrong before it: that is the matter of :func:`reopen.recover.audit.audit_evidence`.
    """
    head = None
    for number in count(1):
        prefix = prefix_of(number)
        names = [info.name for info in store.list(f"{prefix}/")]
        if not names and number > 1:
            return head
        last = next((link for name in reversed(names) if (link := _read(store, name)) is not None), None)
        if last is not None:
            head = Anchor(number=_before(store, names[0], number) + last.number, digest=last.digest)
    return head


def how_to_check(anchor: Anchor) -> str:
    """What whoever holds an anchor does with it, in a sentence."""
    return (
        f"Keep it where nobody who writes the control store can change it: `reopen evidence verify --anchor {anchor}` "
        "reports when the chain no longer contains this record."
    )


def anchor_of(record: StoredEvidence) -> str:
    """The anchor of a record that was just written, with what to do with it, in a line."""
    anchor = Anchor(number=record.number, digest=record.digest)
    return f"Anchor: {anchor}. {how_to_check(anchor)}"


def standing_text(head: Anchor | None, broken: str) -> str:
    """What a message at the end of a recovery says of the evidence. Its own record quotes the message, so the message
    can quote only the record before.

    :param broken: what is wrong with the chain; empty when nothing is.
    """
    before = "this record is its first" if head is None else f"the record before this one is {head}"
    if broken:
        return f"THE CHAIN IS BROKEN ({broken}); see `reopen evidence verify`; {before}"
    check = "" if head is None else f"; `reopen evidence verify --anchor {head}` reports when it is gone"
    return f"the chain is whole; {before}{check}"


def _read(store: ObjectStore, name: str) -> Link | None:
    try:
        return parse_link(store.get(name), name)
    except (Corrupt, Refused):
        return None


def _before(store: ObjectStore, first: str, part: int) -> int:
    """How many records stood before a part, as its first link says."""
    link = _read(store, first) if part > 1 else None
    said = {} if link is None else link.body.get(AFTER)
    records = said.get("records") if isinstance(said, dict) else None
    return records if isinstance(records, int) else 0
