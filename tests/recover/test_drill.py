"""A drill is isolated, judged like a failover, and leaves nothing (R5, R7)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reopen.control.records import StepResult
from reopen.errors import Internal
from reopen.recover.clocks import Verdict
from reopen.recover.context import Restored
from reopen.recover.drill import DrillResult, drill_folder, execute_drill, remove_leftovers
from reopen.recover.plan import PlannedDataset, RecoveryPlan, plan_drill
from reopen.storage.local import LocalStore
from tests.recover.business import (
    NOON,
    TIERS,
    FakeVault,
    FakeVerbs,
    SimulatedCrash,
    TickingClock,
    Told,
    context_of,
    contracts_of,
    plan_of,
    vault_of,
)


class WritingVerbs(FakeVerbs):
    """Verbs that leave files, also below a folder without write permission."""

    def restore(self, dataset: PlannedDataset) -> Restored:
        result = super().restore(dataset)
        folder = Path(dataset.target_url) / "closed"
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
        folder.chmod(0o500)
        return result


def drill_plan(scratch: Path, identifier: str = "1", vault: FakeVault | None = None) -> RecoveryPlan:
    return plan_drill(
        contracts_of(), vault or vault_of(), source_site="production", target_site="standby",
        scratch=drill_folder(str(scratch), identifier), started_at=NOON,
    )  # fmt: skip


def run_drill(root: Path, verbs: FakeVerbs, *, vault: FakeVault | None = None, **changes: Any) -> DrillResult:
    scratch = root / "scratch"
    return execute_drill(
        drill_plan(scratch, vault=vault), context_of(verbs, **changes), LocalStore(root / "control"),
        scratch=str(scratch), identifier="1", workers=2,
    )  # fmt: skip


def left_in(scratch: Path) -> list[str]:
    return sorted(path.name for path in scratch.iterdir())


def test_a_drill_passes_writes_evidence_and_leaves_nothing(tmp_path: Path) -> None:
    told = Told()

    result = run_drill(tmp_path, WritingVerbs(), notify=told)

    assert result.passed
    assert result.measured.verdict is Verdict.MET
    assert set(result.outcomes) == {step.id for step in result.plan.steps}
    assert (result.clean_up.gone, result.clean_up.problem) == (True, "")
    assert left_in(tmp_path / "scratch") == []
    assert result.evidence.evidence.clean_up["gone"] is True
    assert [notice.event for notice in told.notices] == ["drill-result"]
    assert not (tmp_path / "control/log").exists(), "no epoch log"


def test_a_failed_check_fails_the_drill_and_is_cleaned_up_too(tmp_path: Path) -> None:
    verbs = WritingVerbs()
    verbs.failing_checks.add("customer")

    result = run_drill(tmp_path, verbs)

    assert not result.passed
    assert result.outcomes["restore:part"].result is StepResult.DONE
    assert result.outcomes["validate:orders"].result is StepResult.NOT_EXECUTED
    assert left_in(tmp_path / "scratch") == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SimulatedCrash])
def test_an_interrupted_drill_is_cleaned_up(tmp_path: Path, error: type[BaseException]) -> None:
    def interfere(verb: str, dataset: str) -> None:
        if (verb, dataset) == ("validate", "customer"):
            raise error

    with pytest.raises(error):
        run_drill(tmp_path, WritingVerbs(interfere))

    assert left_in(tmp_path / "scratch") == []


def test_a_drill_that_is_too_slow_misses_although_every_check_passes(tmp_path: Path) -> None:
    clock = TickingClock(NOON)

    def interfere(verb: str, dataset: str) -> None:
        if (verb, dataset) == ("restore", "papers"):
            clock.advance(timedelta(hours=1))

    result = run_drill(tmp_path, FakeVerbs(interfere), clock=clock)

    assert result.measured.verdict is Verdict.MISSED
    assert not result.passed


def test_the_assumed_time_for_detection_counts(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    result = execute_drill(
        drill_plan(scratch), context_of(FakeVerbs()), LocalStore(tmp_path / "control"), scratch=str(scratch),
        identifier="1", workers=1, assumed_detection=timedelta(hours=1),
    )  # fmt: skip

    assert {dataset.reason for dataset in result.measured.datasets} == {"RTA is over RTO"}


def test_each_drilled_snapshot_gets_a_fact_that_quotes_the_evidence(tmp_path: Path) -> None:
    facts: list[tuple[str, Mapping[str, Any]]] = []

    def record(dataset: PlannedDataset, body: Mapping[str, Any]) -> str:
        facts.append((dataset.name, body))
        return f"fact-{dataset.name}"

    result = run_drill(tmp_path, FakeVerbs(), record_drilled=record)

    assert len(result.facts) == len(TIERS)
    name, body = facts[0]
    assert (name, body["verdict"], body["rto"]) == ("region", "met", 3600)
    assert (body["evidence"], body["evidence_digest"]) == (result.evidence.name, result.evidence.digest)
    assert body["shape"] == plan_of().shape


def test_a_plan_that_aims_outside_the_drills_folder_is_refused(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    for plan in (drill_plan(scratch, "another"), plan_of()):
        with pytest.raises(Internal):
            execute_drill(
                plan, context_of(FakeVerbs()), LocalStore(tmp_path / "control"), scratch=str(scratch),
                identifier="1", workers=1,
            )  # fmt: skip


def test_the_folder_of_a_killed_drill_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    for name in ("drill-dead", "drill-alive"):
        (tmp_path / name / "orders").mkdir(parents=True)
        (tmp_path / f"{name}.lock").touch()
    (tmp_path / "drill-not-ours").mkdir()
    lock = os.open(tmp_path / "drill-alive.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)

    try:
        assert remove_leftovers(str(tmp_path)) == (str(tmp_path / "drill-dead"),)
    finally:
        os.close(lock)

    assert left_in(tmp_path) == ["drill-alive", "drill-alive.lock", "drill-not-ours"]
