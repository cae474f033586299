"""Owns what became of a role: who had it when, what was written without it, and what may have happened unseen. Pure.

Invariants (docs/0011-failover-and-failback.md)
    F1   An attempt without an outcome may have acted, and so may one that says that nobody knows.
    F11  What a site wrote before it had the role, or after it had lost it, is diverged.
    F12  So is what was written in an epoch that a roll-back gave up.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from reopen.control.records import Epoch, Intent, Outcome, Record, StepResult
from reopen.control.rules import abandoned_epochs, decision, values

IN_DOUBT = "hook-in-doubt"
"""The kind of error of an attempt that may have acted with nobody knowing."""


def primary_in(records: Sequence[Record], epoch: int, *, initial: str) -> str | None:
    """The site that had the role in an epoch; None when the log does not know the epoch."""
    if epoch == 0:
        return initial
    return next((value.primary for value in values(records, Epoch) if value.epoch == epoch), None)


def role_lost_at(records: Sequence[Record], epoch: int) -> datetime | None:
    """When the role left the primary of an epoch; None while it has it."""
    later = [r for r in records if isinstance(r.value, Epoch) and r.value.epoch > epoch]
    primary = next((value.primary for value in values(records, Epoch) if value.epoch == epoch), None)
    for record in later:
        assert isinstance(record.value, Epoch)
        if record.value.primary != primary:
            return record.at
    return None


def is_diverged(records: Sequence[Record], *, site: str, epoch: int, consistent_at: datetime, initial: str) -> bool:
    """Whether a snapshot holds what a site wrote that had not, or no longer, or in vain, the role (F11, F12).

    :param epoch: the one that its writer knew; ``consistent_at``: the instant that it stands for.
    """
    if primary_in(records, epoch, initial=initial) != site or epoch in abandoned_epochs(records):
        return True
    lost_at = role_lost_at(records, epoch)
    return lost_at is not None and consistent_at > lost_at


def is_quiesced(records: Sequence[Record]) -> bool:
    """Whether a planned move holds the writers of the primary: begun, not fenced yet, and not given back."""
    held = False
    for record in records:
        match record.value:
            case Intent(step="quiesce"):
                held = True
            case Epoch():
                held = False
            case Outcome() if record.value.outcome.step == "unquiesce":
                held = held and record.value.outcome.result is not StepResult.DONE
    return held


def in_doubt(records: Sequence[Record], plan: str, step: str, *, before: int) -> bool:
    """Whether the attempt before one (by number) may have acted with nobody knowing: it has no outcome, or one that
    says so and that no person has decided about."""
    newest = before - 1
    if newest < 1:
        return False
    ended = next(
        (
            value.outcome
            for value in values(records, Outcome)
            if (value.plan, value.outcome.step, value.outcome.attempt) == (plan, step, newest)
            and value.outcome.result not in (StepResult.NOT_EXECUTED, StepResult.SKIPPED)
        ),
        None,
    )
    if ended is None:
        return True
    return ended.details.get("error") == IN_DOUBT and decision(records, plan, step, newest) is None
