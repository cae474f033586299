"""Deployments follow the contracts, and what people did by hand stays."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reopen.desk.session import open_session
from reopen.errors import Conflict, ReopenError
from tests.flows.observed import forget_deployments
from tests.flows.scene import Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path, prefect_harness: None) -> Scene:
    return make_scene(tmp_path)


def synced(config: Path, *, prune: bool = False, dry_run: bool = False) -> dict[str, str]:
    """Action by deployment of one run of the sync."""
    from prefect.client.orchestration import get_client

    from deployments.pools import sync_pool
    from deployments.sync import sync
    from deployments.wanted import wanted_deployments

    session = open_session(config)
    wanted = wanted_deployments(session.settings, session.contracts)
    with get_client(sync_client=True) as client:
        if not dry_run:
            sync_pool(client, wanted, site=session.settings.site, dry_run=False)
        changes = sync(client, wanted, site=session.settings.site, prune=prune, dry_run=dry_run)
    return {change.full_name: change.action for change in changes}


def test_the_sync_makes_what_the_contracts_say_and_keeps_what_people_changed(scene: Scene) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.exceptions import ObjectNotFound

    mine = {
        "again/production", "replicate/standby", "restore/production", "snapshot/ledger", "snapshot/papers",
        "verify/production",
    }  # fmt: skip
    assert synced(scene.production, dry_run=True) == dict.fromkeys(mine, "created")
    assert synced(scene.production) == dict.fromkeys(mine, "created")
    assert synced(scene.production) == dict.fromkeys(mine, "unchanged")
    others = synced(scene.standby)
    assert others == dict.fromkeys(
        (
            "again/standby",
            "decide/standby",
            "drill/tier-1",
            "drill/tier-2",
            "failover/standby",
            "ready/standby",
            "report/standby",
            "restore/standby",
            "silent/standby",
            "verify/standby",
            "watch/standby",
        ),
        "created",
    )

    with get_client(sync_client=True) as client:
        ledger = client.read_deployment_by_name("snapshot/ledger")
        assert ledger.parameters == {"request": {"config": str(scene.production), "datasets": ["ledger"]}}
        assert {"reopen", "reopen:managed", "ledger", "tier-1"} <= set(ledger.tags)
        assert [(s.slug, getattr(s.schedule, "cron", "")) for s in ledger.schedules] == [("contract", "*/5 * * * *")]
        assert ledger.global_concurrency_limit is not None
        assert ledger.global_concurrency_limit.limit == 1
        assert ledger.concurrency_options is not None
        assert ledger.concurrency_options.collision_strategy == "CANCEL_NEW"
        assert client.read_deployment_by_name("again/production").global_concurrency_limit is None, "each crash counts"
        assert client.read_deployment_by_name("failover/standby").schedules == []
        drilled = client.read_deployment_by_name("drill/tier-1").parameters["request"]
        assert drilled == {"config": str(scene.standby), "tier": 1, "scenario": "site-loss"}

        # Somebody pauses the contract's schedule in the UI, and adds one.
        client.update_deployment_schedule(ledger.id, ledger.schedules[0].id, active=False)
        own = DeploymentScheduleCreate(schedule=CronSchedule(cron="7 7 * * *"))
        (own_made,) = client.create_deployment_schedules(ledger.id, [own])
        assert synced(scene.production)["snapshot/ledger"] == "unchanged"

        scene.write_contract("ledger", cron="*/10 * * * *")
        (scene.folder / "contracts/papers.odcs.yaml").unlink()
        assert synced(scene.production) == {
            "snapshot/ledger": "changed",
            "snapshot/papers": "stale",
            "again/production": "unchanged",
            "replicate/standby": "unchanged",
            # Their forms offered the dataset that is gone.
            "restore/production": "changed",
            "verify/production": "changed",
        }
        assert synced(scene.production, prune=True)["snapshot/papers"] == "removed"

        ledger = client.read_deployment_by_name("snapshot/ledger")
        found = {s.slug: (s.id, getattr(s.schedule, "cron", ""), s.active) for s in ledger.schedules}
        assert found["contract"][1:] == ("*/10 * * * *", False)
        assert found[None] == (own_made.id, "7 7 * * *", True)
        with pytest.raises(ObjectNotFound):
            client.read_deployment_by_name("snapshot/papers")
        assert client.read_deployment_by_name("drill/tier-2").name == "tier-2", "the other site's are its own"


@pytest.mark.slow
def test_a_worker_runs_a_deployment_from_any_folder(scene: Scene, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    synced(scene.production)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(client.read_deployment_by_name("snapshot/papers").id)

    worker = subprocess.run(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "reopen-production", "--run-once"],
        cwd=tmp_path,
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "PREFECT_HOME": str(tmp_path / "worker")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    with get_client(sync_client=True) as client:
        ended = client.read_flow_run(run.id)
    assert ended.state is not None
    assert ended.state.is_completed(), worker.stdout + worker.stderr
    assert ended.name == "snapshot papers"
    assert [record.dataset for record in open_session(scene.production).vault().records()] == ["papers"]


@pytest.mark.parametrize(
    ("period", "cron"),
    [
        (timedelta(seconds=20), "*/1 * * * *"),
        (timedelta(minutes=7), "*/6 * * * *"),
        (timedelta(minutes=59), "*/30 * * * *"),
        (timedelta(hours=1), "0 */1 * * *"),
        (timedelta(hours=7, minutes=20), "0 */6 * * *"),
        (timedelta(days=3), "0 0 * * *"),
    ],
)
def test_a_period_becomes_a_cron_that_fires_at_least_as_often(period: timedelta, cron: str) -> None:
    from deployments.wanted import cron_of_period

    assert cron_of_period(period) == cron


def test_runs_that_were_cut_off_with_their_workers_are_ended_and_others_are_not(scene: Scene) -> None:
    """Y1, Y2: after a power cut the server says "Running" for ever, unless somebody else carries them on."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.states import Cancelling, Paused, Pending, Running, Scheduled

    from deployments.lost import end_lost

    synced(scene.production)
    synced(scene.standby)
    with get_client(sync_client=True) as client:
        # Workers of other tests may still count as heard of.
        mine = frozenset(worker.name for worker in client.read_workers_for_work_pool("reopen-production"))
        snapshot = client.read_deployment_by_name("snapshot/ledger").id
        drill = client.read_deployment_by_name("drill/tier-1").id
        states: dict[str, State[Any]] = {
            "a": Running(), "b": Pending(), "c": Cancelling(), "d": Paused(), "e": Scheduled(), "f": Running(),
        }  # fmt: skip
        ids = {}
        for name, state in states.items():
            ids[name] = client.create_flow_run_from_deployment(drill if name == "f" else snapshot, name=name).id
            # What did not run yet would be cancelled at once.
            for step in (Running(), state):
                client.set_flow_run_state(ids[name], step, force=True)

        client.send_worker_heartbeat("reopen-production", "somebody-elses")
        assert end_lost(client, "production", workers=mine) == ()
        assert set(end_lost(client, "production", workers=mine | {"somebody-elses"})) == {"a", "b", "c"}
        after = {name: client.read_flow_run(run).state_name for name, run in ids.items()}
        for run in ids.values():
            client.delete_flow_run(run)
        client.delete_work_pool("reopen-production")
    forget_deployments()
    assert after == {
        "a": "Crashed", "b": "Crashed", "c": "Cancelled", "d": "Paused", "e": "Scheduled", "f": "Running",
    }  # fmt: skip


@pytest.mark.parametrize(("code", "kind"), [(401, "refused"), (503, "transient"), (422, "conflict")])
def test_what_a_server_refuses_is_told_by_what_to_do_about_it(code: int, kind: str) -> None:
    """A busy one is asked again; it is of no other version for that."""
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    from deployments.deploy import connected

    response = httpx.Response(code, request=httpx.Request("GET", "http://127.0.0.1:9/api"), text="{}")
    with pytest.raises(ReopenError) as told, connected("http://127.0.0.1:9/api"):
        raise PrefectHTTPStatusError("no", request=response.request, response=response)
    assert told.value.kind == kind
    assert told.value.hint


def test_two_deploys_at_once_are_told_apart_from_a_fault_of_ours() -> None:
    """Both found a limit missing, and one of them made it."""
    from prefect.exceptions import ObjectAlreadyExists

    from deployments.deploy import connected

    with pytest.raises(Conflict, match="same time") as told, connected("http://127.0.0.1:9/api"):
        raise ObjectAlreadyExists(http_exc=ValueError())
    assert "again" in told.value.hint
