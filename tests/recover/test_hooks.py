"""Hooks as processes: what they are told, time-outs, and what happens when nobody knows whether one acted (F1)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.config.model import Hook
from reopen.control.values import digest, to_json
from reopen.recover.hookruns import Note, ended_with_us
from reopen.recover.hooks import HookCall, HookFailed, HookInDoubt, HookKind, SiteHooks
from reopen.storage.canonical import encode
from reopen.storage.local import LocalStore

CALL = HookCall(kind=HookKind.FENCE, site="production", step="fence", epoch=3, plan="a1b2", dataset="orders")
DONE = "exit 0"
NOT_DONE = "exit 3"
UNKNOWN = "exit 1"


def lives(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().split()[2] != "Z"


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def hooks_of(
    folder: Path, script: str, *, check: str = "", seconds: float = 20, enforces: bool = False, home: Path | None = None
) -> SiteHooks:
    hook = Hook(
        command=shell(script),
        check=shell(check) if check else (),
        timeout=timedelta(seconds=seconds),
        enforces=enforces,
    )
    return SiteHooks({"production": {"fence": hook}}, folder=folder, home=home)


def test_a_hook_is_told_what_it_acts_for_and_its_output_is_kept(tmp_path: Path) -> None:
    script = 'echo "$REOPEN_STEP $REOPEN_EPOCH $REOPEN_SITE $REOPEN_PLAN $REOPEN_DATASET in $PWD"; echo beside >&2'
    run = hooks_of(tmp_path, script, enforces=True).run(CALL, in_doubt=False)

    assert run is not None
    assert run.output == f"fence 3 production a1b2 orders in {tmp_path}\nbeside"
    assert (run.how, run.command, run.enforces) == ("ran", "/bin/sh", True)


def test_a_site_without_a_hook_of_that_kind_runs_nothing(tmp_path: Path) -> None:
    hooks = hooks_of(tmp_path, DONE)
    assert hooks.has("production", HookKind.FENCE)
    assert not hooks.has("standby", HookKind.FENCE)
    assert not hooks.enforces("production")
    assert SiteHooks({}, folder=tmp_path).run(CALL, in_doubt=True) is None


def test_a_hook_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(HookFailed, match="fence hook of production failed with exit code 7: no route") as caught:
        hooks_of(tmp_path, "echo no route; exit 7").run(CALL, in_doubt=False)
    assert not isinstance(caught.value, HookInDoubt)


def test_a_hook_that_is_not_there_says_where_to_correct_it(tmp_path: Path) -> None:
    hooks = SiteHooks({"production": {"fence": Hook(command=("/nowhere/fence",))}}, folder=tmp_path)
    with pytest.raises(HookFailed, match="cannot be started") as caught:
        hooks.run(CALL, in_doubt=False)
    assert "[sites.production.hooks]" in caught.value.hint


@pytest.mark.parametrize(("check", "how", "acted"), [(DONE, "found done", False), (NOT_DONE, "ran", True)])
def test_after_an_interrupt_the_check_decides_whether_the_hook_runs_again(
    tmp_path: Path, check: str, how: str, acted: bool
) -> None:
    mark = tmp_path / "acted"
    run = hooks_of(tmp_path, f"touch {mark}", check=check).run(CALL, in_doubt=True)
    assert run is not None
    assert (run.how, mark.exists()) == (how, acted)


@pytest.mark.parametrize("check", ["", UNKNOWN, "exit 127"])
def test_what_nobody_knows_is_a_question_to_a_person(tmp_path: Path, check: str) -> None:
    mark = tmp_path / "acted"
    with pytest.raises(HookInDoubt, match="nobody knows whether") as caught:
        hooks_of(tmp_path, f"touch {mark}", check=check).run(CALL, in_doubt=True)
    assert not mark.exists(), "it must not run twice"
    assert "reopen decide" in caught.value.hint
    assert "--assert-fenced" in caught.value.hint


def test_a_hook_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/child; wait"
    with pytest.raises(HookInDoubt, match=r"longer than 0\.3 s and was stopped"):
        hooks_of(tmp_path, script, seconds=0.3).run(CALL, in_doubt=False)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while lives(child):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.01)


def test_a_hook_that_was_stopped_and_had_done_it_is_done(tmp_path: Path) -> None:
    mark = tmp_path / "acted"
    run = hooks_of(tmp_path, f"touch {mark}; sleep 600", check=f"test -e {mark}", seconds=0.5).run(CALL, in_doubt=False)
    assert run is not None


def test_what_a_hook_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    run = hooks_of(tmp_path, "sleep 5 & echo started").run(CALL, in_doubt=False)
    assert run is not None
    assert run.output == "started"
    assert run.seconds < 4


def test_only_the_end_of_a_long_output_is_kept(tmp_path: Path) -> None:
    run = hooks_of(tmp_path, "seq 1 5000; printf 'ü%.0s' $(seq 1 400)").run(CALL, in_doubt=False)
    assert run is not None
    assert len(run.output) <= 1000
    assert run.output.endswith("ü" * 400)


DRIVER = """
import sys
from pathlib import Path
from tests.recover.test_hooks import CALL, hooks_of
folder = Path(sys.argv[1])
hooks_of(folder, sys.argv[2], home=folder / "home").run(CALL, in_doubt=False)
"""


@contextmanager
def left_by_a_killed_driver(folder: Path, script: str) -> Iterator[int]:
    """A hook whose driver was killed (SIGKILL) while it ran; it has written its process's number to ``began``."""
    began = folder / "began"
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder), f"echo $$ > {began}.new; mv {began}.new {began}; {script}"]
    )
    until(began.exists)
    until(lambda: any((folder / "home/hooks").glob("*.json")))
    driver.kill()
    driver.wait()
    process = int(began.read_text())
    assert lives(process)
    try:
        yield process
    finally:
        if lives(process):
            os.killpg(process, signal.SIGKILL)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def test_a_hook_that_a_killed_driver_left_is_waited_for_and_its_check_asked(tmp_path: Path) -> None:
    """The log may even say that a person wants it run again: not while it runs."""
    mark, go = tmp_path / "acted", tmp_path / "go"
    script = f"while ! test -e {go}; do sleep 0.02; done; echo once >> {mark}"
    with left_by_a_killed_driver(tmp_path, script) as process:
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            go.touch()
            until(lambda: not lives(process))

        hook = Hook(command=shell(script), check=shell(f"test -e {mark} || exit 3"), timeout=timedelta(seconds=20))
        hooks = SiteHooks({"production": {"fence": hook}}, folder=tmp_path, home=tmp_path / "home", wait=wait)
        run = hooks.run(CALL, in_doubt=False)

    assert waits, "it was waited for"
    assert run is not None
    assert run.how == "found done"
    assert mark.read_text() == "once\n"


def test_a_hook_that_was_left_and_never_ends_is_ended_after_its_time(tmp_path: Path) -> None:
    with left_by_a_killed_driver(tmp_path, "sleep 600") as process:
        hooks = hooks_of(tmp_path, DONE, seconds=0.3, home=tmp_path / "home")
        with pytest.raises(HookInDoubt, match=r"left it running here .* took longer than its time-out and was ended"):
            hooks.run(CALL, in_doubt=False)
        until(lambda: not lives(process))


def test_another_process_of_the_same_number_is_not_taken_for_the_hook(tmp_path: Path) -> None:
    home = tmp_path / "home"
    note = Note(hook=CALL.name, process=os.getpid(), began_seconds=1.0, step="fence", plan="a1b2")
    LocalStore(home / "hooks").put(f"{digest(CALL.name.encode())[:32]}.json", [encode(to_json(note))])
    assert hooks_of(tmp_path, DONE, home=home).run(CALL, in_doubt=False) is not None
    assert list((home / "hooks").glob("*.json")) == [], "and nothing is left of its own note"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_driver_that_is_told_to_stop_tells_its_hooks_with_all_that_they_started(
    tmp_path: Path, request: pytest.FixtureRequest, number: signal.Signals
) -> None:
    child, before = tmp_path / "child", signal.getsignal(signal.SIGTERM)
    # Whoever starts the tests in the background has them ignore it.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, ignored))
    hooks = hooks_of(tmp_path, f"sleep 600 & echo $! > {child}.new; mv {child}.new {child}; wait", check=NOT_DONE)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(hooks.run, CALL, in_doubt=False)
        until(child.exists)
        with pytest.raises(KeyboardInterrupt), ended_with_us(hooks.tell_all):
            signal.raise_signal(number)
        with pytest.raises(HookInDoubt, match="was told to end, because this process was"):
            ended.result(timeout=30)
    until(lambda: not lives(int(child.read_text())))
    assert signal.getsignal(signal.SIGTERM) == before, "whoever handled it does again"


def test_a_hook_that_does_not_listen_is_killed_after_some_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reopen.recover.hookruns.GRACE_SECONDS", 0.3)
    deaf = tmp_path / "deaf"
    hooks = hooks_of(tmp_path, f"trap '' TERM; touch {deaf}; while :; do sleep 1; done")
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(hooks.run, CALL, in_doubt=False)
        until(deaf.exists)
        hooks.tell_all()
        with pytest.raises(HookInDoubt, match="It has no check"):
            ended.result(timeout=30)
