"""Hooks as processes: what they are told, time-outs, and what happens when nobody knows whether one acted (F1)."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.config.model import Hook
from reopen.recover.hooks import HookCall, HookFailed, HookInDoubt, HookKind, SiteHooks

CALL = HookCall(kind=HookKind.FENCE, site="production", step="fence", epoch=3, plan="a1b2", dataset="orders")
DONE = "exit 0"
NOT_DONE = "exit 3"
UNKNOWN = "exit 1"


def lives(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().split()[2] != "Z"


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def hooks_of(folder: Path, script: str, *, check: str = "", seconds: float = 20, enforces: bool = False) -> SiteHooks:
    hook = Hook(
        command=shell(script),
        check=shell(check) if check else (),
        timeout=timedelta(seconds=seconds),
        enforces=enforces,
    )
    return SiteHooks({"production": {"fence": hook}}, folder=folder)


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
