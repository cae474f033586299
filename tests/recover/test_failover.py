"""The failover with fake verbs over a real log: order, failures, interrupts, takeovers (R1 to R4, L4)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.clock import FixedClock
from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Fence, FenceLevel, Intent, Outcome, Promotion, StepResult, Takeover
from reopen.control.rules import Superseded
from reopen.control.states import State, check_invariants, position_of
from reopen.errors import Conflict, Corrupt, Refused
from reopen.recover.clocks import Verdict
from reopen.recover.context import BadEntry, Delivery, Notice
from reopen.recover.evidence import read_evidence, verify_chain
from reopen.recover.failover import execute_failover, unfinished_plan
from reopen.storage.local import LocalStore
from tests.recover.business import (
    COOPERATIVE,
    NOON,
    TIERS,
    FakeVerbs,
    SimulatedCrash,
    TickingClock,
    Told,
    context_of,
    contracts_of,
    fail_over,
    plan_of,
    target_of,
    vault_of,
)

TIER_1 = {"region", "nation", "customer", "orders"}


def log_at(path: Path) -> EpochLog:
    return EpochLog(LocalStore(path), clock=FixedClock())


def promoted(path: Path) -> set[str]:
    return set(rules.serving(log_at(path).records()))


@pytest.mark.parametrize("workers", [1, 4])
def test_every_dataset_is_restored_checked_validated_and_promoted_tier_by_tier(tmp_path: Path, workers: int) -> None:
    verbs = FakeVerbs()

    result = fail_over(LocalStore(tmp_path), context_of(verbs), workers=workers)

    assert result.verdict is Verdict.MET
    assert (result.epoch, result.primary, result.resumed) == (1, "standby", False)
    assert promoted(tmp_path) == set(TIERS)
    for name in TIERS:
        assert [verb for verb, dataset in verbs.calls if dataset == name] == ["restore", "check", "validate", "publish"]
    restores = [name for verb, name in verbs.calls if verb == "restore"]
    assert set(restores[:4]) == TIER_1
    records = log_at(tmp_path).records()
    order = [r.value.members[0].dataset for r in records if isinstance(r.value, Promotion)]
    assert all(order.index(needed) < order.index(name) for name, (_, needs) in TIERS.items() for needed in needs)
    last_of_tier_1 = max(r.number for r in records if isinstance(r.value, Promotion) and r.value.group in TIER_1)
    first_of_part = next(r.number for r in records if getattr(r.value, "step", "") == "restore:part")
    assert last_of_tier_1 < first_of_part


def test_checks_across_datasets_are_given_the_restored_dependencies(tmp_path: Path) -> None:
    verbs = FakeVerbs()
    fail_over(LocalStore(tmp_path), context_of(verbs))

    assert verbs.related["lineitem"] == {"orders": target_of("orders"), "part": target_of("part")}


def test_every_prefix_of_the_log_is_a_state_that_keeps_the_invariants(tmp_path: Path) -> None:
    fail_over(LocalStore(tmp_path), context_of(FakeVerbs()))
    records = log_at(tmp_path).records()

    states = []
    for count in range(len(records) + 1):
        position = position_of(records[:count])
        check_invariants(position)
        states.append(position.state)

    assert states[0] is State.PROTECTED
    assert states[-1] is State.FAILED_OVER


def test_a_failing_dataset_stops_its_dependants_and_not_its_siblings(tmp_path: Path) -> None:
    verbs = FakeVerbs()
    verbs.failing_checks.add("part")

    result = fail_over(LocalStore(tmp_path), context_of(verbs))

    assert promoted(tmp_path) == set(TIERS) - {"part", "lineitem"}
    by_name = {dataset.name: dataset for dataset in result.measured.datasets}
    assert by_name["part"].verdict is Verdict.FAILED
    assert "1 of 2 checks did not pass: key has 3 duplicates" in by_name["part"].reason
    assert by_name["lineitem"].reason.endswith("not executed: it depends on part: validate:part failed")
    assert [(tier.tier, tier.verdict) for tier in result.measured.tiers] == [
        (1, Verdict.MET), (2, Verdict.FAILED), (3, Verdict.MET)
    ]  # fmt: skip
    assert result.verdict is Verdict.FAILED


def test_an_error_in_a_verb_is_an_outcome_with_its_hint(tmp_path: Path) -> None:
    def interfere(verb: str, dataset: str) -> None:
        if (verb, dataset) == ("restore", "papers"):
            raise Corrupt("pack 3fa1 fails its digest.", hint="`reopen repair` restores it.")
        if (verb, dataset) == ("validate", "part"):
            raise ZeroDivisionError("surprise")

    result = fail_over(LocalStore(tmp_path), context_of(FakeVerbs(interfere)))

    broken = result.outcomes["restore:papers"]
    assert (broken.result, broken.reason, broken.hint) == (
        StepResult.FAILED, "pack 3fa1 fails its digest.", "`reopen repair` restores it."
    )  # fmt: skip
    assert result.outcomes["validate:part"].reason == "ZeroDivisionError: surprise"


def test_a_dataset_without_a_recovery_point_fails_with_what_to_do(tmp_path: Path) -> None:
    vault = vault_of()
    vault.verified = [fact for fact in vault.verified if fact.dataset != "papers"]

    result = fail_over(LocalStore(tmp_path), context_of(FakeVerbs()), plan_of(vault=vault))

    outcome = result.outcomes["restore:papers"]
    assert outcome.reason == "papers has no complete snapshot that was verified."
    assert "--at latest" in outcome.hint


def test_wrong_bytes_are_not_even_validated(tmp_path: Path) -> None:
    class Damaging(FakeVerbs):
        def restore(self, dataset):  # type: ignore[no-untyped-def]
            restored = super().restore(dataset)
            if dataset.name == "papers":
                self.damaged.add("papers")
            return restored

    verbs = Damaging()
    result = fail_over(LocalStore(tmp_path), context_of(verbs))

    assert ("validate", "papers") not in verbs.calls
    assert "a.parquet: digest_mismatch" in result.outcomes["validate:papers"].reason


def test_a_stray_file_in_the_target_stops_its_dataset_and_the_hint_says_what_to_do(tmp_path: Path) -> None:
    """Whoever queries the folder would read it, and no check has seen it in the snapshot."""

    class Strewn(FakeVerbs):
        def check_tree(self, dataset):  # type: ignore[no-untyped-def]
            found = super().check_tree(dataset)
            if dataset.name != "papers":
                return found
            return replace(found, bad_count=1, bad=(BadEntry(path="old.parquet", status="extra", detail=""),))

    result = fail_over(LocalStore(tmp_path), context_of(Strewn()))
    outcome = result.outcomes["validate:papers"]
    assert outcome.result is StepResult.FAILED
    assert "old.parquet: extra" in outcome.reason
    assert "Move aside" in outcome.hint
    assert "papers" not in promoted(tmp_path)


def test_a_failover_in_which_nothing_has_a_recovery_point_moves_nothing(tmp_path: Path) -> None:
    plan = plan_of()
    hopeless = replace(
        plan, datasets=tuple(replace(d, point=None, rpa=None, problem="there is none") for d in plan.datasets)
    )
    with pytest.raises(Refused, match="Nothing was moved"):
        fail_over(LocalStore(tmp_path), context_of(FakeVerbs()), hopeless)
    assert log_at(tmp_path).records() == ()


def test_the_clock_stops_on_promoted_and_an_objective_that_is_missed_is_said(tmp_path: Path) -> None:
    clock = TickingClock(NOON)

    def interfere(verb: str, dataset: str) -> None:
        if (verb, dataset) == ("validate", "papers"):
            clock.advance(timedelta(hours=2))

    result = fail_over(LocalStore(tmp_path), context_of(FakeVerbs(interfere), clock=clock))

    papers = {dataset.name: dataset for dataset in result.measured.datasets}["papers"]
    assert papers.rta is not None
    assert papers.t_restored is not None
    assert papers.rta > timedelta(hours=2) > papers.t_restored - result.measured.t_failure
    assert papers.rta == result.outcomes["promote:papers"].finished_at - result.measured.t_failure
    assert (papers.verdict, papers.reason) == (Verdict.MISSED, "RTA is over RTO")
    assert result.measured.t_declared == NOON


def test_a_recovery_point_older_than_the_objective_misses_it(tmp_path: Path) -> None:
    vault = vault_of()
    vault.snapshots = [replace(s, consistent_at=NOON - timedelta(hours=3)) for s in vault.snapshots]

    result = fail_over(LocalStore(tmp_path), context_of(FakeVerbs()), plan_of(vault=vault))

    assert {dataset.reason for dataset in result.measured.datasets} == {"RPA is over RPO"}
    assert result.measured.tiers[0].rpa == timedelta(hours=2, minutes=55)


def test_without_a_sufficient_fence_nothing_is_recorded_and_nothing_moves(tmp_path: Path) -> None:
    verbs = FakeVerbs()
    weak = Fence(level=FenceLevel.COOPERATIVE, by="anna")

    with pytest.raises(Refused, match="old-primary-may-write"):
        execute_failover(plan_of(), context_of(verbs), log_at(tmp_path), fence=weak, reason="test", workers=1)

    assert verbs.calls == []
    assert log_at(tmp_path).records() == ()


class Killer:
    """Raises :class:`SimulatedCrash` at the n-th call of anything."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left == -1:
            raise SimulatedCrash


class DyingStore(LocalStore):
    """A store whose process dies before or after the n-th create."""

    def __init__(self, root: Path, *, before: Killer, after: Killer) -> None:
        super().__init__(root)
        self._before, self._after = before, after

    def create(self, name, pieces):  # type: ignore[no-untyped-def]
        self._before()
        size = super().create(name, pieces)
        self._after()
        return size


SMALL = contracts_of({"nation": (2, ()), "customer": (1, ("nation",)), "papers": (2, ())})
NEVER = 10_000


@pytest.mark.parametrize("where", ["before a record", "after a record", "in a verb"])
def test_a_driver_that_dies_anywhere_is_followed_by_one_that_ends_the_same(tmp_path: Path, where: str) -> None:
    """Kill at every create and every verb in turn, run again with a new orchestrator, and compare."""
    plan = plan_of(SMALL, vault_of(["nation", "customer", "papers"]))
    crashes = 0
    for at in range(NEVER):
        root = tmp_path / str(at)
        killers = {
            name: Killer(at if name == where else NEVER) for name in ("before a record", "after a record", "in a verb")
        }
        verbs = FakeVerbs(killers["in a verb"])
        dying = DyingStore(root, before=killers["before a record"], after=killers["after a record"])
        try:
            fail_over(dying, context_of(verbs), plan)
        except SimulatedCrash:
            crashes += 1
        else:
            break
        done = {
            r.value.outcome.step
            for r in log_at(root).records()
            if isinstance(r.value, Outcome) and r.value.outcome.result is StepResult.DONE
        }
        check_invariants(position_of(log_at(root).records()))
        open_plan = unfinished_plan(log_at(root))
        if open_plan is None:
            # It died before its first intent, or after its last record.
            concluded = rules.is_concluded(log_at(root).records(), plan.digest)
            assert concluded or not done
            if concluded:
                continue
        else:
            assert open_plan == plan
        verbs.calls.clear()
        verbs._interfere = lambda verb, dataset: None

        result = fail_over(LocalStore(root), context_of(verbs, orchestrator="o2"), open_plan or plan, seed=2)

        assert result.verdict is Verdict.MET
        assert result.resumed is (open_plan is not None and bool(_intents(root, "o1")))
        repeated = {f"{verb}:{name}" for verb, name in verbs.calls if verb != "check"}
        assert not repeated & done, "a step that was done was done again"
        records = log_at(root).records()
        assert sorted(rules.serving(records)) == ["customer", "nation", "papers"]
        promotions = [r.value.group for r in records if isinstance(r.value, Promotion)]
        assert sorted(promotions) == ["customer", "nation", "papers"], "promoted once each"
        assert rules.current_epoch(records) == 1
        assert position_of(records).state is State.FAILED_OVER
        assert verify_chain(LocalStore(root), quoted=rules.quoted_evidence(records)) == ()
        (record,) = read_evidence(LocalStore(root))
        assert rules.quoted_evidence(records) == {record.name: record.digest}, "written once, whoever died behind it"
    assert crashes >= 9


def _intents(root: Path, by: str) -> list[str]:
    return [r.value.step for r in log_at(root).records() if r.by == by and isinstance(r.value, Intent)]


def test_an_interrupt_leaves_the_intent_open_and_not_failed(tmp_path: Path) -> None:
    def interfere(verb: str, dataset: str) -> None:
        if (verb, dataset) == ("restore", "orders"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_over(LocalStore(tmp_path), context_of(FakeVerbs(interfere)))

    records = log_at(tmp_path).records()
    begun = {record.value.step for record in records if isinstance(record.value, Intent)}
    assert begun - rules.outcomes(records, plan_of().digest).keys() == {"restore:orders"}
    assert rules.primary_site(records, initial="production") == "standby"
    assert unfinished_plan(log_at(tmp_path)) == plan_of()


def test_what_an_earlier_driver_validated_is_hashed_again_before_it_serves(tmp_path: Path) -> None:
    verbs = FakeVerbs()
    plan = plan_of(SMALL, vault_of(["nation", "customer", "papers"]))

    class DiesAfterValidation(LocalStore):
        def create(self, name, pieces):  # type: ignore[no-untyped-def]
            if b'"step":"promote:nation"' in bytes(pieces[0]):
                raise SimulatedCrash
            return super().create(name, pieces)

    with pytest.raises(SimulatedCrash):
        fail_over(DiesAfterValidation(tmp_path), context_of(verbs), plan)
    verbs.damaged.add("nation")
    verbs.calls.clear()

    result = fail_over(LocalStore(tmp_path), context_of(verbs, orchestrator="o2"), plan)

    assert result.outcomes["promote:nation"].result is StepResult.FAILED
    assert "digest_mismatch" in result.outcomes["promote:nation"].reason
    assert promoted(tmp_path) == {"papers"}


def test_a_second_driver_takes_over_and_the_first_one_stops(tmp_path: Path) -> None:
    def interfere(verb: str, dataset: str) -> None:
        if (verb, dataset) == ("restore", "customer"):
            log = log_at(tmp_path)
            log.append(Takeover(epoch=1, term=2, reason="it looked dead"), by="o2")

    verbs = FakeVerbs(interfere)
    with pytest.raises(Superseded, match="orchestrator o2 acts now"):
        fail_over(LocalStore(tmp_path), context_of(verbs))

    assert verbs.calls[-1] == ("restore", "customer")
    assert promoted(tmp_path) == {"region", "nation"}, "what it did before stands"


def test_running_again_tries_what_failed_from_its_restore_and_leaves_the_rest(tmp_path: Path) -> None:
    verbs = FakeVerbs()
    verbs.failing_checks.add("part")
    fail_over(LocalStore(tmp_path), context_of(verbs))
    verbs.failing_checks.clear()
    verbs.calls.clear()

    plan = unfinished_plan(log_at(tmp_path))
    assert plan is not None
    result = fail_over(LocalStore(tmp_path), context_of(verbs, orchestrator="o2"), plan, seed=2)

    assert result.verdict is Verdict.MET
    assert result.resumed
    assert [call for call in verbs.calls if call[0] == "restore"] == [("restore", "part"), ("restore", "lineitem")]
    assert promoted(tmp_path) == set(TIERS)
    assert unfinished_plan(log_at(tmp_path)) is None
    assert position_of(log_at(tmp_path).records()).state is State.FAILED_OVER


def test_a_failover_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    fail_over(LocalStore(tmp_path), context_of(FakeVerbs()))
    before = log_at(tmp_path).records()

    with pytest.raises(Conflict, match="is done"):
        fail_over(LocalStore(tmp_path), context_of(FakeVerbs(), orchestrator="o2"))

    assert log_at(tmp_path).records() == before


def test_another_plan_cannot_restore_over_what_serves(tmp_path: Path) -> None:
    fail_over(LocalStore(tmp_path), context_of(FakeVerbs()))

    with pytest.raises(Conflict, match="would restore over them"):
        fail_over(LocalStore(tmp_path), context_of(FakeVerbs(), orchestrator="o2"), plan_of(point="latest"))


def test_what_failed_can_be_tried_from_another_point_in_the_same_epoch(tmp_path: Path) -> None:
    verbs = FakeVerbs()
    verbs.failing_checks.add("part")
    fail_over(LocalStore(tmp_path), context_of(verbs))
    verbs.failing_checks.clear()
    served = {name: found.promoted.url for name, found in rules.serving(log_at(tmp_path).records()).items()}

    plan = plan_of(datasets=["lineitem"], point="latest", served=served)
    result = fail_over(LocalStore(tmp_path), context_of(verbs, orchestrator="o2"), plan, seed=2)

    assert result.verdict is Verdict.MET
    assert result.epoch == 1
    assert promoted(tmp_path) == set(TIERS)
    assert verbs.related["lineitem"] == {"orders": target_of("orders"), "part": target_of("part")}


def test_people_are_told_in_order_and_a_broken_channel_stops_nothing(tmp_path: Path) -> None:
    told = Told()

    def notify(notice: Notice) -> tuple[Delivery, ...]:
        told(notice)
        raise ConnectionError("no route")

    result = fail_over(LocalStore(tmp_path), context_of(FakeVerbs(), notify=notify))

    assert [notice.event for notice in told.notices] == [
        "declared", "tier-restored", "tier-restored", "tier-restored", "failover-finished"
    ]  # fmt: skip
    assert {message.status for message in result.messages} == {"failed"}
    assert result.verdict is Verdict.MET


def test_the_evidence_has_the_plan_the_steps_and_what_was_left_out(tmp_path: Path) -> None:
    verbs = FakeVerbs()
    verbs.failing_checks.add("part")
    vault = vault_of([*TIERS, "old_sales"])
    result = fail_over(LocalStore(tmp_path), context_of(verbs), plan_of(vault=vault))

    (stored,) = read_evidence(LocalStore(tmp_path))

    assert stored == result.evidence
    evidence = stored.evidence
    assert evidence.planned == result.plan
    assert [step.step for step in evidence.steps] == [step.id for step in result.plan.steps]
    assert {s.step: s.result for s in evidence.steps}["promote:lineitem"] is StepResult.NOT_EXECUTED
    assert evidence.planned.left_out[0].dataset == "old_sales"
    assert evidence.fence["level"] == COOPERATIVE.level
    assert evidence.measured == result.measured
