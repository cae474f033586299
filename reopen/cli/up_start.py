"""Owns bringing a site's orchestrator up: a server, what the contracts ask of it, and workers that take the runs.

Invariants
    U1  What runs already stays, and is used. What this call started is stopped again when it cannot be finished.
    U2  A server is there when it answers; a worker when the server has heard of it since it was started.
    U3  What runs is written down before the next is started (:mod:`reopen.desk.orchestrator`).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

from reopen.cli.deploy import bring, part
from reopen.desk.orchestrator import (
    SERVER,
    Services,
    clear_temporary,
    folder_of,
    left_runs,
    read_services,
    start,
    stop,
    write_services,
)
from reopen.errors import Conflict, Internal

if TYPE_CHECKING:
    from reopen.desk.orchestrator import Service
    from reopen.desk.session import Session
    from reopen.progress import Progress

START_SECONDS_MAX = 180
"""A new database takes a server 10 s on an idle machine; on a machine that is busy a minute was seen."""
POLL_SECONDS = 0.2
ANSWER_SECONDS_MAX = 5
LOG_TAIL_CHARACTERS = 2000


@dataclass(slots=True)
class Bringing:
    """One ``reopen up``. ``sessions`` are the sites to serve, the first is this machine's own."""

    sessions: Sequence[Session]
    port: int | None
    progress: Progress
    tell: Callable[[str], None]
    foreground: bool = False
    started: list[Service] = field(default_factory=list)
    changes: list[Any] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """The home that the processes belong to."""
        return self.sessions[0].settings.home

    def run(self) -> Services:
        """Start what does not run, and deploy. :raises ReopenError: it cannot; what was started is stopped (U1)."""
        try:
            services = self._server(self._standing())
            for session in self.sessions:
                self.changes += bring(session, services.url)
            return self._workers(services)
        except BaseException:
            stop(self.started[::-1])
            write_services(self.home, read_services(self.home).running)
            raise

    def _standing(self) -> Services:
        """What runs of what was started before; what does not is said, and forgotten."""
        told = read_services(self.home)
        running = told.running
        for gone in told.services:
            if gone not in running.services:
                log = f"; its log is {gone.log}" if gone.log else ""
                self.tell(f"{gone.name} (process {gone.pid}) had ended without `reopen down`{log}")
        if running.server is not None:
            if self.port not in (None, running.port):
                raise Conflict(
                    f"a server of this site runs already, on port {running.port}.",
                    hint="`reopen down` stops it; then `reopen up --port` can start one elsewhere.",
                )
            return running
        # One that had to be started again is looked for where it was.
        self.port = self.port or told.port or self.sessions[0].settings.prefect.port
        if running.workers and told.port != self.port:
            # They would ask for runs at the old address for ever.
            stop(running.workers)
            running = Services()
        if not running.services:
            clear_temporary(self.home)
        write_services(self.home, running)
        return running

    def _server(self, services: Services) -> Services:
        if services.server is None:
            port = self.port or self.sessions[0].settings.prefect.port
            require_free(port)
            commands = part("tasks.services", self.sessions[0])
            services = self._start(
                Services(port=port, services=services.services),
                SERVER,
                commands.server_command(port),
                commands.server_environment(folder_of(self.home), port),
            )
        # Prefect's import takes two seconds in which the server starts.
        part("deployments.deploy", self.sessions[0])
        self._wait(f"server on port {services.port}", lambda: _answers(services.url), services)
        return services

    def _workers(self, services: Services) -> Services:
        commands = part("tasks.services", self.sessions[0])
        deploy = part("deployments.deploy", self.sessions[0])
        # The server's clock is this machine's; a second, because times are rounded on their way.
        since = datetime.now(UTC) - timedelta(seconds=1)
        fresh: dict[str, list[str]] = {}
        for session in self.sessions:
            settings = session.settings
            wanted: list[tuple[str, dict[str, Any]]] = [(f"worker-{settings.site}", {"runs": settings.prefect.runs})]
            if deploy.has_recovery(session):
                wanted.append((f"worker-{settings.site}-recovery", {"queue": "recovery"}))
            self._end_lost(services, settings.site, [name for name, _ in wanted], deploy)
            for name, options in wanted:
                if any(service.name == name for service in services.services):
                    continue
                services = self._start(
                    services,
                    name,
                    commands.worker_command(settings.site, name, **options),
                    commands.worker_environment(folder_of(self.home), services.url, settings.site),
                    site=settings.site,
                )
                fresh.setdefault(settings.site, []).append(name)
        for site, names in fresh.items():
            self._wait(
                f"worker{'s' if len(names) > 1 else ''} of {site}",
                lambda site=site, names=names: deploy.workers_online(services.url, site, names, since=since),  # type: ignore[misc]
                services,
            )
        return services

    def _end_lost(self, services: Services, site: str, names: Sequence[str], deploy: Any) -> None:
        """End what the server takes for running when nothing of the site does: the machine lost its power, say."""
        if any(service.site == site for service in services.services) or left_runs(self.home):
            return
        if ended := deploy.end_lost_runs(services.url, site, names):
            runs = "a run" if len(ended) == 1 else f"{len(ended)} runs"
            self.tell(f"{runs} of {site} had been cut off, and ended as crashed: {', '.join(ended[:5])}")

    def _start(self, services: Services, name: str, command: Any, environment: Any, *, site: str = "") -> Services:
        service = start(
            name, command, environment, home=self.home, cwd=self.sessions[0].settings.base, site=site,
            foreground=self.foreground,
        )  # fmt: skip
        self.started.append(service)
        services = services.with_service(service)
        write_services(self.home, services)
        return services

    def _wait(self, what: str, is_there: Callable[[], bool], services: Services) -> None:
        """Until it is there (U2). A process that ended is noticed at once."""
        if is_there():
            return
        self.tell(f"waiting for the {what}, at most {START_SECONDS_MAX} s")
        self.progress.start(f"waiting for the {what}", None, "seconds")
        deadline = time.monotonic() + START_SECONDS_MAX
        while not is_there():
            for service in services.services:
                if not service.is_running:
                    raise Internal(f"{service.name} ended by itself. {_tail(service)}".strip(), hint=_hint(service))
            if time.monotonic() > deadline:
                last = services.services[-1]
                raise Internal(
                    f"the {what} did not come up within {START_SECONDS_MAX} s. {_tail(last)}".strip(), hint=_hint(last)
                )
            time.sleep(POLL_SECONDS)
        self.progress.finish()


def require_free(port: int) -> None:
    """:raises Conflict: another program has the port."""
    with socket.socket() as listener:
        # As the server will: a port whose last connections are still being closed is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except PermissionError as error:
            raise Conflict(f"port {port} needs an administrator.", hint="Choose one above 1023 with --port.") from error
        except OSError as error:
            whose = (
                "another Prefect server"
                if _answers(f"http://127.0.0.1:{port}/api", within_seconds=1)
                else "another program"
            )
            raise Conflict(
                f"port {port} of this machine is taken by {whose}.",
                hint="Choose another with --port, or with `port` below [prefect] in the settings.",
            ) from error


def _answers(url: str, *, within_seconds: float = ANSWER_SECONDS_MAX) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=within_seconds) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def _tail(service: Service) -> str:
    """The end of a log, where the reason is."""
    if not service.log:
        return ""
    with Path(service.log).open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_CHARACTERS))
        return log.read().decode(errors="replace")


def _hint(service: Service) -> str:
    return f"All of its log is {service.log}." if service.log else "Its log is above."
