"""Flows as programs: nothing on the terminal but ours, a home of our own, our exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from reopen.desk.orchestrator import SERVER, Service, Services, folder_of, write_services
from reopen.errors import Internal, Transient
from tasks.environment import wait_for_server
from tests.flows.scene import make_scene

ROOT = Path(__file__).resolve().parent.parent.parent


def run(
    *arguments: str, home: Path, timeout_seconds: float = 170, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A program as a user starts it, with ``home`` as the user's folder and no Prefect settings of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DO_NOT_TRACK"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**kept, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )


@pytest.mark.slow
def test_a_flow_as_a_program_prints_its_result_and_nothing_else(tmp_path: Path) -> None:
    """With a server of its own, as on a machine where nobody set up anything."""
    scene, home = make_scene(tmp_path), tmp_path / "somebody"
    home.mkdir()

    done = run("-m", "flows.snapshot", "--config", str(scene.production), "--datasets", "papers", home=home)

    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.startswith("papers: complete, 3 files, 1350 bytes read, ")
    assert done.stdout.count("\n") == 1
    assert (tmp_path / "production/home/prefect/prefect.db").is_file()
    assert list(home.iterdir()) == [], "Prefect wrote into the user's home"


def test_a_wrong_option_or_setting_is_one_error_with_its_code(tmp_path: Path) -> None:
    absent = run("-m", "flows.verify", "--config", str(tmp_path / "absent.toml"), "--level", "deep", home=tmp_path)

    assert absent.returncode == 2
    assert absent.stdout == ""
    assert absent.stderr.splitlines()[0].startswith("error: --level: ")
    assert list(tmp_path.iterdir()) == []


def test_what_the_user_set_for_prefect_stays(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import os; from tasks.environment import prepare; "
        f"prepare(Path({str(tmp_path)!r}) / 'home'); "
        "print(*(os.environ.get(n) for n in ('PREFECT_HOME', 'PREFECT_LOGGING_LEVEL', 'DO_NOT_TRACK', "
        "'PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL')))"
    )

    ours = run("-c", code, home=tmp_path)
    theirs = run("-c", code, home=tmp_path, PREFECT_HOME="/elsewhere", PREFECT_LOGGING_LEVEL="DEBUG", DO_NOT_TRACK="0")

    assert ours.stdout.split() == [str(tmp_path / "home/prefect"), "WARNING", "1", "CRITICAL"]
    assert theirs.stdout.split() == ["/elsewhere", "DEBUG", "0", "None"]


def test_a_flow_runs_on_the_server_that_up_started_while_it_runs(tmp_path: Path) -> None:
    us = psutil.Process()
    server = Service(
        name=SERVER, pid=us.pid, started=us.create_time(), command=tuple(us.cmdline()), log=""
    )  # This process stands in for the server: nothing is asked of it here.
    folder_of(tmp_path).mkdir()
    code = (
        "from pathlib import Path; import os; from tasks.environment import prepare; "
        f"prepare(Path({str(tmp_path)!r})); print(os.environ.get('PREFECT_API_URL'))"
    )
    for state, expected in (
        (Services(port=4299, services=(server,)), "http://127.0.0.1:4299/api"),
        (Services(port=4299, services=(replace(server, started=1.0),)), "None"),
        (Services(), "None"),
    ):
        write_services(tmp_path, state)
        assert run("-c", code, home=tmp_path).stdout.strip() == expected
    assert run("-c", code, home=tmp_path, PREFECT_API_URL="http://x/api").stdout.strip() == "http://x/api"
    (folder_of(tmp_path) / "up.json").write_text("{")
    assert run("-c", code, home=tmp_path).stdout.strip() == "None"


def test_a_server_that_does_not_answer_is_an_error_with_a_way_out() -> None:
    with pytest.raises(Internal, match="did not answer") as caught:
        wait_for_server("http://127.0.0.1:9/api", seconds_max=0.2)
    assert "--flow" in caught.value.hint


def test_a_flow_that_is_loaded_by_its_file_does_not_hide_the_libraries_that_send_notices(tmp_path: Path) -> None:
    """A worker puts the folder of the flow's file first, and `flows/requests.py` has the name of a library."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import flows, requests; print(requests.Session.__module__)"
    done = run("-c", code, str(ROOT / "flows"), home=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "requests.sessions"), done.stderr


def test_a_server_that_went_away_is_one_to_try_again_and_named(prefect_harness: None) -> None:
    import httpx
    from prefect.settings import PREFECT_API_URL

    from tasks.environment import embedded

    for lost in (httpx.ConnectError("refused"), RuntimeError("Failed to reach API at http://127.0.0.1:1/api/")):
        said = re.escape(f"server at {PREFECT_API_URL.value()} does not answer")
        with pytest.raises(Transient, match=said) as told, embedded():
            raise lost
        assert "Without --flow no server is needed" in told.value.hint
    with pytest.raises(RuntimeError, match="another matter"), embedded():
        raise RuntimeError("another matter")
