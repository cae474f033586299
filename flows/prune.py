"""Owns the order of a prune: find out what nobody needs, remove what was marked before, repack and mark the rest."""

from __future__ import annotations

from functools import partial

from prefect import flow

from flows.arguments import run_as_command
from flows.outcome import concluded, describe_run
from flows.requests import PruneRequest
from reopen.desk.prune import Pruned, prune_at
from reopen.protect.prune.choice import PackToDo
from tasks.artifacts import publish_prune
from tasks.attempts import run_attempt
from tasks.limits import seconds_max
from tasks.orphan import end_as_cancelled
from tasks.overdue import take_over_overdue
from tasks.progress import ArtifactProgress
from tasks.secrets import open_session


@flow(
    name="prune",
    timeout_seconds=seconds_max(),
    persist_result=False,
    on_running=[take_over_overdue],
    on_crashed=[end_as_cancelled],
)
def prune(request: PruneRequest) -> Pruned:
    """Give back the space of what no snapshot in a site's vault needs."""
    session = open_session(request.config)
    site = session.site(request.vault)
    word = "plan a prune of" if request.dry_run else "prune"
    describe_run(f"{word} {site.name}", "prune")
    run = partial(
        prune_at,
        session,
        site=site.name,
        dry_run=request.dry_run,
        grace_seconds=request.grace_seconds,
        max_unused_share=request.max_unused_share,
        repack_max_bytes=request.repack_max_bytes,
        wait_seconds=request.wait_seconds,
        progress=ArtifactProgress("prune-progress"),
    )
    done = run_attempt("prune", f"{word} {site.name}", run)
    publish_prune(done, site=site.name)
    return concluded(done, done.problem)


def lines(done: Pruned) -> list[str]:
    """The result as ``python -m flows.prune`` prints it."""
    plan, result = done.plan, done.result
    if result is None:
        delete, repack = plan.chosen(PackToDo.DELETE), plan.chosen(PackToDo.REPACK)
        return [
            f"{plan.due_bytes} bytes would be freed",
            f"{len(delete)} packs would be marked, {len(repack)} repacked",
            f"{plan.unused_bytes} of {plan.total_bytes} bytes are needed by nobody",
        ]
    return [
        *(f"waiting for {name}" for name in result.waiting_for),
        *(f"cannot be read: pack {pack}: {reason}" for pack, reason in result.unreadable),
        f"{result.freed_bytes} bytes freed, {result.marked_bytes} bytes marked, {result.repacked_bytes} bytes repacked",
    ]


if __name__ == "__main__":
    run_as_command(prune, PruneRequest, lines)
