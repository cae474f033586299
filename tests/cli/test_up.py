"""``reopen up`` and ``reopen down``: what is ours is known, found and stopped, and nothing else. That a real server,
workers and schedules come up and go down is in tests/flows/test_up_for_real.py (soak)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from reopen.desk.orchestrator import (
    MARK,
    SERVER,
    Service,
    Services,
    alone,
    folder_of,
    left_runs,
    read_services,
    start,
    stop,
    url_of,
    write_services,
)
from reopen.errors import Conflict, Corrupt
from tests.cli.place import Place

WAITS = ("-c", "import sys, threading; print('up', flush=True); threading.Event().wait()")
DEAF = ("-c", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS[1])
PARENT = (
    "-c",
    f"import subprocess, sys, threading; subprocess.Popen([sys.executable, *{WAITS!r}]); threading.Event().wait()",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / ".reopen"
    folder_of(folder).mkdir(parents=True)
    return folder


@pytest.fixture
def begun(home: Path) -> Iterator[list[psutil.Process]]:
    """Processes of a test; those that it leaves are killed."""
    processes: list[psutil.Process] = []
    yield processes
    for process in processes:
        if process.is_running():
            process.kill()
    psutil.wait_procs(processes, timeout=10)


def begin(home: Path, begun: list[psutil.Process], program: tuple[str, ...], name: str = SERVER) -> Service:
    """A process that runs, and has said so."""
    service = start(name, (sys.executable, *program), os.environ, home=home, cwd=home)
    begun.append(psutil.Process(service.pid))
    while "up" not in Path(service.log).read_text():
        assert service.is_running
    return service


def lives(process: psutil.Process) -> bool:
    """Whether it runs; one whose end nobody took note of yet does not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_what_was_started_is_remembered_and_found_again(home: Path, begun: list[psutil.Process]) -> None:
    assert read_services(home) == Services()
    assert url_of(home) is None
    services = Services(port=4999).with_service(begin(home, begun, WAITS))
    write_services(home, services)
    assert read_services(home) == services == read_services(home).running
    assert url_of(home) == "http://127.0.0.1:4999/api"


def test_a_process_that_only_has_the_number_is_not_ours(home: Path, begun: list[psutil.Process]) -> None:
    """O1: after a restart of the machine the number is somebody else's."""
    service = begin(home, begun, WAITS)
    for other in (
        replace(service, started=service.started - 3600),
        replace(service, command=(*service.command, "--port", "4999")),
    ):
        assert not other.is_running
        assert stop([other], seconds_max=5) == {SERVER: "was gone"}
    assert service.is_running


def test_a_server_that_was_killed_is_noticed(home: Path, begun: list[psutil.Process]) -> None:
    service = begin(home, begun, WAITS)
    write_services(home, Services(port=4999, services=(service,)))
    begun[0].kill()
    begun[0].wait(10)
    assert read_services(home).running.services == ()
    assert url_of(home) is None


def test_stopping_asks_first_and_kills_what_does_not_listen_with_all_that_it_started(
    home: Path, begun: list[psutil.Process]
) -> None:
    """O3"""
    deaf, polite, parent = (begin(home, begun, program, name) for program, name in
                            ((DEAF, "deaf"), (WAITS, "polite"), (PARENT, "parent")))  # fmt: skip
    [child] = psutil.Process(parent.pid).children()
    begun.append(child)
    ended = stop([deaf, polite, parent], seconds_max=0.5)
    assert ended == {"deaf": "killed", "polite": "stopped", "parent": "stopped"}
    assert not any(lives(process) for process in begun)


def test_a_run_whose_worker_was_killed_is_found_and_stopped_and_nobody_elses(
    place: Place, begun: list[psutil.Process], tmp_path: Path
) -> None:
    """O4: real processes whose parent is gone. One has the mark and is a hook's; one is of another home."""
    home, other = place.folder / ".reopen", tmp_path / "other"
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect/__init__.py").touch()
    (tmp_path / "prefect/engine.py").write_text("import threading\nthreading.Event().wait()\n")
    engine, hooks = ("-m", "prefect.engine"), ("-c", "import threading; threading.Event().wait()", "prefect.engine")
    orphans = [orphan(tmp_path, where, program) for where, program in ((home, engine), (home, hooks), (other, engine))]
    begun += orphans
    assert [run.pid for run in left_runs(home)] == [orphans[0].pid]
    [stopped] = place.json("down", "--wait", "5s")["stopped"]
    assert (stopped["name"], stopped["how"]) == (f"run {orphans[0].pid}", "stopped")
    assert [lives(process) for process in orphans] == [False, True, True]
    assert left_runs(home) == ()


def orphan(folder: Path, home: Path, program: tuple[str, ...]) -> psutil.Process:
    """A process with the mark of a home whose parent has ended."""
    code = (
        f"import subprocess, sys; begun = subprocess.Popen([sys.executable, *{program!r}], cwd={str(folder)!r}, "
        "stdout=subprocess.DEVNULL); print(begun.pid)"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder), MARK: str(home.resolve())}
    told = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return psutil.Process(int(told.stdout))


def test_a_file_that_is_not_ours_is_told(home: Path) -> None:
    (folder_of(home) / "up.json").write_text('{"port": 1}')
    with pytest.raises(Corrupt, match=r"up\.json"):
        read_services(home)


def test_two_at_once_are_kept_apart(home: Path) -> None:
    with alone(home), pytest.raises(Conflict, match="another"), alone(home):
        raise AssertionError("the second came in")


def test_down_stops_what_runs_and_says_so(place: Place, begun: list[psutil.Process]) -> None:
    home = place.folder / ".reopen"
    assert place.json("down")["stopped"] == []
    worker, server = begin(home, begun, WAITS, "worker-production"), begin(home, begun, WAITS)
    write_services(home, Services(port=4999, services=(server, worker)))
    stopped = place.json("down", "--wait", "5s")["stopped"]
    assert [(item["name"], item["how"]) for item in stopped] == [("worker-production", "stopped"), (SERVER, "stopped")]
    assert not (folder_of(home) / "up.json").exists()
    assert "Nothing" in place.run("down").stdout
    assert "--wait" in place.run("down", "--wait", "long", code=2).stderr


def test_what_killed_workers_left_goes_with_down(place: Place, begun: list[psutil.Process]) -> None:
    """A worker writes its environment, with its secrets, into a temporary file for each run."""
    home = place.folder / ".reopen"
    server = begin(home, begun, WAITS)
    left = folder_of(home) / "tmp/attempt/workspace.json"
    assert left.parent.parent.stat().st_mode & 0o777 == 0o700
    left.parent.mkdir()
    left.write_text("{}")
    write_services(home, Services(port=4999, services=(server,)))
    place.run("down")
    assert not left.parent.parent.exists()


def test_a_home_that_cannot_be_written_is_an_error_with_a_way_out(place: Place) -> None:
    folder_of(place.folder / ".reopen").write_text("a file where the folder should be")
    for command in ("up", "down"):
        refused = place.run(command, code=7)
        assert f"{folder_of(place.folder / '.reopen')} cannot be written" in refused.stderr
        assert "`home`" in refused.stderr


def test_a_port_that_is_taken_is_an_error_with_a_way_out_and_nothing_is_started(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = place.run("up", "--port", str(port), code=6)
    assert f"port {port} of this machine is taken by another program" in refused.stderr
    assert "--port" in refused.stderr
    assert read_services(place.folder / ".reopen") == Services()


def test_a_server_that_runs_is_not_moved_to_another_port(place: Place, begun: list[psutil.Process]) -> None:
    home = place.folder / ".reopen"
    server = begin(home, begun, WAITS)
    write_services(home, Services(port=4999, services=(server,)))
    refused = place.run("up", "--port", "4998", code=6)
    assert "runs already, on port 4999" in refused.stderr
    assert server.is_running


def test_a_contract_that_is_wrong_is_told_before_anything_is_started(place: Place) -> None:
    (place.folder / "data_contracts/papers.odcs.yaml").write_text("kind: nothing\n")
    assert "papers.odcs.yaml" in place.run("up", code=2).stderr
    assert read_services(place.folder / ".reopen") == Services()


def test_deploy_without_a_server_says_how_to_get_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    refused = place.run("deploy", "--dry-run", code=7)
    assert "reopen up" in refused.stderr
    assert "PREFECT_API_URL" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_one_in_the_foreground_and_what_it_started(
    place: Place, begun: list[psutil.Process], number: signal.Signals
) -> None:
    """The waiting of `reopen up --foreground` alone: what it waits for stands in for a server and a worker."""
    home = place.folder / ".reopen"
    services = Services(port=4999).with_service(begin(home, begun, WAITS))
    write_services(home, services)
    code = (
        # Who is started under nohup has it ignored, and keeps it so.
        f"import signal; signal.signal(signal.{number.name}, signal.SIG_DFL); "
        "from pathlib import Path; from reopen.cli.face import Face; from reopen.cli.up import _stay; "
        "from reopen.desk.orchestrator import read_services; "
        f"face = Face(name='up', config=Path({str(place.folder / 'reopen.toml')!r})); print('up', flush=True); "
        f"_stay(face, read_services(Path({str(home)!r})))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as foreground:
        assert foreground.stdout is not None
        assert foreground.stdout.readline() == "up\n"
        foreground.send_signal(number)
        try:
            assert foreground.wait(30) in (0, -number)
        finally:
            foreground.kill()
        if foreground.returncode:  # The signal came before the handler was there; nothing was to be stopped then.
            stop(services.services, seconds_max=5)
    assert not services.services[0].is_running
