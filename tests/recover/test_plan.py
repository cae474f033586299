"""What a plan says, and that it is a value (reopen/recover/plan.py, points.py)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reopen.errors import InvalidInput, NotFound
from reopen.recover.plan import PlanKind, RecoveryPlan, plan_drill, read_plan
from reopen.vault.clean import Suspicion
from reopen.vault.record import Fact, SnapshotRecord
from tests.recover.business import (
    FAILED_AT,
    NOON,
    TIERS,
    FakeVault,
    a_proof,
    a_snapshot,
    contracts_of,
    plan_of,
    snapshot_id,
    vault_of,
)


def history(*snapshots: SnapshotRecord, verified: tuple[Fact, ...] = ()) -> FakeVault:
    return FakeVault(snapshots=list(snapshots), verified=list(verified))


def paper(seq: int, minutes_before: int = 10, **changes: Any) -> SnapshotRecord:
    return a_snapshot("papers", seq, consistent_at=FAILED_AT - timedelta(minutes=minutes_before), **changes)


def proof(seq: int, minutes_before: int = 0, **body: str) -> Fact:
    return a_proof("papers", seq, at=FAILED_AT - timedelta(minutes=minutes_before), **body)


PAPERS = contracts_of({"papers": (3, ())})


def chosen_seq(vault: FakeVault, point: str) -> int | None:
    (dataset,) = plan_of(PAPERS, vault, point=point, datasets=["papers"]).datasets
    return None if dataset.point is None else dataset.point.seq


def test_tiers_ascend_and_dependencies_come_first() -> None:
    plan = plan_of()

    assert [dataset.name for dataset in plan.datasets] == [
        "region", "nation", "customer", "orders", "part", "lineitem", "papers"
    ]  # fmt: skip
    assert plan.tiers == (1, 2, 3)
    nation = plan.dataset("nation")
    assert (nation.stated_tier, nation.tier, nation.raised_by) == (2, 1, ("customer", "orders"))


def test_the_rpa_is_the_age_of_the_recovery_point_when_the_site_failed() -> None:
    assert plan_of().dataset("orders").rpa == timedelta(minutes=10)


def test_a_snapshot_that_is_younger_than_the_failure_loses_nothing() -> None:
    vault = history(paper(1, minutes_before=-3), verified=(proof(1),))

    assert plan_of(PAPERS, vault).dataset("papers").rpa == timedelta(0)


@pytest.mark.parametrize(
    ("point", "seq"),
    [
        ("last-verified", 2),
        ("last-clean", 2),
        ("latest", 3),
        ("at:2026-01-01T11:36:00Z", 1),
        ("at:2026-01-01T12:36:00+01:00", 1),
        (snapshot_id("papers", 4), 4),
        (snapshot_id("papers", 9), None),
    ],
)
def test_each_selector_chooses_its_snapshot(point: str, seq: int | None) -> None:
    vault = history(
        paper(1, 20), paper(2, 15), paper(3, 10), paper(4, 5, state="incomplete"),
        verified=(proof(1), proof(2), proof(3, level="structure"), proof(4)),
    )  # fmt: skip

    assert chosen_seq(vault, point) == seq


def test_last_clean_passes_over_what_is_suspect_and_says_what_to_do_where_nothing_is_left() -> None:
    vault = history(paper(1, 20), paper(2, 15), paper(3, 10), verified=(proof(1), proof(3)))
    begun = Suspicion(snapshot=snapshot_id("papers", 2), seq=2, verdict="suspect", reasons=("all changed",))
    vault.suspect = {snapshot_id("papers", seq): begun for seq in (2, 3)}

    assert (chosen_seq(vault, "last-clean"), chosen_seq(vault, "last-verified")) == (1, 3)

    vault.suspect = {snapshot_id("papers", seq): begun for seq in (1, 2, 3)}
    (dataset,) = plan_of(PAPERS, vault, point="last-clean", datasets=["papers"]).datasets
    assert dataset.point is None
    assert dataset.problem == "papers has no verified snapshot that is clean"
    assert "reopen clear papers" in dataset.hint


@pytest.mark.parametrize(
    ("point", "seq"),
    [("last-verified", 1), ("latest", 1), ("at:2026-01-01T12:00:00Z", 1), (snapshot_id("papers", 2), 2)],
)
def test_what_a_site_wrote_without_its_role_confirmed_is_taken_only_by_its_id(point: str, seq: int) -> None:
    unconfirmed = replace(paper(2, 5), confirmed=False)
    assert chosen_seq(history(paper(1, 10), unconfirmed, verified=(proof(1), proof(2))), point) == seq


def test_damage_found_later_takes_a_proof_back() -> None:
    verified = (proof(1), proof(2, minutes_before=5), proof(2, result="damaged", minutes_before=1))

    assert chosen_seq(history(paper(1), paper(2), verified=verified), "last-verified") == 1


def test_a_dataset_without_a_usable_point_stays_in_the_plan_and_says_what_to_do() -> None:
    (dataset,) = plan_of(PAPERS, history(paper(1)), datasets=["papers"]).datasets

    assert dataset.point is None
    assert dataset.problem == "papers has no complete snapshot that was verified"
    assert "--at latest" in dataset.hint


@pytest.mark.parametrize("point", ["newest", "at:yesterday", "at:2026-01-01T00:00:00", "123"])
def test_a_text_that_is_no_recovery_point_is_refused(point: str) -> None:
    with pytest.raises(InvalidInput, match="is not a recovery point"):
        plan_of(point=point)


def test_a_point_may_be_named_for_one_dataset() -> None:
    vault = vault_of()
    vault.snapshots.append(a_snapshot("part", 2))

    plan = plan_of(vault=vault, points={"part": "latest"})

    assert [d.name for d in plan.datasets if d.point is not None and d.point.seq == 2] == ["part"]


def test_every_dataset_is_planned_or_left_out_with_a_reason() -> None:
    vault = vault_of([*(name for name in TIERS if name not in ("papers", "region")), "old_sales"])

    plan = plan_of(vault=vault)

    assert {item.dataset: item.reason for item in plan.left_out} == {
        "old_sales": "it has snapshots and no contract (retired)",
        "papers": "it has no snapshot in this vault",
    }
    assert plan.dataset("region").problem, "others depend on it, so it stays and fails"


def test_asking_for_some_datasets_brings_what_they_depend_on() -> None:
    plan = plan_of(datasets=["customer"])

    assert [dataset.name for dataset in plan.datasets] == ["region", "nation", "customer"]
    assert {item.dataset for item in plan.left_out} == {"orders", "part", "lineitem", "papers"}


def test_what_serves_already_is_not_recovered_again() -> None:
    served = {name: f"/sites/standby/{name}" for name in ("region", "nation", "customer", "orders")}

    plan = plan_of(datasets=["lineitem"], served=served)

    assert [dataset.name for dataset in plan.datasets] == ["part", "lineitem"]
    assert plan.served == served
    assert plan.dependencies["lineitem"] == ("part",)


def test_an_unknown_dataset_is_refused_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="sales"):
        plan_of(datasets=["sales"])


def test_a_failure_after_its_declaration_is_refused() -> None:
    with pytest.raises(InvalidInput, match="after its declaration"):
        plan_of(failed_at=NOON + timedelta(seconds=1))


def test_a_plan_goes_through_its_stored_form_unchanged() -> None:
    plan = plan_of()

    assert read_plan(plan.encoded, "plan") == plan
    assert plan_of().digest == plan.digest


def test_a_drill_has_the_shape_of_the_failover_it_proves_and_another_digest() -> None:
    drill = plan_drill(
        contracts_of(), vault_of(), source_site="production", target_site="standby", scratch="/scratch/drill-1",
        started_at=NOON,
    )  # fmt: skip
    plan = plan_of()

    assert (drill.kind, drill.shape) == (PlanKind.DRILL, plan.shape)
    assert drill.digest != plan.digest
    assert {dataset.target_url for dataset in drill.datasets} == {f"/scratch/drill-1/{name}" for name in TIERS}
    assert {step.verb for step in drill.steps} == {"restore", "validate", "barrier"}


def test_an_edited_contract_changes_the_shape() -> None:
    contracts = contracts_of()
    edited = replace(contracts.datasets["part"], contract_digest="f" * 64)
    changed = replace(contracts, datasets={**contracts.datasets, "part": edited})

    assert plan_of(changed).shape != plan_of().shape


def taken(dataset: str, seq: int, minutes_before: int, **seen: int) -> SnapshotRecord:
    """A snapshot whose writer saw those of other datasets as the newest."""
    heads = {name: f"{other:010d}-{snapshot_id(name, other)}" for name, other in seen.items()}
    return a_snapshot(dataset, seq, heads=heads, consistent_at=FAILED_AT - timedelta(minutes=minutes_before))


SALES = contracts_of({"orders": (1, ()), "lineitem": (1, ("orders",))})
RUNS = (
    taken("orders", 1, 32), taken("lineitem", 1, 31, orders=1),
    taken("orders", 2, 22, orders=1, lineitem=1), taken("lineitem", 2, 21, orders=2, lineitem=1),
    taken("orders", 3, 12, orders=2, lineitem=2), taken("lineitem", 3, 11, orders=3, lineitem=2),
)  # fmt: skip


def seqs(plan: RecoveryPlan) -> dict[str, int]:
    return {dataset.name: dataset.point.seq for dataset in plan.datasets if dataset.point is not None}


def test_datasets_that_depend_on_each_other_take_the_newest_points_of_one_run() -> None:
    """The newest snapshot of lineitem is not verified: orders goes back to the run of the one that is."""
    vault = history(*RUNS, verified=tuple(a_proof(r.dataset, r.seq) for r in RUNS if r is not RUNS[-1]))

    plan = plan_of(SALES, vault)

    assert seqs(plan) == {"orders": 2, "lineitem": 2}
    (together,) = plan.together
    assert (together.datasets, together.one_run) == (("lineitem", "orders"), True)
    assert (together.apart, together.older) == (timedelta(minutes=1), {"orders": timedelta(minutes=10)})
    assert plan_of(SALES, vault).digest == plan.digest


def test_points_of_one_run_are_not_made_older() -> None:
    (together,) = plan_of(SALES, history(*RUNS), point="latest").together
    assert (together.one_run, together.older) == (True, {})


def test_alignment_never_costs_more_than_the_rpo_and_the_plan_says_how_far_apart_they_are() -> None:
    vault = history(*RUNS, verified=(a_proof("orders", 3), a_proof("orders", 1), a_proof("lineitem", 1)))
    tight = {n: replace(d, objective=replace(d.objective, rpo=timedelta(minutes=5))) for n, d in SALES.datasets.items()}

    plan = plan_of(replace(SALES, datasets=tight), vault)

    assert seqs(plan) == {"orders": 3, "lineitem": 1}
    (together,) = plan.together
    assert (together.one_run, together.apart) == (False, timedelta(minutes=19))


def test_a_point_that_was_asked_for_by_its_dataset_is_kept_and_the_others_follow() -> None:
    plan = plan_of(SALES, history(*RUNS), point="latest", points={"lineitem": snapshot_id("lineitem", 2)})
    assert seqs(plan) == {"orders": 2, "lineitem": 2}


def test_datasets_that_have_nothing_to_do_with_each_other_are_not_aligned() -> None:
    contracts = contracts_of({"orders": (1, ()), "lineitem": (1, ())})
    vault = history(*RUNS, verified=tuple(a_proof(r.dataset, r.seq) for r in RUNS if r is not RUNS[-1]))
    plan = plan_of(contracts, vault)
    assert (seqs(plan), plan.together) == ({"orders": 3, "lineitem": 2}, ())


def test_a_group_is_aligned_as_dependants_are() -> None:
    contracts = contracts_of({"orders": (1, ()), "lineitem": (1, ())})
    grouped = {name: replace(dataset, consistency_group="sales") for name, dataset in contracts.datasets.items()}
    vault = history(*RUNS, verified=tuple(a_proof(r.dataset, r.seq) for r in RUNS if r is not RUNS[-1]))
    assert seqs(plan_of(replace(contracts, datasets=grouped), vault)) == {"orders": 2, "lineitem": 2}
