"""Owns the answer to "who may act, and is a move of the role under way": the epoch log as the status shows it.

Invariants
    I1  A log that cannot be read is a shown value: who has the role is then what the settings say, and not known.
    I2  A move that was begun and has not ended is told, with the command that goes on with it or ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Epoch, Record, Scenario, StepResult
from reopen.control.states import State, position_of
from reopen.errors import ReopenError
from reopen.recover.approvals import approval_of, is_approved
from reopen.recover.failover import unfinished_plan
from reopen.recover.plan import RecoveryPlan
from reopen.recover.roles import APPROVE

COMMANDS = {
    Scenario.UNPLANNED: "failover",
    Scenario.PLANNED: "failover --planned",
    Scenario.FAILBACK: "failback",
    Scenario.ROLLBACK: "rollback",
    Scenario.MOVED: "reprotect",
}
"""What goes on with a move, by why the role moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A move of the role that has not ended. ``begun_at`` is the time of the first record about it, ``heard_at`` of the
    newest; ``waits``: for a person's approval. ``what_to_do`` is one sentence."""

    plan: str
    scenario: str
    source: str
    target: str
    begun_at: datetime
    heard_at: datetime
    steps_done: int
    waits: bool
    what_to_do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlStatus:
    """Who may act. ``since`` is None before the first epoch record; ``error`` says why the log was not read, and
    ``primary`` is then what the settings say (I1). ``uncommitted``: the failover can still be rolled back."""

    primary: str
    epoch: int
    since: datetime | None
    reason: str
    error: str
    uncommitted: bool = False
    move: Move | None = None
    move_error: str = ""
    """Why nobody can tell whether a move is under way, as where its plan was made by a newer Reopen."""


def read_control(log: EpochLog | None, *, initial_primary: str) -> ControlStatus:
    """Who is primary by the log; by the settings, with the reason, when it cannot be read (I1)."""
    fallback = ControlStatus(primary=initial_primary, epoch=0, since=None, reason="", error="")
    if log is None:
        return fallback
    try:
        records = log.records()
    except ReopenError as error:
        return replace(fallback, error=str(error))
    try:
        uncommitted = position_of(records).state is State.FAILED_OVER
        found = replace(fallback, move=_move(log, records), uncommitted=uncommitted)
    except ReopenError as error:
        found = replace(fallback, move_error=str(error))
    epoch = rules.epoch_record(records)
    if epoch is None:
        return found
    since = next(record.at for record in records if isinstance(record.value, Epoch) and record.value == epoch)
    return replace(found, primary=epoch.primary, epoch=epoch.epoch, since=since, reason=epoch.reason)


def _move(log: EpochLog, records: Sequence[Record]) -> Move | None:
    """What was begun and has not ended (I2)."""
    plan = unfinished_plan(log)
    if plan is None:
        return None
    own = [record for record in records if getattr(record.value, "plan", None) == plan.digest]
    outcomes = rules.outcomes(records, plan.digest)
    waits = APPROVE in outcomes and not is_approved(records, plan)
    return Move(
        plan=plan.digest,
        scenario=plan.scenario,
        source=plan.source_site,
        target=plan.target_site,
        begun_at=own[0].at if own else records[-1].at,
        heard_at=own[-1].at if own else records[-1].at,
        steps_done=sum(outcome.result is StepResult.DONE for outcome in outcomes.values()),
        waits=waits,
        what_to_do=_what_to_do(records, plan, waits=waits),
    )


def _what_to_do(records: Sequence[Record], plan: RecoveryPlan, *, waits: bool) -> str:
    command = f"`reopen {COMMANDS[plan.scenario]}`"
    if waits:
        asked = approval_of(records, plan)
        said = "" if asked is None else f"{asked.by} refused it ({asked.why}). "
        return f"{said}`reopen approve {plan.digest[:16]} --reason WHY` approves it, then {command} goes on."
    if rules.undecided(records, plan.digest):
        return f"A step failed: `reopen decide` shows what waits; {command} goes on where nothing runs any more."
    ends = "" if plan.scenario in (Scenario.ROLLBACK, Scenario.MOVED) else "; `reopen rollback` ends it"
    return f"Where nothing drives it any more, {command} goes on with it{ends}."
