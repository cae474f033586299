"""Owns the states of a failover: a transition table as data, a pure step function, and the reading of a log as states.

::

    PROTECTED -> PREFLIGHT -> [APPROVAL]
      planned:    QUIESCING -> FINAL_SYNC \\
      unplanned:  FENCING -----------------> PINNED -> RESTORING / VALIDATING / PROMOTED, per tier
      -> FAILED_OVER (uncommitted) -> COMMITTED -> REPROTECTING -> PROTECTED (roles swapped)
      -> ROLLING_BACK -> PROTECTED
    any step -> PAUSED -> where it was | abort

Datasets of a tier move side by side, so RESTORING, VALIDATING and PROMOTED name the verb begun last; how far each
dataset is, the outcomes say.

Invariants
    S1  From PINNED until the role is settled, this failover's epoch record stands (``raised``).
    S2  While writers are quiesced, no epoch record of this failover stands yet.
    S3  PAUSED remembers the state that it left, and that is not PAUSED.
    S4  PROTECTED carries nothing over: ``raised`` is false.
    S5  Every prefix of a log that the rules allowed is a position of this table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from reopen.control.records import (
    Committed,
    Epoch,
    Intent,
    Outcome,
    Pinned,
    Record,
    Scenario,
    StepResult,
    Takeover,
    Unknown,
    Value,
)
from reopen.errors import Internal, Refused


class State(StrEnum):
    """Where a failover is."""

    PROTECTED = "protected"
    PREFLIGHT = "preflight"
    APPROVAL = "approval"
    QUIESCING = "quiescing"
    FINAL_SYNC = "final sync"
    FENCING = "fencing"
    PINNED = "pinned"
    RESTORING = "restoring"
    VALIDATING = "validating"
    PROMOTED = "promoted"
    FAILED_OVER = "failed over"
    COMMITTED = "committed"
    REPROTECTING = "reprotecting"
    ROLLING_BACK = "rolling back"
    PAUSED = "paused"


class Event(StrEnum):
    """What moves it."""

    BEGIN = "begin"
    ASK = "ask for approval"
    QUIESCE = "quiesce"
    SYNC = "sync"
    FENCE = "fence"
    RAISE = "raise the epoch"
    PIN = "pin"
    RESTORE = "restore"
    VALIDATE = "validate"
    PROMOTE = "promote"
    FINISH = "finish"
    COMMIT = "commit"
    REPROTECT = "reprotect"
    ROLL_BACK = "roll back"
    PROTECT = "protect"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"


S, E = State, Event

_RECOVERING: Mapping[Event, State] = {
    # A second plan in the same epoch, for datasets that failed, passes the fence again and is pinned.
    E.FENCE: S.FENCING,
    E.PIN: S.PINNED,
    E.RESTORE: S.RESTORING,
    E.VALIDATE: S.VALIDATING,
    E.PROMOTE: S.PROMOTED,
    E.FINISH: S.FAILED_OVER,
    E.PAUSE: S.PAUSED,
    # The role was moved already, so giving up means to give it back.
    E.ABORT: S.ROLLING_BACK,
    E.ROLL_BACK: S.ROLLING_BACK,
}

_BEGINNING: Mapping[Event, State] = {
    # The next move begins from a failover that was accepted; or another plan in its epoch, for datasets that failed.
    E.BEGIN: S.PREFLIGHT,
    E.ASK: S.APPROVAL,
    E.QUIESCE: S.QUIESCING,
    E.FENCE: S.FENCING,
}

TABLE: Mapping[State, Mapping[Event, State]] = {
    S.PROTECTED: {E.BEGIN: S.PREFLIGHT},
    S.PREFLIGHT: {
        E.BEGIN: S.PREFLIGHT,
        E.ASK: S.APPROVAL,
        E.QUIESCE: S.QUIESCING,
        E.FENCE: S.FENCING,
        E.ABORT: S.PROTECTED,
        E.PAUSE: S.PAUSED,
    },
    S.APPROVAL: {
        E.ASK: S.APPROVAL,
        E.QUIESCE: S.QUIESCING,
        E.FENCE: S.FENCING,
        E.ABORT: S.PROTECTED,
        E.PAUSE: S.PAUSED,
    },
    S.QUIESCING: {
        E.QUIESCE: S.QUIESCING,
        E.SYNC: S.FINAL_SYNC,
        # The site was lost while it was about to hand over: an unplanned failover goes on.
        E.FENCE: S.FENCING,
        E.ABORT: S.PROTECTED,
        E.PAUSE: S.PAUSED,
    },
    S.FINAL_SYNC: {
        E.SYNC: S.FINAL_SYNC,
        E.FENCE: S.FINAL_SYNC,
        E.RAISE: S.FINAL_SYNC,
        E.PIN: S.PINNED,
        E.ABORT: S.PROTECTED,
        E.PAUSE: S.PAUSED,
    },
    S.FENCING: {
        E.FENCE: S.FENCING,
        E.RAISE: S.FENCING,
        E.PIN: S.PINNED,
        E.ABORT: S.ROLLING_BACK,
        E.ROLL_BACK: S.ROLLING_BACK,
        E.PAUSE: S.PAUSED,
    },
    S.PINNED: {event: state for event, state in _RECOVERING.items() if event not in (E.VALIDATE, E.PROMOTE)},
    S.RESTORING: _RECOVERING,
    S.VALIDATING: _RECOVERING,
    S.PROMOTED: _RECOVERING,
    S.FAILED_OVER: {**_RECOVERING, E.COMMIT: S.COMMITTED},
    S.COMMITTED: {**_BEGINNING, E.REPROTECT: S.REPROTECTING},
    S.REPROTECTING: {**_BEGINNING, E.REPROTECT: S.REPROTECTING, E.PROTECT: S.PROTECTED, E.PAUSE: S.PAUSED},
    S.ROLLING_BACK: {
        # A driver that died after the epoch, and before it noted that, is followed by one that passes the fence again.
        E.FENCE: S.ROLLING_BACK,
        E.ROLL_BACK: S.ROLLING_BACK,
        E.PROTECT: S.PROTECTED,
        E.PAUSE: S.PAUSED,
    },
    S.PAUSED: {E.ABORT: S.ROLLING_BACK},
}

RAISED_STATES = frozenset({S.PINNED, S.RESTORING, S.VALIDATING, S.PROMOTED, S.FAILED_OVER, S.COMMITTED})
RAISED_IMPOSSIBLE_STATES = frozenset({S.PROTECTED, S.PREFLIGHT, S.APPROVAL, S.QUIESCING})

STEP_EVENTS: Mapping[str, Event] = {
    "approve": E.ASK,
    "quiesce": E.QUIESCE,
    "final-sync": E.SYNC,
    "fence": E.FENCE,
    "restore": E.RESTORE,
    "validate": E.VALIDATE,
    "promote": E.PROMOTE,
    "reprotect": E.REPROTECT,
    "unfence": E.ROLL_BACK,
}
"""The event of a step's intent, by its verb (the part of its id before the colon)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A state with what it carries. ``raised``: the epoch record of this failover stands."""

    state: State = State.PROTECTED
    raised: bool = False
    before_pause: State | None = None


def step(position: Position, event: Event) -> Position:
    """The position after an event.

    :raises Refused: the table has no such transition.
    """
    state, paused_from = position.state, position.before_pause
    if state is S.PAUSED and event is E.RESUME and paused_from is not None:
        return replace(position, state=paused_from, before_pause=None)
    if state is S.PAUSED and event is E.ABORT and not position.raised:
        # Nothing was fenced yet, so there is nothing to give back.
        return Position()
    target = TABLE[state].get(event)
    if target is None:
        raise Refused(
            f"a failover that is {state} cannot {event}.",
            hint=f"Possible now: {', '.join(sorted(TABLE[state])) or 'resume'}.",
            state=state,
        )
    if target is S.PINNED and not position.raised:
        raise Refused("a plan is pinned only after its epoch is declared.", hint="The fence comes first.")
    raised = position.raised
    if event is E.RAISE:
        raised = True
    elif event in (E.BEGIN, E.ASK, E.QUIESCE, E.PROTECT) or target is S.PROTECTED:
        raised = False
    return Position(state=target, raised=raised, before_pause=state if target is S.PAUSED else None)


def check_invariants(position: Position) -> None:
    """Raise :class:`Internal` when a position breaks S1 to S4."""
    if position.state in RAISED_STATES and not position.raised:
        raise Internal(f"S1: {position.state} without an epoch record.")
    if position.state in RAISED_IMPOSSIBLE_STATES and position.raised:
        raise Internal(f"S2, S4: {position.state} with an epoch record.")
    if (position.state is S.PAUSED) != (position.before_pause is not None) or position.before_pause is S.PAUSED:
        raise Internal(f"S3: {position.state} remembers {position.before_pause}.")


def position_of(records: Sequence[Record]) -> Position:
    """Where the newest failover in a log is (S5)."""
    position = Position()
    for record in records:
        event = event_of(record.value, position.state)
        if event is not None:
            position = step(position, event)
    return position


def event_of(value: Value | Unknown, state: State) -> Event | None:
    """The event that a record stands for in a state; None when it moves nothing."""
    match value:
        case Takeover():
            # A takeover where nothing is under way begins something; else it is only a new driver, or who accepts.
            return E.BEGIN if state is S.PROTECTED else None
        case Epoch(scenario=Scenario.ROLLBACK):
            return E.ROLL_BACK
        case Epoch(scenario=Scenario.MOVED):
            return None
        case Epoch():
            return E.RAISE
        case Pinned():
            return E.PIN
        case Intent():
            return STEP_EVENTS.get(value.step.partition(":")[0])
        case Outcome() if value.outcome.result is StepResult.DONE and value.outcome.step == "finish":
            return E.FINISH
        case Outcome() if value.outcome.result is StepResult.DONE and value.outcome.step in ("reprotect", "unfence"):
            return E.PROTECT
        case Outcome() if value.outcome.result is StepResult.DONE and value.outcome.step == "unquiesce":
            return E.ABORT
        case Committed():
            return E.COMMIT
        case _:
            return None
