"""Owns the order of a look at readiness: look, show, tell. The first step of a recovery looks by itself."""

from __future__ import annotations

from functools import partial

from prefect import flow

from flows.arguments import run_as_command
from flows.outcome import concluded, describe_run
from flows.requests import ReadyRequest
from reopen.desk.readiness import assess_site, tell_unready
from reopen.recover.readiness import Readiness
from tasks.attempts import run_attempt
from tasks.limits import seconds_max
from tasks.looks import publish_readiness
from tasks.orphan import end_as_cancelled
from tasks.overdue import take_over_overdue
from tasks.secrets import open_session


@flow(
    name="ready",
    timeout_seconds=seconds_max(),
    persist_result=False,
    on_running=[take_over_overdue],
    on_crashed=[end_as_cancelled],
)
def ready(request: ReadyRequest) -> Readiness:
    """Look whether a site could take over now."""
    session = open_session(request.config)
    found = run_attempt("ready", "look", partial(assess_site, session, site=request.site, send=request.send_test))
    describe_run(f"ready {found.site}: {found.verdict}")
    publish_readiness(found)
    tell_unready(session, found)
    return concluded(found, found.problem)


def lines(found: Readiness) -> list[str]:
    """The result as ``python -m flows.ready`` prints it."""
    return [
        *(
            f"{check.verdict}: {check.area} {check.name}{' ' if check.dataset else ''}{check.dataset}: {check.value}"
            for check in found.checks
        ),
        f"{found.site}: {len(found.checks)} checks, {len(found.failed)} failed, {len(found.warned)} warned",
    ]


if __name__ == "__main__":
    run_as_command(ready, ReadyRequest, lines)
