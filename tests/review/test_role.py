"""A move of the role that was left is told with what goes on with it, and what ends it (I2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reopen.clock import FixedClock
from reopen.control.log import EpochLog
from reopen.control.records import Scenario
from reopen.errors import Corrupt
from reopen.review import role
from reopen.review.role import Move, read_control
from reopen.storage.local import LocalStore
from tests.recover.business import FakeVerbs, context_of, fail_over, plan_of


def left_at(root: Path, *, failed: str, interrupted: str) -> Move:
    """What is told of a failover in which a restore failed, and that was interrupted at another."""

    def interfere(verb: str, dataset: str) -> None:
        if (verb, dataset) == ("restore", failed):
            raise Corrupt("a pack is damaged", hint="none")
        if (verb, dataset) == ("restore", interrupted):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_over(LocalStore(root), context_of(FakeVerbs(interfere)))
    move = read_control(EpochLog(LocalStore(root), clock=FixedClock()), initial_primary="production").move
    assert move is not None
    return move


def test_a_failover_that_was_interrupted_waits_for_nobody_and_is_gone_on_with(tmp_path: Path) -> None:
    move = left_at(tmp_path, failed="", interrupted="orders")
    assert (move.scenario, move.source, move.target, move.waits) == ("unplanned", "production", "standby", False)
    assert move.steps_done > 0
    assert move.what_to_do == (
        "Where nothing drives it any more, `reopen failover` goes on with it; `reopen rollback` ends it."
    )


def test_a_step_that_failed_is_told_before_anything_else(tmp_path: Path) -> None:
    move = left_at(tmp_path, failed="region", interrupted="part")
    assert move.what_to_do.startswith("A step failed: `reopen decide` shows what waits; `reopen failover`")


@pytest.mark.parametrize("scenario", Scenario)
def test_a_roll_back_and_a_reprotect_are_ended_by_going_on_alone(scenario: Scenario) -> None:
    told = role._what_to_do([], replace(plan_of(), scenario=scenario), waits=False)
    assert f"`reopen {role.COMMANDS[scenario]}` goes on" in told
    assert ("`reopen rollback` ends it" in told) is (scenario not in (Scenario.ROLLBACK, Scenario.MOVED))
