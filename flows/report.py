"""Owns the order of a report: look, judge, lay the page into the control store, show, tell.

An answer that is not yes fails the run, so that it is seen where runs are looked at.
"""

from __future__ import annotations

from functools import partial

from prefect import flow

from flows.arguments import run_as_command
from flows.outcome import concluded, describe_run, warn
from flows.requests import ReportRequest
from reopen.desk.report import look_around, send_report, try_to_store_report
from reopen.review.report.assemble import Report, make_report
from tasks.attempts import run_attempt
from tasks.limits import seconds_max
from tasks.looks import publish_report
from tasks.orphan import end_as_cancelled
from tasks.overdue import take_over_overdue
from tasks.secrets import open_session


@flow(
    name="report",
    timeout_seconds=seconds_max(),
    persist_result=False,
    on_running=[take_over_overdue],
    on_crashed=[end_as_cancelled],
)
def report(request: ReportRequest) -> Report:
    """Are we able to reopen? Write it down, and tell those who want to know."""
    session = open_session(request.config)
    standing = run_attempt("report", "look", partial(look_around, session))
    made = make_report(standing)
    describe_run(f"report {standing.target}: {made.judgement.answer}")
    place, problem = try_to_store_report(session, made)
    warn(problem)
    publish_report(made)
    if request.send:
        for delivery in send_report(session, made, place=place):
            if delivery.status != "sent":
                warn(f"{delivery.channel}: {delivery.status}: {delivery.error}")
    return concluded(made, "" if made.ok else made.judgement.sentence)


def lines(made: Report) -> list[str]:
    """The result as ``python -m flows.report`` prints it."""
    anchor = [] if made.head is None else [f"anchor: {made.head}"]
    return [
        made.judgement.sentence,
        *(f"{risk.mark}: {risk.what} {risk.about}: {risk.found} {risk.what_to_do}" for risk in made.risks),
        *anchor,
    ]


if __name__ == "__main__":
    run_as_command(report, ReportRequest, lines)
