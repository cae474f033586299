"""Owns the order of a run of retention: decide about every snapshot of a vault, then let go what no rule keeps."""

from __future__ import annotations

from functools import partial

from prefect import flow

from flows.arguments import run_as_command
from flows.outcome import concluded, describe_run
from flows.requests import RetainRequest
from reopen.desk.retention import Retained, retain_at
from tasks.artifacts import publish_retention
from tasks.attempts import run_attempt
from tasks.limits import seconds_max
from tasks.orphan import end_as_cancelled
from tasks.overdue import take_over_overdue
from tasks.progress import ArtifactProgress
from tasks.secrets import open_session


@flow(
    name="retain",
    timeout_seconds=seconds_max(),
    persist_result=False,
    on_running=[take_over_overdue],
    on_crashed=[end_as_cancelled],
)
def retain(request: RetainRequest) -> Retained:
    """Let snapshots go in the vault of a site, by the rules of the contracts."""
    session = open_session(request.config)
    site, scope = session.site(request.vault), ", ".join(request.datasets) or "all"
    word = "plan retention of" if request.dry_run else "retain"
    describe_run(f"{word} {scope} at {site.name}", *(request.datasets or session.vault(site.name).datasets()))
    run = partial(
        retain_at,
        session,
        site=site.name,
        datasets=request.datasets,
        dry_run=request.dry_run,
        progress=ArtifactProgress("retain-progress"),
    )
    done = run_attempt("retain", f"{word} {scope}", run)
    publish_retention(done)
    return concluded(done, done.problem)


def lines(done: Retained) -> list[str]:
    """The result as ``python -m flows.retain`` prints it."""
    going = (
        [decision for item in done.plan.datasets for decision in item.expiring]
        if done.result is None
        else list(done.result.expired)
    )
    word = "would expire" if done.result is None else "expired"
    return [
        *(f"{word}: {item.record.name}: {'; '.join(item.reasons)}" for item in going),
        *(f"look at this: {finding}" for item in done.plan.datasets for finding in item.findings),
        *(f"{name}: {error}" for name, error in done.errors.items()),
        f"{len(going)} of {sum(len(item.decisions) for item in done.plan.datasets)} snapshots {word}",
    ]


if __name__ == "__main__":
    run_as_command(retain, RetainRequest, lines)
