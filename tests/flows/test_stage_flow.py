"""The staging flow: a task run for each dataset that there is work for, and where it is scheduled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deployments.wanted import wanted_deployments
from reopen.contracts.load import Contracts
from reopen.contracts.model import Temperature
from reopen.desk.session import open_session
from reopen.protect.plan import plan_snapshot
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.snapshot import execute_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import open_store
from tests.flows.observed import newest_flow_run
from tests.flows.scene import Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Two verified, replicated datasets; both are kept warm."""
    made = make_scene(tmp_path)
    for settings in (made.production, made.standby):
        settings.write_text(settings.read_text().replace('temperature = "cold"', 'temperature = "warm"'))
    session = open_session(made.production)
    for name in ("ledger", "papers"):
        execute_snapshot(session.vault(), plan_snapshot(session.vault(), session.dataset(name), "production"))
    verify_vault(session.vault(), level=Level.STORED)
    execute_replicate(plan_replicate(session.vault(), open_store(session.settings.standby.vault)))
    return made


def test_the_flow_stages_each_dataset_as_a_task_run_and_a_second_one_finds_nothing_new(
    scene: Scene, prefect_harness: None
) -> None:
    from flows.requests import StageRequest
    from flows.stage import lines, stage

    done = stage(StageRequest(config=scene.standby))
    assert {result.dataset: result.status for result in done.results} == {"ledger": "pass", "papers": "pass"}
    assert newest_flow_run("papers").name == "stage all at standby"
    assert all(": pass, snapshot " in line for line in lines(done))
    again = stage(StageRequest(config=scene.standby, datasets=("papers",)))
    assert [(str(result.work), result.written_bytes) for result in again.results if result.dataset == "papers"] == [
        ("current", 0)
    ]


def test_it_is_scheduled_at_the_standby_and_only_where_something_is_kept_warm(scene: Scene) -> None:
    session = open_session(scene.standby)
    names = {item.full_name: item.crons for item in wanted_deployments(session.settings, session.contracts)}
    assert names["stage/standby"] == ("*/20 * * * *",)
    cold = {
        name: replace(dataset, temperature=Temperature.COLD) for name, dataset in session.contracts.datasets.items()
    }
    assert "stage/standby" not in {
        item.full_name for item in wanted_deployments(session.settings, replace(session.contracts, datasets=cold))
    }
    production = open_session(scene.production)
    at_home = wanted_deployments(production.settings, Contracts(datasets=production.contracts.datasets))
    assert "stage" not in {item.flow for item in at_home}
