"""Owns the order of a restore: choose the snapshot, make the target ready, write the shards, end it.

For one dataset, wherever it is wanted. What comes back in which order after a disaster is :mod:`flows.failover`.
"""

from __future__ import annotations

from prefect import flow

from flows.arguments import run_as_command
from flows.outcome import describe_run
from flows.requests import RestoreRequest
from reopen.desk.elsewhere import Workplace
from reopen.recover.restore import RestoreResult, begin_restore, execute_restore, plan_restore
from reopen.storage import local_path
from tasks.artifacts import publish_restore
from tasks.progress import ArtifactProgress, artifact_key
from tasks.runner import open_crew, threads
from tasks.secrets import open_session
from tasks.shards import SHARDS_AT_ONCE, restore_shards


@flow(name="restore", task_runner=threads(SHARDS_AT_ONCE), persist_result=False)
def restore(request: RestoreRequest) -> RestoreResult:
    """Write a snapshot's files to a folder."""
    session = open_session(request.config)
    describe_run(f"restore {request.dataset} to {request.to}", request.dataset)
    vault = session.vault(request.vault)
    record = vault.find(request.dataset, request.at)
    plan = plan_restore(vault, record, request.to, patterns=request.path, delete=request.delete)
    workers = session.settings.limits.workers
    progress = ArtifactProgress(artifact_key("restore-progress", request.dataset))
    if local_path(request.to) is None:
        result = execute_restore(plan, workers=workers, progress=progress)
    else:
        with open_crew(session.settings.shards) as crew, begin_restore(plan, workers=workers) as run:
            progress.start(request.dataset, plan.size_bytes, "bytes")
            written = restore_shards(run, vault, crew, Workplace.of(session.settings, request.vault), progress)
            result = run.finish(written)
            progress.finish()
    publish_restore(result)
    return result


def lines(result: RestoreResult) -> list[str]:
    """The result as ``python -m flows.restore`` prints it."""
    return [
        f"{result.dataset}: {result.files} files of snapshot {result.snapshot} are in {result.target_url}",
        f"{result.written_files} written, {result.unchanged_files} right already",
    ]


if __name__ == "__main__":
    run_as_command(restore, RestoreRequest, lines)
