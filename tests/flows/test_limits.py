"""What runs share and wait for: limits, queues and forms follow the contracts; a slot is held and given back."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reopen.desk.session import open_session
from reopen.errors import Transient
from tests.flows.scene import Scene, make_scene

FLOWS = (
    "again",
    "snapshot",
    "verify",
    "replicate",
    "restore",
    "retain",
    "prune",
    "stage",
    "drill",
    "decide",
    "failover",
)


@pytest.fixture
def scene(tmp_path: Path, prefect_harness: None) -> Scene:
    return make_scene(tmp_path)


def deployed(config: Path, *, prune: bool = True, dry_run: bool = False) -> dict[str, str]:
    """Action by name of all that one `reopen deploy` touches."""
    from prefect.settings import PREFECT_API_URL

    from deployments.deploy import deploy

    changes = deploy(open_session(config), str(PREFECT_API_URL.value()), prune=prune, dry_run=dry_run)
    return {change.full_name: change.action for change in changes}


def test_everything_is_made_once_left_alone_and_removed_when_no_contract_asks_for_it(scene: Scene) -> None:
    from prefect.client.orchestration import get_client

    first = deployed(scene.production)
    # The server is shared with other tests, which have deployed such a site before or not.
    assert {"work-pool/reopen-production", "work-queue/reopen-production/tier-1", "limit/reopen:production:link",
            "limit/reopen:production:writer:ledger", "snapshot/ledger", "snapshot/papers"} <= set(first)  # fmt: skip
    with get_client(sync_client=True) as client:
        client.create_work_queue(name="somebody's", work_pool_name="reopen-production", priority=1)
        own = client.read_deployment_by_name("snapshot/ledger")
        assert (own.work_pool_name, own.work_queue_name) == ("reopen-production", "tier-1")
        assert own.version == "0.1.0+1.0.0"
        assert 'ends as "Cancelled"' in str(own.description), "the page of such a run does not say why"
        assert own.job_variables["env"]["REOPEN_SITE"] == "production"
    assert set(deployed(scene.production).values()) == {"unchanged"}, (
        "it is put in its place, which is no change of ours"
    )
    with get_client(sync_client=True) as client:
        queues = sorted(client.read_work_queues(work_pool_name="reopen-production"), key=lambda queue: queue.priority)
        places = [(queue.name, queue.priority) for queue in queues]
        assert places[:3] == [("tier-1", 1), ("tier-2", 2), ("upkeep", 3)], "people's own come behind (P1)"
        assert len({place for _, place in places}) == len(places), "no two are in one place"

    (scene.folder / "contracts/papers.odcs.yaml").unlink()
    gone = {"snapshot/papers", "limit/reopen:production:writer:papers"}
    planned = deployed(scene.production, dry_run=True)
    assert {name for name, action in planned.items() if action == "removed"} == gone
    kept = deployed(scene.production, prune=False)
    assert {name for name, action in kept.items() if action == "stale"} == gone
    removed = deployed(scene.production)
    assert {name for name, action in removed.items() if action == "removed"} == gone
    assert not gone & set(deployed(scene.production))


def test_a_form_offers_what_the_contracts_and_settings_have(scene: Scene) -> None:
    from deployments.forms import Choices, form_of

    choices = Choices(datasets=("ledger", "papers"), tiers=(1, 2), sites=("production", "standby"))
    for flow in FLOWS:
        definitions = form_of(flow, choices)["definitions"]
        fields: dict[str, dict[str, Any]] = definitions[f"{flow.capitalize()}Request"]["properties"]
        for name, field in fields.items():
            assert field.get("title") or "$ref" in field, (flow, name)
            assert field["description"], (flow, name)
            assert not {"password", "secret", "token", "key"} & set(name.split("_")), "requests are stored by Prefect"
        if "datasets" in fields:
            assert fields["datasets"]["items"]["enum"] == ["ledger", "papers"]
    drill = form_of("drill", choices)["definitions"]["DrillRequest"]["properties"]
    assert drill["tier"]["anyOf"] == [{"type": "integer", "enum": [1, 2]}, {"type": "null"}]
    assert drill["vault"]["anyOf"][0]["enum"] == ["production", "standby"]
    failover = form_of("failover", choices)["definitions"]["FailoverRequest"]["properties"]
    assert failover["accept_risk"]["items"]["enum"] == ["old-primary-may-write"]


def test_the_server_refuses_a_form_with_a_dataset_that_no_contract_has(scene: Scene) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    deployed(scene.production)
    with get_client(sync_client=True) as client:
        snapshot = client.read_deployment_by_name("snapshot/ledger")
        with pytest.raises(PrefectHTTPStatusError) as refused:
            client.create_flow_run_from_deployment(snapshot.id, parameters={"request": {"datasets": ["legder"]}})
    assert refused.value.response.status_code == 409
    assert "legder" in refused.value.response.text


def test_a_run_gets_a_time_by_its_objective_and_a_recovery_has_no_end(scene: Scene) -> None:
    from deployments.wanted import PATIENCE_LEAST, wanted_deployments

    scene.write_contract("papers", tier=2)
    text = (scene.folder / "contracts/papers.odcs.yaml").read_text()
    longer = "slaProperties:\n  - {property: recoveryPointObjective, value: 1, unit: d}"
    (scene.folder / "contracts/papers.odcs.yaml").write_text(text.replace("slaProperties:", longer))
    seconds: dict[str, float | None] = {}
    for config in (scene.production, scene.standby):
        session = open_session(config)
        seconds |= {
            item.full_name: item.seconds_max for item in wanted_deployments(session.settings, session.contracts)
        }
    assert seconds["snapshot/ledger"] == PATIENCE_LEAST.total_seconds()
    assert seconds["snapshot/papers"] == timedelta(days=4).total_seconds()
    assert seconds["watch/standby"] == 300
    assert seconds["failover/standby"] is seconds["decide/standby"] is None


def test_a_slot_is_held_by_one_at_a_time_and_given_back(scene: Scene) -> None:
    from tasks.limits import slot, writer_limit

    deployed(scene.production)
    name = writer_limit("production", "ledger")
    with slot(name), pytest.raises(Transient, match="writer:ledger"), slot(name, seconds=0.1):
        raise AssertionError("two held it")
    with slot(name, seconds=5):
        pass
    with slot("reopen:production:writer:of-nobody"):
        pass


def test_a_process_whose_flow_hangs_beyond_its_time_is_ended_with_its_stacks(tmp_path: Path) -> None:
    code = (
        "import threading; import tasks.limits as limits; limits.GRACE_SECONDS = 0.2; limits.end_in_time(); "
        "threading.Event().wait()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FLOW_RUN_SECONDS_MAX": "0.1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "threading.py" in done.stderr
