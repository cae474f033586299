"""Owns waiting for people in the UI: the flow run is paused with a form, and what is typed there goes into the log.

Invariants (docs/0011-failover-and-failback.md)
    F3  The approval is the record in the epoch log. The form appends the same record as ``reopen approve``; where that
        was typed meanwhile, the run goes on by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal
from uuid import UUID

from prefect.exceptions import FlowPauseTimeout, NotPausedError
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from reopen.control.log import EpochLog
from reopen.durations import to_text as duration_text
from reopen.errors import Conflict, ReopenError
from reopen.ids import new_id
from reopen.recover.approvals import POLL_SECONDS, approval_of, give_approval
from reopen.recover.plan import RecoveryPlan


class ApprovalForm(RunInput):
    """What a person says about a plan."""

    decision: Literal["approve", "refuse"] = Field(default="approve", title="Decision")
    by: str = Field(title="Your name", min_length=1)
    reason: str = Field(title="Reason", min_length=1, description="It stands in the log, and in the evidence.")


def ask_for_approval(plan: RecoveryPlan, log: EpochLog, *, seconds_max: timedelta, note: str = "") -> None:
    """Pause the flow run at hand until somebody has spoken about the plan, here or by command, or time is up.

    :param note: what people should know besides the plan.
    """
    if approval_of(log.records(), plan) is not None or not seconds_max:
        return
    form = ApprovalForm.with_initial_data(description=f"{description(plan)}\n\n{note}".rstrip())
    with _heard_elsewhere(plan, log, str(flow_run.get_id())):
        try:
            answer = pause_flow_run(
                wait_for_input=form, timeout=int(seconds_max.total_seconds()), poll_interval=int(2 * POLL_SECONDS)
            )
        except FlowPauseTimeout:
            # The step that comes next says that nobody has approved, and what to do.
            return
    try:
        give_approval(
            log, plan, by=answer.by, why=answer.reason, granted=answer.decision == "approve", identifier=new_id()
        )
    except Conflict:
        # It was said by command while the form was open: the log has it.
        return


def description(plan: RecoveryPlan) -> str:
    """What the form shows: what would move, and what would be lost (F4)."""
    rows = [
        f"| {dataset.tier} | {dataset.name} | {'unknown' if dataset.rpa is None else duration_text(dataset.rpa)} "
        f"| {'yes' if dataset.name in plan.approvals else ''} |"
        for dataset in plan.datasets
    ]
    return "\n".join(
        [
            f"**{plan.scenario} failover: {plan.source_site} to {plan.target_site}**, plan `{plan.digest[:16]}`",
            "",
            "| tier | dataset | data lost | asks for approval |",
            "|---|---|---|---|",
            *rows,
            "",
            f"By command: `reopen approve {plan.digest[:16]} --reason WHY`",
        ]
    )


@contextmanager
def _heard_elsewhere(plan: RecoveryPlan, log: EpochLog, run: str) -> Iterator[None]:
    """Resume the run from a thread when an approval, or a refusal, was given by command."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(POLL_SECONDS):
            try:
                given = approval_of(log.records(), plan)
            except ReopenError:
                continue  # The control store is not reached now; the form is still there.
            if given is None:
                continue
            decision = "approve" if given.granted else "refuse"
            try:
                resume_flow_run(UUID(run), run_input={"decision": decision, "by": given.by, "reason": given.why})
            except (NotPausedError, FlowPauseTimeout):
                continue  # Not paused yet, or no more: then the block ends.

    thread = threading.Thread(target=listen, name="approval", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
