"""Reads deployments/compose.yaml and deployments/systemd as those who run them read them: what each service is told."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = ROOT / "deployments/compose.yaml"
UNITS = ROOT / "deployments/systemd"
WITH_SECRETS = ROOT / "deployments/with-secrets"
SECRETS_FOLDER = "/run/secrets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is run, in which environment, and with which secrets (name of the file that the process sees, by where it
    comes from)."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    healthcheck: tuple[str, ...] = ()


def compose() -> dict[str, Any]:
    """The compose file, with its variables at their defaults."""
    text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", COMPOSE.read_text(encoding="utf-8"))
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return found


def compose_services() -> dict[str, Service]:
    """Every service of the compose file that runs our image: its entry point is `with-secrets`."""
    document = compose()
    return {
        name: Service(
            name=name,
            command=(str(WITH_SECRETS), *service["command"]),
            environment=service["environment"],
            secrets={secret["target"]: document["secrets"][secret["source"]]["file"] for secret in service["secrets"]},
            healthcheck=tuple(service.get("healthcheck", {}).get("test", ())[1:]),
        )
        for name, service in document["services"].items()
        if "command" in service
    }


def unit(name: str) -> dict[str, list[str]]:
    """Every setting of a unit file, each time that it is set, as ``Section.Name``."""
    found: dict[str, list[str]] = {}
    section = ""
    for number, line in enumerate((UNITS / name).read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith(("#", ";")):
            continue
        if text.startswith("[") and text.endswith("]"):
            section = text[1:-1]
            continue
        key, equals, value = text.partition("=")
        assert section, f"{name}:{number} stands in no section"
        assert equals, f"{name}:{number} is no setting"
        assert not value.endswith("\\"), f"{name}:{number} goes on in the next line, which is not read here"
        found.setdefault(f"{section}.{key}", []).append(value)
    return found


def unit_service(name: str) -> Service:
    """A service unit."""
    settings = unit(f"{name}.service")
    (command,) = settings["Service.ExecStart"]
    loaded = (value.partition(":") for value in settings.get("Service.LoadCredential", ()))
    return Service(
        name=name,
        command=tuple(shlex.split(command)),
        environment=dict(
            pair.split("=", 1) for value in settings.get("Service.Environment", ()) for pair in shlex.split(value)
        ),
        secrets={target: source for target, _, source in loaded},
    )


def unit_names() -> list[str]:
    """The service units."""
    return sorted(path.stem for path in UNITS.glob("*.service"))


def is_executable(path: Path) -> bool:
    """Whether everybody may run it, as the image's user has to."""
    return path.is_file() and bool(os.stat(path).st_mode & stat.S_IXOTH)
