"""Owns the order of a failover, as a person watches it.

    look how ready the standby is; wait for approval where it is asked for
    planned: hold the writers, copy what they wrote last
    fence the old primary
    tier 1: restore -> validate -> promote, datasets side by side, dependencies first
    tier 1 is settled: now tier 2, and so on
    finish, evidence

The plan says which step may begin when (:mod:`reopen.recover.steps`); the engine's own driver asks it the same
questions in the same order, for when the orchestrator is what was lost. Each step is a task run. A failed dataset stops
those that depend on it and nobody else.

An automatic run whose plan another run carries out, or waits with, ends at once and says which. Any other time,
running the flow again goes on where the epoch log says it is, also after its process, host or Prefect server has died.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import cast

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.arguments import run_as_command
from flows.outcome import carried_by, concluded, describe_run, is_alive, not_needed
from flows.requests import FailoverRequest
from reopen import durations
from reopen.control.log import EpochLog
from reopen.control.records import Scenario, StepOutcome
from reopen.control.rules import epoch_of
from reopen.desk.doubts import doubt_lines, doubts
from reopen.desk.moves import carry_out, choose_move, failback_wish
from reopen.desk.recovery import Chosen, Wish, choose_failover, fence_of
from reopen.desk.session import Session
from reopen.desk.watching import rule_of
from reopen.errors import Conflict
from reopen.recover.anchor import anchor_of
from reopen.recover.automatic import accepted_risks
from reopen.recover.clocks import Verdict
from reopen.recover.context import Attended, RecoveryContext
from reopen.recover.course import Course, OnOutcome
from reopen.recover.failover import FailoverResult
from reopen.recover.journal import Journal
from reopen.recover.plan import RecoveryPlan
from reopen.recover.runbook import summary
from reopen.recover.steps import Verb
from reopen.storage.canonical import decode, encode
from tasks.approval import ask_for_approval
from tasks.artifacts import publish_evidence, publish_plan, publish_recovery
from tasks.orphan import end_as_cancelled
from tasks.runner import threads
from tasks.secrets import open_session
from tasks.steps import StepTasks
from tasks.watching import callers_progress

CLAIMS = "claims"
"""Below it in the control store: which automatic run was first, by the number of records that it found in the log."""


@flow(name="failover", task_runner=threads(), persist_result=False, on_crashed=[end_as_cancelled])
def failover(request: FailoverRequest) -> FailoverResult:
    """Move the role to another site and open the business there, tier by tier."""
    session = open_session(request.config)
    chosen = choose(session, request)
    plan, log = chosen.plan, chosen.log
    if request.automatic and (other := other_run(log, plan, begun=chosen.begun)):
        # The watch says again and again that a site is lost. Going on with the plan would take it away from the run
        # that waits for approval, or is in the middle of it.
        describe_run(f"failover to {plan.target_site}: left to {other}")
        text = f"Nothing to do: the run {other!r} carries out, or waits for approval of, plan {plan.digest[:16]}."
        return cast("FailoverResult", not_needed(text))
    if chosen.note:
        get_run_logger().warning(chosen.note)
    risks: tuple[str, ...] = request.accept_risk
    note = ""
    if request.automatic:
        risks = tuple(dict.fromkeys((*risks, *accepted_risks(session.settings.sites, source=plan.source_site))))
        rule = rule_of(session, plan, source=plan.source_site, target=plan.target_site)
        if not rule.by_itself:
            note = f"An automatic failover is refused, so a person decides. {rule.text}"
            get_run_logger().warning(note)
        if risks:
            note += f" Whoever approves accepts: {', '.join(risks)}."
    epoch = epoch_of(log.records(), target=plan.target_site, initial=plan.source_site)
    describe_run(f"failover to {plan.target_site} (epoch {epoch})", plan_tag(plan), *map(_tier_tag, plan.tiers))
    suspect = doubts(session, plan, request.vault or plan.target_site)
    for line in doubt_lines(suspect):
        get_run_logger().warning(line)
    publish_plan(plan, suspect)
    result = carry_out(
        session,
        chosen,
        fence=fence_of(asserted=request.assert_fenced, accepted_risks=risks, by=request.by),
        reason=request.reason,
        vault=request.vault,
        progress=callers_progress(),
        attended=Attended.FLOW,
        driver=partial(recover_in_order, ask=asking(log, durations.parse(request.wait_approval), note)),
    )
    publish_recovery(result.plan, result.measured)
    publish_evidence(result.plan.kind, result.evidence, session.settings.control)
    problem = f"the chain of the evidence is broken: {result.broken}" if result.broken else "; ".join(result.undone)
    if result.verdict is not Verdict.MET:
        problem = f"the failover {result.verdict} its objectives: {result.measured.problem}"
    return concluded(result, problem, hint=result.measured.hint)


def recover_in_order(
    plan: RecoveryPlan,
    context: RecoveryContext,
    journal: Journal,
    *,
    workers: int,
    on_outcome: OnOutcome,
    ask: Callable[[RecoveryPlan], None] = lambda plan: None,
) -> dict[str, StepOutcome]:
    """Run every step of a plan that can be run, ``workers`` at a time, each as a task run; a drill does it too.

    :param ask: pauses the flow run until people have spoken about the plan.
    """
    course = Course(plan, context, journal, on_outcome=on_outcome)
    tasks = StepTasks(plan, context, journal)
    while True:
        for step in course.next_steps(tasks.running)[: workers - len(tasks.running)]:
            if step.verb is Verb.APPROVE:
                ask(plan)
            tasks.begin(step)
        if tasks.running:
            settled = tasks.next_settled(within_seconds=course.look_seconds)
            if settled is not None:
                course.take(*settled)
        elif course.is_waiting:
            course.wait()
        else:
            return course.conclude()


def choose(session: Session, request: FailoverRequest) -> Chosen:
    """The plan that was begun, or a new one of the kind that is asked for."""
    wish, limit = wish_of(request), durations.parse(request.quiesce_max)
    if request.failback:
        back = failback_wish(session, wish)
        return choose_move(session, back, scenario=Scenario.FAILBACK, reason=request.reason, quiesce_max=limit)
    if request.planned:
        return choose_move(session, wish, scenario=Scenario.PLANNED, reason=request.reason, quiesce_max=limit)
    return choose_failover(session, wish, reason=request.reason)


def asking(log: EpochLog, seconds_max: timedelta, note: str = "") -> Callable[[RecoveryPlan], None]:
    """Asks people in the UI, for so long at most; ``note`` is what they should know of this plan."""
    return partial(ask_for_approval, log=log, seconds_max=seconds_max, note=note)


def wish_of(request: FailoverRequest) -> Wish:
    """What the request asks for, in the engine's words."""
    return Wish(
        datasets=request.datasets,
        point=request.point,
        source=request.source,
        to=request.to,
        failed_at=request.failed_at,
        vault=request.vault,
        automatic=request.automatic,
    )


def other_run(log: EpochLog, plan: RecoveryPlan, *, begun: bool) -> str:
    """The run that carries out what an automatic one was started for, or waits with it; empty when there is none.

    Two that are started in the same second know nothing of each other's plan. The one that is first to claim the log as
    it stands goes on; the other finds the claim, and whose it is. What stands in the log afterwards is another log.
    """
    if begun and (other := carried_by(plan_tag(plan))):
        return other
    records = log.records()
    for number in itertools.count(1):
        name = f"{CLAIMS}/{plan.target_site}/{len(records):010d}-{number}.json"
        claim = encode({"run": flow_run.get_id(), "name": flow_run.get_name()})
        try:
            log.store.create(name, [claim])
        except Conflict:
            holder = decode(log.store.get(name), name)
            if is_alive(str(holder["run"])):
                return str(holder["name"])
            # It died before it wrote anything into the log.
            continue
        return ""
    raise AssertionError("the loop returns")


def plan_tag(plan: RecoveryPlan) -> str:
    """The tag of runs that carry out a plan."""
    return f"plan-{plan.digest[:16]}"


def _tier_tag(tier: int) -> str:
    return f"tier-{tier}"


def lines(result: FailoverResult) -> list[str]:
    """The result as ``python -m flows.failover`` prints it."""
    head = f"{result.primary} is the primary, epoch {result.epoch}"
    return [head, *result.undone, "", summary(result.plan, result.measured), anchor_of(result.evidence)]


if __name__ == "__main__":
    run_as_command(failover, FailoverRequest, lines)
