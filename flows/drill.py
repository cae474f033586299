"""Owns the order of a drill: a failover's plan into a scratch folder, in a failover's order, judged by its clocks and
cleaned up. It fences nobody, promotes nothing, and has no way to the epoch log.
"""

from __future__ import annotations

from prefect import flow

from flows.arguments import run_as_command
from flows.failover import recover_in_order
from flows.outcome import concluded, describe_run, warn
from flows.requests import DrillRequest
from reopen import durations
from reopen.desk.drill import DrillWish, run_drill
from reopen.desk.runbook import try_to_keep_runbook
from reopen.recover.anchor import anchor_of
from reopen.recover.drill import DrillResult
from reopen.recover.plan import RecoveryPlan
from reopen.recover.runbook import summary
from tasks.artifacts import publish_evidence, publish_plan, publish_recovery
from tasks.limits import seconds_max
from tasks.orphan import end_as_cancelled
from tasks.overdue import take_over_overdue
from tasks.runner import threads
from tasks.secrets import open_session
from tasks.watching import callers_progress


@flow(
    name="drill",
    timeout_seconds=seconds_max(),
    task_runner=threads(),
    persist_result=False,
    on_running=[take_over_overdue],
    on_crashed=[end_as_cancelled],
)
def drill(request: DrillRequest) -> DrillResult:
    """Recover into a scratch folder, check everything, measure, and clean up."""
    session = open_session(request.config)

    def begin(plan: RecoveryPlan) -> None:
        scope = f"tier {request.tier}" if request.tier is not None else ", ".join(request.datasets) or "all"
        scenario = f" ({request.scenario})" if request.scenario else ""
        describe_run(f"drill {scope} at {plan.target_site}{scenario}", *(dataset.name for dataset in plan.datasets))
        publish_plan(plan)

    result = run_drill(session, wish_of(request), progress=callers_progress(), driver=recover_in_order, on_plan=begin)
    publish_recovery(result.plan, result.measured)
    publish_evidence(result.plan.kind, result.evidence, session.settings.control)
    warn(try_to_keep_runbook(session))
    broken = f"the chain of the evidence is broken: {result.broken}" if result.broken else ""
    problem = (
        broken
        if result.passed
        else result.clean_up.problem
        or result.finding
        or f"the drill {result.measured.verdict} its objectives: {result.measured.problem}"
    )
    return concluded(result, problem, hint=result.measured.hint)


def wish_of(request: DrillRequest) -> DrillWish:
    """What the request asks for, in the engine's words."""
    return DrillWish(
        datasets=request.datasets,
        tier=request.tier,
        point=request.point,
        random_within=None if request.random_within is None else durations.parse(request.random_within),
        seed=request.seed,
        scenario=request.scenario,
        assumed_detection=durations.parse(request.assumed_detection),
        vault=request.vault,
    )


def lines(result: DrillResult) -> list[str]:
    """The result as ``python -m flows.drill`` prints it."""
    gone = "is gone" if result.clean_up.gone else f"is NOT gone: {result.clean_up.problem}"
    return [summary(result.plan, result.measured), f"The scratch folder {gone}.", anchor_of(result.evidence)]


if __name__ == "__main__":
    run_as_command(drill, DrillRequest, lines)
