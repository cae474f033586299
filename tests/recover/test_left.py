"""A recovery whose driver died is found, and gone on with by a machine only where that decides nothing (F13)."""

from __future__ import annotations

from typing import Any

import pytest

from reopen.control.records import Scenario
from reopen.errors import ReopenError, Transient
from reopen.recover.approvals import give_approval
from reopen.recover.failover import execute_failover, unfinished_plan
from reopen.recover.left import LEFT_AFTER, UNHEARD_AFTER, Undriven, find_undriven
from reopen.recover.planned import NotMoved
from reopen.recover.pulse import Pulse, beating, read_pulse
from reopen.recover.roles import Move
from tests.recover.business import COOPERATIVE, NOON, TickingClock, plan_of
from tests.recover.moving import World, log_over, move, plan_to
from tests.stores import MemoryStore, SimulatedCrash


@pytest.fixture(autouse=True)
def _only_the_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reopen.recover.record._complete_history", lambda store: None)
    monkeypatch.setattr("reopen.recover.record._write_report", lambda store, stored: None)


def drive(store: MemoryStore, world: World, by: str, *, scenario: Scenario = Scenario.UNPLANNED, **changes: Any) -> Any:
    """What a command does: it beats while it moves the role."""
    with beating(store, orchestrator=by, plan="p", clock=world.clock):
        return move(store, world, orchestrator=by, scenario=scenario, to="standby", **changes)


def undriven(store: MemoryStore, world: World, **options: Any) -> Undriven | None:
    return find_undriven(log_over(store, world), **options)


def dies_in(world: World, what: str) -> None:
    def moment(when: str, happening: str) -> None:
        if (when, happening) == ("before", what):
            raise SimulatedCrash

    world.moment = moment


def test_a_driver_that_died_behind_its_fence_is_gone_on_with_and_nothing_is_left_when_it_is_done() -> None:
    store, world = MemoryStore(), World()
    dies_in(world, "restore papers")
    with pytest.raises(SimulatedCrash):
        drive(store, world, "o1")

    found = undriven(store, world)

    assert found is not None
    assert (found.orchestrator, found.by_itself, found.silent_after) == ("o1", True, LEFT_AFTER)
    assert undriven(store, world) == found, "the same as long as nothing moves"
    world.moment = lambda when, what: None
    drive(store, world, "o2", seed=2)
    assert undriven(store, world) is None


def test_a_driver_that_beats_is_another_one_at_each_look_and_one_that_ends_says_how() -> None:
    store, world = MemoryStore(), World()
    seen: list[Undriven | None] = []

    def moment(when: str, happening: str) -> None:
        if (when, happening) == ("before", "restore papers"):
            seen.append(undriven(store, world))
            store.put("drivers/o1.json", [store.get("drivers/o1.json").replace(b'"beat":1', b'"beat":2')])
            seen.append(undriven(store, world))

    world.moment = moment
    drive(store, world, "o1")

    first, second = seen
    assert first is not None
    assert second is not None
    assert first.token != second.token
    pulse = read_pulse(store, "o1")
    assert pulse is not None
    assert pulse.ended == "done"


def test_a_run_that_ended_with_a_failed_dataset_waits_for_a_person_and_not_for_a_machine() -> None:
    store, world = MemoryStore(), World()
    world.verbs.failing_checks = {"papers"}
    drive(store, world, "o1")
    assert unfinished_plan(log_over(store, world)) is not None
    assert undriven(store, world) is None
    store.delete("drivers/o1.json")
    assert undriven(store, world) is None, "its evidence says that it came to its end"


def test_before_the_fence_nothing_goes_on_without_a_word_of_people_or_the_rule() -> None:
    store, world = MemoryStore(), World(enforcing=False)
    dies_in(world, "fence production")
    plan = plan_to(world, Scenario.UNPLANNED, "standby")
    with pytest.raises(SimulatedCrash), beating(store, orchestrator="o1", plan="p", clock=world.clock):
        execute_failover(
            plan, world.context("o1"), log_over(store, world), fence=COOPERATIVE, reason="x", workers=1
        )  # fmt: skip
    found = undriven(store, world)
    assert found is not None
    assert not found.by_itself
    assert "reopen failover" in found.why
    allowed = undriven(store, world, may_go=True)
    assert allowed is not None
    assert allowed.by_itself


def test_a_run_that_nobody_approved_is_gone_on_with_once_it_is_approved() -> None:
    store, world = MemoryStore(), World()
    plan = plan_of(world.contracts, world.vault, move=Move(scenario=Scenario.UNPLANNED, unsure=True, automatic=True))
    assert plan.approvals
    log = log_over(store, world)
    with pytest.raises(NotMoved), beating(store, orchestrator="o1", plan="p", clock=world.clock):
        execute_failover(plan, world.context("o1"), log, fence=COOPERATIVE, reason="x", workers=1)
    assert undriven(store, world) is None, "who asked was told that it waits"

    give_approval(log, plan, by="anna", why="go", identifier="elsewhere")

    found = undriven(store, world)
    assert found is not None
    assert (found.by_itself, found.why) == (True, "Its plan is approved.")


def test_a_planned_move_before_its_fence_is_told_and_left_to_people() -> None:
    store, world = MemoryStore(), World()
    dies_in(world, "final sync papers")
    with pytest.raises(SimulatedCrash):
        drive(store, world, "o1", scenario=Scenario.PLANNED)
    found = undriven(store, world)
    assert found is not None
    assert not found.by_itself
    assert "reopen failover --planned" in found.why


def test_a_driver_that_was_never_heard_of_is_given_more_time() -> None:
    store, world = MemoryStore(), World()
    dies_in(world, "restore papers")
    with pytest.raises(SimulatedCrash):
        move(store, world, orchestrator="old", scenario=Scenario.UNPLANNED, to="standby")
    found = undriven(store, world)
    assert found is not None
    assert found.silent_after == UNHEARD_AFTER


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (ReopenError("the fence failed."), "the fence failed."),
        (KeyboardInterrupt(), "interrupted by hand"),
        (Transient("no answer."), ""),
        (SystemExit(1), ""),
    ],
)
def test_only_an_end_that_somebody_decided_or_was_told_of_is_one(ending: BaseException, said: str) -> None:
    store = MemoryStore()
    with pytest.raises(type(ending)), beating(store, orchestrator="o", plan="p", clock=TickingClock(NOON)):
        raise ending
    pulse = read_pulse(store, "o")
    assert isinstance(pulse, Pulse)
    assert pulse.ended == said


def test_a_beat_that_cannot_be_written_stops_nothing() -> None:
    class Full(MemoryStore):
        def put(self, name: str, pieces: Any) -> int:
            raise Transient("no route.")

    store = Full()
    with beating(store, orchestrator="o", plan="p", clock=TickingClock(NOON)):
        assert read_pulse(store, "o") is None
    store.objects["drivers/o.json"] = (b"{", NOON)
    assert read_pulse(store, "o") is None
