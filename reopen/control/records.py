"""Owns the records of the epoch log: what each kind says, and their stored form.

A record is a fact about decisions and steps, never about bytes. Its stored form is the body of a link
(:mod:`reopen.control.chain`): ``{"kind": …, "required": true, "at": …, "by": …, "value": {…}}``.

Invariants
    I1  A kind that this version does not know is refused when its record says ``required``, else kept as
        :class:`Unknown` and passed over by every rule.
    I2  Unknown fields of a known kind are refused.

Every kind but ``epoch`` and ``takeover`` names the epoch and term under which it was appended; ``decision`` and
``approval`` name neither, because people who do not hold the term append them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from reopen.clock import from_text, to_text
from reopen.control.chain import CHANGED_HINT, Link
from reopen.control.values import Instant, from_json, later, stored, to_json
from reopen.errors import Corrupt, MadeByNewer


class FenceLevel(StrEnum):
    """How sure it is that the old primary cannot write any more."""

    ENFORCED = "enforced"
    """Credentials revoked or access cut, through a hook that the site configures."""
    COOPERATIVE = "cooperative"
    """Our own writers check the epoch; nobody else is stopped."""
    ASSERTED = "asserted"
    """A person attests it, with a reason."""


class Scenario(StrEnum):
    """Why a role moves."""

    UNPLANNED = "unplanned"
    PLANNED = "planned"
    FAILBACK = "failback"
    ROLLBACK = "rollback"
    """The role is given back after an abort."""
    MOVED = "moved"
    """The log has a new home; the role stays."""


class StepResult(StrEnum):
    """How a step ended. A step without an outcome is unknown, which is none of these."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """A person decided to go on without it, with a reason."""
    NOT_EXECUTED = "not executed"
    """It never began, because something that it needs did not get done."""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """The fence as it was achieved: level, who says so, why, and which named risks were accepted."""

    level: FenceLevel
    by: str
    why: str = ""
    accepted_risks: tuple[str, ...] = ()


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What a person vouches for when a rule cannot be checked."""

    by: str
    why: str


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A new epoch: from here on ``primary`` has the role. It fences; it serves nothing.

    ``plan`` is the digest of the plan that the failover follows. ``forced`` is needed when the number does not follow
    on the log's own (its home was lost); ``continues`` quotes the ``closed`` record of the log before this one.
    """

    epoch: int
    primary: str
    previous_primary: str
    scenario: Scenario
    reason: str
    failed_at: Instant | None
    declared_at: Instant
    fence: Fence
    plan: str | None = None
    forced: Attestation | None = None
    continues: str | None = None


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """The record's ``by`` acts from now on, under this term of the epoch."""

    epoch: int
    term: int
    reason: str


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """The plan that the steps after this record belong to."""

    epoch: int
    term: int
    plan: str


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A step is about to act. ``attempt`` counts from 1 for each step of a plan."""

    epoch: int
    term: int
    plan: str
    step: str
    attempt: int


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """How one attempt of a step ended, with what it measured in ``details`` (JSON values only)."""

    step: str
    attempt: int
    started_at: Instant
    finished_at: Instant
    result: StepResult
    reason: str = ""
    hint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a step, as the log has it."""

    epoch: int
    term: int
    plan: str
    outcome: StepOutcome


class Choice(StrEnum):
    """What a person decides about a step that failed."""

    RETRY = "retry"
    """Try it again; a dataset begins with its restore."""
    SKIP = "skip"
    """Go on without it, for a reason."""
    ABORT = "abort"
    """Begin nothing more of this plan, for a reason. What was promoted stays promoted."""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What ``by`` decided about one failed attempt of a step. It changes nothing by itself: the holder acts on it."""

    plan: str
    step: str
    attempt: int
    choice: Choice
    by: str
    why: str = ""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """One dataset of a promotion: which snapshot serves where. ``record_digest`` pins the snapshot's record and so
    its manifest and every byte; ``consistent_at`` is the instant that the data stands for."""

    dataset: str
    snapshot: str
    seq: int
    consistent_at: Instant
    url: str
    record_digest: str


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """All members of a consistency group begin to serve, together. ``number`` rises by one with each promotion."""

    epoch: int
    term: int
    number: int
    plan: str
    group: str
    members: tuple[Promoted, ...]


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Evidenced:
    """The recovery of a plan is written down: the evidence's object in the control store, and its digest."""

    epoch: int
    term: int
    plan: str
    name: str
    digest: str


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person has looked at a plan: it may be carried out, or it must not. It names the digest, so that another plan
    needs another one. Whoever can write the log may append it; it changes nothing by itself."""

    plan: str
    by: str
    why: str
    granted: bool = True


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The failover is accepted; from here on there is no roll-back."""

    epoch: int
    term: int
    why: str
    by: Annotated[str, later("")] = ""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The log ends here and goes on at ``next_url``."""

    epoch: int
    term: int
    next_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A kind of a later version that may be passed over."""

    kind: str
    value: Mapping[str, Any]


Value = Epoch | Takeover | Pinned | Intent | Outcome | Decision | Promotion | Evidenced | Approval | Committed | Closed
"""What can be appended."""

KINDS: Mapping[str, type[Value]] = {
    "epoch": Epoch,
    "takeover": Takeover,
    "pinned": Pinned,
    "intent": Intent,
    "outcome": Outcome,
    "decision": Decision,
    "promotion": Promotion,
    "evidence": Evidenced,
    "approval": Approval,
    "committed": Committed,
    "closed": Closed,
}
_NAMES: Mapping[type[Value], str] = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record: its place in the log, when and by which orchestrator it was appended, and what it says."""

    number: int
    digest: str
    at: datetime
    by: str
    value: Value | Unknown


def body_of(value: Value, *, at: datetime, by: str) -> dict[str, Any]:
    """The body of the link that stores a value."""
    return {"kind": _NAMES[type(value)], "required": True, "at": to_text(at), "by": by, "value": to_json(value)}


def record_of(link: Link) -> Record:
    """The record in a link.

    :raises Corrupt: not a record, or not of the form of its kind.
    :raises MadeByNewer: a required kind that this version does not know (I1), or members that it does not (I2).
    """
    body = link.body
    kind, required, by, raw = (body.get(key) for key in ("kind", "required", "by", "value"))
    if (
        set(body) != {"kind", "required", "at", "by", "value"}
        or not isinstance(kind, str)
        or not isinstance(required, bool)
        or not isinstance(by, str)
        or not isinstance(raw, dict)
    ):
        raise Corrupt(f"{link.name} is not a record of the epoch log.", hint=CHANGED_HINT, object=link.name)
    try:
        at = from_text(str(body["at"]))
    except ValueError as error:
        raise Corrupt(f"{link.name} has no valid time: {error}.", hint=CHANGED_HINT, object=link.name) from error
    value: Value | Unknown
    if kind in KINDS:
        value = from_json(KINDS[kind], raw, link.name)
    elif required:
        raise MadeByNewer(
            f"{link.name} is a {kind!r} record, which this version does not know and must not pass over.",
            object=link.name,
        )
    else:
        value = Unknown(kind=kind, value=raw)
    return Record(number=link.number, digest=link.digest, at=at, by=by, value=value)
