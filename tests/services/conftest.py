"""Two sites as deployments/compose.yaml (production) and deployments/systemd (the standby) describe them, running here:
each with a PostgreSQL cluster, a Prefect server and a worker of its own."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from tests.flows.scene import Scene, make_scene
from tests.notify.receivers import Observer, Receiver, running
from tests.servers import free_port
from tests.services.cluster import Cluster, running_cluster
from tests.services.files import Service, compose_services, unit_service
from tests.services.processes import Site, until

HERE = Path(__file__).resolve().parent
START_SECONDS_MAX = 180


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs PostgreSQL, or Prefect in many processes: one import of it takes seconds."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("services")


@dataclass(slots=True, kw_only=True)
class Stack:
    """One site's stack while it runs."""

    name: str
    site: Site
    cluster: Cluster
    url: str
    auth: str = field(repr=False)
    server: Service
    deploy: Service
    worker: Service

    def client(self) -> SyncPrefectClient:
        """A client that the server lets in."""
        return SyncPrefectClient(self.url, auth_string=self.auth)

    def run(self, deployment: str, *, seconds_max: float = 120) -> FlowRun:
        """Start a deployment's flow as a person does, and wait until its run has ended."""
        with self.client() as client:
            run = client.create_flow_run_from_deployment(client.read_deployment_by_name(deployment).id)
            until(lambda: _is_final(client.read_flow_run(run.id)), seconds_max=seconds_max, told=self.told)
            return client.read_flow_run(run.id)

    def told(self) -> str:
        """The end of what the worker said."""
        return _end_of(self.site.log_of(self.worker))

    def server_told(self) -> str:
        """The end of what the server said."""
        return _end_of(self.site.log_of(self.server))


@dataclass(frozen=True, slots=True, kw_only=True)
class Business:
    """Both sites, what they protect, and who is told."""

    scene: Scene
    production: Stack
    standby: Stack
    receiver: Receiver
    observer: Observer
    webhook_token: str = field(repr=False)


@pytest.fixture(scope="session")
def business(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Business]:
    """Everything up: servers on PostgreSQL, deployments and automations made, workers polling."""
    folder = tmp_path_factory.mktemp("business")
    scene = make_scene(folder)
    receiver, observer, token = Receiver(200), Observer(200), f"webhook{secrets.token_hex(12)}"
    told = f'[notify]\nurls = ["json://{receiver.host}/${{WEBHOOK_TOKEN}}"]\n'
    watched = f'[watch]\nfailures = 1\n[heartbeat]\nwatch = "{observer.url}"\n'
    for config in (scene.production, scene.standby):
        config.write_text(config.read_text() + told + watched, encoding="utf-8")
    with ExitStack() as closing:
        for server in (receiver, observer):
            closing.enter_context(running(server))
        services = compose_services()
        production = _stack(
            closing, folder, scene.production, "production",
            (services["production-server"], services["production-deploy"], services["production-worker"]),
        )  # fmt: skip
        standby = _stack(
            closing, folder, scene.standby, "standby",
            tuple(unit_service(f"reopen-{part}") for part in ("server", "deploy", "worker-standby-recovery")),
        )  # fmt: skip
        # Nobody finds a key where the settings say: each process has those that its file gives it.
        for site in ("production", "standby"):
            (folder / site / "keys").rename(folder / site / "keys-that-were-laid-out")
        for stack in (production, standby):
            stack.site.start(stack.server)
        for stack in (production, standby):
            until(partial(_answers, stack), seconds_max=START_SECONDS_MAX, told=stack.server_told)
        for stack in (production, standby):
            made = stack.site.run(stack.deploy)
            assert made.returncode == 0, made.stdout + made.stderr
            stack.site.start(stack.worker)
        yield Business(
            scene=scene,
            production=production,
            standby=standby,
            receiver=receiver,
            observer=observer,
            webhook_token=token,
        )


def _stack(closing: ExitStack, folder: Path, config: Path, name: str, services: tuple[Service, ...]) -> Stack:
    cluster = closing.enter_context(running_cluster())
    server, deploy, worker = services
    port, health_port = free_port(), free_port()
    here = folder / f"{name}-host"
    here.mkdir()
    auth = f"reopen:{secrets.token_hex(12)}"
    places = {
        "/etc/reopen/reopen.toml": str(config),
        "/var/lib/reopen": str(here / "state"),
        "/opt/reopen/.venv/bin/": "",
        "/opt/reopen": str(Path(__file__).resolve().parent.parent.parent),
        f"{name}-database": "127.0.0.1",
        f"{name}-server": "127.0.0.1",
        "0.0.0.0": "127.0.0.1",
        "4200": str(port),
        "5432": str(cluster.port),
        "8080": str(health_port),
    }
    keys = folder / name / "keys"
    contents = {
        "PREFECT_SERVER_DATABASE_PASSWORD": cluster.password,
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_SERVER_ENCRYPTION_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        **{f"{role}.key": next(keys.glob(f"{role}-*.key")).read_text() for role in ("writer", "recovery", "verifier")},
    }
    site = Site(folder=here, places=places, secrets=contents)
    closing.callback(site.stop_all)
    return Stack(
        name=name,
        site=site,
        cluster=cluster,
        url=f"http://127.0.0.1:{port}/api",
        auth=auth,
        server=server,
        deploy=deploy,
        worker=worker,
    )


def _answers(stack: Stack) -> bool:
    if stack.server.healthcheck:
        return stack.site.is_healthy(stack.server)
    with SyncPrefectClient(stack.url, auth_string=stack.auth) as client:
        return client.api_healthcheck() is None


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:] if log.exists() else ""


def _is_final(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()
