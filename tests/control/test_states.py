"""The states of a failover (S1 to S5 of reopen/control/states.py)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reopen.control.states import TABLE, Event, Position, State, check_invariants, step
from reopen.errors import Refused

E, S = Event, State

UNPLANNED = [
    E.BEGIN,
    E.FENCE,
    E.RAISE,
    E.PIN,
    E.RESTORE,
    E.VALIDATE,
    E.PROMOTE,
    E.FINISH,
    E.COMMIT,
    E.REPROTECT,
    E.PROTECT,
]
PLANNED = [E.BEGIN, E.ASK, E.QUIESCE, E.SYNC, E.RAISE, E.PIN, E.RESTORE, E.VALIDATE, E.PROMOTE, E.FINISH]


def run(events: Sequence[Event], start: Position | None = None) -> Position:
    position = start or Position()
    for event in events:
        position = step(position, event)
        check_invariants(position)
    return position


def test_an_unplanned_failover_ends_protected_again_after_it_is_committed() -> None:
    assert run(UNPLANNED) == Position()


def test_a_planned_failover_quiesces_and_syncs_before_the_epoch_is_raised() -> None:
    assert run(PLANNED) == Position(state=S.FAILED_OVER, raised=True)


def test_a_plan_cannot_be_pinned_before_its_epoch_is_declared() -> None:
    with pytest.raises(Refused, match="only after its epoch"):
        run([E.BEGIN, E.FENCE, E.PIN])


def test_giving_up_before_the_fence_costs_nothing_and_after_it_gives_the_role_back() -> None:
    assert run([E.BEGIN, E.ABORT]) == Position()
    assert run([E.BEGIN, E.FENCE, E.RAISE, E.ABORT]).state is S.ROLLING_BACK
    assert run([E.BEGIN, E.FENCE, E.RAISE, E.PAUSE, E.ABORT]).state is S.ROLLING_BACK
    assert run([E.BEGIN, E.PAUSE, E.ABORT]) == Position()


def test_a_committed_failover_cannot_be_rolled_back() -> None:
    with pytest.raises(Refused, match="committed cannot roll back"):
        run([*UNPLANNED[:9], E.ROLL_BACK])


@pytest.mark.parametrize("events", [UNPLANNED, PLANNED])
def test_from_every_interrupted_state_a_repeated_event_or_a_pause_goes_on_to_the_same_end(
    events: list[Event],
) -> None:
    """A driver that died after event n repeats its last step or resumes from a pause; the end is the same."""
    end = run(events)
    for cut in range(1, len(events)):
        here = run(events[:cut])
        if E.PAUSE in TABLE[here.state]:
            assert run([E.PAUSE, E.RESUME], here) == here
        if events[cut - 1] in TABLE[here.state]:
            here = run([events[cut - 1]], here)
        assert run(events[cut:], here) == end


@given(st.lists(st.sampled_from(list(Event)), max_size=30))
def test_no_sequence_of_events_breaks_an_invariant(events: list[Event]) -> None:
    position = Position()
    for event in events:
        try:
            position = step(position, event)
        except Refused:
            continue
        check_invariants(position)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {Position()}
    todo = [Position()]
    while todo:
        position = todo.pop()
        for event in Event:
            try:
                following = step(position, event)
            except Refused:
                continue
            if following not in reached:
                reached.add(following)
                todo.append(following)

    assert {position.state for position in reached} == set(State)
    assert all(any(_possible(position, event) for event in Event) for position in reached)


def _possible(position: Position, event: Event) -> bool:
    try:
        step(position, event)
    except Refused:
        return False
    return True
