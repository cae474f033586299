"""Runs services of the files for production as processes of this machine.

What a file says stays as it is, but for the places that a container or a host would have: folders, ports and the names
of hosts are replaced, each the same everywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.files import ROOT, Service

POLL_SECONDS = 0.2
STOP_SECONDS = 10


@dataclass(slots=True, kw_only=True)
class Site:
    """Where one site's services live here: the places by what the files call them, and the contents of secrets."""

    folder: Path
    places: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, service: Service, *, seconds_max: float = 180) -> subprocess.CompletedProcess[str]:
        """Run a service that ends."""
        command, environment = self.prepared(service)
        return subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=seconds_max, check=False
        )

    def start(self, service: Service) -> subprocess.Popen[bytes]:
        """Start a service that stays; :meth:`stop` ends it."""
        command, environment = self.prepared(service)
        with self.log_of(service).open("wb") as log:
            # A session of its own, so that what it starts ends with it, as in a container or a control group.
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def is_healthy(self, service: Service) -> bool:
        """Whether the service's own health check says so."""
        _, environment = self.prepared(service)
        words = [self._here(word) for word in service.healthcheck]
        return subprocess.run(words, env=environment, capture_output=True, check=False, timeout=60).returncode == 0

    def log_of(self, service: Service) -> Path:
        """Where it writes what it says."""
        return self.folder / f"{service.name}.log"

    def prepared(self, service: Service) -> tuple[Sequence[str], dict[str, str]]:
        """The command and the environment of a service; its secrets and keys are laid out for it, and no other."""
        folder = self.folder / f"{service.name}.secrets"
        folder.mkdir(mode=0o700, exist_ok=True)
        for target in service.secrets:
            (folder / target).write_text(self.secrets[target], encoding="utf-8")
            (folder / target).chmod(0o600)
        places = {"/run/secrets": str(folder), "%d": str(folder)}
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "CREDENTIALS_DIRECTORY": str(folder),
            **{name: self._here(value, places) for name, value in service.environment.items()},
        }
        return [self._here(word, places) for word in service.command], environment

    def stop(self, process: subprocess.Popen[bytes], *, at_once: bool = False) -> None:
        """End a service and all that it started: asked first, as systemd and compose do."""
        self.started = [one for one in self.started if one is not process]
        if not at_once and process.poll() is None:
            process.terminate()
            # Past that time it is killed: what TimeoutStopSec and stop_grace_period are for.
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOP_SECONDS)
        try:
            os.killpg(process.pid, 9)
        except ProcessLookupError:
            return
        finally:
            process.wait()

    def stop_all(self) -> None:
        """End everything, the last first."""
        for process in reversed(self.started):
            self.stop(process, at_once=True)

    def _here(self, text: str, more: Mapping[str, str] | None = None) -> str:
        # Longer names first: one may begin with another.
        places = {**self.places, **(more or {})}
        for name in sorted(places, key=len, reverse=True):
            text = text.replace(name, places[name])
        return text


def until(holds: Callable[[], object], *, seconds_max: float = 120, told: Callable[[], str] = lambda: "") -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds_max:g} s. {told()}"
        time.sleep(POLL_SECONDS)
