"""A PostgreSQL cluster of Debian's package for tests: its own folder, a free loopback port, gone with its block.

PostgreSQL refuses to run as root; then it runs as the user that the package made.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from tests.servers import free_port

USER = "postgres"
START_SECONDS_MAX = 60
FOUND_IN = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster with one database, ``reopen``, of a role of that name that is no superuser."""

    port: int
    password: str = field(repr=False)
    programs: Path

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query returns, asked as the role."""

        async def ask() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(
                host="127.0.0.1", port=self.port, user="reopen", password=self.password, database="reopen", ssl=False
            )
            try:
                return [tuple(row) for row in await connection.fetch(query)]
            finally:
                await connection.close()

        return asyncio.run(ask())

    @property
    def environment(self) -> dict[str, str]:
        """What PostgreSQL's own programs have to know to reach it as the role, and where they are."""
        return {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "reopen",
            "PGPASSWORD": self.password,
        }

    def dump(self) -> str:
        """All of the database as text."""
        run = subprocess.run(["pg_dump", "reopen"], env=self.environment, capture_output=True, check=True)
        return run.stdout.decode(errors="replace")


def programs() -> Path:
    """The folder of initdb, postgres and pg_dump of the newest version here."""
    found = sorted(FOUND_IN.glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name))
    beside = shutil.which("initdb")
    assert found or beside, "PostgreSQL is not installed: `make check-services` installs it"
    return found[-1].parent if found else Path(str(beside)).resolve().parent


@contextmanager
def running_cluster(rights: str = "") -> Iterator[Cluster]:
    """A new cluster, until the end of the block.

    :param rights: what the role may do beside owning its database, as in ``CREATEDB``.
    """
    binaries, port, password = programs(), free_port(), secrets.token_hex(16)
    # Short, because the name of a socket in it may have a hundred bytes only.
    with tempfile.TemporaryDirectory(prefix="reopen-pg-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, USER)
        _run(binaries / "initdb", "-D", f"{folder}/data", "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8")
        (folder / "data/pg_hba.conf").write_text(
            "local all postgres trust\nhost all reopen 127.0.0.1/32 scram-sha-256\n", encoding="ascii"
        )
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": folder,
            # No test cuts the power.
            "fsync": "off",
        }
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                _command(
                    binaries / "postgres",
                    "-D",
                    f"{folder}/data",
                    *(f"--{name}={value}" for name, value in options.items()),
                ),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                _await(server, binaries, folder, port)
                for statement in (
                    f"CREATE ROLE reopen LOGIN {rights} PASSWORD '{password}'",
                    "CREATE DATABASE reopen OWNER reopen",
                ):
                    _run(binaries / "psql", "-h", name, "-p", str(port), "-U", "postgres", "-c", statement)
                yield Cluster(port=port, password=password, programs=binaries)
            finally:
                # Immediate: its data go with it, and nobody waits for clients that hold on to their connections.
                _run(binaries / "pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
                server.wait(timeout=30)


def _await(server: subprocess.Popen[bytes], binaries: Path, folder: Path, port: int) -> None:
    until = time.monotonic() + START_SECONDS_MAX
    # Its socket is there before it lets anybody in.
    asking = [str(binaries / "pg_isready"), "-q", "-h", str(folder), "-p", str(port)]
    while subprocess.run(asking, check=False, stdin=subprocess.DEVNULL).returncode != 0:
        assert server.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.1)  # Waits for a condition; there is nothing to be told by.


def _command(*words: object) -> Sequence[str]:
    # Named whole: the folders of administrators' programs are not in every PATH.
    prefix = ["/usr/sbin/runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    return [*prefix, *(str(word) for word in words)]


def _run(*words: object) -> None:
    run = subprocess.run(
        _command(*words), cwd="/", capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 0, f"{words[0]}: {run.stdout}{run.stderr}"
