"""``reopen up`` with a real server and workers: from nothing to a run of a schedule, and through what kills them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND_SECONDS_MAX = 400
RUN_SECONDS_MAX = 240
POLL_SECONDS = 0.5
ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One that nobody has set up: an example's folder and a free port."""

    folder: Path
    port: int

    def reopen(self, *arguments: str) -> dict[str, Any]:
        """A command of ours; its JSON."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "REOPEN_"))}
        done = subprocess.run(
            [sys.executable, "-m", "reopen.cli", *arguments, "--json"],
            cwd=self.folder, env={**kept, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=COMMAND_SECONDS_MAX, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout, done.stderr)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def up(self) -> dict[str, Any]:
        return self.reopen("up", "--example", str(self.folder), "--every-site", "--port", str(self.port))

    def down(self) -> dict[str, Any]:
        return self.reopen("--config", str(self.folder / "reopen.toml"), "down")

    def call(self, path: str, data: dict[str, Any] | None = None) -> Any:
        """What the server's API says."""
        body = None if data is None else json.dumps(data).encode()
        asked = Request(
            f"http://127.0.0.1:{self.port}/api{path}", data=body, headers={"content-type": "application/json"}
        )
        deadline = time.monotonic() + COMMAND_SECONDS_MAX
        while True:
            try:
                with urlopen(asked, timeout=60) as reply:
                    return json.loads(reply.read())
            except HTTPError as error:
                # SQLite is held by another request; Prefect's own client asks again, too.
                if error.code != 503 or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)

    def run_to_its_end(self, deployment: str) -> str:
        """The state in which a run that is asked for now ends."""
        found = self.call(f"/deployments/name/{deployment}")
        run = self.call(f"/deployments/{found['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"]
        deadline = time.monotonic() + RUN_SECONDS_MAX
        while (state := str(self.call(f"/flow_runs/{run}")["state_name"])) not in ENDED:
            assert time.monotonic() < deadline, f"the run is {state}"
            time.sleep(POLL_SECONDS)
        return state


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    made = Machine(folder=tmp_path, port=port)
    yield made
    made.down()


@pytest.mark.soak
def test_up_protects_from_nothing_and_again_after_everything_was_killed(machine: Machine) -> None:
    first = machine.up()
    services = {item["name"]: item["pid"] for item in first["services"]}
    assert set(services) == {"server", "worker-production", "worker-standby", "worker-standby-recovery"}
    assert all(item["started"] for item in first["services"])
    assert machine.run_to_its_end("snapshot/documents") == "Completed"

    again = machine.up()
    assert {item["name"]: item["pid"] for item in again["services"]} == services
    assert not again["deployed"]["changed"]

    for pid in services.values():
        os.kill(pid, signal.SIGKILL)
    risen = machine.up()
    assert all(item["started"] for item in risen["services"])
    assert machine.run_to_its_end("snapshot/documents") == "Completed"
    assert machine.run_to_its_end("replicate/standby") == "Completed"

    assert {item["how"] for item in machine.down()["stopped"]} <= {"stopped", "killed"}
    assert machine.down()["stopped"] == []
