"""Real workers and flow processes, killed: what crashed is started again, and what goes on goes on, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from prefect.client.schemas.objects import FlowRun

from reopen.desk.orchestrator import MARK, left_runs
from reopen.desk.session import open_session
from tasks.limits import slot, writer_limit
from tests.flows import observed
from tests.flows.observed import eventually, forget_waiting_runs
from tests.flows.scene import Scene, make_scene
from tests.flows.test_limits import deployed
from tests.proof import count

PATIENCE_SECONDS = 180


@pytest.fixture
def scene(tmp_path: Path, prefect_harness: None, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Snapshots once a day, so that the schedule of a run that crashed would come too late."""
    monkeypatch.setattr(observed, "DEADLINE_SECONDS", PATIENCE_SECONDS)
    made = make_scene(tmp_path)
    for tier, name in enumerate(("ledger", "papers"), start=1):
        made.write_contract(name, tier=tier, cron="0 0 * * *")
    deployed(made.production)
    forget_waiting_runs()
    return made


@pytest.fixture
def workers(scene: Scene) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Those that a test starts; what it leaves is killed, with all below."""
    begun: list[subprocess.Popen[bytes]] = []
    yield begun
    for worker in begun:
        if worker.poll() is None:
            for child in psutil.Process(worker.pid).children(recursive=True):
                child.kill()
            worker.kill()
            worker.wait()
    for run in left_runs(scene.folder / "home"):
        os.kill(run.pid, signal.SIGKILL)


def begin_worker(scene: Scene, workers: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """A worker of production as `reopen up` starts it."""
    from prefect.settings import PREFECT_API_URL

    from tasks.services import worker_command, worker_environment

    home = scene.folder / "home"
    environment = worker_environment(home / "prefect", str(PREFECT_API_URL.value()), "production")
    with (scene.folder / f"worker-{len(workers)}.log").open("wb") as log:
        worker = subprocess.Popen(
            worker_command("production", f"worker-{len(workers)}"), cwd=scene.folder,
            env={**environment, MARK: str(home.resolve())}, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    workers.append(worker)
    return worker


def flow_processes(worker: subprocess.Popen[bytes], runs: int) -> list[psutil.Process]:
    """The processes of its runs, once there are so many."""
    process = psutil.Process(worker.pid)

    def look() -> list[psutil.Process]:
        return [child for child in process.children(recursive=True) if "prefect.engine" in child.cmdline()]

    return eventually(look, lambda found: len(found) == runs)


def begin_run(deployment: str) -> UUID:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.create_flow_run_from_deployment(client.read_deployment_by_name(deployment).id).id


def state_of(run: UUID) -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(run).state_name)


def is_named(run: UUID) -> bool:
    """Whether its flow has begun its work: it has given itself its name."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(run).name.startswith("snapshot ")


@pytest.mark.soak
def test_a_run_whose_process_is_killed_is_started_again_by_itself_and_completes(
    scene: Scene, workers: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    with slot(writer_limit("production", "papers")):
        run = begin_run("snapshot/papers")
        worker = begin_worker(scene, workers)
        [process] = flow_processes(worker, 1)
        eventually(lambda: is_named(run), bool)
        process.send_signal(signal.SIGKILL)
        count("flow processes killed under a worker")
        eventually(lambda: state_of(run), lambda state: state == "Crashed")
    tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=["again-1", "reopen:again:production", "papers"]))

    def retries() -> list[FlowRun]:
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(flow_run_filter=tagged)
        return [item for item in found if item.name == "snapshot papers again (1)"]

    [retry] = eventually(retries, lambda found: len(found) == 1)
    eventually(lambda: state_of(retry.id), lambda state: state == "Completed")
    assert [record.dataset for record in open_session(scene.production).vault().records()] == ["papers"]
    assert state_of(run) == "Crashed", "what crashed is there to be looked at"


@pytest.mark.soak
def test_runs_whose_worker_is_killed_go_on_to_their_end_can_be_cancelled_and_are_not_started_twice(
    scene: Scene, workers: list[subprocess.Popen[bytes]]
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    home = scene.folder / "home"
    with ExitStack() as held:
        for name in ("ledger", "papers"):
            held.enter_context(slot(writer_limit("production", name)))
        runs = [begin_run("snapshot/ledger"), begin_run("snapshot/papers")]
        first = begin_worker(scene, workers)
        processes = flow_processes(first, 2)
        eventually(lambda: all(is_named(run) for run in runs), bool)
        first.kill()
        first.wait()
        count("workers killed with runs under way")
        assert {run.pid for run in left_runs(home)} == {process.pid for process in processes}

        second = begin_worker(scene, workers)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(runs[1], Cancelling(), force=False)
        eventually(lambda: len(left_runs(home)), lambda found: found == 1)
        assert state_of(runs[1]) == "Cancelled"
        assert state_of(runs[0]) == "Running"
        assert flow_processes(second, 0) == [], "the worker that was started next takes neither"
    eventually(lambda: state_of(runs[0]), lambda state: state == "Completed")
    eventually(lambda: left_runs(home), lambda found: found == ())
    assert [record.dataset for record in open_session(scene.production).vault().records()] == ["ledger"]
