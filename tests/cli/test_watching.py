"""``reopen watch`` that stays (L1 to L3): what it says, what it survives, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reference.documents import faults
from reopen.cli.stopping import Stopping
from reopen.cli.watch import look_once
from reopen.desk import watching
from reopen.desk.session import open_session
from reopen.recover.context import Delivery, Notice
from tests.cli.place import Place


@pytest.fixture
def standby(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The site that watches, with a verified replica."""
    for command in (("snapshot",), ("verify", "--level", "stored"), ("replicate",)):
        place.run(*command)
    monkeypatch.setenv("REOPEN_SITE", "standby")
    return place


Between = Callable[..., None]


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Between:
    """Says what happens between two looks; after the last of these comes SIGTERM, or another signal."""

    def happens(*deeds: Callable[[], Any], ended_by: signal.Signals = signal.SIGTERM) -> None:
        coming: Iterator[Callable[[], Any]] = iter([*deeds, lambda: signal.raise_signal(ended_by)])
        monkeypatch.setattr(Stopping, "wait", lambda stop, seconds: waited(stop, next(coming)))

    real = Stopping.wait

    def waited(stop: Stopping, deed: Callable[[], Any]) -> None:
        with stop.whole():
            deed()
        real(stop, 0)

    return happens


def test_it_says_a_line_a_look_and_what_is_new_loudly(standby: Place, between: Between) -> None:
    data, gone = standby.folder / "data", standby.folder / "gone"
    between(int, lambda: data.rename(gone), int, lambda: gone.rename(data))

    lines = standby.run("watch").stdout.splitlines()

    assert "production is alive; 1 of 1 dataset within the RPO, the oldest copy is " in lines[0]
    assert "production is alive" in lines[1]
    assert "CHANGED" not in lines[0] + lines[1]
    assert "CHANGED: production is failing, 1 looks in a row failed (data:papers: " in lines[2]
    assert any("told: site.unreachable of production" in line for line in lines[3:])
    loud = [line for line in lines if "CHANGED" in line]
    assert len(loud) == 2
    assert "production is alive" in loud[1]
    assert lines[-1] == "stopped by SIGTERM after 5 looks"


def test_with_quiet_only_the_first_look_and_what_is_new_are_said(standby: Place, between: Between) -> None:
    between(int, int, lambda: (standby.folder / "data").rename(standby.folder / "gone"))
    lines = standby.run("watch", "--quiet").stdout.splitlines()
    assert "production is alive" in lines[0]
    assert "CHANGED: production is failing" in lines[1]


def test_a_look_that_fails_is_said_and_the_next_one_comes(
    standby: Place, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = standby.folder / "reopen.toml"
    text = settings.read_text()

    def spoil() -> None:
        settings.write_text("sites = [")

    def surprise() -> None:
        settings.write_text(text)
        nothing: dict[str, None] = {}
        monkeypatch.setattr(watching, "watch_site", lambda session: nothing["nobody foresaw this"])

    def recover() -> None:
        monkeypatch.setattr(watching, "watch_site", real)

    real = watching.watch_site
    between(spoil, surprise, recover)

    found = [json.loads(line) for line in standby.run("watch", "--json").stdout.splitlines()]

    assert [fault for look in found if "error" not in look for fault in faults("watch", look)] == []
    good, bad = "reopen.watch/1", "reopen.error/1"
    assert [look["schema"] for look in found] == [good, bad, bad, good, good]
    assert (found[0]["ok"], found[0]["state"]) == (True, "alive")
    assert found[1]["error"]["kind"] == "invalid-input"
    assert "KeyError" in found[2]["error"]["message"]
    assert found[3]["state"] == "alive"
    assert found[4]["at"] > found[3]["at"] > found[0]["at"]


def test_wrong_settings_end_it_before_the_first_look(standby: Place) -> None:
    (standby.folder / "reopen.toml").write_text("sites = [")
    standby.run("watch", code=2)


@pytest.mark.parametrize(("ended_by", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_end_is_a_document_too_and_the_exit_code_says_who_stopped_it(
    standby: Place, between: Between, ended_by: signal.Signals, code: int
) -> None:
    handlers = [signal.getsignal(number) for number in Stopping.SIGNALS]
    between(ended_by=ended_by)
    *_, end = standby.run("watch", "--json", code=code).stdout.splitlines()
    assert faults("watch", json.loads(end)) == []
    assert {"ok": True, "stopped_by": ended_by.name, "looks": 1}.items() <= json.loads(end).items()
    assert [signal.getsignal(number) for number in Stopping.SIGNALS] == handlers


def test_a_signal_breaks_off_a_look_that_hangs(standby: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(session: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        threading.Event().wait()

    monkeypatch.setattr(watching, "watch_site", hang)
    assert "stopped by SIGTERM" in standby.run("watch").stdout


def test_what_people_were_told_is_remembered_before_a_signal_ends_it(
    standby: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    standby.run("watch", "--once")
    (standby.folder / "data").rename(standby.folder / "gone")

    def tell(*_: object) -> tuple[Delivery, ...]:
        signal.raise_signal(signal.SIGTERM)
        return ()

    with monkeypatch.context() as patched:
        patched.setattr(watching, "tell", tell)
        standby.run("watch")
    assert standby.json("watch", "--once", code=3)["signals"] == [], "it was told once"


def test_two_watches_at_once_tell_people_once(standby: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first, which is still telling, and then finds nothing new (W3)."""
    standby.run("watch", "--once")
    (standby.folder / "data").rename(standby.folder / "gone")
    told: list[str] = []
    second_waits, real = threading.Event(), watching._locked

    class Teller:
        def __init__(self, *_: object, **__: object) -> None:
            """Whom it would tell does not matter here."""

        def __call__(self, notice: Notice) -> tuple[Delivery, ...]:
            told.append(notice.event)
            assert second_waits.wait(30)
            return ()

    def locked(descriptor: int, seconds: float) -> bool:
        if told:
            second_waits.set()
        return real(descriptor, seconds)

    monkeypatch.setattr(watching, "AppriseNotifier", Teller)
    monkeypatch.setattr(watching, "_locked", locked)
    config = standby.folder / "reopen.toml"
    found: list[int] = []

    def watch() -> None:
        found.append(look_once(open_session(config), tell=True)[1].value["failures"])

    first = threading.Thread(target=watch)
    first.start()
    while not told:
        first.join(0.01)
    watch()
    first.join()

    assert told == ["site-unreachable"]
    assert found == [1, 1]


def test_a_watch_that_hangs_is_not_waited_for_without_end(standby: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "TURN_SECONDS_MAX", 0.0)
    with watching.one_at_a_time(open_session(standby.folder / "reopen.toml")) as first:
        with watching.one_at_a_time(open_session(standby.folder / "reopen.toml")) as second:
            assert (first, second) == (True, False)
        assert standby.json("watch", "--once")["state"] == "alive"


def test_a_service_ends_with_0_when_it_is_told_to_stop(standby: Place) -> None:
    """The real process, as systemd has it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "reopen.cli", "--config", str(standby.folder / "reopen.toml"), "watch", "--json"],
        stdout=subprocess.PIPE, env={**os.environ, "REOPEN_SITE": "standby"}, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["state"] == "alive"
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert json.loads(rest)["stopped_by"] == "SIGTERM"
    assert process.returncode == 0
