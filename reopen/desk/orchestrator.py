"""Owns the processes that ``reopen up`` started: which there are, whether they run, and how they are stopped.

What runs stands in ``up.json`` in the folder ``prefect`` below the home, beside the server's database and the logs.

Invariants
    O1  A process is ours when its id, the time it was started and its command line are those in the file. Any other is
        left alone: ids are used again after a restart of the machine.
    O2  The file is written after each start and before the next, so a crash in between leaves one process unknown at
        most; the lock keeps two commands apart.
    O3  What is stopped is asked first (SIGTERM), and killed when it does not end in time, with all that it started.
    O4  The process of a flow run whose worker was killed goes on alone. It is ours when it runs Prefect's engine and
        was started with this home's mark in its environment, which it has from the worker and nobody else sets. What a
        hook of the site started in a run, a database for example, has the mark too and runs something else: it stays.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from reopen.errors import Conflict, Corrupt, TargetUnwritable

FOLDER = "prefect"
STATE = "up.json"
LOGS = "logs"
TEMPORARY = "tmp"
"""What workers write for a run; it is nobody's once they have ended."""
LOG_BYTES_MAX = 20 * 1024 * 1024
"""A log that is longer is put aside, at a start and while its process runs (:mod:`tasks.logs`); the one before goes."""
STOP_SECONDS_MAX = 10.0
"""Prefect's worker was seen not to end at all after SIGTERM."""
STARTED_SECONDS_SLACK = 60.0
"""How far two readings of a start may differ: the machine's clock is set in between."""

MARK = "STARTED_BY_REOPEN_UP"
"""In the environment of all that is started here: the home. It is no setting, so it does not begin as those do."""
LOG = "LOG_OF_REOPEN_UP"
"""In the same place: the file that it writes to."""
ENGINE = ("prefect.engine", "prefect.runner._workspace_supervisor")
"""Modules that the process of a flow run runs: the second makes its folder ready and becomes the first."""

SERVER = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process that was started. ``site`` is whose worker it is; empty for the server."""

    name: str
    pid: int
    started: float
    """Seconds since 1970."""
    command: tuple[str, ...]
    log: str
    """The file that it writes to; empty: the terminal of ``reopen up --foreground``."""
    site: str = ""

    @property
    def is_running(self) -> bool:
        """Whether the process that was started still runs (O1)."""
        return _process(self) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What was started for one home."""

    port: int = 0
    services: tuple[Service, ...] = ()

    @property
    def server(self) -> Service | None:
        """The server, if one was started."""
        return next((service for service in self.services if service.name == SERVER), None)

    @property
    def workers(self) -> tuple[Service, ...]:
        """All others."""
        return tuple(service for service in self.services if service.name != SERVER)

    @property
    def running(self) -> Services:
        """Those that run now."""
        return replace(self, services=tuple(service for service in self.services if service.is_running))

    def with_service(self, service: Service) -> Services:
        """These and one more, which takes the place of one of its name."""
        others = tuple(item for item in self.services if item.name != service.name)
        return replace(self, services=(*others, service))

    @property
    def url(self) -> str:
        """The API of the server."""
        return f"http://127.0.0.1:{self.port}/api"


def folder_of(home: Path) -> Path:
    """Prefect's home below a site's home."""
    return home / FOLDER


def read_services(home: Path) -> Services:
    """What the last ``reopen up`` started and no ``reopen down`` stopped; nothing when there is no file.

    :raises Corrupt: the file is not one of ours.
    """
    path = folder_of(home) / STATE
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        services = [Service(**{**item, "command": tuple(item["command"])}) for item in told["services"]]
        return Services(port=int(told["port"]), services=tuple(services))
    except FileNotFoundError:
        return Services()
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(
            f"{path} is not what `reopen up` writes: {error}.",
            hint="Remove the file; end by hand what still runs (`ps` shows the server as uvicorn … prefect.server).",
        ) from error


def write_services(home: Path, services: Services) -> None:
    """Remember what runs; the file goes when nothing does."""
    path = folder_of(home) / STATE
    if not services.services:
        path.unlink(missing_ok=True)
        return
    draft = path.with_suffix(".new")
    with _writing(path.parent):
        draft.write_text(json.dumps(asdict(services), indent=1) + "\n", encoding="utf-8")
        draft.replace(path)


def url_of(home: Path) -> str | None:
    """The API of the server that ``reopen up`` started for this home, if it runs."""
    services = read_services(home)
    server = services.server
    return services.url if server is not None and server.is_running else None


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Keep other ``reopen up`` and ``reopen down`` of this home out.

    :raises Conflict: one is at work.
    :raises TargetUnwritable: this user may not write there, or the disk is full.
    """
    folder = folder_of(home)
    with _writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (folder / "up.lock").open("w")
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                "another `reopen up` or `reopen down` is at work here.", hint="Wait for it to end, and look again."
            ) from error
        yield


def clear_temporary(home: Path) -> None:
    """Remove what workers left that were killed. Only when none runs."""
    shutil.rmtree(folder_of(home) / TEMPORARY, ignore_errors=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """:raises TargetUnwritable: the file system does not let us."""
    try:
        yield
    except OSError as error:
        raise TargetUnwritable(
            f"{folder} cannot be written: {error.strerror or error}.",
            hint="What `reopen up` starts keeps its state there: make room, let this user write there, or name another "
            "`home` in the settings.",
        ) from error


def put_aside(log_path: Path) -> Path:
    """Where a log that has grown too long is kept."""
    return log_path.with_suffix(".log.1")


def start(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    home: Path,
    cwd: Path,
    site: str = "",
    foreground: bool = False,
) -> Service:
    """Start a process that outlives this one, in a session of its own so that Ctrl-C here is not for it."""
    log_path = folder_of(home) / LOGS / f"{name}.log"
    log: IO[bytes] | None = None
    with _writing(folder_of(home)):
        (folder_of(home) / TEMPORARY).mkdir(mode=0o700, exist_ok=True)
        if not foreground:
            log_path.parent.mkdir(mode=0o700, exist_ok=True)
            if log_path.exists() and log_path.stat().st_size > LOG_BYTES_MAX:
                log_path.replace(put_aside(log_path))
            log = log_path.open("ab")
    try:
        process = subprocess.Popen(
            list(command),
            env={
                **environment,
                MARK: str(home.resolve()),
                **({LOG: str(log_path.resolve())} if log is not None else {}),
            },
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=None if log is None else subprocess.STDOUT,
            start_new_session=True,
        )
    finally:
        if log is not None:
            log.close()
    # It outlives this process, and whether it runs is asked of the system; Popen would complain that nobody waited.
    process.returncode = 0
    import psutil

    try:
        started = psutil.Process(process.pid).create_time()
    except psutil.NoSuchProcess:
        started = 0.0  # It has ended already; whoever waits for it will see that.
    return Service(
        name=name, pid=process.pid, started=started, command=tuple(command), log="" if log is None else str(log_path),
        site=site,
    )  # fmt: skip


def stop(services: Sequence[Service], *, seconds_max: float = STOP_SECONDS_MAX) -> dict[str, str]:
    """End these processes and what they started, in this order (O3).

    What a worker runs is asked before the worker is, so that the worker can report how its runs ended.

    :returns: how each ended: ``stopped``, ``killed``, or ``was gone``.
    """
    import psutil

    ended: dict[str, str] = {}
    for service in services:
        process = _process(service)
        if process is None:
            ended[service.name] = "was gone"
            continue
        below = process.children(recursive=True)
        _ask(below)
        psutil.wait_procs(below, timeout=seconds_max)
        _ask([process])
        gone, alive = psutil.wait_procs([process], timeout=seconds_max)
        for left in [*below, *alive]:
            with suppress(psutil.NoSuchProcess):
                left.kill()
        psutil.wait_procs([*below, *alive], timeout=seconds_max)
        ended[service.name] = "stopped" if gone else "killed"
    return ended


def left_runs(home: Path) -> tuple[Service, ...]:
    """The processes of flow runs of this home that no worker looks after any more (O4), oldest first."""
    import psutil

    mark = str(home.resolve())
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if not any(command[at : at + 2] == ["-m", module] for at in (1, 2) for module in ENGINE):
                continue
            if process.environ().get(MARK) != mark or process.status() == psutil.STATUS_ZOMBIE:
                continue
            with process.oneshot():
                parent, started = process.parent(), process.create_time()
            if parent is not None and _is_worker(parent, mark):
                continue
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # It has ended, or is another user's.
        found.append(
            Service(name=f"run {process.pid}", pid=process.pid, started=started, command=tuple(command), log="")
        )
    return tuple(sorted(found, key=lambda service: service.started))


def _is_worker(process: Any, mark: str) -> bool:
    import psutil

    try:
        return process.environ().get(MARK) == mark and "worker" in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False  # Who takes in those whose parent died is the system's first process, or an administrator's.


def _ask(processes: Sequence[Any]) -> None:
    import psutil

    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)


def _process(service: Service) -> Any:
    """The process, if it is the one that was started (O1); else None."""
    import psutil

    try:
        process = psutil.Process(service.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        same_start = abs(process.create_time() - service.started) < STARTED_SECONDS_SLACK
        shown = process.cmdline()
        # For a moment after its start a process shows no command line. And the first word may be the interpreter that a
        # virtual environment's one stands for.
        return process if same_start and (not shown or shown[1:] == list(service.command[1:])) else None
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None  # A process that we may not look at was not started by us.
