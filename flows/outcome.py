"""Owns how a flow ends that worked and whose finding is bad: its run fails in the UI, and its caller gets the result.

A state that is returned, not raised, fails the run without a traceback in its log.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from reopen.errors import EXIT_NEGATIVE, ReopenError

R = TypeVar("R")

TAG = "reopen"
"""Every flow run of ours has it."""


class BadFinding(ReopenError):
    """The flow ran to its end and what it found is bad. ``result`` is what it would have returned."""

    kind = "bad-finding"
    exit_code = EXIT_NEGATIVE

    def __init__(self, message: str, *, result: Any = None, hint: str = "", **context: object) -> None:
        super().__init__(message, hint=hint, **context)
        self.result = result


def concluded(result: R, problem: str = "", *, hint: str = "") -> R:
    """What a flow returns: its result, or a failed state that carries it when there is a ``problem``; ``hint`` is the
    next step for who reads that in the UI."""
    if not problem:
        return result
    # Prefect takes a returned state for the run's own, and raises its data at the caller.
    finding = BadFinding(problem, result=result, hint=hint)
    return cast("R", Failed(message=str(finding), data=finding))


def not_needed(text: str) -> State[Any]:
    """What a flow returns that had nothing to do: a completed state that says why, whose result is None."""
    return Completed(message=text)


def carried_by(tag: str) -> str:
    """The name of another run of ours with a tag that still runs, or waits for people; empty when there is none."""
    alive = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PAUSED]))
    own = FlowRunFilterId(not_any_=[UUID(flow_run.get_id())])
    wanted = FlowRunFilter(id=own, state=alive, tags=FlowRunFilterTags(all_=[TAG, tag]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=wanted, limit=1)
    return found[0].name if found else ""


def is_alive(run: str) -> bool:
    """Whether a flow run of this server, by its id, still runs, waits for people, or is about to."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(run)).state
        except ObjectNotFound:
            return False
    return state is not None and not state.is_final()


def describe_run(name: str, *tags: str) -> None:
    """Name and tag the flow run at hand by what only its own work could tell, for example the epoch."""
    wanted = {TAG, *flow_run.get_tags(), *tags}
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.get_id()), name=name, tags=sorted(wanted))


def warn(text: str) -> None:
    """Say something beside the result in the log of the run; nothing when it is empty."""
    if text:
        get_run_logger().warning(text)
