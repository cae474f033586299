"""Owns how each tool is driven: the same verbs for all, each one command line as a user would type it.

All encrypt, and compress at the class of zstd 3. A tool without a verb has ``None`` there. What is measured are the
commands; making an empty repository and removing what a run left is not.
"""

from __future__ import annotations

import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.peers import Peer
from benchmarks.process import Command, run

PASSWORD = "benchmark"


class Tool(ABC):
    """A tool with a repository of its own below ``work``, for one source.

    A *replica* is a second repository that is filled from the first.
    """

    name = ""
    settings = ""
    """How compression and encryption are set, for the notes under the table."""

    def __init__(self, work: Path, source: Path) -> None:
        self.work = work
        self.source = source
        self.repository = work / "repository"
        self.replica = work / "replica"
        self.environment: dict[str, str] = dict(os.environ)
        work.mkdir(parents=True)

    @abstractmethod
    def prepare(self) -> None:
        """Make an empty repository; not timed."""

    def prepare_replica(self, *, empty: bool) -> None:
        """Before each replication, not timed. ``empty``: the replica is to begin with nothing."""
        if empty:
            shutil.rmtree(self.replica, ignore_errors=True)

    def backup(self, verb: str) -> Command | None:
        """Take a snapshot; ``verb`` tells which one."""
        return None

    def verify(self) -> Command | None:
        """Read everything that is stored."""
        return None

    def restore(self, target: Path) -> Command | None:
        """Restore the newest snapshot into a folder that does not exist."""
        return None

    def restore_table(self, target: Path, table: str) -> Command | None:
        """Restore one folder of it."""
        return None

    def replicate(self) -> Command | None:
        """Bring the replica up to the repository."""
        return None

    def restored(self, target: Path) -> Path:
        """Where below ``target`` the source's root is after a restore."""
        return target

    def stored_files(self) -> Iterator[Path]:
        """The files of the repository, caches elsewhere left out."""
        return (path for path in self.repository.rglob("*") if path.is_file() and not path.is_symlink())

    def stored_bytes(self) -> int:
        """What the repository takes: the sizes of its files, the same way for every tool."""
        return sum(path.stat().st_size for path in self.stored_files())


class Reopen(Tool):
    """Ours, through the command line. ``vault`` and ``replica`` are URLs where they are not folders below ``work``."""

    name = "reopen"
    settings = "zstd 3, AES-256-GCM under keys sealed to a recovery recipient"

    def __init__(self, work: Path, source: Path, *, vault: str = "", replica: str = "") -> None:
        super().__init__(work, source)
        self._vault = vault or str(self.repository)
        self._replica = replica or str(self.replica)

    def prepare(self) -> None:
        (self.work / "contracts").mkdir()
        (self.work / "contracts" / "data.odcs.yaml").write_text(_CONTRACT.format(source=self.source), encoding="utf-8")
        settings = _SETTINGS.format(vault=self._vault, replica=self._replica)
        (self.work / "reopen.toml").write_text(settings, encoding="utf-8")
        self.environment["REOPEN_CONFIG"] = str(self.work / "reopen.toml")
        run(self._command("init"), self.environment, self.work / "init.log")

    def backup(self, verb: str) -> Command:
        return self._command("snapshot")

    def verify(self) -> Command:
        return self._command("verify", "--level", "stored")

    def restore(self, target: Path) -> Command:
        return self._command("restore", "data", "--to", str(target))

    def restore_table(self, target: Path, table: str) -> Command:
        return self._command("restore", "data", "--to", str(target), "--path", f"{table}/**")

    def replicate(self) -> Command:
        return self._command("replicate", "--to", "standby")

    def _command(self, *arguments: str) -> Command:
        return Command(arguments=(sys.executable, "-m", "reopen.cli", *arguments), folder=self.work)


class Restic(Tool):
    """restic, repository format 2. ``repository_url`` where the repository is not a folder below ``work``."""

    name = "restic"
    settings = "compression auto (its class of zstd 3; it has no levels), AES-256-CTR with Poly1305-AES"

    def __init__(self, work: Path, source: Path, peer: Peer, *, repository_url: str = "") -> None:
        super().__init__(work, source)
        self._program = peer.program
        self.environment |= {
            **peer.environment,
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_REPOSITORY": repository_url or str(self.repository),
            "RESTIC_CACHE_DIR": str(work / "cache"),
            "RESTIC_FROM_PASSWORD_FILE": str(work / "password"),
            "RESTIC_PROGRESS_FPS": "0.01",
        }

    def prepare(self) -> None:
        (self.work / "password").write_text(PASSWORD, encoding="utf-8")
        run(self._command("init", "--repository-version", "2"), self.environment, self.work / "init.log")

    def prepare_replica(self, *, empty: bool) -> None:
        super().prepare_replica(empty=empty)
        if not empty:
            return
        init = ("init", "--repository-version", "2", "--from-repo", str(self.repository), "--copy-chunker-params")
        run(self._command("-r", str(self.replica), *init), self.environment, self.work / "init-replica.log")

    def backup(self, verb: str) -> Command:
        return self._command("backup", "--quiet", str(self.source))

    def verify(self) -> Command:
        return self._command("check", "--read-data", "--quiet")

    def restore(self, target: Path) -> Command:
        return self._command("restore", "latest", "--target", str(target))

    def restore_table(self, target: Path, table: str) -> Command:
        return self._command("restore", "latest", "--target", str(target), "--include", str(self.source / table))

    def replicate(self) -> Command:
        return self._command("-r", str(self.replica), "copy", "--quiet", "--from-repo", str(self.repository))

    def restored(self, target: Path) -> Path:
        return target / self.source.relative_to("/")

    def _command(self, *arguments: str) -> Command:
        return Command(arguments=(*self._program, *arguments), folder=self.work)


class Borg(Tool):
    """borg. It has no copy from repository to repository."""

    name = "borg"
    settings = "zstd,3, repokey (AES-256-CTR with HMAC-SHA256)"

    def __init__(self, work: Path, source: Path, peer: Peer) -> None:
        super().__init__(work, source)
        self._program = peer.program
        self.environment |= {
            **peer.environment,
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_BASE_DIR": str(work / "home"),
            "BORG_REPO": str(self.repository),
            "BORG_EXIT_CODES": "modern",
        }
        self._newest = ""

    def prepare(self) -> None:
        run(self._command("init", "-e", "repokey"), self.environment, self.work / "init.log")

    def backup(self, verb: str) -> Command:
        self._newest = verb
        return self._command("create", "-C", "zstd,3", f"::{verb}", ".", folder=self.source)

    def verify(self) -> Command:
        return self._command("check", "--verify-data")

    def restore(self, target: Path) -> Command:
        target.mkdir()
        return self._command("extract", f"::{self._newest}", folder=target)

    def restore_table(self, target: Path, table: str) -> Command:
        target.mkdir()
        return self._command("extract", f"::{self._newest}", table, folder=target)

    def _command(self, *arguments: str, folder: Path | None = None) -> Command:
        return Command(arguments=(*self._program, *arguments), folder=folder or self.work)


class Copy(Tool):
    """A plain copy: no history, no encryption, no check. The floor; what it wrote may still be in memory only."""

    name = "cp -a"
    settings = "a plain copy: neither compressed nor encrypted, and not forced to the disk"

    def __init__(self, work: Path, source: Path, copied: Path) -> None:
        """
        :param copied: the repository that the verb ``replicate`` copies.
        """
        super().__init__(work, source)
        self._copied = copied

    def prepare(self) -> None:
        self.repository.mkdir()

    def prepare_replica(self, *, empty: bool) -> None:
        # A plain copy knows no difference: it copies everything again, also when a hundredth is new.
        super().prepare_replica(empty=True)
        self.replica.mkdir()

    def backup(self, verb: str) -> Command | None:
        return self._copy(self.source, self.repository) if verb == "first" else None

    def restore(self, target: Path) -> Command:
        target.mkdir()
        return self._copy(self.source, target)

    def restore_table(self, target: Path, table: str) -> Command:
        (target / table).mkdir(parents=True)
        return self._copy(self.source / table, target / table)

    def replicate(self) -> Command:
        return self._copy(self._copied, self.replica)

    def _copy(self, source: Path, target: Path) -> Command:
        return Command(arguments=("/bin/cp", "-a", f"{source}/.", str(target)))


class DurableCopy(Copy):
    """A plain copy that is on the disk when it returns, as the snapshots of all the tools are."""

    name = "cp -a, sync"
    settings = "a plain copy, forced to the disk"

    def _copy(self, source: Path, target: Path) -> Command:
        script = 'cp -a "$1/." "$2" && sync -f "$2"'
        return Command(arguments=("/bin/sh", "-c", script, "sh", str(source), str(target)))


def make_tools(work: Path, source: Path, peers: Mapping[str, Peer]) -> list[Tool]:
    """Ours, the peers that are to be had, and the floor, each in a folder of its own."""
    ours = Reopen(work / "reopen", source)
    tools: list[Tool] = [ours]
    if "restic" in peers:
        tools.append(Restic(work / "restic", source, peers["restic"]))
    if "borg" in peers:
        tools.append(Borg(work / "borg", source, peers["borg"]))
    copied = ours.repository
    return [*tools, Copy(work / "cp", source, copied), DurableCopy(work / "cp-sync", source, copied)]


_SETTINGS = """\
[reopen]
site = "production"
contracts = "contracts"
home = "home"
keys = "keys"
[sites.production]
role = "primary"
vault = "{vault}"
[sites.standby]
role = "standby"
vault = "{replica}"
control = "control"
scratch = "scratch"
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
  - {{server: standby, type: local, path: {source}-standby, format: other}}
slaProperties:
  - {{property: recoveryPointObjective, value: 1, unit: d}}
  - {{property: recoveryTimeObjective, value: 1, unit: d}}
team: {{name: benchmark, members: [{{username: nobody, role: owner}}]}}
customProperties:
  - {{property: tier, value: 1, vendor: reopen}}
"""
