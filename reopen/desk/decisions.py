"""Owns what waits for a person's decision, and the recording of one. No server and no running recovery is needed.

Invariants
    I1  A decision is about one failed attempt: somebody who looked at an older one does not decide about a newer one
        unawares, because the record names the attempt.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reopen.clock import from_text
from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Choice, Decision, StepOutcome
from reopen.desk.session import Session
from reopen.errors import Conflict, InvalidInput, NotFound, Refused
from reopen.recover.context import WAITS_UNTIL
from reopen.recover.failover import newest_plan
from reopen.recover.plan import RecoveryPlan, read_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """A failed step that nobody decided about. ``until``: past it the recovery goes on without the step."""

    step: str
    datasets: tuple[str, ...]
    tier: int | None
    attempt: int
    failed_at: datetime
    until: datetime
    reason: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """The newest recovery and what of it waits. ``concluded``: it has come to its end."""

    plan: str
    target_site: str
    concluded: bool
    steps: tuple[Undecided, ...]


def open_decisions(session: Session) -> Open | None:
    """What waits for a decision in the newest failover of the log; None where there was none.

    :raises Refused: the settings name no epoch log.
    """
    log = _log(session)
    records = log.records()
    digest = newest_plan(records)
    if digest is None:
        return None
    plan = read_plan(log.load_plan(digest), f"plans/{digest}.json")
    steps = tuple(
        _undecided(plan, outcome, until=_waits_until(outcome)) for outcome in rules.undecided(records, digest).values()
    )
    concluded = rules.is_concluded(records, digest)
    return Open(plan=digest, target_site=plan.target_site, concluded=concluded, steps=() if concluded else steps)


def decide(session: Session, step: str, choice: Choice, *, by: str | None, why: str) -> Decision:
    """Record what a person decides about a step that failed. The orchestrator acts on it when it looks next.

    :param step: the step's id, or the name of a dataset of which one step waits.
    :raises NotFound: no such step waits.
    :raises Conflict: somebody decided before, or the attempt is over.
    :raises Refused: a reason is needed, or the settings name no epoch log.
    """
    waiting = open_decisions(session)
    if waiting is None or not waiting.steps:
        raise NotFound("no step waits for a decision.", hint="`reopen status` shows who is primary and what serves.")
    found = _find(waiting.steps, step)
    decision = Decision(
        plan=waiting.plan, step=found.step, attempt=found.attempt, choice=choice, by=by or getpass.getuser(), why=why
    )
    _log(session).append(decision, by=decision.by)
    return decision


def choice_of(text: str) -> Choice:
    """The choice that a word names.

    :raises InvalidInput: naming those there are.
    """
    try:
        return Choice(text)
    except ValueError as error:
        allowed = ", ".join(Choice)
        raise InvalidInput(
            f"{text!r} is no decision; allowed: {allowed}.", hint="`reopen decide --help` says what each of them does."
        ) from error


def _find(steps: Sequence[Undecided], wanted: str) -> Undecided:
    named = [step for step in steps if step.step == wanted]
    found = named or [step for step in steps if wanted in step.datasets]
    shown = ", ".join(step.step for step in steps)
    if not found:
        raise NotFound(f"{wanted!r} does not wait for a decision.", hint=f"What waits: {shown}.", step=wanted)
    if len(found) > 1:
        raise Conflict(f"{len(found)} steps of {wanted!r} wait for a decision.", hint=f"Name one of: {shown}.")
    return found[0]


def _waits_until(outcome: StepOutcome) -> datetime:
    """Until when its driver waits; when it failed, where it does not."""
    said = outcome.details.get(WAITS_UNTIL)
    return from_text(str(said)) if said else outcome.finished_at


def _undecided(plan: RecoveryPlan, outcome: StepOutcome, *, until: datetime) -> Undecided:
    step = plan.step(outcome.step)
    return Undecided(
        step=outcome.step,
        datasets=step.datasets,
        tier=step.tier,
        attempt=outcome.attempt,
        failed_at=outcome.finished_at,
        until=until,
        reason=outcome.reason,
        hint=outcome.hint,
    )


def _log(session: Session) -> EpochLog:
    if session.log is None:
        raise Refused(
            "a decision is a record of the epoch log.", hint="Add 'control' to the standby's section of the settings."
        )
    return session.log
