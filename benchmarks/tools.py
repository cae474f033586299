"""Owns how each tool is driven: the same five verbs, each one process, timed from outside with its CPU and memory."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from reopen.clock import SYSTEM_CLOCK
from reopen.storage import open_store
from reopen.vault import create_vault, make_keys, save_key
from reopen.vault.keys import RecoveryKey, SigningKey

POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One process: wall and CPU seconds, peak resident memory in bytes, and what the repository takes afterwards."""

    tool: str
    verb: str
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    stored_bytes: int


class Tool(ABC):
    """A tool with a repository of its own below ``work``. Verbs are argument lists."""

    name = ""

    def __init__(self, work: Path, source: Path) -> None:
        self.work = work
        self.source = source
        self.repository = work / "repository"
        self.environment = dict(os.environ)
        work.mkdir(parents=True)

    @abstractmethod
    def prepare(self) -> None:
        """Make an empty repository; not timed."""

    @abstractmethod
    def backup(self) -> list[str]:
        """Take a snapshot."""

    def verify(self) -> list[str] | None:
        """Read everything that is stored; ``None`` when the tool cannot."""
        return None

    @abstractmethod
    def restore(self, target: Path) -> list[str]:
        """Restore everything into an empty folder."""

    def run(self, verb: str, arguments: list[str]) -> Measurement:
        """Run one verb and measure it; a verb that fails ends the benchmark."""
        with (self.work / f"{verb}.log").open("wb") as log:
            started = time.perf_counter()
            process = os.posix_spawn(
                arguments[0],
                arguments,
                self.environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)],
            )
            status, usage, peak_bytes = _wait(process)
            wall_seconds = time.perf_counter() - started
        if status:
            raise SystemExit(f"{self.name} {verb} failed; see {log.name}")
        return Measurement(
            tool=self.name,
            verb=verb,
            wall_seconds=wall_seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_bytes=peak_bytes,
            stored_bytes=sum(path.stat().st_size for path in self.repository.rglob("*") if path.is_file()),
        )


def _wait(process: int) -> tuple[int, resource.struct_rusage, int]:
    """Exit status, usage and peak memory of a child. The kernel's own peak would count this process's memory, which a
    child shares until it becomes the tool; so the tool's high-water mark is read while it runs."""
    peak_bytes = 0
    while True:
        finished, status, usage = os.wait4(process, os.WNOHANG)
        if finished:
            return status, usage, peak_bytes
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            lines = []
        marks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
        peak_bytes = max([peak_bytes, *marks])
        time.sleep(POLL_SECONDS)


class Reopen(Tool):
    """Ours, through the command line, as a user runs it."""

    name = "reopen"

    def prepare(self) -> None:
        keys = make_keys()
        members: list[RecoveryKey | SigningKey] = [keys.recovery, *keys.signing]
        for key in members:
            save_key(self.work / "keys", key, keys.pins)
        create_vault(open_store(str(self.repository)), keys, created_at=SYSTEM_CLOCK.now())
        (self.work / "contracts").mkdir()
        (self.work / "contracts" / "data.odcs.yaml").write_text(_CONTRACT.format(source=self.source), encoding="utf-8")
        (self.work / "reopen.toml").write_text(_SETTINGS, encoding="utf-8")
        self.environment["REOPEN_CONFIG"] = str(self.work / "reopen.toml")

    def backup(self) -> list[str]:
        return self._command("snapshot")

    def verify(self) -> list[str]:
        return self._command("verify", "--level", "stored")

    def restore(self, target: Path) -> list[str]:
        return self._command("restore", "data", "--to", str(target))

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "reopen.cli", *arguments]


class Restic(Tool):
    """restic, with its compression at the class of zstd 3 ("auto")."""

    name = "restic"

    def prepare(self) -> None:
        self.environment |= {
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_CACHE_DIR": str(self.work / "cache"),
        }
        self.run("init", [*self._program, "init"])

    def backup(self) -> list[str]:
        return [*self._program, "backup", "--quiet", str(self.source)]

    def verify(self) -> list[str]:
        return [*self._program, "check", "--read-data", "--quiet"]

    def restore(self, target: Path) -> list[str]:
        return [*self._program, "restore", "latest", "--target", str(target)]

    @property
    def _program(self) -> list[str]:
        return [shutil.which("restic") or "restic"]


class Copy(Tool):
    """A plain copy: no history, no encryption, no check. The floor."""

    name = "cp -a"

    def backup(self) -> list[str]:
        return [shutil.which("cp") or "cp", "-a", f"{self.source}/.", str(self.repository)]

    def prepare(self) -> None:
        self.repository.mkdir()

    def restore(self, target: Path) -> list[str]:
        target.mkdir()
        return [shutil.which("cp") or "cp", "-a", f"{self.repository}/.", str(target)]


def available() -> list[type[Tool]]:
    """Ours, the floor, and the peers that are installed."""
    return [Reopen, Copy, *([Restic] if shutil.which("restic") else [])]


_SETTINGS = """\
[reopen]
site = "production"
contracts = "contracts"
home = "home"
keys = "keys"
[sites.production]
role = "primary"
vault = "repository"
"""

_CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: data
name: data
version: 1.0.0
status: active
servers:
  - {{server: production, type: local, path: {source}, format: other}}
slaProperties:
  - {{property: recoveryPointObjective, value: 1, unit: d}}
  - {{property: recoveryTimeObjective, value: 1, unit: d}}
team: {{name: benchmark, members: [{{username: nobody, role: owner}}]}}
customProperties:
  - {{property: tier, value: 1, vendor: reopen}}
"""
