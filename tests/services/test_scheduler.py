"""Prefect's scheduler works with the versions that are locked.

It is proven with a real server, because the failure that the pin on SQLAlchemy prevents shows nowhere else: with 2.1
the server starts, flows run, every call succeeds, and no deployment is ever scheduled.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

DEADLINE_SECONDS = 120
POLL_SECONDS = 0.25


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


@pytest.fixture
def server_url(tmp_path: Path) -> Iterator[str]:
    """The API's URL of a server with all its services, a new database and nothing shared with the harness."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    log_path = tmp_path / "server.log"
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--no-ui", "--port", str(port)],
            env={**os.environ, "PREFECT_HOME": str(tmp_path / "home"), "PREFECT_SERVER_API_HOST": "127.0.0.1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not answers(f"{url}/health"):
                assert server.poll() is None, f"the server ended: {log_path.read_text()}"
                assert time.monotonic() < deadline, f"the server does not answer: {log_path.read_text()}"
                time.sleep(POLL_SECONDS)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def test_a_deployment_with_a_cron_yields_scheduled_runs(server_url: str) -> None:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import FlowRun, StateType
    from prefect.client.schemas.schedules import CronSchedule

    with SyncPrefectClient(server_url) as client:
        deployment_id = client.create_deployment(
            flow_id=client.create_flow_from_name("nothing"),
            name="hourly",
            schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron="0 * * * *", timezone="UTC"))],
        )
        deadline = time.monotonic() + DEADLINE_SECONDS
        runs: list[FlowRun] = []
        while not runs and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            runs = client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
                ),
            )

    assert runs, f"the scheduler made no run of an hourly deployment in {DEADLINE_SECONDS} s"
