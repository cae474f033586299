"""The log moves to another home, dies anywhere, and goes on (H1, H2)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from reopen.control import rules
from reopen.control.homes import finish_move, move_log
from reopen.control.log import EpochLog
from reopen.control.records import Intent, Scenario
from reopen.control.states import State, position_of
from reopen.errors import Corrupt, Refused, Transient
from reopen.recover.reprotect import Reprotected, execute_reprotect, plan_reprotect
from reopen.storage.base import ObjectStore
from tests.proof import count
from tests.recover.moving import World, accept, log_over, move
from tests.stores import MemoryStore, SimulatedCrash, WatchedStore

OLD, NEW = "/standby/control", "/production/control/epoch-2"


class Places:
    """Stores by URL, behind a script that may let the process die."""

    def __init__(self) -> None:
        self.stores: dict[str, MemoryStore] = {OLD: MemoryStore(), NEW: MemoryStore()}
        self.script: Callable[[str, str, str], None] = lambda moment, operation, name: None

    def __call__(self, url: str) -> ObjectStore:
        return WatchedStore(self.stores[url], lambda *call: self.script(*call))

    def clone(self) -> Places:
        made = Places()
        made.stores = {url: store.clone() for url, store in self.stores.items()}
        return made


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> tuple[Places, World]:
    """A failover that was accepted; its log is at the site that has the role."""
    monkeypatch.setattr("reopen.recover.record._complete_history", lambda store: None)
    monkeypatch.setattr("reopen.recover.record._write_report", lambda store, stored: None)
    places, world = Places(), World()
    move(places.stores[OLD], world, orchestrator="o1", scenario=Scenario.UNPLANNED, to="standby")
    accept(places.stores[OLD], world)
    return places, world


def protect_anew(places: Places, world: World, *, by: str) -> Reprotected:
    """What the desk does."""
    finish_move(OLD, open_store=places, clock=world.clock, by=by)
    log = EpochLog(places(OLD), clock=world.clock, open_store=places)
    records = log.records()
    plan = plan_reprotect(
        records, primary="standby", standby="production", vault="v", contracts="c", now=world.clock.now()
    )

    def replicate() -> Mapping[str, Any]:
        return {"snapshots": 1}

    at_old = "log/0000000001.json" not in places.stores[NEW].objects
    return execute_reprotect(
        plan, log, replicate=replicate, next_url=NEW if at_old else None, open_store=places, orchestrator=by,
        reason="safe again",
    )  # fmt: skip


def test_a_move_of_the_log_that_dies_anywhere_is_gone_on_with(committed: tuple[Places, World]) -> None:
    start, world = committed
    before = log_over(start.stores[OLD], world).records()
    for number in itertools.count():
        places, left = start.clone(), [number]

        def script(moment: str, operation: str, name: str, left: list[int] = left) -> None:
            if operation in ("create", "put"):
                left[0] -= 1
                if left[0] < 0:
                    raise SimulatedCrash

        places.script = script
        try:
            protect_anew(places, world, by="first")
        except SimulatedCrash:
            places.script = lambda moment, operation, name: None
        else:
            break
        found = raw(places, world)
        if position_of(found).state is not State.PROTECTED:
            protect_anew(places, world, by="second")

        records = EpochLog(places(OLD), clock=world.clock, open_store=places).records()
        assert position_of(records).state is State.PROTECTED
        assert records[: len(before)] == before, "the history is the same"
        assert [record.number for record in records] == list(range(1, len(records) + 1))
        assert rules.primary_site(records, initial="production") == "standby"
        assert set(rules.serving(records)) == {"customer", "papers"}, "what serves goes on to serve"
        del places.stores[OLD]
        alone = EpochLog(places(NEW), clock=world.clock)
        assert alone.records() == records, "the new home is enough by itself"
        assert alone.plans()
        count("killed at a point of a move of the log")
    assert number > 20


def raw(places: Places, world: World) -> Any:
    """What a process reads that follows as far as it can."""
    try:
        return EpochLog(places(OLD), clock=world.clock, open_store=places).records()
    except Transient:
        return EpochLog(places(OLD), clock=world.clock).records()


def test_a_closed_home_takes_nothing_and_whoever_holds_it_open_follows(committed: tuple[Places, World]) -> None:
    places, world = committed
    held_open = EpochLog(places(OLD), clock=world.clock, open_store=places)
    held_open.records()
    blind = EpochLog(places(OLD), clock=world.clock)
    protect_anew(places, world, by="o2")

    def intent(records: Any) -> Intent:
        now = rules.holder(records)
        return Intent(epoch=now.epoch, term=now.term, plan="p", step="preflight", attempt=1)

    with pytest.raises(Refused, match="closed"):
        blind.append(intent, by="o2")
    held_open.append(intent, by="o2")
    assert held_open.records()[-1] == EpochLog(places(NEW), clock=world.clock).records()[-1]
    assert rules.current_epoch(held_open.records()) == 2


def test_a_home_that_does_not_go_on_from_the_one_before_is_refused(committed: tuple[Places, World]) -> None:
    places, world = committed
    protect_anew(places, world, by="o2")
    forged = places.stores[NEW]
    names = sorted(name for name in forged.objects if name.startswith("before/"))
    forged.delete(names[-1])
    with pytest.raises(Corrupt, match="does not go on"):
        EpochLog(places(NEW), clock=world.clock).records()


def test_a_log_that_was_closed_towards_one_home_is_not_moved_to_another(committed: tuple[Places, World]) -> None:
    places, world = committed
    protect_anew(places, world, by="o2")
    places.stores["/elsewhere"] = MemoryStore()
    with pytest.raises(Refused, match="was closed towards"):
        move_log(places(OLD), "/elsewhere", open_store=places, clock=world.clock, by="o2", reason="test")


def test_a_process_that_lives_on_reads_the_whole_log_after_a_store_that_did_not_answer(
    committed: tuple[Places, World],
) -> None:
    """Its following is disturbed at every operation in turn, once, and then it is left alone."""
    places, world = committed
    early = EpochLog(places(OLD), clock=world.clock, open_store=places)
    early.records()
    protect_anew(places, world, by="o2")
    expected = EpochLog(places(OLD), clock=world.clock, open_store=places).records()
    disturbed = 0
    for number in itertools.count():
        left = [number]

        def script(moment: str, operation: str, name: str, left: list[int] = left) -> None:
            left[0] -= moment == "before"
            if left[0] == -1:
                left[0] -= 1
                raise Transient("no answer")

        lives = EpochLog(places(OLD), clock=world.clock, open_store=places)
        places.script = script
        try:
            lives.records()
        except Transient:
            disturbed += 1
        else:
            places.script = lambda moment, operation, name: None
            break
        places.script = lambda moment, operation, name: None
        assert lives.records() == expected, f"disturbed at operation {number}"
    assert disturbed > 20
    assert early.records() == expected
    assert early.append(next_intent, by="o2").number == len(expected) + 1


def next_intent(records: Any) -> Intent:
    now = rules.holder(records)
    attempt = rules.attempts(records, "p", "preflight") + 1
    return Intent(epoch=now.epoch, term=now.term, plan="p", step="preflight", attempt=attempt)


def test_a_process_that_looked_in_the_middle_of_a_move_reads_the_whole_log_when_it_is_done(
    committed: tuple[Places, World],
) -> None:
    """The move dies at every sixth write; a watch looks then, by one log that it keeps for all its looks."""
    start, world = committed
    looked = 0
    for number in itertools.count(0, 6):
        places, left = start.clone(), [number]

        def script(moment: str, operation: str, name: str, left: list[int] = left) -> None:
            if operation in ("create", "put"):
                left[0] -= 1
                if left[0] < 0:
                    raise SimulatedCrash

        watch = EpochLog(places(OLD), clock=world.clock, open_store=places)
        watch.records()
        places.script = script
        try:
            protect_anew(places, world, by="first")
        except SimulatedCrash:
            places.script = lambda moment, operation, name: None
        else:
            break
        try:
            watch.records()
        except Transient:
            looked += 1
        if position_of(raw(places, world)).state is not State.PROTECTED:
            protect_anew(places, world, by="second")
        fresh = EpochLog(places(OLD), clock=world.clock, open_store=places).records()
        assert watch.records() == fresh, f"dead at write {number}"
    assert looked > 1
