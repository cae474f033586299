"""Owns what becomes of runs that are due together: the first that begins does the work of all of them.

A worker that was away for a weekend finds a late run of a deployment for each time that it missed. What the first of
them does, the others would only do again: a snapshot is of now, not of last Saturday.

Invariants
    W1  Only runs that are asked for the same are cancelled: those that the schedule made and that are due, and retries
        of a crash. What a person asked for runs, and so does what is not due yet.
    W2  A server that does not answer, or refuses, holds no run up.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging import get_logger
from prefect.states import Cancelled

from reopen.clock import SYSTEM_CLOCK
from tasks.again import attempts_of

PAGE = 200
"""The most that a server gives at once."""


def take_over_overdue(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """When a run begins: cancel those of its deployment whose work it does (W1). Prefect's form of a hook."""
    if flow_run.deployment_id is None:
        return
    try:
        with get_client(sync_client=True) as client:
            for other in overdue(client, flow_run, now=SYSTEM_CLOCK.now()):
                message = f"The run {flow_run.name} began and does its work."
                client.set_flow_run_state(other.id, Cancelled(name="Overtaken", message=message))
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        get_logger("reopen.overdue").warning("runs that are overdue could not be cancelled: %s", error)


def overdue(client: SyncPrefectClient, run: FlowRun, *, now: datetime) -> Sequence[FlowRun]:
    """The runs of its deployment that wait and need not be done once ``run`` begins."""
    waiting = FlowRunFilter(
        id=FlowRunFilterId(not_any_=[run.id]),
        deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id] if run.deployment_id else []),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    found = client.read_flow_runs(flow_run_filter=waiting, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=PAGE)
    return [
        other
        for other in found
        if other.parameters == run.parameters
        and (attempts_of(other.tags) or (other.auto_scheduled and _is_due(other, now)))
    ]


def _is_due(run: FlowRun, now: datetime) -> bool:
    return run.expected_start_time is not None and run.expected_start_time <= now
