"""The scheduling of steps (R2, R3, R6), over random plans, orders of completion and failures."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from reopen.contracts.graph import effective_tiers, recovery_order
from reopen.control.records import StepOutcome, StepResult
from reopen.recover.steps import DatasetOrder, Step, Verb, blocked_steps, lay_out, ready_steps
from tests.recover.business import NOON, TIERS

Depends = Mapping[str, tuple[str, ...]]


def outcome(step: str, result: StepResult, reason: str = "") -> StepOutcome:
    return StepOutcome(step=step, attempt=1, started_at=NOON, finished_at=NOON, result=result, reason=reason)


def layout(tiers: Mapping[str, tuple[int, tuple[str, ...]]], *, promotes: bool) -> tuple[tuple[Step, ...], Depends]:
    stated = {name: tier for name, (tier, _) in tiers.items()}
    needs = {name: depends_on for name, (_, depends_on) in tiers.items()}
    effective = effective_tiers(stated, needs)
    order = recovery_order(effective, needs)
    datasets = [DatasetOrder(name=name, tier=effective[name], depends_on=needs[name]) for name in order]
    return lay_out(datasets, promotes=promotes), {name: needs[name] for name in order}


@st.composite
def businesses(draw: st.DrawFn) -> dict[str, tuple[int, tuple[str, ...]]]:
    names = [f"d{number}" for number in range(draw(st.integers(1, 7)))]
    return {
        name: (
            draw(st.integers(1, 4)),
            tuple(sorted(draw(st.sets(st.sampled_from(names[:index]))))) if index else (),
        )
        for index, name in enumerate(names)
    }


def run(
    steps: tuple[Step, ...], depends_on: Depends, data: st.DataObject, failing: set[str], workers: int
) -> dict[str, StepOutcome]:
    """Complete steps in an order that Hypothesis chooses, and check what must hold at every start."""
    outcomes: dict[str, StepOutcome] = {}
    running: list[Step] = []
    by_id = {step.id: step for step in steps}
    while True:
        busy = [step.id for step in running]
        for step, reason in blocked_steps(steps, outcomes, depends_on=depends_on, running=busy):
            assert step.id not in outcomes
            outcomes[step.id] = outcome(step.id, StepResult.NOT_EXECUTED, reason)
        for step in ready_steps(steps, outcomes, depends_on=depends_on, running=busy)[: workers - len(running)]:
            check_start(step, by_id, outcomes, steps)
            running.append(step)
        if not running:
            return outcomes
        ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
        result = StepResult.FAILED if ended.id in failing else StepResult.DONE
        outcomes[ended.id] = outcome(ended.id, result, "it broke" if result is StepResult.FAILED else "")


def check_start(
    step: Step, by_id: Mapping[str, Step], outcomes: Mapping[str, StepOutcome], steps: tuple[Step, ...]
) -> None:
    assert all(outcomes[needed].result is StepResult.DONE for needed in step.needs)
    assert all(before in outcomes for before in step.after)
    if step.verb is Verb.RESTORE and step.tier is not None:
        earlier = [other for other in steps if other.dataset and other.tier is not None and other.tier < step.tier]
        assert all(other.id in outcomes for other in earlier), "a later tier began before an earlier one was settled"


@given(businesses(), st.booleans(), st.integers(1, 4), st.data())
def test_any_order_and_any_failures_end_with_every_step_settled_and_only_dependants_stopped(
    tiers: dict[str, tuple[int, tuple[str, ...]]], promotes: bool, workers: int, data: st.DataObject
) -> None:
    steps, depends_on = layout(tiers, promotes=promotes)
    candidates = [step.id for step in steps if step.dataset is not None]
    failing = data.draw(st.sets(st.sampled_from(candidates)))

    outcomes = run(steps, depends_on, data, failing, workers)

    assert set(outcomes) == {step.id for step in steps}
    failed = {step.dataset for step in steps if outcomes[step.id].result is StepResult.FAILED}
    dead = {name for name in depends_on if _reaches(name, failed, depends_on)}
    for step in steps:
        result = outcomes[step.id].result
        if step.dataset is None:
            assert result is StepResult.DONE
        elif step.dataset not in dead:
            assert result is StepResult.DONE, f"{step.id} has nothing to do with what failed"
        elif result is StepResult.NOT_EXECUTED:
            assert outcomes[step.id].reason
    last = Verb.PROMOTE if promotes else Verb.VALIDATE
    opened = {step.dataset for step in steps if step.verb is last and outcomes[step.id].result is StepResult.DONE}
    assert opened == set(depends_on) - dead


def _reaches(name: str, failed: set[str | None], depends_on: Depends) -> bool:
    return name in failed or any(_reaches(needed, failed, depends_on) for needed in depends_on[name])


def test_a_dependant_names_the_cause_and_not_only_its_neighbour() -> None:
    steps, depends_on = layout(TIERS, promotes=True)
    outcomes = {"restore:region": outcome("restore:region", StepResult.FAILED)}

    blocked = {step.id: reason for step, reason in blocked_steps(steps, outcomes, depends_on=depends_on)}

    assert blocked["validate:region"] == "restore:region failed"
    assert blocked["restore:nation"] == "it depends on region: restore:region failed"
    assert blocked["promote:lineitem"] == "it depends on orders: restore:region failed"
    assert "restore:part" not in blocked
    assert "barrier:tier-1" not in blocked


def test_a_tier_whose_datasets_are_all_dead_does_not_open_the_next_one_early() -> None:
    """c (tier 2) dies with a (tier 1) while b (tier 1) still restores: e (tier 3) has to wait for b."""
    tiers: dict[str, tuple[int, tuple[str, ...]]] = {"a": (1, ()), "b": (1, ()), "c": (2, ("a",)), "e": (3, ())}
    steps, depends_on = layout(tiers, promotes=True)
    outcomes = {
        "fence": outcome("fence", StepResult.DONE),
        "restore:a": outcome("restore:a", StepResult.FAILED),
    }
    for step, reason in blocked_steps(steps, outcomes, depends_on=depends_on, running=["restore:b"]):
        outcomes[step.id] = outcome(step.id, StepResult.NOT_EXECUTED, reason)

    assert ready_steps(steps, outcomes, depends_on=depends_on, running=["restore:b"]) == ()


def test_when_the_fence_fails_nothing_runs() -> None:
    steps, depends_on = layout(TIERS, promotes=True)
    outcomes = {"fence": outcome("fence", StepResult.FAILED)}

    assert ready_steps(steps, outcomes, depends_on=depends_on) == ()
    assert len(blocked_steps(steps, outcomes, depends_on=depends_on)) == len(steps) - 1


def test_a_dataset_that_is_given_up_while_it_restores_still_holds_its_tier_back() -> None:
    """b (tier 1) depends on a, which fails while b's bytes still move: c (tier 2) has to wait for them."""
    tiers: dict[str, tuple[int, tuple[str, ...]]] = {"a": (1, ()), "b": (1, ("a",)), "c": (2, ())}
    steps, depends_on = layout(tiers, promotes=True)
    outcomes = {
        "fence": outcome("fence", StepResult.DONE),
        "restore:a": outcome("restore:a", StepResult.FAILED),
    }
    for step, reason in blocked_steps(steps, outcomes, depends_on=depends_on, running=["restore:b"]):
        outcomes[step.id] = outcome(step.id, StepResult.NOT_EXECUTED, reason)
    assert outcomes["promote:b"].result is StepResult.NOT_EXECUTED

    assert ready_steps(steps, outcomes, depends_on=depends_on, running=["restore:b"]) == ()
    outcomes["restore:b"] = outcome("restore:b", StepResult.DONE)
    assert [step.id for step in ready_steps(steps, outcomes, depends_on=depends_on)] == ["barrier:tier-1"]
