"""The course of a recovery with groups, pauses and decisions (R2, R3, R6, F8, F10), over random businesses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from reopen.clock import FixedClock
from reopen.contracts.graph import find_torn_groups
from reopen.contracts.load import Contracts
from reopen.control.records import Choice, Decision, StepOutcome, StepResult
from reopen.recover.context import Patience
from reopen.recover.course import Course
from reopen.recover.journal import MemoryJournal
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.steps import Step, Verb
from tests.recover.business import NOON, FakeVerbs, a_dataset, context_of, plan_of, vault_of

LIMIT = timedelta(minutes=10)


class OpenJournal(MemoryJournal):
    """A journal in memory that takes decisions, as the log does."""

    def __init__(self) -> None:
        super().__init__()
        self.decided: dict[tuple[str, int], Decision] = {}
        self.serving: set[str] = set()

    @property
    def takes_decisions(self) -> bool:
        return True

    def decisions(self) -> dict[tuple[str, int], Decision]:
        return dict(self.decided)

    def is_promoted(self, dataset: PlannedDataset) -> bool:
        return dataset.name in self.serving


def business(tiers: Mapping[str, tuple[int, tuple[str, ...], str]]) -> Contracts:
    datasets = {
        name: a_dataset(name, tier, depends_on, consistency_group=group)
        for name, (tier, depends_on, group) in sorted(tiers.items())
    }
    return Contracts(datasets=datasets)


@st.composite
def businesses(draw: st.DrawFn) -> Contracts:
    names = [f"d{number}" for number in range(draw(st.integers(1, 6)))]
    tiers = {
        name: (
            draw(st.integers(1, 3)),
            tuple(sorted(draw(st.sets(st.sampled_from(names[:index]), max_size=2)))) if index else (),
            draw(st.sampled_from(["", "", "g1", "g2"])),
        )
        for index, name in enumerate(names)
    }
    groups = {name: group for name, (_, _, group) in tiers.items() if group}
    assume(not find_torn_groups({name: needs for name, (_, needs, _) in tiers.items()}, groups))
    return business(tiers)


class Drive:
    """Completes steps of a course in an order that Hypothesis chooses, and checks every start."""

    def __init__(self, plan: RecoveryPlan, data: st.DataObject, *, faults: int) -> None:
        self.plan, self.data, self.faults = plan, data, faults
        self.clock = FixedClock(NOON)
        self.journal = OpenJournal()
        self.attempts: dict[str, int] = {}
        self.settled: dict[str, StepOutcome] = {}
        self.running: list[Step] = []
        self.asked: list[StepOutcome] = []
        self.choices: list[Choice] = []
        context = context_of(
            FakeVerbs(), clock=self.clock, patience=Patience(decide_within=LIMIT, wait=lambda seconds: self.pass_time())
        )
        self.course = Course(plan, context, self.journal, on_outcome=self.told)

    def told(self, step: Step, outcome: StepOutcome, outcomes: Mapping[str, StepOutcome]) -> None:
        self.settled = dict(outcomes)
        if outcome.result is StepResult.FAILED and step.id not in outcomes:
            self.asked.append(outcome)

    def pass_time(self) -> None:
        self.clock.advance(LIMIT / 2)
        self.decide()

    def decide(self) -> None:
        choice = self.data.draw(st.sampled_from([None, *Choice]))
        if not self.asked or choice is None:
            return
        failed = self.asked.pop()
        decision = Decision(
            plan="p", step=failed.step, attempt=failed.attempt, choice=choice, by="anna", why="it has to be"
        )
        self.journal.decided[failed.step, failed.attempt] = decision
        self.choices.append(choice)

    def run(self, workers: int) -> dict[str, StepOutcome]:
        while True:
            for step in self.course.next_steps([step.id for step in self.running])[: workers - len(self.running)]:
                self.begin(step)
            if self.running:
                if self.data.draw(st.booleans()):
                    self.decide()
                self.end(self.running.pop(self.data.draw(st.integers(0, len(self.running) - 1))))
            elif self.course.is_waiting:
                self.course.wait()
            else:
                return self.course.conclude()

    def begin(self, step: Step) -> None:
        outcomes = self.journal.outcomes()
        assert all(outcomes[needed].result is StepResult.DONE for needed in step.needs)
        assert not set(step.datasets) & self.journal.serving or step.verb is Verb.PROMOTE, "restored over what serves"
        if step.verb is Verb.RESTORE and step.tier is not None:
            earlier = [other for other in self.plan.steps if other.datasets and (other.tier or 0) < step.tier]
            assert all(other.id in outcomes for other in earlier), "R2"
            # Only what somebody wants tried again after its tier was closed may run beside a later tier.
            at_work = {other.id for other in earlier} & {open_step.id for open_step in self.running}
            assert not at_work or Choice.RETRY in self.choices, "R2"
        self.running.append(step)

    def end(self, step: Step) -> None:
        self.attempts[step.id] = self.attempts.get(step.id, 0) + 1
        fails = step.datasets and self.faults > 0 and self.data.draw(st.booleans())
        self.faults -= bool(fails)
        if step.verb is Verb.PROMOTE and not fails:
            self.journal.serving |= set(step.datasets)
        outcome = StepOutcome(
            step=step.id, attempt=self.attempts[step.id], started_at=self.clock.now(), finished_at=self.clock.now(),
            result=StepResult.FAILED if fails else StepResult.DONE, reason="it broke" if fails else "",
        )  # fmt: skip
        self.journal.settle(outcome)
        self.course.take(step, outcome)


@given(businesses(), st.integers(1, 3), st.integers(0, 3), st.data())
def test_whatever_fails_and_whatever_people_decide_the_recovery_ends_and_groups_switch_together(
    contracts: Contracts, workers: int, faults: int, data: st.DataObject
) -> None:
    plan = plan_of(contracts, vault_of(list(contracts.datasets)))
    drive = Drive(plan, data, faults=faults)

    outcomes = drive.run(workers)

    assert set(outcomes) == {step.id for step in plan.steps}
    assert outcomes == drive.journal.outcomes(), "the log says what the driver believes"
    serving = drive.journal.serving
    for members in contracts.groups().values():
        assert serving >= set(members) or not serving & set(members), "F8"
    for dataset in plan.datasets:
        assert dataset.name not in serving or set(dataset.depends_on) <= serving
        result = outcomes[plan.last_step(dataset)].result
        assert (result is StepResult.DONE) is (dataset.name in serving)
    if not any(outcome.result in (StepResult.FAILED, StepResult.SKIPPED) for outcome in outcomes.values()):
        assert serving == set(contracts.datasets), "nothing failed in the end, so everything serves"
    if Choice.ABORT in drive.choices:
        aborted = [outcome for outcome in outcomes.values() if outcome.reason.startswith("aborted by anna")]
        assert aborted or serving == set(contracts.datasets) or outcomes["finish"].result is StepResult.DONE


@given(businesses())
def test_of_restores_that_may_begin_the_longest_path_is_first(contracts: Contracts) -> None:
    plan = plan_of(contracts, vault_of(list(contracts.datasets)))
    done = {"fence": StepOutcome(step="fence", attempt=1, started_at=NOON, finished_at=NOON, result=StepResult.DONE)}

    paths = [step.path for step in plan.ready(done) if step.verb is Verb.RESTORE]

    assert paths == sorted(paths, reverse=True)
    by_id = {step.id: step for step in plan.steps}
    assert all(
        by_id[needed].path >= step.path
        for step in plan.steps
        for needed in step.needs
        if by_id[needed].tier == step.tier
    )
