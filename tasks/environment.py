"""Owns the environment in which Prefect runs: a home of our own, nothing sent to anybody, nothing on the terminal.

Prefect reads its settings once, when it is imported. So :func:`prepare` comes first; this module imports no Prefect at
its top, and `flows` calls :func:`prepare_for_arguments` before any flow is imported.

Invariants
    E1  What the user has set in the environment is never changed: an API, a home, a log level.
    E2  Without a ``PREFECT_API_URL`` a process uses the server that ``reopen up`` runs for its site, so that its run is
        seen there; else it starts at most one of its own, on loopback, and ends it.
    E3  The developer's own Prefect profile and database are neither read nor written.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from reopen.config import load_settings
from reopen.desk.orchestrator import url_of
from reopen.errors import Corrupt, Internal, ReopenError, Transient

FOLDER = "prefect"
"""Below the site's home."""
START_SECONDS_MAX = 120
"""A new database takes a server 10 s on an idle machine; Prefect's own limit of 20 s was seen to fail on a busy one."""
STOP_SECONDS_MAX = 10
REQUEST_SECONDS_MAX = 20
"""Prefect asks again after a read that timed out; a recovery must not stand still for longer than this in between."""
POLL_SECONDS = 0.1

QUIET: Mapping[str, str] = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(START_SECONDS_MAX),
    # Once in nine demos a request got no answer, and the run stood for Prefect's own minute before it asked again.
    "PREFECT_API_REQUEST_TIMEOUT": str(REQUEST_SECONDS_MAX),
    # Blocks of integrations are of no use to us, and registering them is a part of every first start.
    "PREFECT_SERVER_API_BLOCKS_REGISTER_ON_START": "false",
}
SILENT_TERMINAL: Mapping[str, str] = {
    "PREFECT_LOGGING_LEVEL": "WARNING",
    # Warnings and tracebacks go to the run's log; on the terminal an error is told once, by us.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}
IDLE_SERVICES = ("SCHEDULER", "LATE_RUNS", "CANCELLATION_CLEANUP", "PAUSE_EXPIRATIONS", "FOREMAN", "TRIGGERS")
"""Services for deployments and workers, which a server for flow processes does not have."""


def prepare(home: Path | None) -> None:
    """Set what Prefect will read, where the user has not. Nothing happens when Prefect is imported already: then its
    settings are somebody else's decision (a worker's, a test's).

    :param home: the site's home of the settings; None when there are no settings, as for ``--help``.
    """
    if "prefect" in sys.modules:
        return
    wanted = dict(QUIET)
    if "PREFECT_LOGGING_LEVEL" not in os.environ:
        wanted |= SILENT_TERMINAL
    # Without settings no flow runs; the import must all the same make no folder in the user's home (E3).
    folder = home / FOLDER if home is not None else Path(tempfile.gettempdir()) / "reopen-no-home"
    wanted["PREFECT_HOME"] = str(folder)
    if home is not None and (url := _server_of_up(home)) is not None:
        wanted["PREFECT_API_URL"] = url
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    if home is not None and os.environ["PREFECT_HOME"] == str(folder):
        # Prefect makes the last folder of the path only, and says so once for each of its processes.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _server_of_up(home: Path) -> str | None:
    try:
        return url_of(home)
    except Corrupt:
        return None  # `reopen up` and `reopen down` say what is wrong with their file; no flow needs it.


def prepare_for_arguments(arguments: Sequence[str]) -> None:
    """:func:`prepare` by the settings that ``--config``, ``REOPEN_CONFIG`` or the current folder names."""
    if "prefect" in sys.modules:
        return
    try:
        home: Path | None = load_settings(_config_of(arguments)).home
    except ReopenError:
        # Whoever runs the flow reads the settings again and says what is wrong with them.
        home = None
    prepare(home)


@contextmanager
def embedded() -> Iterator[None]:
    """Run flows without heartbeats where the API is this process's own: nobody would look at them, and each flow run
    waits up to a second for the thread that sends them. Open it when the flow is imported.

    :raises Transient: the server that ``PREFECT_API_URL`` names is not there, or went away meanwhile.
    """
    if "prefect" not in sys.modules:
        yield
        return
    import httpx
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    if url := PREFECT_API_URL.value():
        try:
            yield
        except (httpx.TransportError, RuntimeError) as error:
            # Prefect reports a server that it cannot reach as a RuntimeError when it asks for its version.
            if isinstance(error, RuntimeError) and "reach" not in str(error):
                raise
            raise Transient(
                f"the Prefect server at {url} does not answer.",
                hint="`reopen up` starts the one of this machine; PREFECT_API_URL may name another. Without --flow no "
                "server is needed. What was stored is kept.",
            ) from error
        return
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@contextmanager
def prefect_server(home: Path, *, wait: bool = True) -> Iterator[str]:
    """A server for several flow processes: its database below ``home``, on a free loopback port, with no UI and no
    scheduler. Yields the URL for their ``PREFECT_API_URL``; ends the server afterwards.

    :param wait: False yields at once, while the server still starts; then call :func:`wait_for_server`.
    :raises Internal: it does not come up; the message has the end of its log.
    """
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    log_path = folder / "server.log"
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app",
                "--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on",
            ],
            env=_server_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        if wait:
            wait_for_server(url, server=server, log_path=log_path)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for_server(
    url: str,
    *,
    seconds_max: float = START_SECONDS_MAX,
    server: subprocess.Popen[bytes] | None = None,
    log_path: Path | None = None,
) -> None:
    """Return when a server answers.

    :param server: its process, so that one that ended is noticed at once.
    :raises Internal: it ended, or does not answer in time.
    """
    deadline = time.monotonic() + seconds_max
    while not _answers(url):
        ended = server is not None and server.poll() is not None
        if ended or time.monotonic() > deadline:
            told = log_path.read_text(errors="replace")[-2000:] if log_path is not None else ""
            what = "ended" if ended else f"did not answer within {seconds_max:.0f} s"
            raise Internal(
                f"the Prefect server at {url} {what}. {told}".strip(),
                hint="The same verb works without Prefect: leave out --flow.",
            )
        time.sleep(POLL_SECONDS)


def _server_environment(folder: Path) -> dict[str, str]:
    environment = {**QUIET, "PREFECT_LOGGING_LEVEL": "WARNING", **os.environ}
    environment |= {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in IDLE_SERVICES}
    environment |= {"PREFECT_HOME": str(folder), "PREFECT_UI_ENABLED": "false"}
    # Whatever API the caller uses, a server is a server.
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"):
        environment.pop(name, None)
    return environment


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def _config_of(arguments: Sequence[str]) -> Path | None:
    for position, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config="))
        if argument == "--config" and position + 1 < len(arguments):
            return Path(arguments[position + 1])
    return None
