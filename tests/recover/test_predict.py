"""What a recovery will take, by the history of others (reopen/recover/predict.py), and what it does to a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reopen.recover.foresee import foresee
from reopen.recover.history import HISTORY
from reopen.recover.plan import RecoveryPlan, read_plan
from reopen.recover.predict import Forecaster, Model, course, fit, growth_bytes_per_day
from reopen.recover.standby.records import Staged
from reopen.recover.steps import Step, Verb
from tests.recover.business import NOON, TIERS, FakeVault, a_snapshot, contracts_of, plan_of, vault_of

MIB = 1 << 20
HERE = "x86_64, 4 cores"


def row(number: int, dataset: str, size: int, files: int = 10, **changes: Any) -> dict[str, Any]:
    """A recovery on a machine that takes 2 s, 1 s a 100 MiB and 10 ms a file to restore; and half of it to check."""
    seconds = 2.0 + size / (100 * MIB) + files * 0.01
    fields = {
        "number": number, "evidence": "e", "kind": "drill", "scenario": "", "started_at": NOON, "finished_at": NOON,
        "plan": "p", "shape": "s", "site": "standby", "dataset": dataset, "tier": 1, "snapshot": "a", "bytes": size,
        "files": files, "written_bytes": size, "copied_bytes": 0, "restore_seconds": seconds,
        "check_seconds": seconds / 2, "promote_seconds": 0.1, "attempts": 1, "checks_passed": 1, "checks_total": 1,
        "rta_seconds": 1.0,
        "rto_seconds": 1.0, "rpa_seconds": 1.0, "rpo_seconds": 1.0, "verdict": "met", "reason": "", "machine": HERE,
    }  # fmt: skip
    return fields | changes


def history(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=HISTORY)


def model_of(*rows: dict[str, Any]) -> Model:
    found = fit(history(rows), machine=HERE)
    assert found is not None
    return found


MANY = [row(n, f"d{n}", n * 200 * MIB, files=(n * 37) % 400) for n in range(1, 13)]


def test_without_a_finished_recovery_nothing_is_predicted() -> None:
    assert fit(history([])) is None
    assert fit(history([row(1, "orders", MIB, restore_seconds=None)])) is None
    assert all(dataset.predicted is None for dataset in foresee(plan_of(), vault_of()).datasets)


def test_the_fit_finds_fixed_cost_throughput_and_cost_per_file() -> None:
    found = model_of(*MANY).restore.fit
    assert found.fixed == pytest.approx(2.0, rel=0.01)
    assert 1 / found.per_byte == pytest.approx(100 * MIB, rel=0.01)
    assert found.per_file == pytest.approx(0.01, rel=0.01)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**6), st.floats(0, 10**5)), min_size=1, max_size=12))
def test_no_history_gives_a_negative_or_endless_prediction(rows: list[tuple[int, int, float]]) -> None:
    found = model_of(
        *(row(n, f"d{n % 3}", size, files, restore_seconds=s) for n, (size, files, s) in enumerate(rows, start=1))
    )
    coefficients = (found.restore.fit.fixed, found.restore.fit.per_byte, found.restore.fit.per_file)
    assert all(np.isfinite(value) and value >= 0 for value in coefficients)
    assert 0 < found.restore.seconds("d0", 10**9, 10) < np.inf


def test_a_dataset_that_is_slower_than_its_size_says_is_predicted_slower() -> None:
    slow = [row(n, "slow", 100 * MIB, check_seconds=60.0) for n in range(20, 25)]
    found = model_of(*MANY, *slow)
    assert found.validate.seconds("slow", 100 * MIB, 10) == pytest.approx(60, rel=0.35)
    assert found.validate.seconds("d1", 200 * MIB, 37) < 10


@pytest.mark.parametrize(
    "changes",
    [
        {"scenario": "operator-error", "written_bytes": MIB, "restore_seconds": 0.1, "check_seconds": 0.1},
        {"scenario": "bit-rot", "restore_seconds": 900.0},
        {"scenario": "failback", "written_bytes": MIB, "restore_seconds": 90.0},
        {"scenario": "unplanned", "written_bytes": 0, "restore_seconds": 0.01, "check_seconds": 0.5},
    ],
    ids=["one file was brought back", "a copy was repaired", "most was copied from a kept folder", "it was staged"],
)
def test_recoveries_of_less_than_the_whole_do_not_spoil_the_fit(changes: dict[str, Any]) -> None:
    others = [row(n, "d1", 300 * MIB, files=4000, **changes) for n in range(20, 30)]
    usual, found = model_of(*MANY), model_of(*MANY, *others)

    assert found.restore == usual.restore
    for size, files in ((100 * MIB, 10), (2000 * MIB, 400)):
        assert found.validate.seconds("d2", size, files) == pytest.approx(
            usual.validate.seconds("d2", size, files), 0.01
        )


def test_what_is_staged_is_predicted_by_what_was_staged() -> None:
    staged = [
        row(n, "papers", 100 * MIB, written_bytes=0, restore_seconds=0.1, check_seconds=0.4, scenario="unplanned")
        for n in range(20, 23)
    ]
    vault = sized(100 * MIB)
    cold = plan_of(vault=vault).dataset("papers")
    assert cold.point is not None
    ready = replace(
        cold,
        staged=Staged(
            site="standby", dataset="papers", version="v", url="/v", snapshot="s", seq=1, consistent_at=NOON,
            record_digest=cold.point.record_digest, contract="c", related={}, tree="00", status="pass",
            validated_at=NOON,
        ),
    )  # fmt: skip
    before, after = (Forecaster(model_of(*MANY, *more), workers=2) for more in ([], staged))

    assert after.costs(cold) == pytest.approx(before.costs(cold), rel=0.2)
    assert after.costs(ready) == pytest.approx((0.1, 0.4), rel=0.2)
    assert sum(before.costs(ready)) > sum(after.costs(ready)), "unseen, it is said to take too long and not too short"


def test_with_nothing_but_staged_recoveries_there_is_a_prediction() -> None:
    found = model_of(row(1, "papers", 100 * MIB, written_bytes=0, restore_seconds=0.1))
    assert found.restore.seconds("papers", 0, 10) < 1


def test_a_recovery_that_copied_what_lay_at_the_site_is_not_taken_for_a_staged_one() -> None:
    before = [row(n, "orders", 100 * MIB) for n in range(1, 4)]
    copied = row(
        4, "orders", 100 * MIB, written_bytes=0, copied_bytes=100 * MIB, restore_seconds=0.2, check_seconds=9.0
    )
    found, usual = model_of(*before, copied), model_of(*before)
    assert found.staged is None
    assert found.restore == usual.restore
    assert found.errors == usual.errors


def test_the_error_is_that_of_the_last_recovery_against_what_was_known_before() -> None:
    before = [row(n, "orders", 100 * MIB) for n in range(1, 6)]
    taken = row(6, "orders", 100 * MIB)
    slower = taken | {key: taken[key] * 2 for key in ("restore_seconds", "check_seconds")}
    assert model_of(*before, slower).errors["orders"] == pytest.approx(1.0, rel=0.1)
    assert model_of(*before, taken).errors["orders"] == pytest.approx(0.0, abs=0.05)
    assert model_of(row(1, "orders", MIB)).errors == {}


def test_seconds_of_another_machine_count_only_while_there_are_none_of_this_one() -> None:
    elsewhere = [item | {"machine": "arm64, 64 cores"} for item in MANY]
    assert model_of(*elsewhere).machine == "arm64, 64 cores"
    both = model_of(*elsewhere, row(20, "orders", MIB))
    assert (both.machine, both.runs) == (HERE, 1)


def predicted_plan(model: Model, *, workers: int = 2, rate: str = "", vault: FakeVault | None = None) -> RecoveryPlan:
    vault = vault or sized(100 * MIB)
    return foresee(plan_of(vault=vault), vault, forecast=Forecaster(model, workers=workers, rate=rate))


def sized(size: int) -> FakeVault:
    vault = vault_of()
    totals = replace(vault.snapshots[0].totals, size_bytes=size, files=10)
    vault.snapshots = [replace(snapshot, totals=totals) for snapshot in vault.snapshots]
    return vault


def test_a_prediction_counts_from_the_failure_and_later_tiers_come_later() -> None:
    plan = predicted_plan(model_of(*MANY))
    worst = {tier: max(d.predicted.p50 for d in plan.tier(tier) if d.predicted) for tier in plan.tiers}
    assert timedelta(minutes=5) < worst[1] < worst[2] < worst[3]
    for dataset in plan.datasets:
        assert dataset.predicted is not None
        assert dataset.predicted.p50 <= dataset.predicted.p95
        assert (dataset.predicted.runs, dataset.predicted.own_runs) == (12, 0)
    assert read_plan(plan.encoded, "plan") == plan
    assert predicted_plan(model_of(*MANY)).digest == plan.digest
    assert plan.shape == plan_of(vault=sized(100 * MIB)).shape, "a prediction is no part of what a drill proves"


def test_one_drill_does_not_look_certain() -> None:
    (dataset,) = foresee(
        plan_of(contracts_of({"papers": (1, ())}), vault_of(["papers"])), vault_of(["papers"]),
        forecast=Forecaster(model_of(row(1, "papers", 1000)), workers=2),
    ).datasets  # fmt: skip
    assert dataset.predicted is not None
    since = timedelta(minutes=5)
    assert (dataset.predicted.p95 - since) > 1.2 * (dataset.predicted.p50 - since)


def test_a_rate_for_all_restores_makes_a_prediction_longer() -> None:
    free, slow = predicted_plan(model_of(*MANY)), predicted_plan(model_of(*MANY), rate="1MiB/s")
    assert slow.dataset("papers").predicted.restore >= timedelta(seconds=100)  # type: ignore[union-attr]
    assert slow.dataset("papers").predicted.p50 > free.dataset("papers").predicted.p50  # type: ignore[union-attr]


def test_with_a_prediction_the_slowest_of_a_tier_is_begun_first_and_not_the_largest() -> None:
    contracts = contracts_of({"wide": (1, ()), "tall": (1, ())})
    vault = vault_of(["tall", "wide"])
    sizes = {"tall": (10 * MIB, 40_000), "wide": (900 * MIB, 1)}
    vault.snapshots = [
        replace(s, totals=replace(s.totals, size_bytes=sizes[s.dataset][0], files=sizes[s.dataset][1]))
        for s in vault.snapshots
    ]
    plain = plan_of(contracts, vault)
    foreseen = foresee(plain, vault, forecast=Forecaster(model_of(*MANY), workers=1))

    def first(plan: RecoveryPlan) -> str:
        restores = [step for step in plan.steps if step.verb is Verb.RESTORE]
        return max(restores, key=lambda step: step.path).id

    assert first(plain) == "restore:wide"
    assert first(foreseen) == "restore:tall"


def test_growth_says_about_when_an_objective_breaks() -> None:
    vault = sized(100 * MIB)
    older = [
        a_snapshot("papers", 1, consistent_at=NOON - timedelta(days=days), totals=replace(
            vault.snapshots[0].totals, size_bytes=100 * MIB - days * MIB * 1000))
        for days in (30, 20, 10)
    ]  # fmt: skip
    newest = [replace(s, seq=5) if s.dataset == "papers" else s for s in vault.snapshots]
    vault.snapshots = [*(replace(s, seq=n) for n, s in enumerate(older, start=1)), *newest]

    plan = predicted_plan(model_of(*MANY), vault=vault)

    papers = plan.dataset("papers").predicted
    assert papers is not None
    assert papers.grows_bytes_per_day == pytest.approx(1000 * MIB, rel=0.01)
    # 1000 MiB a day cost 10 s to restore and 5 s to check; an hour less what it takes now is used up in 7 months.
    assert papers.breaks_at is not None
    assert timedelta(days=180) < papers.breaks_at - NOON < timedelta(days=240)
    assert plan.dataset("part").predicted.breaks_at is None  # type: ignore[union-attr]


def test_too_few_sizes_say_nothing_of_growth() -> None:
    assert growth_bytes_per_day([]) == 0
    assert growth_bytes_per_day([(NOON, 1), (NOON + timedelta(days=3), 5)]) == 0
    assert growth_bytes_per_day([(NOON + timedelta(minutes=n), n) for n in range(9)]) == 0


@given(st.lists(st.floats(0, 100), min_size=len(TIERS) * 3, max_size=len(TIERS) * 3), st.integers(1, 4))
def test_the_course_keeps_the_order_of_steps_and_the_number_of_workers(durations: list[float], workers: int) -> None:
    plan = plan_of()
    own = [step for step in plan.steps if step.dataset is not None]
    seconds = dict(zip((step.id for step in own), durations, strict=True))

    ends = course(seconds, plan.steps, workers=workers)

    begins = {step.id: ends[step.id] - seconds.get(step.id, 0.0) for step in plan.steps}
    for step in plan.steps:
        assert all(begins[step.id] >= ends[needed] - 1e-6 for needed in (*step.needs, *step.after))
    for step in own:
        middle = begins[step.id] + 1e-6
        running = [other for other in own if begins[other.id] <= middle < ends[other.id] - 1e-6]
        assert len(running) <= workers


def test_a_course_of_one_step_is_that_step() -> None:
    assert course({"a": 2.0}, [Step(id="a", verb=Verb.RESTORE)], workers=1) == {"a": 2.0}
