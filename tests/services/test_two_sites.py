"""Production and the standby as their files describe them, running: what is stored where, who is let in, what each key
opens, and what happens when production dies and when the watch does.

The tests tell one story, in their order: the stacks take a minute to start, and a business dies once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.schemas.automations import AutomationCore

from tests.services.conftest import Business, Stack
from tests.services.processes import until

BASIC = "Authorization"


def status_of(url: str, *, auth: str = "", method: str = "GET", body: bytes | None = None) -> int:
    """What a server answers to somebody who is no client of Prefect."""
    from base64 import b64encode

    headers = {"Content-Type": "application/json"}
    if auth:
        headers[BASIC] = f"Basic {b64encode(auth.encode()).decode()}"
    try:
        with urlopen(Request(url, data=body, method=method, headers=headers), timeout=20) as reply:
            return int(reply.status)
    except HTTPError as error:
        error.close()
        return error.code


def runs_of(stack: Stack, deployment: str) -> Sequence[FlowRun]:
    """Every run of a deployment that the server knows."""
    with stack.client() as client:
        found = client.read_deployment_by_name(deployment)
        chosen = DeploymentFilter(id=DeploymentFilterId(any_=[found.id]))
        return client.read_flow_runs(deployment_filter=chosen)


def reopen(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of Reopen with nothing but what the site's worker has."""
    _, environment = stack.site.prepared(stack.worker)
    return subprocess.run(
        [sys.executable, "-m", "reopen.cli", *words, "--json"],
        env=environment,
        cwd=stack.site.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_server_keeps_everything_in_postgresql_and_brings_the_extension_itself(business: Business) -> None:
    for stack in (business.production, business.standby):
        assert stack.cluster.rows("SELECT extname FROM pg_extension WHERE extname = 'pg_trgm'") == [("pg_trgm",)]
        assert stack.cluster.rows("SELECT rolsuper FROM pg_roles WHERE rolname = 'reopen'") == [(False,)]
        ((count,),) = stack.cluster.rows("SELECT count(*) FROM deployment")
        assert count >= 4
        assert not list(stack.site.folder.rglob("prefect.db")), "nothing is kept in SQLite beside it"


@pytest.mark.parametrize("name", ["production", "standby"])
def test_nobody_is_let_in_without_the_password_and_no_page_of_others_may_change_anything(
    business: Business, name: str
) -> None:
    stack: Stack = getattr(business, name)
    flows = f"{stack.url}/flows/filter"
    assert status_of(f"{stack.url}/health") == 200
    assert status_of(f"{stack.url}/admin/version") == 401
    assert status_of(f"{stack.url}/admin/version", auth="reopen:wrong") == 401
    assert status_of(flows, method="POST", body=b"{}") == 403
    assert status_of(f"{stack.url}/admin/version", auth=stack.auth) == 200
    # A browser that is logged in and was sent here by another page has no token.
    assert status_of(flows, auth=stack.auth, method="POST", body=b"{}") == 403
    with stack.client() as client:
        assert client.read_flows()


def test_the_scheduler_makes_runs_of_what_the_contracts_say(business: Business) -> None:
    for stack, deployment in ((business.production, "snapshot/papers"), (business.standby, "watch/standby")):
        # Nobody has started any, so a run that is there was made by the scheduler.
        until(partial(runs_of, stack, deployment), told=stack.server_told)
        with stack.client() as client:
            # From here on the story alone says what runs.
            for found in client.read_deployments():
                client.pause_deployment(found.id)


def test_workers_are_healthy_by_their_own_check(business: Business) -> None:
    production = business.production
    until(lambda: production.site.is_healthy(production.worker), told=production.told)
    assert "127.0.0.1" in " ".join(production.worker.healthcheck)


def test_production_takes_snapshots_with_the_writer_key_alone_and_cannot_read_them(
    business: Business, tmp_path: Path
) -> None:
    production = business.production
    papers = reopen(production, "snapshot", "papers")
    assert papers.returncode == 0, papers.stdout
    for deployment in ("snapshot/ledger", "replicate/standby"):
        ended = production.run(deployment)
        assert ended.state is not None
        assert ended.state.is_completed(), f"{deployment}: {ended.state.message} {production.told()}"
    for words in (("snapshots",), ("verify", "--level", "stored")):
        done = reopen(production, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    refused = reopen(production, "restore", "ledger", "--to", str(tmp_path / "stolen"))
    assert refused.returncode != 0
    assert "recovery key" in refused.stderr + refused.stdout
    assert not list(tmp_path.rglob("*.txt"))


def test_the_standby_reads_them_and_cannot_add_any(business: Business, tmp_path: Path) -> None:
    standby = business.standby
    verified = reopen(standby, "verify", "--level", "content")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    restored = reopen(standby, "restore", "ledger", "--to", str(tmp_path / "ledger"))
    assert restored.returncode == 0, restored.stderr
    source = business.scene.folder / "production/data/ledger"
    assert {path.name: path.read_bytes() for path in (tmp_path / "ledger").iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }
    # As after a failover: there is something to protect, and no key to add it with.
    served = business.scene.folder / "standby/data/ledger"
    shutil.copytree(source, served)
    refused = reopen(standby, "snapshot", "ledger")
    shutil.rmtree(served)
    assert refused.returncode != 0
    assert "writer" in refused.stderr + refused.stdout


def test_a_secret_block_gives_a_run_what_its_environment_lacks(business: Business) -> None:
    """The address of who is told names ${WEBHOOK_TOKEN}, and no environment has it."""
    from prefect.blocks.system import Secret

    standby = business.standby
    with standby.client() as client:
        kind = client.read_block_type_by_slug("secret")
        schema = client.read_block_schema_by_checksum(Secret._calculate_schema_checksum())
        from prefect.client.schemas.actions import BlockDocumentCreate

        client.create_block_document(
            BlockDocumentCreate(
                name="webhook-token",
                data={"value": business.webhook_token},
                block_schema_id=schema.id,
                block_type_id=kind.id,
            )
        )
    ended = standby.run("watch/standby")
    assert ended.state is not None
    assert ended.state.is_completed(), standby.told()
    assert [path for path, _ in business.observer.calls] == ["/ping/t0ken"]
    assert business.receiver.received == [], "nothing is wrong yet"


def test_the_server_tells_people_when_the_watch_falls_silent_though_no_worker_runs(business: Business) -> None:
    """The worker is killed; what the watch's last sign of life began is ended by the server alone."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.client.schemas.actions import BlockDocumentCreate

    standby = business.standby
    with standby.client() as client:
        kind = client.read_block_type_by_slug("custom-webhook")
        schema = client.read_block_schema_by_checksum(CustomWebhookNotificationBlock._calculate_schema_checksum())
        webhook = {
            "name": "alarm",
            "url": f"http://{business.receiver.host}/alarm",
            "json_data": {"title": "{{subject}}", "message": "{{body}}"},
        }
        client.create_block_document(
            BlockDocumentCreate(name="reopen-alarm", data=webhook, block_schema_id=schema.id, block_type_id=kind.id)
        )
        made = standby.site.run(standby.deploy)
        assert made.returncode == 0, made.stdout + made.stderr
        (rule,) = client.read_automations_by_name("reopen: silent watch at standby")
        assert [action.type for action in rule.actions] == ["run-deployment", "send-notification"]
        core = rule.model_dump(exclude={"id", "owner_resource", "created", "updated"})
        core["trigger"]["within"] = timedelta(seconds=10)
        client.update_automation(rule.id, AutomationCore.model_validate(core))
    ended = standby.run("watch/standby")
    assert ended.state is not None
    assert ended.state.is_completed(), standby.told()
    standby.site.stop(standby.site.started[-1], at_once=True)

    until(lambda: business.receiver.received, told=standby.server_told)
    assert business.receiver.received[0]["title"] == "reopen: silent watch at standby"
    until(lambda: runs_of(standby, "silent/standby"), told=standby.told)


def test_the_standby_fails_over_when_production_dies_with_its_own_server(business: Business) -> None:
    production, standby = business.production, business.standby
    production.site.stop_all()
    shutil.rmtree(business.scene.folder / "production")
    standby.site.start(standby.worker)
    ended = standby.run("watch/standby")
    assert ended.state is not None
    assert ended.state.is_completed(), standby.told()

    def waits() -> bool:
        return any(
            run.state is not None and run.state.type is StateType.PAUSED for run in runs_of(standby, "failover/standby")
        )

    until(waits, told=standby.told)
    (run,) = (run for run in runs_of(standby, "failover/standby") if run.state and run.state.type is StateType.PAUSED)
    assert run.parameters["request"]["source"] == "production"
    titles = {message["title"] for message in business.receiver.received}
    assert "production is lost, as it seems" in titles, (
        titles,
        business.receiver.paths,
        business.observer.calls,
        standby.told(),
    )


def test_no_secret_is_in_a_database_or_a_log(business: Business) -> None:
    for stack in (business.production, business.standby):
        found = {
            "database": stack.cluster.dump(),
            **{path.name: path.read_text(errors="replace") for path in stack.site.folder.glob("*.log")},
        }
        key = json.loads(stack.site.secrets["recovery.key"])["secret"]
        hidden = {
            "password of the database": stack.cluster.password,
            "password of the API": stack.auth.partition(":")[2],
            "key of the blocks": stack.site.secrets["PREFECT_SERVER_ENCRYPTION_KEY"],
            "token of the webhook": business.webhook_token,
            "address of the observer": "t0ken",
            "recovery key": key["x25519"],
        }
        for where, text in found.items():
            for what, secret in hidden.items():
                assert secret not in text, f"the {what} stands in {where} of {stack.name}"
        assert len(found["database"]) > 100_000, "the database is really there"
