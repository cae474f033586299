"""Owns the form for a decision: what becomes of a step that failed while a recovery runs. It appends the record that
``reopen decide`` appends; the recovery that waits sees it when it looks at the log next.
"""

from __future__ import annotations

from prefect import flow

from flows.arguments import run_as_command
from flows.outcome import describe_run
from flows.requests import DecideRequest
from reopen.control.records import Decision
from reopen.desk.decisions import decide as record_decision
from tasks.orphan import end_as_cancelled
from tasks.secrets import open_session


@flow(name="decide", persist_result=False, on_crashed=[end_as_cancelled])
def decide(request: DecideRequest) -> Decision:
    """Say what becomes of a step that failed: retry, skip or abort."""
    describe_run(f"{request.choice} {request.step}")
    return record_decision(open_session(request.config), request.step, request.choice, by=request.by, why=request.why)


def lines(taken: Decision) -> list[str]:
    """The result as ``python -m flows.decide`` prints it."""
    return [f"{taken.by} decided: {taken.choice} {taken.step} (attempt {taken.attempt})"]


if __name__ == "__main__":
    run_as_command(decide, DecideRequest, lines)
