"""Owns what makes a business safe again after its role has moved: copies go the other way, and so does the log.

Order: term taken -> intent -> everything the new primary has is replicated to the other site -> the log moves, where
its home is at the new primary -> evidence -> outcome. A crash leaves it between two of these; running it again goes on.

Invariants (docs/0011-failover-and-failback.md)
    F12  Only a committed failover is made safe again: what can be rolled back keeps the copies of the site that had
         the role.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from reopen.clock import to_text
from reopen.control import rules
from reopen.control.homes import OpenStore, move_log
from reopen.control.log import EpochLog
from reopen.control.records import Committed, Intent, Outcome, Record, Scenario, StepOutcome, StepResult, Takeover
from reopen.control.states import State, position_of
from reopen.errors import Conflict
from reopen.recover.account import evidence_id
from reopen.recover.context import Sign
from reopen.recover.evidence import StoredEvidence
from reopen.recover.handover import REPROTECT, plan_of_handover, record_handover
from reopen.recover.plan import RecoveryPlan

READY_STATES = frozenset({State.COMMITTED, State.REPROTECTING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reprotected:
    """What it came to: from which site copies go to which, what was copied, and where the log is."""

    primary: str
    standby: str
    copied: Mapping[str, Any]
    log_url: str
    moved: bool
    evidence: StoredEvidence | None = None
    problems: tuple[str, ...] = ()
    """What could not be laid beside the evidence."""


def plan_reprotect(
    records: Sequence[Record], *, primary: str, standby: str, vault: str, contracts: str, now: datetime
) -> RecoveryPlan:
    """The plan that this step belongs to; it moves no dataset.

    :raises Conflict: no failover is committed, or everything is safe already.
    """
    state = position_of(records).state
    if state not in READY_STATES:
        raise Conflict(
            f"there is nothing to protect anew: the state is {state}.",
            hint="After a failover comes `reopen commit`, and then this.",
        )
    return plan_of_handover(
        Scenario.MOVED, source=primary, target=standby, vault=vault, contracts=contracts, now=now,
    )  # fmt: skip


def execute_reprotect(
    plan: RecoveryPlan,
    log: EpochLog,
    *,
    replicate: Callable[[], Mapping[str, Any]],
    next_url: str | None,
    open_store: OpenStore,
    orchestrator: str,
    reason: str,
    by: str = "",
    sign: Sign | None = None,
    versions: Mapping[str, str] | None = None,
) -> Reprotected:
    """Carry it out, or go on with it.

    :param by: the person; ``orchestrator`` is the id of this process.

    :param replicate: copies everything from the primary's vault to the standby's, and tells what it copied.
    :param next_url: the log's next home; None where it stays.
    """
    digest, clock, started_at = log.store_plan(plan.encoded), log.clock, log.clock.now()

    def takeover(records: Sequence[Record]) -> Takeover:
        now = rules.holder(records)
        return Takeover(epoch=now.epoch, term=now.term + 1, reason=reason)

    def intent(records: Sequence[Record]) -> Intent:
        now = rules.require_holder(records, orchestrator)
        attempt = rules.attempts(records, digest, REPROTECT) + 1
        return Intent(epoch=now.epoch, term=now.term, plan=digest, step=REPROTECT, attempt=attempt)

    log.append(takeover, by=orchestrator)
    begun = log.append(intent, by=orchestrator).value
    assert isinstance(begun, Intent)
    copied = replicate()
    home = log
    if next_url is not None:
        home = move_log(log.store, next_url, open_store=open_store, clock=clock, by=orchestrator, reason=reason)
    result = Reprotected(
        primary=plan.source_site,
        standby=plan.target_site,
        copied=copied,
        log_url=home.store.url,
        moved=next_url is not None,
    )
    ended = StepOutcome(
        step=REPROTECT,
        attempt=begun.attempt,
        started_at=started_at,
        finished_at=clock.now(),
        result=StepResult.DONE,
        details={"copied": dict(copied), "log": result.log_url},
    )

    def outcome(records: Sequence[Record]) -> Outcome:
        now = rules.require_holder(records, orchestrator)
        return Outcome(epoch=now.epoch, term=now.term, plan=digest, outcome=ended)

    # Before the outcome: who dies in between is followed by one that writes it. That one has a plan of its own, so the
    # id follows from the commit that made it necessary.
    committed = max((r.number for r in home.records() if isinstance(r.value, Committed)), default=0)
    recorded = record_handover(
        REPROTECT, plan, {ended.step: ended}, home, orchestrator=orchestrator, sign=sign, versions=versions,
        identifier=evidence_id((), "", purpose=f"{REPROTECT} after record {committed}"),
        findings={
            "copies": f"go from {result.primary} to {result.standby}",
            "copied": dict(copied),
            "log": f"it moved to {result.log_url}" if result.moved else f"it stays at {result.log_url}",
        },
        actions=[
            {"record": 0, "at": to_text(ended.finished_at), "kind": REPROTECT, "by": by or orchestrator, "what": reason}
        ],
    )  # fmt: skip
    home.append(outcome, by=orchestrator)
    return replace(result, evidence=recorded.evidence, problems=recorded.problems)
