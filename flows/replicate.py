"""Owns the order of a replication: list what the other vault lacks, then copy it; what refers comes last."""

from __future__ import annotations

from functools import partial

from prefect import flow

from flows.arguments import run_as_command
from flows.outcome import describe_run, warn
from flows.requests import ReplicateRequest
from reopen.desk.runbook import try_to_keep_runbook
from reopen.protect.replicate.replicate import ReplicateResult, execute_replicate, plan_replicate
from reopen.storage import open_store
from reopen.storage.throttle import throttled
from tasks.artifacts import publish_replication
from tasks.attempts import run_attempt
from tasks.limits import link_limit, seconds_max, slot
from tasks.orphan import end_as_cancelled
from tasks.overdue import take_over_overdue
from tasks.progress import ArtifactProgress
from tasks.secrets import open_session


@flow(
    name="replicate",
    timeout_seconds=seconds_max(),
    persist_result=False,
    on_running=[take_over_overdue],
    on_crashed=[end_as_cancelled],
)
def replicate(request: ReplicateRequest) -> ReplicateResult:
    """Copy a vault to another site."""
    session = open_session(request.config)
    source, target = session.site(request.vault), session.site(request.to) if request.to else session.standby()
    describe_run(f"replicate {source.name} to {target.name}")
    store = throttled(open_store(target.vault), session.settings.limits.replicate_rate)
    plan = plan_replicate(session.vault(source.name), store, witness=session.witness)
    copy = partial(
        execute_replicate,
        plan,
        workers=session.settings.limits.workers,
        progress=ArtifactProgress("replicate-progress"),
    )
    # Each copy is as fast as the settings let it be; one at a time keeps all of them together within that.
    with slot(link_limit(session.settings.site)):
        result = run_attempt("replicate", f"copy {plan.objects} objects", copy)
    session.witness.remember(plan.source)
    if target.role == "standby":
        warn(try_to_keep_runbook(session, arrived=result.copied_objects > 0))
    publish_replication(result, source=source.name, target=target.name)
    return result


def lines(result: ReplicateResult) -> list[str]:
    """The result as ``python -m flows.replicate`` prints it."""
    return [
        f"copied {result.snapshots} snapshots in {result.copied_objects} objects, {result.copied_bytes} bytes",
        f"{result.present_objects} objects were there",
    ]


if __name__ == "__main__":
    run_as_command(replicate, ReplicateRequest, lines)
