"""How old copies and proofs are, and whether the plan is still the one that was proven."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.errors import Transient
from reopen.recover.clocks import Verdict, measure
from reopen.recover.evidence import Evidence
from reopen.recover.plan import PlanKind, RecoveryPlan, plan_drill
from reopen.recover.readiness import Check, Mark
from reopen.recover.readiness.drift import check_drift, passing
from reopen.recover.readiness.freshness import (
    Lag,
    check_coverage,
    check_exposure,
    check_replication,
    check_verified,
    lags_of,
)
from tests.kit import a_dataset as kept_dataset
from tests.kit import a_vault, reopened, snapshot
from tests.recover.business import NOON, TIERS, FakeVault, a_dataset, contracts_of, plan_of, vault_of
from tests.stores import MemoryStore

PLAN = plan_of()
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def of(checks: list[Check], dataset: str) -> Check:
    (found,) = [check for check in checks if check.dataset == dataset]
    return found


@pytest.mark.parametrize(
    ("minutes", "mark"), [(0, Mark.OK), (15, Mark.OK), (16, Mark.WARN), (45, Mark.WARN), (46, Mark.FAIL)]
)
def test_exposure_is_judged_against_the_objective(minutes: int, mark: Mark) -> None:
    """The point is 15 minutes old at noon, the objective 30."""
    check = of(check_exposure(PLAN, NOON + minutes * MINUTE), "orders")

    assert check.verdict is mark
    assert bool(check.what_to_do) is (mark is not Mark.OK)


def test_a_dataset_without_a_point_fails_and_one_that_was_not_verified_is_not_green() -> None:
    vault = FakeVault(snapshots=vault_of().snapshots, verified=[])
    none = of(check_exposure(plan_of(vault=vault), NOON), "orders")
    latest = of(check_exposure(plan_of(vault=vault, point="latest"), NOON), "orders")

    assert (none.verdict, none.value) == (Mark.FAIL, "orders has no complete snapshot that was verified")
    assert latest.verdict is Mark.WARN
    assert latest.value.endswith("not verified")


def test_what_a_contract_protects_and_nobody_has_taken_yet_would_be_lost() -> None:
    plan = plan_of(
        vault=FakeVault(snapshots=[item for item in vault_of().snapshots if item.dataset != "papers"], verified=[])
    )
    check = of(check_exposure(plan, NOON), "papers")
    behind = of(check_exposure(replace(plan, kind=PlanKind.PREPARE), NOON), "papers")

    assert (check.verdict, check.value) == (Mark.FAIL, "it has no snapshot in this vault")
    assert "reopen snapshot" in check.what_to_do
    assert behind.verdict is Mark.WARN


def test_a_planned_move_is_not_stopped_by_what_its_final_sync_will_bring() -> None:
    vault = FakeVault(snapshots=vault_of().snapshots, verified=[])
    moving = replace(plan_of(vault=vault), kind=PlanKind.PREPARE)
    behind = {"orders": Lag(snapshots=3, waiting=10 * DAY)}

    assert {check.verdict for check in check_exposure(moving, NOON + DAY)} == {Mark.OK}
    assert check_verified(moving, NOON) == []
    assert of(check_replication(moving, behind), "orders").verdict is Mark.WARN
    assert of(check_replication(PLAN, behind), "orders").verdict is Mark.FAIL


@pytest.mark.parametrize(("days", "mark"), [(7, Mark.OK), (8, Mark.WARN), (31, Mark.FAIL)])
def test_a_proof_ages(days: int, mark: Mark) -> None:
    point = PLAN.datasets[0].point
    assert point is not None
    assert point.verified_at is not None

    assert check_verified(PLAN, point.verified_at + days * DAY)[0].verdict is mark


def test_the_lag_is_how_long_the_oldest_missing_snapshot_has_waited(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    source, copy = a_vault(MemoryStore()), MemoryStore()
    for info in source.store.list():
        copy.put(info.name, [source.store.get(info.name)])
    replica = reopened(source, copy)
    first = snapshot(source, kept_dataset("orders", tmp_path)).record
    (tmp_path / "a").write_text("b")
    snapshot(source, kept_dataset("orders", tmp_path))

    lags = lags_of(source, replica, first.committed_at + 40 * MINUTE)

    assert lags == {"orders": Lag(snapshots=2, waiting=40 * MINUTE)}
    assert lags_of(source, source, first.committed_at) == {}


@pytest.mark.parametrize(("minutes", "mark"), [(30, Mark.OK), (31, Mark.WARN), (61, Mark.FAIL)])
def test_a_replica_that_is_behind_is_judged_against_the_objective(minutes: int, mark: Mark) -> None:
    lags = {"orders": Lag(snapshots=1, waiting=minutes * MINUTE)}

    checks = check_replication(PLAN, lags)

    assert of(checks, "orders").verdict is mark
    assert of(checks, "customer").verdict is Mark.OK


def test_a_source_that_was_not_read_leaves_the_lag_unknown_and_one_that_was_not_asked_says_nothing() -> None:
    (check,) = check_replication(PLAN, Transient("no answer"))

    assert (check.verdict, check.value) == (Mark.WARN, "unknown: the vault of production was not read: no answer")
    assert check_replication(PLAN, None) == []


def test_what_was_stored_and_never_read_again_is_not_covered(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a" * 5000)
    vault = a_vault()
    snapshot(vault, kept_dataset("orders", tmp_path))

    check = check_coverage(vault, vault.clock.now())

    assert (check.verdict, check.value) == (Mark.WARN, "0% of 1 packs' bytes were read within 30 days")


def drilled(
    *, days_ago: int = 1, verdict: Verdict = Verdict.MET, datasets: list[str] | None = None, **changes: object
) -> Evidence:
    """The evidence of a drill, of all datasets or of some."""
    ended = NOON - days_ago * DAY
    plan = plan_drill(
        contracts_of(), vault_of(), source_site="production", target_site="standby", scratch="/s/drill-1",
        started_at=ended, datasets=datasets,
    )  # fmt: skip
    measured = measure(plan, {}, started_at=ended, finished_at=ended)
    results = tuple(replace(result, verdict=verdict, rta=9 * MINUTE, reason="") for result in measured.datasets)
    return Evidence(
        id="1", kind="drill", plan=plan.digest, shape=plan.shape, planned=plan,
        measured=replace(measured, verdict=verdict, datasets=results), steps=(), fence={}, epoch=0, resumed=False,
        orchestrator="o", clean_up={}, messages=(), versions={"duckdb": "2.0.0"}, **changes,  # type: ignore[arg-type]
    )  # fmt: skip


def drift(*evidence: Evidence, plan: RecoveryPlan = PLAN) -> tuple[Check, dict[str, Check]]:
    whole, *each = check_drift(plan, evidence, NOON)
    return whole, {check.dataset: check for check in each}


def test_a_plan_that_was_never_drilled_is_unproven() -> None:
    whole, each = drift()

    assert (whole.verdict, whole.value) == (Mark.WARN, "unproven: 7 of 7 datasets as they are planned now")
    assert {check.value for check in each.values()} == {"unproven: never drilled"}


def test_a_drill_of_the_same_shape_proves_the_plan() -> None:
    whole, each = drift(drilled())

    assert whole.verdict is Mark.OK
    assert whole.value.startswith("as a whole")
    assert {check.verdict for check in each.values()} == {Mark.OK}
    assert each["orders"].value == "2025-12-31T12:00:00.000000Z: 9m of 1h (RTO)"


def test_a_drill_of_a_part_proves_that_part() -> None:
    whole, each = drift(drilled(datasets=["customer"]))

    proven = {name for name, check in each.items() if check.verdict is Mark.OK}
    assert proven == {"customer", "nation", "region"}
    assert whole.value == "unproven: 4 of 7 datasets as they are planned now"


def test_drills_of_all_parts_prove_the_plan_as_well() -> None:
    whole, _ = drift(drilled(datasets=["lineitem"]), drilled(datasets=["papers"]))

    assert (whole.verdict, whole.value) == (Mark.OK, "each dataset by a drill, not yet all in one")


def test_a_contract_that_was_changed_since_is_named() -> None:
    contracts = contracts_of()
    changed = a_dataset("orders", *TIERS["orders"], contract_digest="1" * 64)
    plan = plan_of(replace(contracts, datasets={**contracts.datasets, "orders": changed}))

    whole, each = drift(drilled(), plan=plan)

    assert whole.verdict is Mark.WARN
    assert each["orders"].value == "unproven: changed since the drill of 2025-12-31T12:00:00.000000Z: contract"
    assert each["customer"].verdict is Mark.OK


def test_the_last_drill_counts_and_not_the_best() -> None:
    _, each = drift(drilled(days_ago=2), drilled(verdict=Verdict.FAILED, datasets=["region"]))
    assert (each["region"].verdict, each["papers"].verdict) == (Mark.FAIL, Mark.OK)

    _, each = drift(drilled(verdict=Verdict.MISSED))
    assert each["region"].verdict is Mark.WARN


def test_an_old_proof_warns() -> None:
    _, each = drift(drilled(days_ago=91))

    assert each["orders"].verdict is Mark.WARN
    assert each["orders"].value.endswith("more than 90 days ago")


def test_a_drill_is_late_by_what_the_contract_asks_for() -> None:
    every = {"orders": timedelta(days=30), "region": timedelta(days=365), "papers": timedelta(days=30)}
    evidence = [drilled(days_ago=100), drilled(days_ago=32, datasets=["papers"])]

    each = {check.dataset: check for check in check_drift(PLAN, evidence, NOON, every)}

    assert each["orders"].verdict is Mark.WARN
    assert each["orders"].value.endswith("(RTO); its contract asks for a drill every 30d")
    assert each["region"].verdict is Mark.OK, "a year is what it asks for"
    assert each["papers"].verdict is Mark.OK, "two days are what a drill that is on time may take"
    assert each["customer"].value.endswith("more than 90 days ago"), "its contract asks for none"
    never = {check.dataset: check for check in check_drift(PLAN, [], NOON, every)}
    assert never["orders"].value == "unproven: never drilled, and its contract asks for it every 30d"


def test_a_drill_at_another_site_proves_nothing_here() -> None:
    assert passing([drilled()], site="elsewhere") is None
    assert passing([drilled(), drilled(verdict=Verdict.MISSED)], site="standby") is not None
