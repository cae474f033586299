"""The files for production give each site what it needs and nothing more. tests/services runs what they say."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tasks.services import TIDYING, server_environment
from tests.services.files import (
    ROOT,
    UNITS,
    WITH_SECRETS,
    compose,
    compose_services,
    is_executable,
    unit,
    unit_names,
    unit_service,
)

PARTS = {
    "production": ("database", "server", "deploy", "worker"),
    "standby": ("database", "server", "deploy", "worker", "recovery-worker"),
}
KEYS = {"production": {"writer.key"}, "standby": {"recovery.key", "verifier.key"}}
HARDENED = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "User": "reopen",
}
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH|ENCRYPTION")


@pytest.mark.parametrize("site", ["production", "standby"])
def test_each_site_has_a_server_a_database_and_a_worker_of_its_own(site: str) -> None:
    services = {name: service for name, service in compose()["services"].items() if service["profiles"] == [site]}
    assert set(services) == {f"{site}-{part}" for part in PARTS[site]}
    networks = {network for service in services.values() for network in service["networks"]}
    volumes = {str(volume) for service in services.values() for volume in service["volumes"] if ":/etc" not in volume}
    for name, service in compose()["services"].items():
        if name not in services:
            assert not networks & set(service["networks"]), "no network reaches from site to site"
            named = {volume for volume in service["volumes"] if not volume.startswith("/")}
            assert not volumes & named, "nothing of one site is a volume of the other"


@pytest.mark.parametrize("site", ["production", "standby"])
def test_each_site_s_worker_holds_its_own_keys_and_no_other_process_holds_any(site: str) -> None:
    for name, service in compose_services().items():
        keys = {target for target in service.secrets if target.endswith(".key")}
        if name.startswith(site) and name.endswith("worker"):
            assert keys == KEYS[site]
        if not name.endswith("worker"):
            assert keys == set()
    for name in unit_names():
        if name.startswith(f"reopen-worker-{site}"):
            assert {key for key in unit_service(name).secrets if key.endswith(".key")} == KEYS[site]
    for name in ("reopen-server", "reopen-deploy"):
        assert not any(key.endswith(".key") for key in unit_service(name).secrets)


def test_a_secret_is_a_file_and_stands_in_no_environment_command_or_file_of_ours() -> None:
    services = [*compose_services().values(), *(unit_service(name) for name in unit_names())]
    for service in services:
        assert not [name for name in service.environment if SECRET_NAME.search(name)], service.name
        assert all("/" in source for source in service.secrets.values())
        assert service.command[0].endswith("deployments/with-secrets"), service.name
    listed = compose()["services"]["production-database"]["environment"]
    assert [name for name in listed if SECRET_NAME.search(name)] == ["POSTGRES_PASSWORD_FILE"]


def test_only_loopback_of_the_host_reaches_a_server() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert compose()["networks"]["production-database"] == {"internal": True}
    assert "--host 127.0.0.1" in " ".join(unit_service("reopen-server").command)


def test_containers_run_as_nobody_of_importance() -> None:
    for name, service in compose()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service["image"].endswith(":latest"), name
        if "command" in service:
            assert service["user"] == "10001:10001", name
            assert service["read_only"] is True, name
    text = (ROOT / "deployments/Dockerfile").read_text(encoding="utf-8")
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base) for base in bases), "pinned, and all the same"
    assert len(set(bases)) == 1
    assert "\nUSER 10001:10001\n" in text
    assert "--require-hashes" in text
    assert not re.search(r"^(ARG|ENV) .*(KEY|PASSWORD|TOKEN|SECRET)", text, re.MULTILINE)


def test_the_build_sees_only_code() -> None:
    allowed = [
        line
        for line in (ROOT / "deployments/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert allowed[0] == "**"
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "deployments/Dockerfile").read_text(), re.MULTILINE)
    assert {f"!{name}" for names in copied for name in names.split()} == {name for name in allowed if name[0] == "!"}
    assert all((ROOT / name).exists() for names in copied for name in names.split())
    assert allowed.index("deployments/secrets") > allowed.index("!deployments")
    # The project cannot be installed without what its wheel takes from elsewhere.
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["packages"], *wheel["force-include"]} <= {name for names in copied for name in names.split()}


def test_the_image_s_lock_has_the_versions_that_are_tested_and_no_tools_of_developers() -> None:
    def pinned(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
        rows = re.split(r"\n(?=[a-z0-9])", path.read_text(encoding="utf-8"), flags=re.IGNORECASE)
        found = {}
        for row in rows:
            if match := re.match(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==(\S+)", row):
                found[match[1]] = (match[2], frozenset(re.findall(r"--hash=(\S+)", row)))
        return found

    ours, tested = pinned(ROOT / "deployments/requirements.lock"), pinned(ROOT / "requirements.lock")
    assert {"prefect", "duckdb", "paramiko", "boto3", "prefect-dask", "asyncpg", "hatchling"} <= set(ours)
    assert not {"pytest", "mypy", "moto", "ruff", "hypothesis"} & set(ours)
    assert {name: pin for name, pin in ours.items() if tested.get(name) != pin} == {}, "run: make lock"


@pytest.mark.parametrize("name", unit_names())
def test_every_unit_is_hardened_and_ends_when_it_is_stopped(name: str) -> None:
    settings = unit(f"{name}.service")
    for key, value in HARDENED.items():
        assert settings[f"Service.{key}"] == [value], key
    # What a failover promotes at the standby is read by others than the user of the services.
    promotes = any("/srv/data" in places for places in settings.get("Service.ReadWritePaths", ()))
    assert settings["Service.UMask"] == ["0022" if promotes else "0077"]
    assert settings["Service.StateDirectoryMode"] == ["0700"]
    (kind,) = settings["Service.Type"]
    limit = "Service.TimeoutStartSec" if kind == "oneshot" else "Service.TimeoutStopSec"
    assert 0 < int(settings[limit][0]) <= 300
    if kind != "oneshot":
        assert settings["Service.KillMode"] == ["mixed"]
        assert settings["Service.Restart"] == ["always"]
        assert settings["Install.WantedBy"] == ["multi-user.target"]


def test_every_timer_has_its_service_and_every_oneshot_its_timer() -> None:
    timers = {path.stem for path in UNITS.glob("*.timer")}
    oneshots = {name for name in unit_names() if unit(f"{name}.service")["Service.Type"] == ["oneshot"]}
    assert timers == oneshots != set()
    for name in timers:
        settings = unit(f"{name}.timer")
        assert settings["Install.WantedBy"] == ["timers.target"]
        assert "Timer.OnBootSec" in settings


@pytest.mark.parametrize(
    ("in_compose", "in_systemd"),
    [
        ("production-server", "reopen-server"),
        ("standby-server", "reopen-server"),
        ("production-deploy", "reopen-deploy"),
        ("standby-deploy", "reopen-deploy"),
        ("production-worker", "reopen-worker-production"),
        ("standby-worker", "reopen-worker-standby"),
        ("standby-recovery-worker", "reopen-worker-standby-recovery"),
    ],
)
def test_systemd_and_compose_run_the_same(in_compose: str, in_systemd: str) -> None:
    """So running one of the two proves the other."""
    one, other = compose_services()[in_compose], unit_service(in_systemd)
    assert set(one.secrets) - KEYS["production"] - KEYS["standby"] == set(other.secrets) - {
        key for key in other.secrets if key.endswith(".key")
    }
    same = [part.replace("0.0.0.0", "127.0.0.1") for part in one.command[1:]]
    assert same == [part.removeprefix("/opt/reopen/.venv/bin/") for part in other.command[1:]]
    # Two workers of one host have a port each; containers have all of theirs.
    where = {
        "PREFECT_WORKER_WEBSERVER_PORT",
        "PREFECT_API_URL",
        "PREFECT_SERVER_DATABASE_HOST",
        "PREFECT_SERVER_UI_API_URL",
        "REOPEN_KEYS",
    }
    # A unit that needs no key has none, nor the health check's port.
    optional = {"REOPEN_SITE", "PREFECT_WORKER_WEBSERVER_HOST", "PREFECT_WORKER_QUERY_SECONDS"}
    for name in set(one.environment) | set(other.environment) - where:
        if name in where or (name in optional and in_systemd == "reopen-deploy"):
            continue
        assert one.environment.get(name) == other.environment.get(name), name


def test_secrets_reach_the_environment_and_key_files_stay_files(tmp_path: Path) -> None:
    assert is_executable(WITH_SECRETS)
    (tmp_path / "DB_PASSWORD").write_text("a 'b' $c\n")
    (tmp_path / "writer.key").write_text("{}")
    (tmp_path / "lower").write_text("x")
    (tmp_path / "1ST").write_text("x")
    run = subprocess.run(
        [str(WITH_SECRETS), "env"],
        env={"PATH": "/usr/bin:/bin", "CREDENTIALS_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.partition("=")[0] for line in run.stdout.splitlines()}
    assert "DB_PASSWORD=a 'b' $c\n" in run.stdout
    assert not {"writer.key", "lower", "1ST"} & names


def test_a_secret_that_cannot_be_read_stops_the_command(tmp_path: Path) -> None:
    (tmp_path / "AUTH").mkdir()
    empty = subprocess.run(
        [str(WITH_SECRETS), "true"], env={"PATH": "/usr/bin:/bin", "CREDENTIALS_DIRECTORY": str(tmp_path)}, check=False
    )
    assert empty.returncode == 0, "a folder is no secret"
    (tmp_path / "TOKEN").write_text("x")
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "cat").write_text("#!/bin/sh\nexit 1\n")
    (broken / "cat").chmod(0o755)
    run = subprocess.run(
        [str(WITH_SECRETS), "/bin/echo", "ran"],
        env={"PATH": str(broken), "CREDENTIALS_DIRECTORY": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert run.returncode != 0
    assert run.stdout == b""


def test_every_server_lets_go_of_what_is_old() -> None:
    """Prefect keeps runs for ever unless it is told otherwise, and a watch every minute would fill the disk."""
    servers = [compose_services()[f"{site}-server"] for site in ("production", "standby")]
    for service in (*servers, unit_service("reopen-server")):
        assert {name: service.environment.get(name) for name in TIDYING} == TIDYING
    assert {name: server_environment(Path("/nowhere"), 4200)[name] for name in TIDYING} == TIDYING
