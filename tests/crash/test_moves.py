"""Every move of the role dies at every point, and another orchestrator ends it the same (F1, F5, F6, F12).

Points are: before and after each record in the control store, and before and after each thing that is done to a site.
The orchestrator that follows has nothing but the log.
"""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable

import pytest

from reopen.control import rules, tenure
from reopen.control.records import Intent, Outcome, Promotion, Record, Scenario, StepResult
from reopen.control.states import State, check_invariants, position_of
from reopen.recover.evidence import read_evidence
from reopen.storage.base import ObjectStore
from tests.proof import count
from tests.recover.moving import NAMES, World, accept, log_over, move, roll_back
from tests.stores import MemoryStore, SimulatedCrash, WatchedStore

Operation = Callable[[ObjectStore, World, str, int], object]
Arrange = Callable[[MemoryStore, World], None]


class DiesAt:
    """Dies at the n-th moment of all, in the store or in the world; from then on nothing changes."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._lock = threading.Lock()
        self.died = False

    def _pass(self) -> None:
        with self._lock:
            if self.died:
                raise SimulatedCrash
            self._left -= 1
            if self._left < 0:
                self.died = True
                raise SimulatedCrash

    def in_store(self, moment: str, operation: str, name: str) -> None:
        """The script of a watched store."""
        if self.died or operation == "create":
            self._pass()

    def in_world(self, when: str, what: str) -> None:
        """The script of a world."""
        self._pass()


def planned(to: str, scenario: Scenario) -> Operation:
    return lambda store, world, by, seed: move(store, world, orchestrator=by, scenario=scenario, to=to, seed=seed)


def nothing(store: MemoryStore, world: World) -> None:
    """Production has the role since ever."""


def failed_over(store: MemoryStore, world: World) -> None:
    move(store, world, orchestrator="before", scenario=Scenario.UNPLANNED, to="standby", seed=70)


def committed(store: MemoryStore, world: World) -> None:
    failed_over(store, world)
    accept(store, world)


MOVES: dict[str, tuple[Arrange, Operation, str]] = {
    "failover": (nothing, planned("standby", Scenario.UNPLANNED), "standby"),
    "planned failover": (nothing, planned("standby", Scenario.PLANNED), "standby"),
    "failback": (committed, planned("production", Scenario.FAILBACK), "production"),
    "rollback": (
        failed_over,
        lambda store, world, by, seed: roll_back(store, world, orchestrator=by, seed=seed),
        "production",
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_whatever_dies_where_another_orchestrator_ends_it_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is laid beside the evidence is made again from it, and costs more than all the rest here.
    monkeypatch.setattr("reopen.recover.record._complete_history", lambda store: None)
    monkeypatch.setattr("reopen.recover.record._write_report", lambda store, stored: None)
    arrange, operate, target = MOVES[name]
    start, before = MemoryStore(), World()
    arrange(start, before)
    standing = log_over(start, before).records()
    tried = 0
    for number in itertools.count():
        store, world, script = start.clone(), copied(before), DiesAt(number)
        world.moment = script.in_world
        world.verbs.calls.clear()
        try:
            operate(WatchedStore(store, script.in_store), world, "first", 1)
        except SimulatedCrash:
            assert script.died
        if not script.died:
            break
        tried += 1
        found = log_over(store, world).records()
        check_invariants(position_of(found))
        done = done_steps(found) - done_steps(standing)
        world.moment = lambda when, what: None
        world.verbs.calls.clear()
        if is_over(found, target):
            continue

        operate(store, world, "second", 2)

        records = log_over(store, world).records()
        position = position_of(records)
        check_invariants(position)
        assert position.state is (State.PROTECTED if name == "rollback" else State.FAILED_OVER)
        assert rules.primary_site(records, initial="production") == target
        assert not tenure.is_quiesced(records)
        again = {(value.plan, value.step) for value in begun_by(records, "second")}
        assert not again & done, f"dead at {number}: a step that was done was begun again: {again & done}"
        promotions = [value.group for value in rules.values(records[len(standing) :], Promotion)]
        assert sorted(promotions) == ([] if name == "rollback" else sorted(NAMES)), "promoted once each"
        written = {record.name: record.digest for record in read_evidence(store)}
        assert written == rules.quoted_evidence(records), f"dead at {number}: evidence was written twice"
        repeated = {what: times for what, times in (world.acts - before.acts).items() if times > 1}
        assert all(what.startswith("final sync") for what in repeated), f"done twice: {repeated}"
        assert world.state.get((target, "fenced"), False) is False, "who has the role may write"
        assert world.state[(other(target), "fenced")] is True
    assert tried >= (15 if name == "rollback" else 50)
    count(f"killed at a point of a {name}", tried)


def is_over(records: tuple[Record, ...], target: str) -> bool:
    """The process died after its last record: nothing is left to go on with."""
    if rules.primary_site(records, initial="production") != target:
        return False
    newest = [value.plan for value in rules.values(records, Intent)][-1]
    ended = rules.outcomes(records, newest)
    unfenced = ended.get("unfence")
    return rules.is_concluded(records, newest) or (unfenced is not None and unfenced.result is StepResult.DONE)


def done_steps(records: tuple[Record, ...]) -> set[tuple[str, str]]:
    """Plan and id of each step that is done."""
    return {
        (value.plan, value.outcome.step)
        for value in rules.values(records, Outcome)
        if value.outcome.result is StepResult.DONE
    }


def begun_by(records: tuple[Record, ...], by: str) -> list[Intent]:
    return [record.value for record in records if record.by == by and isinstance(record.value, Intent)]


def copied(world: World) -> World:
    """The same world, once more."""
    made = World(contracts=world.contracts, checks=world.checks, enforcing=world.enforcing)
    made.vault.snapshots = list(world.vault.snapshots)
    made.vault.verified = list(world.vault.verified)
    made.verbs.restored = dict(world.verbs.restored)
    made.state = dict(world.state)
    made.acts = copy.copy(world.acts)
    made.clock = copy.copy(world.clock)
    return made


def other(site: str) -> str:
    return {"production": "standby", "standby": "production"}[site]
