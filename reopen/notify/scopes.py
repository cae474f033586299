"""Owns which events go to an owner's channel by its ``scope``, the word of ODCS for what a channel is for.

==================  =============================================================================================
``notifications``   everything
``issues``          everything but what is routine: that a tier is back, the regular report
``announcements``   where the business runs, and that this changes: declared, finished, committed, rolled back
``interactive``     the same, and what people are asked: an approval, a decision
none, or another    everything: who writes a channel down and says no more wants to be told
==================  =============================================================================================

Invariants
    S1  A scope never leaves nobody: where no channel of those whom an event concerns is for it, all of them are told,
        but of what is routine. A message too many costs less than an approval that nobody was asked for.
    S2  An event that is in no table here is an issue.
"""

from __future__ import annotations

from collections.abc import Iterable

from reopen.config.events import Event
from reopen.recover.plan import Contact

ROUTINE = frozenset({Event.TIER_RESTORED, Event.REPORT})
ANNOUNCED = frozenset(
    {Event.DECLARED, Event.FAILOVER_FINISHED, Event.FAILBACK_FINISHED, Event.COMMITTED, Event.ROLLED_BACK}
)
ASKED = frozenset({Event.APPROVAL_NEEDED, Event.DECISION_NEEDED})


def wants(scope: str, event: str) -> bool:
    """Whether a channel of this scope is for an event. Every channel is for a test."""
    if event == Event.TEST:
        return True
    match scope.strip().lower():
        case "issues":
            return event not in ROUTINE
        case "announcements":
            return event in ANNOUNCED
        case "interactive":
            return event in ANNOUNCED or event in ASKED
        case _:
            return True


def told_of(contacts: Iterable[Contact], event: str) -> list[Contact]:
    """Those of the channels that are told of an event (S1)."""
    concerned = list(contacts)
    chosen = [contact for contact in concerned if wants(contact.scope, event)]
    return chosen if chosen or event in ROUTINE else concerned
