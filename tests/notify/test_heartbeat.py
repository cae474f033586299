"""An observer outside hears of each job what became of it, and none that fails or hangs stops a job (B1 to B4)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.config import Heartbeat, Settings, default_settings_text, load_settings
from reopen.desk.heartbeat import Job, heartbeat
from reopen.errors import Corrupt
from reopen.notify.heartbeat import Beat, Heard, send_beat
from tests.notify.receivers import Observer, running
from tests.servers import free_port


@pytest.fixture
def observer() -> Iterator[Observer]:
    server = Observer(200)
    with running(server):
        yield server


@pytest.fixture
def settings(tmp_path: Path, observer: Observer) -> Settings:
    file = tmp_path / "reopen.toml"
    file.write_text(default_settings_text(), encoding="utf-8")
    watched = Heartbeat(watch=observer.url, snapshot=observer.url, timeout=timedelta(seconds=5))
    return replace(load_settings(file), heartbeat=watched)


def say(url: str, beat: Beat = Beat.OK, *, seconds_max: float = 5, **environment: str) -> Heard:
    return send_beat(url, beat, seconds_max=seconds_max, text="verify at production:\n done", environment=environment)


def test_each_beat_has_its_own_address_before_the_query(observer: Observer) -> None:
    for beat in Beat:
        assert say(f"{observer.url}/?rid=7", beat) == Heard(beat=beat, observer="127.0.0.1")
    assert observer.calls == [
        (f"/ping/t0ken{path}?rid=7", "verify at production: done") for path in ("/start", "", "/fail")
    ]


def test_an_address_may_be_a_variable_and_one_that_is_not_set_is_told_by_its_name(observer: Observer) -> None:
    assert say("${BEAT}", BEAT=observer.url).problem == ""
    assert say("${BEAT}").problem == "BEAT is not set in the environment"
    assert say("${BEAT}", BEAT="t0ken").problem == "it is no address of a web server"
    assert len(observer.calls) == 1


def test_a_server_in_trouble_is_asked_once_more_and_one_that_knows_no_such_check_is_not(observer: Observer) -> None:
    observer.script = [503, 200]
    assert say(observer.url).problem == ""
    assert len(observer.calls) == 2
    observer.script = [404]
    assert say(observer.url).problem == "it answered 404"
    assert len(observer.calls) == 3


def test_nobody_there_is_a_problem_that_quotes_no_address() -> None:
    heard = say(f"http://127.0.0.1:{free_port()}/ping/t0ken")
    assert heard.problem == "it could not be reached (ConnectionRefusedError)"
    assert "t0ken" not in repr(heard)


def test_an_observer_that_drips_its_answer_is_left_behind_in_time(observer: Observer) -> None:
    observer.open.clear()
    begun = time.monotonic()
    assert say(observer.url, seconds_max=0.3).problem == "no answer within 0.3 s"
    assert time.monotonic() - begun < 3


def test_a_job_says_that_it_began_and_how_it_ended(settings: Settings, observer: Observer) -> None:
    with heartbeat(settings, Job.SNAPSHOT) as pulse:
        assert [path for path, _ in observer.calls] == ["/ping/t0ken/start"]
    assert pulse.problem == ""
    with heartbeat(settings, Job.SNAPSHOT) as pulse:
        pulse.failed = True
    with pytest.raises(Corrupt), heartbeat(settings, Job.SNAPSHOT):
        raise Corrupt("orders: the secret file is damaged")
    said = [(path.removeprefix("/ping/t0ken"), text) for path, text in observer.calls]
    began = ("/start", "snapshot at production: began")
    assert said == [
        began,
        ("", "snapshot at production: done"),
        began,
        ("/fail", "snapshot at production: ended, and did not do its work"),
        began,
        ("/fail", "snapshot at production: failed (corrupt)"),
    ]


def test_a_job_that_is_killed_says_nothing_more_and_one_without_an_observer_says_nothing(
    settings: Settings, observer: Observer
) -> None:
    with pytest.raises(KeyboardInterrupt), heartbeat(settings, Job.WATCH):
        raise KeyboardInterrupt
    with heartbeat(settings, Job.VERIFY):
        pass
    assert observer.calls == []
    with heartbeat(settings, Job.WATCH):
        pass
    assert [path for path, _ in observer.calls] == ["/ping/t0ken"]


def test_a_job_goes_on_whatever_became_of_its_calls(settings: Settings, observer: Observer) -> None:
    observer.script = [410]
    with heartbeat(settings, Job.SNAPSHOT) as pulse:
        done = True
    assert done
    assert pulse.problem == "127.0.0.1: it answered 410"
