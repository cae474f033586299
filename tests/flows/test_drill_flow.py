"""The drill flow: the engine's own drill under a scenario, with its steps as task runs and a failed run where it found
something."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.outcome import BadFinding
from reopen.desk.session import open_session
from reopen.protect.plan import plan_snapshot
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.snapshot import execute_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.recover.evidence import read_evidence
from reopen.storage import open_store
from tests.flows.observed import artifact, newest_flow_run
from tests.flows.scene import Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path, prefect_harness: None) -> Scene:
    """A business whose replica is verified."""
    made = make_scene(tmp_path)
    production = open_session(made.production)
    for dataset in production.chosen(()):
        execute_snapshot(production.vault(), plan_snapshot(production.vault(), dataset, "production"))
    execute_replicate(plan_replicate(production.vault(), open_store(production.settings.standby.vault)))
    verify_vault(open_session(made.standby).vault(), level=Level.STORED)
    return made


def test_a_drill_by_flow_is_the_engines_and_a_rotten_byte_without_a_repair_fails_its_run(scene: Scene) -> None:
    from flows.drill import drill
    from flows.requests import DrillRequest
    from reopen.recover.scenarios.model import DrillScenario

    result = drill(DrillRequest(config=scene.standby, scenario=DrillScenario.SITE_LOSS, random_within="30d", seed=1))

    assert result.passed
    assert result.evidence.evidence.isolation["source_store_opened"] is False
    assert result.evidence.evidence.selection["seed"] == 1
    assert newest_flow_run("ledger").name == "drill all at standby (site-loss)"
    assert artifact("drill-objectives") is not None
    evidence = artifact("drill-evidence")
    assert evidence is not None
    assert "reopen evidence verify --anchor" in str(evidence.data)
    (scene.folder / "production").rename(scene.folder / "burnt")

    with pytest.raises(BadFinding) as found:
        drill(DrillRequest(config=scene.standby, scenario=DrillScenario.BIT_ROT, seed=2))

    assert found.value.result.evidence.evidence.findings["repaired_from"] is None
    store = open_store(open_session(scene.standby).settings.control)
    assert [record.evidence.scenario for record in read_evidence(store)] == ["site-loss", "bit-rot"]
