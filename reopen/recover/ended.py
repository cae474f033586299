"""Owns the evidence of a planned move that ended before its fence: what happened, and how long writers were held.

Invariants (docs/0011-failover-and-failback.md)
    F6  Where writers were held and are given back, evidence says so, whoever gave them back. A driver that dies between
        the two is followed by the next look of any watch, or by `reopen rollback`.

What held nobody (a target that is not ready, an approval that was refused) touched nothing, and has none.
"""

from __future__ import annotations

from reopen.clock import to_text, to_the_second
from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Evidenced, Outcome, Scenario, StepResult
from reopen.durations import to_text as duration_text
from reopen.errors import Internal
from reopen.recover.clocks import Verdict
from reopen.recover.context import RecoveryContext
from reopen.recover.handover import GIVEN_BACK, record_handover
from reopen.recover.permits import quiesced_at
from reopen.recover.plan import RecoveryPlan, read_plan
from reopen.recover.record import Recorded
from reopen.recover.roles import UNQUIESCE
from reopen.recover.steps import Outcomes


def unwritten_end(log: EpochLog) -> RecoveryPlan | None:
    """The plan of the newest move whose writers were given back and whose evidence is not written; else None."""
    records = log.records()
    given = [
        record
        for record in records
        if isinstance(record.value, Outcome)
        and record.value.outcome.step == UNQUIESCE
        and record.value.outcome.result is StepResult.DONE
    ]
    if not given:
        return None
    newest = given[-1]
    assert isinstance(newest.value, Outcome)
    digest = newest.value.plan
    if any(isinstance(r.value, Evidenced) and r.value.plan == digest and r.number > newest.number for r in records):
        return None
    plan = read_plan(log.load_plan(digest), f"plans/{digest}.json")
    return None if plan.scenario is Scenario.ROLLBACK else plan


def record_end(plan: RecoveryPlan, context: RecoveryContext, log: EpochLog, *, by: str, why: str) -> Recorded:
    """Write down a move whose writers are given back. The term must be ours.

    :param by: who gave the writers back, and ``why`` in words.
    """
    records = log.records()
    outcomes: Outcomes = {**rules.outcomes(records, plan.prepared), **rules.outcomes(records, plan.digest)}
    since, given = quiesced_at(records, plan), outcomes.get(UNQUIESCE)
    if since is None or given is None:
        raise Internal("a move that held nobody is to be written down as given back.")
    ended = next((outcome for outcome in outcomes.values() if outcome.result is StepResult.FAILED), None)
    return record_handover(
        GIVEN_BACK, plan, outcomes, log, orchestrator=context.orchestrator, sign=context.sign,
        versions=context.versions, verdict=Verdict.FAILED,
        findings={
            "role": f"it stays with {plan.source_site}; nothing was moved to {plan.target_site}",
            "writers": f"they were held from {to_the_second(since)} to {to_the_second(given.finished_at)} "
            f"({duration_text(given.finished_at - since)}), and are given back",
            "ended": why if ended is None else f"{ended.step} failed: {ended.reason}",
        },
        actions=[{"record": 0, "at": to_text(given.finished_at), "kind": GIVEN_BACK, "by": by, "what": why}],
    )  # fmt: skip
