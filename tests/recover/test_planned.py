"""A planned move with fake sites: what holds writers, what gives them back, what is proven (F1, F3, F5, F6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reopen.control import rules, tenure
from reopen.control.records import Epoch, FenceLevel, Promotion, Scenario, Takeover
from reopen.control.rules import Superseded
from reopen.control.states import State, position_of
from reopen.errors import Conflict, Refused, Transient
from reopen.recover.approvals import give_approval
from reopen.recover.clocks import Verdict
from reopen.recover.ended import unwritten_end
from reopen.recover.evidence import read_evidence
from reopen.recover.failover import FailoverResult, execute_failover, unfinished_plan
from reopen.recover.hooks import HookCall, HookFailed, HookKind, HookRun
from reopen.recover.planned import NotMoved
from reopen.recover.readiness import Mark
from reopen.recover.rollback import unwritten_rollback
from reopen.storage.base import Piece
from tests.recover.business import COOPERATIVE
from tests.recover.moving import NAMES, World, WorldHooks, WorldSource, accept, log_over, move, plan_to, roll_back
from tests.stores import MemoryStore, SimulatedCrash


@pytest.fixture(autouse=True)
def _only_the_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reopen.recover.record._complete_history", lambda store: None)
    monkeypatch.setattr("reopen.recover.record._write_report", lambda store, stored: None)


def planned(store: MemoryStore, world: World, by: str = "o1", **changes: Any) -> FailoverResult:
    return move(store, world, orchestrator=by, scenario=Scenario.PLANNED, to="standby", **changes)


def test_the_points_are_those_of_the_final_sync_and_nothing_is_lost() -> None:
    store, world = MemoryStore(), World()
    result = planned(store, world)
    points = {dataset.name: dataset.point.seq for dataset in result.plan.datasets if dataset.point is not None}
    assert points == dict.fromkeys(NAMES, 2)
    assert {dataset.rpa for dataset in result.measured.datasets} == {timedelta(0)}
    assert result.rpo_zero == "proven"
    assert (world.state["production", "held"], world.state["production", "fenced"]) == (True, True)


@pytest.mark.parametrize(("enforcing", "late"), [(False, set()), (True, {"papers"})])
def test_rpo_zero_is_proven_by_an_enforced_fence_and_an_equal_source_together(enforcing: bool, late: set[str]) -> None:
    world = World(enforcing=enforcing, late_writes=late)
    result = planned(MemoryStore(), world)
    assert result.rpo_zero == "unproven"
    assert result.evidence.evidence.findings["rpo_zero"]["why"]


def test_a_final_sync_that_fails_gives_the_writers_back_and_a_new_move_can_begin() -> None:
    class Unreadable(WorldSource):
        def final_sync(self, dataset: Any) -> Any:
            raise Transient("the disk is gone.")

    store, world = MemoryStore(), World()
    with pytest.raises(NotMoved, match="final-sync:customer: the disk is gone"):
        planned(store, world, source=Unreadable(world))

    records = log_over(store, world).records()
    assert world.state["production", "held"] is False
    assert not tenure.is_quiesced(records)
    assert position_of(records).state is State.PROTECTED
    assert unfinished_plan(log_over(store, world)) is None
    assert planned(store, world, by="o2", seed=2).primary == "standby"


def test_a_target_that_is_not_ready_holds_nobody_and_the_next_move_is_planned_anew() -> None:
    store, world = MemoryStore(), World()
    world.verbs.readiness = Mark.FAIL
    with pytest.raises(NotMoved, match="preflight"):
        planned(store, world)

    assert world.acts == Counter()
    assert unfinished_plan(log_over(store, world)) is None
    world.verbs.readiness = Mark.OK
    assert planned(store, world, by="o2", seed=2).primary == "standby"


def test_a_driver_that_was_taken_over_while_its_fence_hook_ran_raises_no_epoch() -> None:
    store, world = MemoryStore(), World()

    class TakenOver(WorldHooks):
        def run(self, call: HookCall, *, in_doubt: bool) -> HookRun | None:
            if call.kind is HookKind.FENCE:
                log = log_over(store, world, 9)
                now = rules.holder(log.records())
                log.append(Takeover(epoch=now.epoch, term=now.term + 1, reason="it is slow"), by="o2")
            return super().run(call, in_doubt=in_doubt)

    with pytest.raises(Superseded, match="orchestrator o2 acts now"):
        move(store, world, orchestrator="o1", scenario=Scenario.UNPLANNED, to="standby", hooks=TakenOver(world))
    records = log_over(store, world).records()
    assert rules.current_epoch(records) == 0
    assert rules.holder(records).orchestrator == "o2"


def test_an_interrupt_by_hand_gives_the_writers_back_and_a_death_leaves_them_to_the_next() -> None:
    class Ends(WorldSource):
        def final_sync(self, dataset: Any) -> Any:
            raise self.world.ending  # type: ignore[attr-defined]

    for ending, held in ((KeyboardInterrupt(), False), (SimulatedCrash(), True)):
        store, world = MemoryStore(), World()
        world.ending = ending  # type: ignore[attr-defined]
        with pytest.raises(type(ending)):
            planned(store, world, source=Ends(world))
        assert world.state["production", "held"] is held
        assert tenure.is_quiesced(log_over(store, world).records()) is held


def test_a_roll_back_before_the_fence_gives_the_writers_back() -> None:
    store, world = MemoryStore(), World()

    class Dies(WorldSource):
        def final_sync(self, dataset: Any) -> Any:
            raise SimulatedCrash

    with pytest.raises(SimulatedCrash):
        planned(store, world, source=Dies(world))
    result = roll_back(store, world, orchestrator="o2", seed=2)
    assert not result.moved
    assert world.state["production", "held"] is False
    assert rules.current_epoch(log_over(store, world).records()) == 0


def test_a_move_that_ends_before_its_fence_is_written_down_with_how_long_writers_were_held() -> None:
    class Unreadable(WorldSource):
        def final_sync(self, dataset: Any) -> Any:
            self.world.clock.advance(timedelta(minutes=7))
            raise Transient("the disk is gone.")

    store, world = MemoryStore(), World()
    with pytest.raises(NotMoved):
        planned(store, world, source=Unreadable(world))

    (record,) = read_evidence(store)
    found = record.evidence
    assert (found.kind, found.scenario, found.measured.verdict) == ("given-back", "planned", Verdict.FAILED)
    assert found.findings["ended"] == "final-sync:customer failed: the disk is gone."
    assert "(7m" in found.findings["writers"], "from the quiesce to the end of the giving back"
    assert {"quiesce", "unquiesce"} <= {step.step for step in found.steps}
    records = log_over(store, world).records()
    assert rules.quoted_evidence(records) == {record.name: record.digest}
    assert unwritten_end(log_over(store, world)) is None


@pytest.mark.parametrize("dies", ["before it is written", "behind it"])
def test_a_driver_that_dies_while_it_writes_down_the_end_is_followed_by_one_that_does(dies: str) -> None:
    class Unreadable(WorldSource):
        def final_sync(self, dataset: Any) -> Any:
            raise Transient("the disk is gone.")

    class Dying(MemoryStore):
        def create(self, name: str, pieces: Sequence[Piece]) -> int:
            if name.startswith("evidence/"):
                if dies == "behind it":
                    super().create(name, pieces)
                raise SimulatedCrash
            return super().create(name, pieces)

    dying, world = Dying(), World()
    with pytest.raises(SimulatedCrash):
        planned(dying, world, source=Unreadable(world))
    assert world.state["production", "held"] is False
    store = MemoryStore()
    store.objects = dying.objects
    ended = unwritten_end(log_over(store, world))
    assert ended is not None
    assert unwritten_rollback(log_over(store, world)) == ended

    result = roll_back(store, world, orchestrator="o2", seed=2)

    assert result.evidence is not None
    assert not result.moved
    (record,) = read_evidence(store)
    assert rules.quoted_evidence(log_over(store, world).records()) == {record.name: record.digest}
    assert unwritten_end(log_over(store, world)) is None


def test_writers_are_not_held_longer_than_the_plan_says() -> None:
    class Slow(WorldSource):
        def final_sync(self, dataset: Any) -> Any:
            self.world.clock.advance(timedelta(hours=2))
            return super().final_sync(dataset)

    store, world = MemoryStore(), World()
    with pytest.raises(Refused, match="have been held since"):
        planned(store, world, source=Slow(world), quiesce_max=timedelta(hours=1))
    assert world.state["production", "held"] is False
    assert world.acts["final sync customer"] == 1, "and the second dataset was not begun"


def test_nothing_is_touched_before_the_approval_that_the_plan_asks_for() -> None:
    store, world = MemoryStore(), World()
    datasets = {name: replace(world.contracts.datasets[name], approval=name == "papers") for name in NAMES}
    world.contracts = replace(world.contracts, datasets=datasets)
    with pytest.raises(NotMoved, match="asked for by papers"):
        planned(store, world)
    assert not world.acts
    log = log_over(store, world)
    plan = unfinished_plan(log)
    assert plan is not None
    give_approval(log, plan, by="anna", why="agreed", identifier="elsewhere")
    assert planned(store, world, by="o2", seed=2).primary == "standby"
    with pytest.raises(Conflict, match="asks for no approval"):
        give_approval(log, replace(plan, approvals=()), by="anna", why="x", identifier="elsewhere")


def test_where_nobody_knows_whether_the_fence_acted_a_person_is_asked_and_nothing_runs_twice() -> None:
    store, world = MemoryStore(), World(checks=False)

    def die_after_fence(when: str, what: str) -> None:
        if (when, what) == ("after", "fence production"):
            raise SimulatedCrash

    world.moment = die_after_fence
    with pytest.raises(SimulatedCrash):
        move(store, world, orchestrator="o1", scenario=Scenario.UNPLANNED, to="standby")
    world.moment = lambda when, what: None

    # The risk was accepted by its name, so the failover goes on; what is recorded is what was achieved.
    result = move(store, world, orchestrator="o2", scenario=Scenario.UNPLANNED, to="standby", seed=2)
    assert world.acts["fence production"] == 1
    assert result.evidence.evidence.fence["level"] == FenceLevel.COOPERATIVE
    assert "nobody knows" in result.evidence.evidence.fence["why"]


def test_a_failover_goes_on_when_production_is_lost_while_it_hands_over() -> None:
    store, world = MemoryStore(), World()

    class Dies(WorldSource):
        def final_sync(self, dataset: Any) -> Any:
            raise SimulatedCrash

    with pytest.raises(SimulatedCrash):
        planned(store, world, source=Dies(world))
    log, context = log_over(store, world, 2), world.context("o2")
    plan = plan_to(world, Scenario.UNPLANNED, "standby")
    result = execute_failover(plan, context, log, fence=COOPERATIVE, reason="it burnt", workers=1)
    assert result.primary == "standby"
    assert position_of(log.records()).state is State.FAILED_OVER


def test_a_hook_that_leads_consumers_and_fails_holds_up_no_promotion() -> None:
    class Unpublished(WorldHooks):
        def run(self, call: Any, *, in_doubt: bool) -> HookRun | None:
            if call.kind is HookKind.PUBLISH:
                raise HookFailed("the name service does not answer")
            return super().run(call, in_doubt=in_doubt)

    store, world = MemoryStore(), World()
    result = planned(store, world, hooks=Unpublished(world))
    promoted = [value.group for value in rules.values(log_over(store, world).records(), Promotion)]
    assert sorted(promoted) == sorted(NAMES)
    assert result.outcomes["finish"].reason == "the name service does not answer"


def test_a_move_begins_where_the_one_before_is_accepted_or_given_back() -> None:
    store, world = MemoryStore(), World()
    planned(store, world)
    with pytest.raises(Conflict, match="neither committed nor rolled back"):
        move(store, world, orchestrator="o2", scenario=Scenario.FAILBACK, to="production", seed=2)
    accept(store, world)
    assert (
        move(store, world, orchestrator="o3", scenario=Scenario.FAILBACK, to="production", seed=3).primary
        == "production"
    )


def test_what_a_site_wrote_after_it_had_lost_the_role_or_in_vain_is_diverged() -> None:
    store, world = MemoryStore(), World()
    planned(store, world)
    records = log_over(store, world).records()
    lost_at = next(record.at for record in records if isinstance(record.value, Epoch))
    known: dict[str, Any] = {"initial": "production"}
    early, late = lost_at - timedelta(minutes=1), lost_at + timedelta(minutes=1)
    diverged = tenure.is_diverged
    assert not diverged(records, site="production", epoch=0, consistent_at=early, **known)
    assert diverged(records, site="production", epoch=0, consistent_at=late, **known)
    assert diverged(records, site="production", epoch=1, consistent_at=late, **known)
    assert not diverged(records, site="standby", epoch=1, consistent_at=late, **known)
    roll_back(store, world, orchestrator="o2", seed=2)
    records = log_over(store, world).records()
    assert diverged(records, site="standby", epoch=1, consistent_at=late, **known)
    assert rules.serving(records) == {}, "nothing of the abandoned epoch serves"
