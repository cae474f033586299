"""Owns how a Prefect server and its workers are started: their command lines and their environment. Imports no Prefect.

``reopen up`` starts them with these; so do the units and containers for production.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from reopen.desk.orchestrator import TEMPORARY
from tasks.environment import QUIET
from tasks.logs import HANDLER

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
QUERY_SECONDS = 5
"""How often a worker asks for runs; Prefect's own 15 s would be most of the time that a small run takes."""
SHUTDOWN_SECONDS = 5
"""How long the server lets open connections be finished: those of a UI or a worker never end by themselves."""
LEASE_STORAGE = "prefect.server.concurrency.lease_storage.filesystem"
"""Where the server keeps who holds which slot. In its memory, Prefect's default, a server that is killed forgets until
when they are held, and the slots of runs that died meanwhile stay taken."""
TIDYING: Mapping[str, str] = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(30 * 24 * 3600),
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P2D",
}
"""What the server lets go of, every hour: runs that ended 30 days ago with their logs and artifacts, events after two
days. By default it keeps runs for ever and events for a week; a run leaves some 200 kB of events and 5 kB of itself, so
a watch every minute would fill a disk. What a run found is in the vault, the epoch log and the evidence."""
DATABASE_SECONDS_MAX = 30
"""How long a request waits for the database. On a busy machine SQLite answered 503 after Prefect's own 10 s."""
LATENESS: Mapping[str, str] = {
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "60",
}
"""How often the server looks for runs to call "Late", a word in its pages that nothing waits for. It writes one by one,
many at once, and SQLite refuses most of them: by default it began anew every five seconds, and after an outage with
three hundred contracts nobody else came to write."""
TEMPORARY_CHARACTERS_MAX = 60
"""Of the path of a folder for temporary files: the name of a socket in it may have 107, and others add theirs."""
_NOT_FOR_SERVERS = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL")


def api_url(port: int) -> str:
    """The API of the server on a port of this machine."""
    return f"http://{HOST}:{port}/api"


def server_command(port: int) -> tuple[str, ...]:
    """A server with its UI and all its services, in one process, on loopback.

    Not ``prefect server start``: that leaves the UI calling port 4200, and starts the same program.
    """
    return (
        sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app",
        "--host", HOST, "--port", str(port), "--log-level", "warning", "--lifespan", "on",
        "--timeout-graceful-shutdown", str(SHUTDOWN_SECONDS),
    )  # fmt: skip


def server_environment(folder: Path, port: int) -> Mapping[str, str]:
    """What a server is started with. What the user has set stays, a database or a password for example.

    :param folder: Prefect's home, where its database is unless the user names another.
    """
    environment = {
        **QUIET,
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASE_STORAGE,
        "PREFECT_SERVER_DATABASE_TIMEOUT": str(DATABASE_SECONDS_MAX),
        **TIDYING,
        **LATENESS,
        **HANDLER,
        **os.environ,
        **_finding_us(),
    }
    for name in _NOT_FOR_SERVERS:
        environment.pop(name, None)
    return environment | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": api_url(port),
        # The pages are written out with the address in them. Two servers of one installation would share them.
        "PREFECT_UI_STATIC_DIRECTORY": str(folder / "ui"),
    }


def worker_command(site: str, name: str, *, runs: int | None = None, queue: str | None = None) -> tuple[str, ...]:
    """A worker of a site.

    :param runs: flow runs at a time; None is without limit.
    :param queue: takes runs of this queue only; None: of all, the first ones first.
    """
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", f"reopen-{site}", "--name", name,
               "--type", "process", "--install-policy", "never"]  # fmt: skip
    if runs is not None:
        command += ["--limit", str(runs)]
    if queue is not None:
        command += ["--work-queue", queue]
    return tuple(command)


def worker_environment(folder: Path, url: str, site: str) -> Mapping[str, str]:
    """What a worker is started with, and with it each of its flow runs."""
    environment = {
        **QUIET,
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_WORKER_QUERY_SECONDS": str(QUERY_SECONDS),
        **HANDLER,
        **os.environ,
        **_finding_us(),
    }
    for name in ("PREFECT_PROFILE", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"):
        environment.pop(name, None)
    # For each run a worker writes its whole environment into a temporary file, secrets too. It removes that, unless it
    # is killed; so it is to lie where `reopen down` and the next `reopen up` remove it, and not in /tmp for ever.
    temporary = str(temporary_of(folder))
    if len(temporary) <= TEMPORARY_CHARACTERS_MAX:
        environment.setdefault("TMPDIR", temporary)
    return environment | {"PREFECT_HOME": str(folder), "PREFECT_API_URL": url, "REOPEN_SITE": site}


def temporary_of(folder: Path) -> Path:
    """Where workers have their temporary files, below Prefect's home."""
    return folder / TEMPORARY


def _finding_us() -> Mapping[str, str]:
    """From a checkout that is not installed, what lets a process that runs in another folder find our packages."""
    if not (ROOT / "pyproject.toml").is_file():
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))}
