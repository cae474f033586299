"""Owns what becomes of runs when everything was killed at one stroke, as by a power cut: `reopen up` ends them.

The server says of them what it was told last, "Running" or "Pending". Automations end most of those, by events that
stay away; but what began in the last moments before the cut left no event, and would say "Running" for ever.

Invariants
    Y1  Only called when no process of these runs can live: no worker of the site runs here, and no run without one.
    Y2  Where a worker that is not of `reopen up` is heard of in the site's pool, runs may be its own: nothing is ended.
"""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.states import Cancelled, Crashed

from deployments.wanted import pool_of

ENDED = "Its process was gone when `reopen up` started the workers again."
_UNENDED = FlowRunFilterState(
    type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
)


def end_lost(client: SyncPrefectClient, site: str, *, workers: frozenset[str]) -> tuple[str, ...]:
    """End the runs of a site that nobody carries on (Y1), as crashed, so that they may be started again; returns their
    names.

    :param workers: the names of the site's workers here; none of them runs.
    """
    pool = pool_of(site)
    if any(
        worker.status is WorkerStatus.ONLINE and worker.name not in workers
        for worker in client.read_workers_for_work_pool(pool)
    ):
        return ()
    ours = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
    ended = []
    # What was ended is not found again, so the first page is always the next one.
    while found := client.read_flow_runs(flow_run_filter=FlowRunFilter(state=_UNENDED), work_pool_filter=ours):
        for run in found:
            state = Cancelled if run.state is not None and run.state.is_cancelling() else Crashed
            client.set_flow_run_state(run.id, state(message=ENDED), force=True)
            ended.append(run.name)
    return tuple(ended)
