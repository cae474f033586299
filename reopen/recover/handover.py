"""Owns the plan and the evidence of what moves a role or its copies and no dataset: rolling back, protecting anew, and
a planned move that ended before its fence.

It is a record of the same chain as drills and failovers, with no dataset and no clock of one: who did it and why, the
fence as achieved, what the abandoned site had written, what was copied, where the epoch log went, and from when to when
writers were held.

Invariants (docs/0013-drills-and-evidence.md)
    V2  Written when the act is done, and only then. Who dies in between is followed by one that writes it.
    V3  Its id follows from the log, so that whoever comes to write it a second time finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Evidenced, Record, Scenario, StepOutcome
from reopen.control.values import to_json
from reopen.errors import Internal
from reopen.ids import RandomBytes, system_random
from reopen.recover.account import account_of, attempts_of, evidence_id
from reopen.recover.clocks import Measured, Verdict
from reopen.recover.context import Delivery, Sign
from reopen.recover.evidence import Evidence
from reopen.recover.plan import PlanKind, RecoveryPlan
from reopen.recover.record import Recorded, record_recovery
from reopen.recover.steps import Outcomes, Step

ROLLBACK = "rollback"
REPROTECT = "reprotect"
GIVEN_BACK = "given-back"
HANDOVERS = (ROLLBACK, REPROTECT, GIVEN_BACK)
"""Kinds of evidence in which no dataset is recovered."""


def plan_of_handover(
    scenario: Scenario,
    *,
    source: str,
    target: str,
    vault: str,
    contracts: str,
    now: datetime,
    steps: tuple[Step, ...] = (),
) -> RecoveryPlan:
    """A plan from one site to another that moves no dataset."""
    return RecoveryPlan(
        kind=PlanKind.FAILOVER,
        scenario=scenario,
        vault=vault,
        source_site=source,
        target_site=target,
        selector="",
        declared_at=now,
        failed_at=now,
        contracts=contracts,
        datasets=(),
        served={},
        left_out=(),
        steps=steps,
    )


def record_handover(
    kind: str,
    plan: RecoveryPlan,
    outcomes: Outcomes,
    log: EpochLog,
    *,
    orchestrator: str,
    findings: Mapping[str, Any],
    sign: Sign | None,
    actions: Sequence[Mapping[str, Any]] = (),
    versions: Mapping[str, str] | None = None,
    messages: Sequence[Delivery] = (),
    resumed: bool = False,
    identifier: str = "",
    verdict: Verdict = Verdict.MET,
    random_bytes: RandomBytes = system_random,
) -> Recorded:
    """Write the evidence of an act that is done, and quote it in the log.

    :param outcomes: of its steps.
    :param identifier: of the record, where it does not follow from the plan.
    :param verdict: failed where what was wanted did not come about.
    :param actions: what people did that the log has no record of; they come after those of the log.
    :raises Superseded: another orchestrator acts now; the evidence stands, and the log does not quote it.
    """
    if not outcomes:
        raise Internal(f"a {kind} without a step is to be written down.")
    records, steps = log.records(), tuple(outcomes.values())
    epoch = rules.epoch_record(records)
    evidence = Evidence(
        id=identifier or evidence_id(records, plan.digest),
        kind=kind,
        plan=plan.digest,
        shape=plan.shape,
        planned=plan,
        measured=_measured(plan, steps, verdict),
        steps=steps,
        fence={} if epoch is None or epoch.plan != plan.digest else to_json(epoch.fence),
        epoch=rules.current_epoch(records),
        resumed=resumed,
        orchestrator=orchestrator,
        clean_up={},
        messages=tuple(asdict(message) for message in messages),
        versions=dict(versions or {}),
        scenario=str(plan.scenario),
        **_account(records, plan, outcomes, actions),
        findings=dict(findings),
    )
    recorded = record_recovery(log.store, evidence, sign=sign, random_bytes=random_bytes)

    def quoted(records: Sequence[Record]) -> Evidenced:
        now = rules.require_holder(records, orchestrator)
        stored = recorded.evidence
        told = stored.evidence.plan
        return Evidenced(epoch=now.epoch, term=now.term, plan=told, name=stored.name, digest=stored.digest)

    log.append(quoted, by=orchestrator)
    return recorded


def _account(
    records: Sequence[Record], plan: RecoveryPlan, outcomes: Outcomes, actions: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    account = account_of(records, plan, outcomes)
    return {
        "attempts": account.attempts,
        "unsettled": account.unsettled,
        "actions": (*account.actions, *actions),
        "deviations": attempts_of(plan, outcomes, account),
    }


def _measured(plan: RecoveryPlan, steps: Sequence[StepOutcome], verdict: Verdict) -> Measured:
    """No dataset has a clock here."""
    return Measured(
        verdict=verdict,
        t_failure=plan.failed_at,
        t_declared=plan.declared_at,
        t_started=min(step.started_at for step in steps),
        t_finished=max(step.finished_at for step in steps),
        assumed_detection=timedelta(0),
        datasets=(),
        tiers=(),
    )
