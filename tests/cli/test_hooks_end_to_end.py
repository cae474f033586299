"""Hooks that are real scripts, through the command line: none runs in a drill, one takes the final sync, one leads the
consumers and is called again when it failed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from reopen.recover.hooks import HookKind
from tests.cli.place import Place
from tests.cli.test_roles import ACCEPTED, calls, hook, serving

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def running(place: Place) -> Place:
    """Production and a standby that has a first verified replica."""
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    return place


@pytest.mark.parametrize("scenario", [(), ("--scenario", "site-loss"), ("--scenario", "operator-error")], ids=str)
def test_a_drill_runs_no_hook_of_any_site(running: Place, scenario: tuple[str, ...]) -> None:
    noted = [
        hook(running, site, kind, f"touch {running.folder}/it-ran") for site in ("production", "standby")
        for kind in HookKind
    ]  # fmt: skip

    running.run("drill", *scenario)

    assert [calls(note) for note in noted] == [[]] * len(noted)
    assert not (running.folder / "it-ran").exists()


def test_a_final_sync_by_the_site_s_own_hook_is_what_the_standby_opens(running: Place) -> None:
    """As where production is reached by nobody but itself: its hook takes the snapshot, and brings it over."""
    reopen = f"PYTHONPATH={ROOT} {sys.executable} -m reopen.cli --config {running.folder}/reopen.toml"
    synced = hook(running, "production", "final_sync", f"{reopen} snapshot $REOPEN_DATASET && {reopen} replicate")
    hook(running, "production", "fence", "exit 0", more="enforces = true")
    running.write("papers", one="written after the last snapshot")

    found = running.json("failover", "--planned", "--reason", "works")

    assert (found["verdict"], found["primary"]) == ("met", "standby")
    assert calls(synced) == ["final-sync:papers 1 production papers"]
    assert serving(running, "standby") == "written after the last snapshot"


def test_a_final_sync_hook_that_brings_nothing_moves_nothing(running: Place) -> None:
    hook(running, "production", "final_sync", "exit 0")
    released = hook(running, "production", "unquiesce", "exit 0")

    ran = running.run("failover", "--planned", "--reason", "works", *ACCEPTED, code=7)

    assert "final-sync:papers" in ran.stderr
    assert calls(released) == ["unquiesce 1 production "]
    assert running.json("status")["control"]["primary"] == "production"


def test_a_publish_hook_that_fails_once_is_called_again_at_the_end(running: Place) -> None:
    once = running.folder / "failed-once"
    published = hook(running, "standby", "publish", f"test -e {once} && exit 0; touch {once}; echo no DNS; exit 4")

    found = running.json("failover", "--reason", "fire", *ACCEPTED)

    assert (found["verdict"], found["primary"]) == ("met", "standby")
    assert [call.split()[0] for call in calls(published)] == ["promote:papers", "finish"]
    steps = {step["step"]: step for step in running.json("evidence", "show")["record"]["steps"]}
    assert "no DNS" in steps["promote:papers"]["details"]["publish_problem"]
    assert steps["finish"]["result"] == "done"


def test_a_publish_hook_that_goes_on_failing_leaves_the_business_open_and_says_so(running: Place) -> None:
    broken = running.folder / "broken"
    broken.touch()
    hook(running, "standby", "publish", f"test -e {broken} || exit 0; echo no DNS; exit 4")

    ran = running.run("failover", "--reason", "fire", *ACCEPTED, code=3)

    assert serving(running, "standby") == "first"
    assert "standby is the primary, epoch 1: met" in ran.stdout
    assert "no DNS" in ran.stdout
    assert "Run the same command again" in ran.stdout
    broken.unlink()
    again = running.json("failover", *ACCEPTED)
    assert (again["resumed"], again["verdict"]) == (True, "met")
    assert running.json("evidence", "show")["record"]["steps"][-1]["result"] == "done"
