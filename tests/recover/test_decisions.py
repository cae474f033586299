"""A failed dataset waits for a person (F10), and a consistency group switches at once or not at all (F8)."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reopen.clock import FixedClock, to_text
from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Choice, Decision, Promotion, StepResult, Takeover
from reopen.control.rules import Superseded
from reopen.errors import Conflict, Corrupt
from reopen.recover.clocks import Verdict
from reopen.recover.context import Attended, Patience, patience_for
from reopen.recover.failover import unfinished_plan
from reopen.recover.plan import RecoveryPlan
from reopen.storage.local import LocalStore
from tests.recover.business import (
    NOON,
    TIERS,
    FakeVerbs,
    Interference,
    SimulatedCrash,
    TickingClock,
    Told,
    context_of,
    contracts_of,
    fail_over,
    plan_of,
    vault_of,
)

LIMIT = timedelta(minutes=10)


def log_at(path: Path) -> EpochLog:
    return EpochLog(LocalStore(path), clock=FixedClock())


def decide(path: Path, plan: RecoveryPlan, step: str, choice: Choice, why: str = "anna knows") -> None:
    attempt = rules.outcomes(log_at(path).records(), plan.digest)[step].attempt
    value = Decision(plan=plan.digest, step=step, attempt=attempt, choice=choice, by="anna", why=why)
    log_at(path).append(value, by="anna")


def broken(step: str, *, times: int = 1) -> Interference:
    """Fails a verb of a dataset, the first times."""
    left = [times]

    def interfere(verb: str, dataset: str) -> None:
        if step == f"{verb}:{dataset}" and left[0]:
            left[0] -= 1
            raise Corrupt("pack 3fa1 fails its digest.", hint="`reopen repair` restores it.")

    return interfere


class Person:
    """Acts when the driver waits, once; lets time pass after that."""

    def __init__(self, act: Any = lambda: None) -> None:
        self.clock = TickingClock(NOON)
        self.act = act
        self.waits = 0

    def wait(self, seconds: float) -> None:
        self.waits += 1
        if self.waits == 1:
            self.act()
        self.clock.advance(timedelta(minutes=1))

    def context(self, verbs: FakeVerbs, **changes: Any) -> Any:
        patience = Patience(decide_within=LIMIT, wait=self.wait)
        return context_of(verbs, clock=self.clock, patience=patience, **changes)


def test_a_dataset_that_is_tried_again_begins_with_its_restore_and_serves(tmp_path: Path) -> None:
    plan, verbs = plan_of(), FakeVerbs(broken("validate:region"))
    person = Person(lambda: decide(tmp_path, plan, "validate:region", Choice.RETRY))

    result = fail_over(LocalStore(tmp_path), person.context(verbs), plan)

    assert result.verdict is Verdict.MET
    assert [verb for verb, name in verbs.calls if name == "region"] == [
        *["restore", "check", "validate"] * 2,
        "publish",
    ]
    assert person.waits == 1


def test_siblings_go_on_and_the_next_tier_waits_while_a_person_thinks(tmp_path: Path) -> None:
    plan, verbs = plan_of(), FakeVerbs(broken("restore:customer"))
    seen: list[set[str]] = []

    def think() -> None:
        seen.append({f"{verb}:{name}" for verb, name in verbs.calls})
        decide(tmp_path, plan, "restore:customer", Choice.RETRY)

    fail_over(LocalStore(tmp_path), Person(think).context(verbs), plan)

    assert {"validate:nation", "restore:orders"} <= seen[0], "its siblings went on"
    assert not {"restore:part", "restore:lineitem", "restore:papers"} & seen[0], "tier 1 is not settled"
    assert "validate:orders" not in seen[0], "it depends on customer"
    assert set(rules.serving(log_at(tmp_path).records())) == set(TIERS)


def test_a_dataset_that_is_skipped_says_who_and_why_and_the_failover_is_over(tmp_path: Path) -> None:
    plan = plan_of()
    person = Person(lambda: decide(tmp_path, plan, "restore:part", Choice.SKIP, "the supplier sends it again"))

    result = fail_over(LocalStore(tmp_path), person.context(FakeVerbs(broken("restore:part"))), plan)

    part = {d.name: d for d in result.measured.datasets}["part"]
    assert result.outcomes["restore:part"].result is StepResult.SKIPPED
    assert part.reason.startswith("restore:part skipped: anna: the supplier sends it again (it failed: pack 3fa1")
    assert result.outcomes["promote:lineitem"].reason == "it depends on part: restore:part was skipped"
    assert unfinished_plan(log_at(tmp_path)) is None
    with pytest.raises(Conflict, match="is done"):
        fail_over(LocalStore(tmp_path), context_of(FakeVerbs(), orchestrator="o2"), plan, seed=2)


def test_past_the_limit_it_counts_as_failed_and_the_barrier_opens(tmp_path: Path) -> None:
    person, told = Person(), Told()
    context = person.context(FakeVerbs(broken("restore:orders")), notify=told)

    result = fail_over(LocalStore(tmp_path), context, plan_of())

    assert 9 <= person.waits <= 11, "a minute a look, ten minutes"
    assert result.outcomes["restore:orders"].result is StepResult.FAILED
    assert set(rules.serving(log_at(tmp_path).records())) == {"region", "nation", "customer", "part", "papers"}
    asked = [notice for notice in told.notices if notice.event == "decision-needed"]
    assert [(n.fields["step"], n.contacts[0].url) for n in asked] == [("restore:orders", "tel:orders")]
    assert "pack 3fa1" in asked[0].fields["reason"]


def test_nobody_is_waited_for_when_the_settings_say_so(tmp_path: Path) -> None:
    told = Told()
    result = fail_over(LocalStore(tmp_path), context_of(FakeVerbs(broken("restore:orders")), notify=told))

    assert result.outcomes["restore:orders"].result is StepResult.FAILED
    assert "decision-needed" not in {notice.event for notice in told.notices}


HOURS = timedelta(hours=1)


@pytest.mark.parametrize(
    ("configured", "attended", "rto", "waits"),
    [
        (None, Attended.NOBODY, HOURS, timedelta(0)),
        (None, Attended.TERMINAL, HOURS, HOURS),
        (None, Attended.FLOW, HOURS, timedelta(minutes=15)),
        (None, Attended.FLOW, timedelta(minutes=2), timedelta(minutes=5)),
        (None, Attended.FLOW, timedelta(days=3), HOURS),
        (timedelta(0), Attended.TERMINAL, HOURS, timedelta(0)),
        (timedelta(minutes=1), Attended.FLOW, HOURS, timedelta(minutes=1)),
    ],
)
def test_how_long_a_decision_is_waited_for_depends_on_who_watches_and_on_the_contract(
    configured: timedelta | None, attended: Attended, rto: timedelta, waits: timedelta
) -> None:
    first, *_ = plan_of().datasets
    dataset = replace(first, objective=replace(first.objective, rto=rto))
    assert patience_for(configured, attended).limit([dataset]) == waits


def test_a_step_about_the_role_holds_up_everybody_and_waits_the_least() -> None:
    assert patience_for(None, Attended.FLOW).limit([]) == timedelta(minutes=5)


def test_until_when_it_waits_stands_in_the_outcome_for_whoever_looks_from_elsewhere(tmp_path: Path) -> None:
    person = Person(lambda: None)
    result = fail_over(LocalStore(tmp_path), person.context(FakeVerbs(broken("restore:part"))))
    outcome = result.outcomes["restore:part"]
    assert outcome.details["waits_until"] == to_text(outcome.finished_at + LIMIT)
    again = fail_over(LocalStore(tmp_path / "nobody"), context_of(FakeVerbs(broken("restore:part"))))
    assert "waits_until" not in again.outcomes["restore:part"].details


def test_an_abort_begins_nothing_more_and_what_serves_goes_on(tmp_path: Path) -> None:
    plan, verbs = plan_of(), FakeVerbs(broken("restore:part"))
    person = Person(lambda: decide(tmp_path, plan, "restore:part", Choice.ABORT, "a false alarm"))

    result = fail_over(LocalStore(tmp_path), person.context(verbs), plan)

    assert result.aborted == "anna: a false alarm"
    assert result.primary == "standby", "giving the role back is a roll-back"
    assert set(rules.serving(log_at(tmp_path).records())) == {"region", "nation", "customer", "orders"}
    assert result.outcomes["restore:part"].result is StepResult.FAILED
    assert result.outcomes["finish"].reason == "aborted by anna: a false alarm"
    assert not any(name == "papers" for _, name in verbs.calls)
    assert unfinished_plan(log_at(tmp_path)) is None
    with pytest.raises(Conflict, match=r"was aborted by anna: a false alarm.*reopen rollback"):
        fail_over(LocalStore(tmp_path), context_of(verbs, orchestrator="o2"), plan, seed=2)


@pytest.mark.parametrize("choice", [Choice.SKIP, Choice.ABORT, Choice.RETRY])
def test_what_is_decided_while_no_driver_runs_is_acted_on_by_the_next_one(tmp_path: Path, choice: Choice) -> None:
    plan = plan_of()

    def die() -> None:
        raise SimulatedCrash

    with pytest.raises(SimulatedCrash):
        fail_over(LocalStore(tmp_path), Person(die).context(FakeVerbs(broken("restore:part"))), plan)
    decide(tmp_path, plan, "restore:part", choice)
    verbs = FakeVerbs()
    verbs.restored = dict.fromkeys(TIERS, "by the first")

    result = fail_over(LocalStore(tmp_path), context_of(verbs, orchestrator="o2"), plan, seed=2)

    serving = set(rules.serving(log_at(tmp_path).records()))
    tier_1 = {"region", "nation", "customer", "orders"}
    assert (
        serving
        == {
            Choice.SKIP: tier_1 | {"papers"},
            Choice.ABORT: tier_1,
            Choice.RETRY: set(TIERS),
        }[choice]
    )
    assert bool(result.aborted) is (choice is Choice.ABORT)
    assert unfinished_plan(log_at(tmp_path)) is None


def test_a_driver_that_waits_stops_when_another_one_takes_over(tmp_path: Path) -> None:
    def take_over() -> None:
        log_at(tmp_path).append(Takeover(epoch=1, term=2, reason="it looked dead"), by="o2")

    with pytest.raises(Superseded, match="orchestrator o2 acts now"):
        fail_over(LocalStore(tmp_path), Person(take_over).context(FakeVerbs(broken("restore:part"))), plan_of())


def test_a_decision_is_seen_while_other_steps_run(tmp_path: Path) -> None:
    """papers restores until part is tried again; the driver must look at the log before anything settles."""
    plan, again = plan_of(), threading.Event()
    fails = broken("restore:part")
    parts = []

    def interfere(verb: str, dataset: str) -> None:
        if (verb, dataset) == ("restore", "part"):
            parts.append(dataset)
            if len(parts) == 2:
                again.set()
        if (verb, dataset) == ("restore", "papers"):
            assert again.wait(20), "nobody looked at the log"
        fails(verb, dataset)

    contracts = contracts_of({"part": (1, ()), "papers": (1, ())})
    plan = plan_of(contracts, vault_of(["part", "papers"]))
    patience = Patience(decide_within=timedelta(hours=1), look_seconds=0.02)
    told: list[str] = []

    def tell(notice: Any) -> tuple[()]:
        if notice.event == "decision-needed":
            decide(tmp_path, plan, "restore:part", Choice.RETRY)
            told.append(notice.fields["step"])
        return ()

    context = context_of(FakeVerbs(interfere), patience=patience, notify=tell)
    result = fail_over(LocalStore(tmp_path), context, plan, workers=2)

    assert result.verdict is Verdict.MET
    assert told == ["restore:part"]


def grouped(**groups: str) -> RecoveryPlan:
    contracts = contracts_of()
    changed = {name: replace(contracts.datasets[name], consistency_group=group) for name, group in groups.items()}
    return plan_of(replace(contracts, datasets={**contracts.datasets, **changed}))


def test_a_group_is_promoted_by_one_record_when_all_its_members_are_validated(tmp_path: Path) -> None:
    plan = grouped(customer="sales", orders="sales", lineitem="sales")
    verbs = FakeVerbs()

    result = fail_over(LocalStore(tmp_path), context_of(verbs), plan)

    assert result.verdict is Verdict.MET
    assert {d.name for d in plan.tier(1)} == set(TIERS) - {"papers"}, "the group and what it needs open together"
    promotions = [r.value for r in log_at(tmp_path).records() if isinstance(r.value, Promotion)]
    (sales,) = [value for value in promotions if value.group == "sales"]
    assert {member.dataset for member in sales.members} == {"customer", "orders", "lineitem"}
    assert len(promotions) == 5
    step = plan.step("promote:sales")
    assert set(step.needs) == {
        "validate:customer", "validate:orders", "validate:lineitem", "promote:nation", "promote:part"
    }  # fmt: skip


def test_a_failed_member_holds_its_group_back_and_the_others_say_so(tmp_path: Path) -> None:
    plan = grouped(customer="sales", papers="sales")

    result = fail_over(LocalStore(tmp_path), context_of(FakeVerbs(broken("validate:papers"))), plan)

    assert set(rules.serving(log_at(tmp_path).records())) == {"region", "nation", "part"}
    assert result.outcomes["promote:sales"].result is StepResult.NOT_EXECUTED
    reasons = {dataset.name: dataset.reason for dataset in result.measured.datasets}
    assert reasons["customer"] == "promote:sales not executed: validate:papers failed"
    assert reasons["orders"].endswith("it depends on customer: validate:papers failed")


def test_a_driver_that_dies_after_a_group_s_promotion_is_followed_by_one_that_repeats_nothing(tmp_path: Path) -> None:
    plan = grouped(customer="sales", orders="sales")

    class DiesAfterPromotion(LocalStore):
        def create(self, name, pieces):  # type: ignore[no-untyped-def]
            size = super().create(name, pieces)
            if b'"group":"sales"' in bytes(pieces[0]) and name.startswith("log/"):
                raise SimulatedCrash
            return size

    verbs = FakeVerbs()
    with pytest.raises(SimulatedCrash):
        fail_over(DiesAfterPromotion(tmp_path), context_of(verbs), plan)
    result = fail_over(LocalStore(tmp_path), context_of(verbs, orchestrator="o2"), plan, seed=2)

    assert result.verdict is Verdict.MET
    groups = [r.value.group for r in log_at(tmp_path).records() if isinstance(r.value, Promotion)]
    assert groups.count("sales") == 1
    assert set(rules.serving(log_at(tmp_path).records())) == set(TIERS)


def test_asking_for_one_member_of_a_group_brings_the_others() -> None:
    contracts = contracts_of()
    changed = {n: replace(contracts.datasets[n], consistency_group="g") for n in ("customer", "papers")}
    plan = plan_of(replace(contracts, datasets={**contracts.datasets, **changed}), datasets=["papers"])

    assert {dataset.name for dataset in plan.datasets} == {"region", "nation", "customer", "papers"}
