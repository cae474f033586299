"""Owns what a flow process does whose worker was killed: it goes on to its end, and can still be cancelled.

It holds its slots, sends its heartbeats and says itself how it ended, so nothing is lost by going on, and the worker
that is started next takes no run that is going on already. Only to cancel is the worker's work: it tells the process to
end. Without one the server calls the run cancelled after some minutes, and the process goes on unseen. So a process
without its worker looks itself whether its run was cancelled, and then ends as a worker would end it.

Invariants
    X1  A process whose worker lives does nothing of this.
    X2  A server that does not answer ends no run.
    X3  What was cancelled ends as cancelled: SIGTERM first, and after :data:`GRACE_SECONDS` SIGKILL.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any
from uuid import UUID

RUN_ID = "PREFECT__FLOW_RUN_ID"
"""Set by the worker for the process of a run."""
LOOK_SECONDS = 10.0
GRACE_SECONDS = 30.0
"""What a worker gives as well."""
MESSAGE = "It was cancelled. Its worker was gone, so its process ended by itself."

_cancelled = threading.Event()
"""Set once this process was told to end because its run was cancelled."""


def listen_when_left() -> None:
    """In the process of a run that a worker started: from when the worker is gone, end when the run is cancelled."""
    run = os.environ.get(RUN_ID, "")
    if run:
        threading.Thread(target=_listen, args=(UUID(run), os.getppid()), name="orphan", daemon=True).start()


def end_as_cancelled(flow: Any, flow_run: Any, state: Any) -> None:
    """When a run crashed that was cancelled here: say so. Prefect's form of a hook; it calls any SIGTERM a crash."""
    if _cancelled.is_set():
        _say_cancelled(flow_run.id)


def is_cancelled(run: UUID) -> bool:
    """Whether somebody cancelled a run; False where the server does not say (X2)."""
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.logging import get_logger

    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run).state
    except (HTTPError, PrefectHTTPStatusError, ObjectNotFound) as error:
        get_logger("reopen.orphan").warning("whether the run was cancelled could not be asked: %s", error)
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def _listen(run: UUID, worker: int) -> None:
    never = threading.Event()
    while not never.wait(LOOK_SECONDS):
        # The system gives a process whose parent died to another one (X1).
        if os.getppid() != worker and is_cancelled(run):
            break
    _cancelled.set()
    os.kill(os.getpid(), signal.SIGTERM)
    # Where the process ends in time, this thread ends with it.
    never.wait(GRACE_SECONDS)
    try:
        _say_cancelled(run)
    finally:
        # Also where the server has gone meanwhile: it was told to end.
        os.kill(os.getpid(), signal.SIGKILL)


def _say_cancelled(run: UUID) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Cancelled(message=MESSAGE), force=True)
