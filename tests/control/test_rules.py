"""The rules of the epoch log (docs/0003, L4 to L6), over lists of records made here."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reopen.control import rules
from reopen.control.records import (
    Attestation,
    Choice,
    Closed,
    Committed,
    Decision,
    Epoch,
    Evidenced,
    Fence,
    FenceLevel,
    Intent,
    Outcome,
    Pinned,
    Promoted,
    Promotion,
    Record,
    Scenario,
    StepOutcome,
    StepResult,
    Takeover,
    Value,
)
from reopen.control.rules import Superseded, WriterState, check_append
from reopen.errors import Conflict, Refused

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COOPERATIVE = Fence(level=FenceLevel.COOPERATIVE, by="o1", accepted_risks=(rules.RISK_OLD_PRIMARY,))


class History:
    """A list of records that only grows by what the rules allow."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, value: Value, by: str = "o1") -> History:
        check_append(self.records, value, by=by)
        number = len(self.records) + 1
        self.records.append(Record(number=number, digest=f"{number:064x}", at=NOW, by=by, value=value))
        return self


def epoch(number: int, primary: str = "standby", fence: Fence = COOPERATIVE, **changes: object) -> Epoch:
    fields: dict[str, object] = {
        "epoch": number,
        "primary": primary,
        "previous_primary": "production",
        "scenario": Scenario.UNPLANNED,
        "reason": "",
        "failed_at": NOW,
        "declared_at": NOW,
        "fence": fence,
        "plan": "p",
    }
    return Epoch(**{**fields, **changes})  # type: ignore[arg-type]


def outcome(step: str, term: int = 1, result: StepResult = StepResult.DONE, attempt: int = 1) -> Outcome:
    ended = StepOutcome(step=step, attempt=attempt, started_at=NOW, finished_at=NOW, result=result)
    return Outcome(epoch=1, term=term, plan="p", outcome=ended)


def intent(step: str, term: int = 1, attempt: int = 1) -> Intent:
    return Intent(epoch=1, term=term, plan="p", step=step, attempt=attempt)


def promotion(number: int, snapshot: str = "s1", term: int = 1) -> Promotion:
    member = Promoted(dataset="orders", snapshot=snapshot, seq=1, consistent_at=NOW, url="/x", record_digest="d")
    return Promotion(epoch=1, term=term, number=number, plan="p", group="orders", members=(member,))


def failed_over() -> History:
    return History().add(Takeover(epoch=0, term=1, reason="")).add(epoch(1)).add(Pinned(epoch=1, term=1, plan="p"))


def validated() -> History:
    return failed_over().add(intent("validate:orders")).add(outcome("validate:orders"))


def test_the_newest_epoch_says_who_is_primary_and_who_is_fenced() -> None:
    records = failed_over().records

    assert rules.primary_site(records, initial="production") == "standby"
    assert rules.may_write(records, site="production", epoch=0, initial="production") is WriterState.FENCED
    assert rules.may_write(records, site="standby", epoch=0, initial="production") is WriterState.STALE
    assert rules.may_write(records, site="standby", epoch=1, initial="production") is WriterState.PRIMARY
    assert rules.may_write([], site="production", epoch=0, initial="production") is WriterState.PRIMARY


@pytest.mark.parametrize("number", [0, 1, 3])
def test_an_epoch_that_does_not_follow_is_refused(number: int) -> None:
    with pytest.raises(Conflict, match="cannot follow"):
        failed_over().add(epoch(number, "production"))


def test_a_forced_epoch_may_jump_because_somebody_attests_it() -> None:
    forced = Attestation(by="anna", why="the standby's log is lost; its last epoch was 4")
    records = History().add(epoch(5, forced=forced)).records

    assert rules.current_epoch(records) == 5


def test_the_role_cannot_be_given_to_the_site_that_has_it() -> None:
    with pytest.raises(Conflict, match="is the primary already"):
        failed_over().add(epoch(2, "standby"))


def test_a_cooperative_fence_needs_its_risk_named() -> None:
    with pytest.raises(Refused, match=rules.RISK_OLD_PRIMARY):
        History().add(epoch(1, fence=Fence(level=FenceLevel.COOPERATIVE, by="o1")))


@pytest.mark.parametrize(("by", "why"), [("anna", " "), ("", "burnt down")])
def test_an_asserted_fence_needs_a_person_and_a_reason(by: str, why: str) -> None:
    with pytest.raises(Refused, match="who asserts it and why"):
        History().add(epoch(1, fence=Fence(level=FenceLevel.ASSERTED, by=by, why=why)))


def test_an_enforced_fence_needs_no_risk_accepted() -> None:
    assert History().add(epoch(1, fence=Fence(level=FenceLevel.ENFORCED, by="hook"))).records


@pytest.mark.parametrize(
    "late",
    [intent("restore:orders"), outcome("restore:orders"), promotion(1), Pinned(epoch=1, term=1, plan="q"),
     Committed(epoch=1, term=1, why=""), Closed(epoch=1, term=1, next_url="/elsewhere")],
)  # fmt: skip
def test_an_orchestrator_that_was_taken_over_can_append_nothing(late: Value) -> None:
    history = validated().add(Takeover(epoch=1, term=2, reason="the first one is gone"), by="o2")

    with pytest.raises(Superseded, match="orchestrator o2 acts now"):
        history.add(late, by="o1")


def test_a_term_is_held_by_one_orchestrator_only() -> None:
    with pytest.raises(Superseded):
        failed_over().add(intent("restore:orders"), by="o2")


@pytest.mark.parametrize(("epoch_number", "term"), [(0, 2), (1, 1), (1, 3), (2, 1)])
def test_a_takeover_raises_the_term_of_the_current_epoch_by_one(epoch_number: int, term: int) -> None:
    with pytest.raises(Conflict, match="cannot follow"):
        failed_over().add(Takeover(epoch=epoch_number, term=term, reason=""), by="o2")


def test_a_promotion_needs_a_passed_validation_of_the_same_plan() -> None:
    with pytest.raises(Refused, match="not validated"):
        failed_over().add(promotion(1))
    failed = failed_over().add(intent("validate:orders"))
    with pytest.raises(Refused, match="not validated"):
        failed.add(outcome("validate:orders", result=StepResult.FAILED)).add(promotion(1))
    other = validated().add(Pinned(epoch=1, term=1, plan="q"))
    with pytest.raises(Conflict, match="not the one that is pinned"):
        other.add(promotion(1))


def test_the_highest_promotion_wins_and_numbers_only_rise() -> None:
    history = validated().add(promotion(1, "s1"))
    with pytest.raises(Conflict, match="the next is 2"):
        history.add(promotion(1, "s2"))
    history.add(Takeover(epoch=1, term=2, reason=""), by="o2").add(promotion(2, "s2", term=2), by="o2")

    found = rules.serving(history.records)["orders"]

    assert (found.promoted.snapshot, found.epoch, found.term, found.number) == ("s2", 1, 2, 2)


def test_an_intent_without_an_outcome_is_open_and_the_next_attempt_follows_on_it() -> None:
    history = failed_over().add(intent("restore:orders")).add(intent("restore:nation"))
    history.add(outcome("restore:nation"))

    assert "restore:orders" not in rules.outcomes(history.records, "p")
    with pytest.raises(Conflict, match="was begun before"):
        history.add(intent("restore:orders", attempt=1))
    history.add(intent("restore:orders", attempt=2)).add(outcome("restore:orders", attempt=2))
    assert rules.outcomes(history.records, "p")["restore:orders"].attempt == 2


def test_an_attempt_has_one_outcome() -> None:
    with pytest.raises(Conflict, match="has an outcome already"):
        validated().add(outcome("validate:orders"))


def test_a_step_that_never_ran_is_recorded_without_an_intent() -> None:
    history = failed_over().add(outcome("restore:orders", result=StepResult.NOT_EXECUTED, attempt=0))

    assert rules.outcomes(history.records, "p")["restore:orders"].result is StepResult.NOT_EXECUTED


def test_nothing_is_appended_to_a_closed_log_and_the_error_names_its_next_home() -> None:
    history = failed_over().add(Closed(epoch=1, term=1, next_url="/production/control"))

    with pytest.raises(Refused, match="/production/control"):
        history.add(Takeover(epoch=1, term=2, reason=""))


def decided(choice: Choice = Choice.RETRY, attempt: int = 1, **changes: str) -> Decision:
    fields = {"plan": "p", "step": "restore:orders", "by": "anna", "why": "the disk is full", **changes}
    return Decision(choice=choice, attempt=attempt, **fields)


def failed() -> History:
    history = failed_over().add(intent("restore:orders"))
    return history.add(outcome("restore:orders", result=StepResult.FAILED))


def test_whoever_can_write_the_log_decides_about_a_failed_attempt_once() -> None:
    history = failed()
    assert list(rules.undecided(history.records, "p")) == ["restore:orders"]

    history.add(decided(), by="somebody else")

    assert rules.undecided(history.records, "p") == {}
    taken = rules.decision(history.records, "p", "restore:orders", 1)
    assert taken is not None
    assert taken.choice is Choice.RETRY
    with pytest.raises(Conflict, match="anna decided about attempt 1"):
        history.add(decided(Choice.SKIP))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (decided(attempt=2), "is not a failed one"),
        (decided(step="restore:part"), "is not a failed one"),
        (decided(Choice.SKIP, why=" "), "needs a reason"),
        (decided(Choice.ABORT, why=""), "needs a reason"),
        (decided(by=""), "needs who takes it"),
    ],
)
def test_a_decision_is_about_a_failed_attempt_and_says_who_and_why(value: Decision, message: str) -> None:
    with pytest.raises((Conflict, Refused), match=message):
        failed().add(value)


def test_what_a_person_gave_up_is_concluded_by_evidence_that_is_newer() -> None:
    skipped = StepOutcome(
        step="restore:orders", attempt=1, started_at=NOW, finished_at=NOW, result=StepResult.SKIPPED, reason="anna"
    )
    evidence = Evidenced(epoch=1, term=1, plan="p", name="evidence/1", digest="d")
    history = failed().add(evidence)
    assert not rules.is_concluded(history.records, "p")
    history.add(decided(Choice.SKIP)).add(Outcome(epoch=1, term=1, plan="p", outcome=skipped))
    assert not rules.is_concluded(history.records, "p")
    assert rules.is_concluded(history.add(evidence).records, "p")


def test_an_aborted_plan_is_concluded_though_steps_of_it_failed() -> None:
    history = failed().add(decided(Choice.ABORT))
    assert rules.abort(history.records, "p") == decided(Choice.ABORT)
    assert not rules.is_concluded(history.records, "p")
    assert rules.is_concluded(
        history.add(Evidenced(epoch=1, term=1, plan="p", name="evidence/1", digest="d")).records, "p"
    )
