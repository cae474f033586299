"""Owns the order of a snapshot: for each dataset scan and compare, read the shards, commit.

A dataset that fails does not stop the others. Nothing of it is committed.
"""

from __future__ import annotations

from dataclasses import dataclass

from prefect import flow

from flows.arguments import run_as_command
from flows.outcome import concluded, describe_run, warn
from flows.requests import SnapshotRequest
from reopen.desk.elsewhere import Workplace
from reopen.desk.heartbeat import Job, heartbeat
from reopen.errors import ReopenError
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import SnapshotResult, SnapshotRun
from reopen.vault import Vault
from reopen.vault.suspicion import suspect_snapshots
from tasks.artifacts import publish_snapshot, publish_suspicion
from tasks.limits import seconds_max, slot, writer_limit
from tasks.orphan import end_as_cancelled
from tasks.overdue import take_over_overdue
from tasks.progress import ArtifactProgress, artifact_key
from tasks.runner import open_crew, threads
from tasks.secrets import open_session
from tasks.shards import SHARDS_AT_ONCE, write_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotsTaken:
    """What a run came to. ``failed`` has the error of each dataset of which nothing was committed."""

    results: tuple[SnapshotResult, ...]
    failed: dict[str, ReopenError]

    @property
    def ok(self) -> bool:
        """Whether every dataset has a new snapshot that holds all of its files."""
        return not self.problem

    @property
    def problem(self) -> str:
        """What is wrong, in a line; empty when nothing is."""
        incomplete = [result.record.dataset for result in self.results if result.record.state != "complete"]
        texts = [f"{name}: {error}" for name, error in self.failed.items()]
        missing = "is incomplete: files could not be read. Hint: Its artifact names them; make them readable."
        return "; ".join([*texts, *(f"{name} {missing}" for name in incomplete)])


@flow(
    name="snapshot",
    timeout_seconds=seconds_max(),
    task_runner=threads(SHARDS_AT_ONCE),
    persist_result=False,
    on_running=[take_over_overdue],
    on_crashed=[end_as_cancelled],
)
def snapshot(request: SnapshotRequest) -> SnapshotsTaken:
    """Take a snapshot of each dataset that is asked for, in the order of recovery."""
    session = open_session(request.config)
    datasets = session.chosen(request.datasets)
    describe_run(f"snapshot {', '.join(request.datasets) or 'all'}", *(dataset.name for dataset in datasets))
    vault, standing, results, failed = session.vault(request.vault), session.standing(), [], {}
    standing.require_free()
    workers = session.settings.limits.workers if request.workers is None else request.workers
    workplace = Workplace.of(session.settings, request.vault)
    with heartbeat(session.settings, Job.SNAPSHOT) as pulse, open_crew(session.settings.shards) as crew:
        for dataset in datasets:
            progress = ArtifactProgress(artifact_key("snapshot-progress", dataset.name))
            try:
                with slot(writer_limit(session.settings.site, dataset.name)):
                    served = session.served(dataset, session.settings.site, standing)
                    plan = plan_snapshot(vault, served, session.settings.site, cache=session.index_cache)
                    progress.start(dataset.name, plan.read_bytes, "bytes")
                    with SnapshotRun(vault, plan, standing=standing, workers=workers, progress=progress) as run:
                        write_shards(run, crew, workplace)
                        result = run.commit()
                    progress.finish()
            except ReopenError as error:
                failed[dataset.name] = error
            else:
                publish_snapshot(result)
                results.append(result)
                if not result.reused_manifest:
                    look_for_suspicion(vault, result)
        session.witness.remember(vault)
        taken = SnapshotsTaken(results=tuple(results), failed=failed)
        pulse.failed = not taken.ok
    warn(pulse.problem)
    return concluded(taken, taken.problem)


def look_for_suspicion(vault: Vault, result: SnapshotResult) -> None:
    """Say that a snapshot is suspect. It is committed, whatever becomes of the look."""
    record = result.record
    try:
        reasons = suspect_snapshots(vault, record.dataset).get(record.id, ())
    except ReopenError as error:
        warn(f"whether {record.dataset} is suspect could not be looked at: {error.message}")
        return
    if reasons:
        publish_suspicion(record, reasons)


def lines(taken: SnapshotsTaken) -> list[str]:
    """The result as ``python -m flows.snapshot`` prints it."""
    return [
        f"{result.record.dataset}: {result.record.state}, {result.record.totals.files} files, "
        f"{result.record.totals.read_bytes} bytes read, {result.record.totals.stored_bytes} stored, "
        f"snapshot {result.record.id}"
        for result in taken.results
    ] + [f"{name}: failed: {error}" for name, error in taken.failed.items()]


if __name__ == "__main__":
    run_as_command(snapshot, SnapshotRequest, lines)
