"""The epoch log in a bucket whose server stops answering: at the beginning of each command, and in the middle of a
failover. It is a real server (moto), frozen by a signal, so that connections stand and nothing comes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from reopen import storage
from reopen.recover import wiring
from reopen.recover.restore import execute_restore
from reopen.storage.patience import Patience
from tests.cli.place import Place
from tests.s3 import make_bucket, s3_server

SHORT = Patience(
    connect_seconds=1.0, silence_seconds=1.0, read_seconds=2.0, write_seconds=2.0, retries=1, retry_seconds=0.3,
    backoff_seconds=0.01,
)  # fmt: skip
SECONDS_MAX = 30.0
"""A command asks once or twice, each for a second at most. With the patience for packs it would be minutes."""
RISK = ("--accept-risk", "old-primary-may-write")
FAILOVER = ("failover", "--reason", "a test", *RISK)
NEEDING_THE_LOG = (
    ("locate",), FAILOVER, ("plan", "failover"), ("rollback", "--reason", "x", *RISK),
    ("failback", "--reason", "x", *RISK), ("commit", "--reason", "x"), ("approve",), ("decide",), ("reprotect",),
    ("drill",), ("stage",), ("evidence", "list"),
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process]]:
    """A server's endpoint and its process."""
    before = set(psutil.Process().children())
    with s3_server(tmp_path_factory.mktemp("moto") / "log") as endpoint:
        (process,) = set(psutil.Process().children()) - before
        yield endpoint, process


@pytest.fixture
def place_with_log(place: Place, server: tuple[str, psutil.Process], monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place whose epoch log is in a bucket, with a verified replica at the standby."""
    monkeypatch.setattr(storage, "FOR_SMALL", SHORT)
    name = make_bucket(server[0], monkeypatch)
    settings = place.folder / "reopen.toml"
    lines = settings.read_text().splitlines()
    lines = [f'control = "s3://{name}/control"' if line.startswith("control") else line for line in lines]
    settings.write_text("\n".join(lines) + "\n")
    for command in (("snapshot",), ("verify", "--level", "stored"), ("replicate",)):
        place.run(*command)
    return place


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """The server takes connections and answers nothing."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def test_commands_that_need_the_log_say_soon_that_it_does_not_answer(
    place_with_log: Place, server: tuple[str, psutil.Process]
) -> None:
    with frozen(server[1]):
        for command in NEEDING_THE_LOG:
            began = time.monotonic()
            ran = place_with_log.run(*command, code=8)
            assert time.monotonic() - began < SECONDS_MAX, command
            assert "/control did not answer" in ran.stderr, command
            assert "hint: " in ran.stderr, command

    assert place_with_log.json("status")["control"]["primary"] == "production"
    assert not (place_with_log.folder / "standby/papers").exists()
    assert place_with_log.json(*FAILOVER)["verdict"] == "met", "and goes on when it is back"


def test_what_can_be_done_without_the_log_is_done_and_says_so(
    place_with_log: Place, server: tuple[str, psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    with frozen(server[1]):
        assert "the epoch log cannot be read" in place_with_log.run("status", code=None).stdout
        ran = place_with_log.run("snapshot")
        assert "unconfirmed" in ran.stdout
        assert "nothing came within 1 s: these snapshots are marked unconfirmed" in ran.stderr
        monkeypatch.setenv("REOPEN_SITE", "standby")
        watched = place_with_log.run("watch", "--once", "--json", code=None).json
    assert watched["state"] == "alive"
    assert any("Who is primary is not known" in note for note in watched["notes"])
    assert place_with_log.json("watch", "--once")["notes"] == []


def test_a_failover_whose_log_stops_answering_in_the_middle_ends_and_goes_on_when_it_is_back(
    place_with_log: Place, server: tuple[str, psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = execute_restore

    def restore(*given: Any, **more: Any) -> Any:
        done = real(*given, **more)
        server[1].suspend()
        return done

    with monkeypatch.context() as patched:
        patched.setattr(wiring, "execute_restore", restore)
        try:
            began = time.monotonic()
            ran = place_with_log.run(*FAILOVER, code=8)
            assert time.monotonic() - began < SECONDS_MAX
            assert "did not answer" in ran.stderr
        finally:
            server[1].resume()

    found = place_with_log.json("failover", *RISK)

    assert (found["resumed"], found["verdict"], found["epoch"]) == (True, "met", 1)
    assert (place_with_log.folder / "standby/papers/one").read_text() == "first"
    assert place_with_log.json("evidence", "verify")["ok"] is True
