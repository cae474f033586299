"""Owns the order of a restore: choose the snapshot, make the target ready, write the shards, end it, look at it.

For one dataset, wherever it is wanted. What comes back in which order after a disaster is :mod:`flows.failover`. It
needs the recovery key where it runs; that stays in the worker's process, and nothing of it is shown.
"""

from __future__ import annotations

from functools import partial

from prefect import flow, get_run_logger

from flows.arguments import run_as_command
from flows.outcome import concluded, describe_run
from flows.requests import RestoreRequest
from reopen.desk.doubts import doubt
from reopen.desk.elsewhere import Workplace
from reopen.desk.restore import Restored, RestoreWish, carry_out, choose_restore
from reopen.desk.session import Session
from reopen.recover.restore import RestorePlan, RestoreResult, begin_restore, execute_restore
from reopen.storage import local_path
from tasks.artifacts import publish_restore
from tasks.orphan import end_as_cancelled
from tasks.progress import ArtifactProgress, artifact_key
from tasks.runner import open_crew, threads
from tasks.secrets import open_session
from tasks.shards import SHARDS_AT_ONCE, restore_shards


@flow(name="restore", task_runner=threads(SHARDS_AT_ONCE), persist_result=False, on_crashed=[end_as_cancelled])
def restore(request: RestoreRequest) -> Restored:
    """Bring back one dataset, as it was at a time, into a folder."""
    session = open_session(request.config)
    word = "plan a restore of" if request.dry_run else "restore"
    describe_run(f"{word} {request.dataset} to {request.to}", request.dataset)
    if request.reason:
        get_run_logger().info(f"reason: {request.reason}")
    plan = choose_restore(session, wish_of(request))
    suspect = doubt(plan.vault, request.dataset, plan.record.id)
    if suspect:
        get_run_logger().warning(f"snapshot {plan.record.id} may be encrypted or infected: {suspect}")
    if request.dry_run:
        done = Restored(plan=plan)
    else:
        done = carry_out(
            session, plan, check=request.check, execute=partial(_execute, session=session, vault=request.vault)
        )
    publish_restore(done, reason=request.reason, suspect=suspect)
    return concluded(done, done.problem)


def wish_of(request: RestoreRequest) -> RestoreWish:
    """What the request asks for, in the engine's words."""
    return RestoreWish(
        dataset=request.dataset,
        to=request.to,
        at=request.at,
        patterns=request.path,
        delete=request.delete,
        into_existing=request.into_existing,
        check=request.check,
        vault=request.vault,
    )


def _execute(plan: RestorePlan, *, session: Session, vault: str | None) -> RestoreResult:
    workers = session.settings.limits.workers
    progress = ArtifactProgress(artifact_key("restore-progress", plan.record.dataset))
    if local_path(plan.target_url) is None:
        return execute_restore(plan, workers=workers, progress=progress)
    with open_crew(session.settings.shards) as crew, begin_restore(plan, workers=workers) as run:
        progress.start(plan.record.dataset, plan.size_bytes, "bytes")
        result = run.finish(restore_shards(run, plan.vault, crew, Workplace.of(session.settings, vault), progress))
        progress.finish()
        return result


def lines(done: Restored) -> list[str]:
    """The result as ``python -m flows.restore`` prints it."""
    plan, result = done.plan, done.result
    if result is None:
        return [f"would restore {plan.files} files of snapshot {plan.record.id} to {plan.target_url}"]
    checked = f"read again: {done.problem or 'all of it is right'}" if done.checked else "it was not read again"
    return [
        f"{result.dataset}: {result.files} files of snapshot {result.snapshot} are in {result.target_url}",
        f"{result.written_files} written, {result.unchanged_files} right already",
        checked,
    ]


if __name__ == "__main__":
    run_as_command(restore, RestoreRequest, lines)
