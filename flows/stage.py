"""Owns the order of staging: dataset by dataset, dependencies first, each restored, compared, checked and recorded.

It runs at a standby as often as replicas arrive. A run that finds nothing new ends at once; a failover goes first.
"""

from __future__ import annotations

from collections.abc import Callable

from prefect import flow

from flows.arguments import run_as_command
from flows.outcome import concluded, describe_run, warn
from flows.requests import StageRequest
from reopen.desk.runbook import try_to_keep_runbook
from reopen.desk.standby import Staging, choose_stage
from reopen.desk.standby import stage as carry_out
from reopen.recover.standby.staging import StageResult
from tasks.attempts import run_attempt
from tasks.limits import seconds_max
from tasks.orphan import end_as_cancelled
from tasks.overdue import take_over_overdue
from tasks.secrets import open_session
from tasks.watching import callers_progress


@flow(
    name="stage",
    timeout_seconds=seconds_max(),
    persist_result=False,
    on_running=[take_over_overdue],
    on_crashed=[end_as_cancelled],
)
def stage(request: StageRequest) -> Staging:
    """Prepare warm and hot datasets at this site."""
    session = open_session(request.config)
    plan = choose_stage(session, datasets=request.datasets, vault=request.vault, check=request.check)
    describe_run(f"stage {', '.join(request.datasets) or 'all'} at {plan.site}", *(item.name for item in plan.items))

    def run(name: str, work: Callable[[], StageResult]) -> StageResult:
        return run_attempt("stage", f"stage {name}", work, tags=(name,))

    done = carry_out(session, plan, vault=request.vault, progress=callers_progress(), run=run)
    warn(try_to_keep_runbook(session, arrived=done.changed))
    return concluded(done, done.problem)


def lines(done: Staging) -> list[str]:
    """The result as ``python -m flows.stage`` prints it."""
    return [
        f"{result.dataset}: {result.status}, snapshot {result.snapshot or '-'}, {result.written_bytes} bytes restored, "
        f"{result.copied_bytes} copied{f': {result.problem}' if result.problem else ''}"
        for result in done.results
    ]


if __name__ == "__main__":
    run_as_command(stage, StageRequest, lines)
