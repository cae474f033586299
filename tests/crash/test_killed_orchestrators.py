"""Real orchestrators that are killed while a hook acts for them, and two of them at once (F1, L4)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.place import Place
from tests.proof import count

DEADLINE_SECONDS = 90
RISK = ("--accept-risk", "old-primary-may-write")


class Gate:
    """A hook that waits in the middle of its act until it is let go, and a check that tells whether it was done."""

    def __init__(self, place: Place, site: str, kind: str) -> None:
        self._folder = place.folder / f"gate-{site}-{kind}"
        self._folder.mkdir()
        script = self._folder / "hook.sh"
        script.write_text(
            f"#!/bin/sh\ncd {self._folder}\necho $$ >> begun\n"
            "while [ -e closed ]; do sleep 0.05; done\necho once >> done\n"
        )
        script.chmod(0o755)
        settings = place.folder / "reopen.toml"
        check = f'["/bin/sh", "-c", "test -e {self._folder}/done && exit 0; exit 3"]'
        enforces = "enforces = true\n" if kind == "fence" else ""
        settings.write_text(
            f'{settings.read_text()}\n[sites.{site}.hooks.{kind}]\ncommand = ["{script}"]\ncheck = {check}\n{enforces}'
        )
        (self._folder / "closed").touch()

    def wait_for(self, process: subprocess.Popen[str]) -> None:
        """Return when the orchestrator's hook has begun."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (self._folder / "begun").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the hook was not called"
            time.sleep(0.05)

    def open(self) -> None:
        """Let the hook, and every later one, go through."""
        (self._folder / "closed").unlink()

    def end_orphan(self) -> None:
        """End what a killed orchestrator left waiting, so that it never acts."""
        for line in (self._folder / "begun").read_text().split():
            os.kill(int(line), signal.SIGKILL)

    @property
    def times_done(self) -> int:
        done = self._folder / "done"
        return len(done.read_text().splitlines()) if done.exists() else 0


@pytest.fixture
def running(tmp_path: Path) -> Place:
    """Production and a standby with a verified replica."""
    made = Place(folder=tmp_path)
    made.run("init")
    made.contract("papers")
    made.write("papers", one="first")
    made.run("snapshot")
    made.run("verify", "--level", "stored")
    made.run("replicate")
    return made


def orchestrator(place: Place, *args: str) -> subprocess.Popen[str]:
    """``reopen`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "reopen.cli", "--config", str(place.folder / "reopen.toml"), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", ["quiesce", "fence"])
def test_an_orchestrator_killed_in_a_hook_is_followed_by_one_that_asks_what_happened(running: Place, kind: str) -> None:
    gate = Gate(running, "production", kind)
    first = orchestrator(running, "failover", "--planned", "--reason", "works", *RISK)
    gate.wait_for(first)
    first.kill()
    first.communicate()
    gate.end_orphan()
    gate.open()

    found = running.json("failover", "--planned", *RISK)

    assert (found["verdict"], found["primary"], found["epoch"], found["resumed"]) == (
        "met", "standby", 1, kind == "fence",
    )  # fmt: skip
    assert gate.times_done == 1
    count("orchestrators killed in a hook")


def test_an_orchestrator_killed_in_a_failback_is_followed_by_one_that_ends_it(running: Place) -> None:
    running.json("failover", "--reason", "fire", *RISK)
    running.json("commit", "--reason", "it runs")
    gate = Gate(running, "standby", "fence")
    first = orchestrator(running, "failback", "--reason", "rebuilt", *RISK)
    gate.wait_for(first)
    first.kill()
    first.communicate()
    # The hook that was left behind does its work all the same, before anybody asks.
    gate.open()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not gate.times_done:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    found = running.json("failback", *RISK)

    assert (found["verdict"], found["primary"], found["fence"]["level"]) == ("met", "production", "enforced")
    assert gate.times_done == 1, "it was found done and not called again"
    count("orchestrators killed in a hook")


def test_of_two_orchestrators_one_wins_and_the_other_stops_and_says_so(running: Place) -> None:
    gate = Gate(running, "production", "fence")
    slow = orchestrator(running, "failover", "--reason", "works", *RISK)
    gate.wait_for(slow)
    fast = orchestrator(running, "failover", *RISK)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len((gate._folder / "begun").read_text().split()) < 2:
        assert fast.poll() is None, fast.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    gate.open()
    told = [process.communicate(timeout=DEADLINE_SECONDS) for process in (slow, fast)]

    assert (slow.returncode, fast.returncode) == (6, 0), told
    assert "acts now" in told[0][1]
    status = running.json("status")["control"]
    assert (status["primary"], status["epoch"]) == ("standby", 1)
    count("split-brain attempts")
