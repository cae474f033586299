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
from reopen.desk.recovery import SIDE_BY_SIDE, choose_drill, open_desk
from reopen.desk.runbook import try_to_keep_runbook
from reopen.desk.session import open_session
from reopen.ids import new_id
from reopen.recover.drill import DrillResult, execute_drill
from reopen.recover.runbook import summary
from reopen.storage import open_store
from tasks.artifacts import publish_plan, publish_recovery
from tasks.runner import threads
from tasks.watching import callers_progress


@flow(name="drill", task_runner=threads(), persist_result=False)
def drill(request: DrillRequest) -> DrillResult:
    """Recover into a scratch folder, check everything, measure, and clean up."""
    session, identifier = open_session(request.config), new_id()
    scratch, plan = choose_drill(
        session,
        identifier=identifier,
        datasets=request.datasets,
        tier=request.tier,
        point=request.point,
        vault=request.vault,
    )
    scope = f"tier {request.tier}" if request.tier is not None else ", ".join(request.datasets) or "all"
    describe_run(f"drill {scope} at {plan.target_site}", *(dataset.name for dataset in plan.datasets))
    publish_plan(plan)
    with open_desk(session, vault=request.vault, progress=callers_progress()) as context:
        result = execute_drill(
            plan,
            context,
            open_store(session.settings.control),
            scratch=scratch,
            identifier=identifier,
            workers=SIDE_BY_SIDE,
            assumed_detection=durations.parse(request.assumed_detection),
            driver=recover_in_order,
        )
    publish_recovery(plan, result.measured)
    warn(try_to_keep_runbook(session))
    problem = "" if result.passed else result.clean_up.problem or f"the drill {result.measured.verdict} its objectives"
    return concluded(result, problem)


def lines(result: DrillResult) -> list[str]:
    """The result as ``python -m flows.drill`` prints it."""
    gone = "is gone" if result.clean_up.gone else f"is NOT gone: {result.clean_up.problem}"
    return [summary(result.plan, result.measured), f"The scratch folder {gone}."]


if __name__ == "__main__":
    run_as_command(drill, DrillRequest, lines)
