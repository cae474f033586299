"""Owns ``reopen up`` and ``reopen down``: scheduled protection of this site on this machine, started and stopped."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.amounts import parse_duration
from reopen.cli.face import Answer, Face, command
from reopen.cli.text import duration_text, make_table
from reopen.errors import EXIT_OK, InvalidInput, ReopenError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.cli.up_start import Bringing
    from reopen.desk.orchestrator import Services
    from reopen.desk.session import Session

PANEL = "Schedule"
LOOK_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "up", panel=PANEL, example="reopen up")(up)
    command(app, "down", panel=PANEL, example="reopen down")(down)


class Ended(ReopenError):
    """A server or worker that ran in the foreground ended by itself."""

    kind = "service-ended"


def up(
    face: Face,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=1,
            max=65535,
            metavar="N",
            help="The server's port.",
            show_default="`port` of [prefect], 4200 unless set",
        ),
    ] = None,
    every_site: Annotated[
        bool,
        typer.Option("--every-site", help="Work for the other sites of the settings too: both on one machine, to try."),
    ] = False,
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground", help="Stay, log to the terminal, and stop all on SIGTERM: for systemd and containers."
        ),
    ] = False,
    example: Annotated[
        Path | None,
        typer.Option(
            "--example",
            metavar="FOLDER",
            help="Protect a small example in this folder, made unless it is there; your own data is left alone.",
        ),
    ] = None,
) -> Answer:
    """Run what the contracts ask for, on schedule, at this site.

    It starts a Prefect server with its page, and workers, on loopback in the background, and makes a deployment for
    each thing that the contracts ask for. Run it again and what does not run is started, and what changed in the
    contracts is deployed. It survives no reboot: let the system start it, with --foreground.

    Changes: the folder prefect below this site's home, with state, logs and database; the schedules.
    Needs: the keys of what this site does, where the settings look for them.
    """
    from reopen.cli.up_start import Bringing
    from reopen.desk.orchestrator import alone

    if example is not None:
        face.config = _example(face, example)
    sessions = [face.session, *(_others(face.session) if every_site else ())]
    for session in sessions:
        session.contracts  # noqa: B018 - a contract that is wrong is told before anything is started.
    _let_signals_interrupt()
    bringing = Bringing(sessions, port=port, progress=face.progress(), tell=face.note, foreground=foreground)
    with alone(face.session.settings.home):
        services = bringing.run()
    answer = _up_answer(bringing, services)
    if not foreground:
        return answer
    face.note(f"{_page(services)} is up; SIGTERM or Ctrl-C stops it.")
    _stay(face, services)
    return Answer(value={**answer.value, "stopped": True}, show=["stopped"])


def down(
    face: Face,
    wait: Annotated[
        str, typer.Option("--wait", metavar="DURATION", help="How long a process may take to end before it is killed.")
    ] = "10s",
) -> Answer:
    """Stop what `reopen up` started at this site.

    Workers with their runs first, then runs whose worker was killed, then the server; nothing else is stopped. What
    was stored stays. A run that was stopped is ended as crashed, and the next one goes on from there.

    Changes: nothing runs by schedule any more.
    Needs: nothing.
    """
    from reopen.desk.orchestrator import alone

    seconds = parse_duration(wait, "--wait").total_seconds()
    with alone(face.session.settings.home):
        rows = _stop(face.session, seconds)
    value = {"stopped": [{"name": name, "pid": pid, "how": how} for name, pid, how in rows]}
    if not rows:
        return Answer(value=value, show=["Nothing of this site runs."])
    return Answer(value=value, show=[make_table(("what", "process", ""), rows)])


def _stop(session: Session, seconds_max: float) -> list[tuple[str, int, str]]:
    from reopen.desk.orchestrator import Services, clear_temporary, left_runs, read_services, stop, write_services

    home = session.settings.home
    told = read_services(home)
    # Workers first, so that none takes another run; the server last, so that each run can say how it ended.
    workers = stop(told.workers, seconds_max=seconds_max)
    order = [*left_runs(home), *([told.server] if told.server else ())]
    ended = workers | stop(order, seconds_max=seconds_max)
    write_services(home, Services())
    clear_temporary(home)
    return [(service.name, service.pid, ended[service.name]) for service in (*told.workers, *order)]


def _others(session: Session) -> list[Session]:
    from reopen.desk.session import Session

    settings = session.settings
    return [Session(replace(settings, site=name)) for name in sorted(settings.sites) if name != settings.site]


def _example(face: Face, folder: Path) -> Path:
    """The settings of the example, which is made where there is none."""
    from reopen.cli.up_example import make_example

    if face.config is not None:
        raise InvalidInput("--example has settings of its own.", hint="Leave out --config, or --example.")
    file, is_new = make_example(folder)
    if is_new:
        face.note(f"{file.parent} is a small example: put files of yours into its folder data/documents.")
    return file


def _up_answer(bringing: Bringing, services: Services) -> Answer:
    from reopen.cli.deploy import as_value, tables
    from reopen.desk.orchestrator import LOGS, folder_of

    folder = folder_of(bringing.home)
    started = {service.name for service in bringing.started}
    now = time.time()
    rows = [
        (
            service.name,
            service.pid,
            "started" if service.name in started else _since(now - service.started),
        )
        for service in services.services
    ]
    value: dict[str, Any] = {
        "page": _page(services),
        "api": services.url,
        "folder": str(folder),
        "logs": str(folder / LOGS),
        "services": [
            {"name": item.name, "site": item.site, "pid": item.pid, "started": item.name in started, "log": item.log}
            for item in services.services
        ],
        "deployed": as_value(bringing.changes, services.url, dry_run=False),
    }
    config = bringing.sessions[0].settings.path
    show: list[RenderableType] = [
        *tables(bringing.changes, dry_run=False),
        "",
        make_table(("what", "process", ""), rows),
        "",
        f"The page:  {_page(services)}",
        f"Logs:      {folder / LOGS}",
        f"To stop:   {_program()} --config {shlex.quote(str(config))} down",
    ]
    return Answer(value=value, show=show)


def _program() -> str:
    """How this program is called here: `make up` runs it from an environment that nobody has activated."""
    return "reopen" if shutil.which("reopen") else f"{shlex.quote(sys.executable)} -m reopen.cli"


def _page(services: Services) -> str:
    return f"http://127.0.0.1:{services.port}"


def _since(seconds: float) -> str:
    return f"runs for {duration_text(max(0.0, seconds))}"


def _let_signals_interrupt() -> None:
    """Let what stops a service, or closes a terminal, end this command as Ctrl-C does: with what it started (U1). A
    signal that is to be ignored (`nohup`) stays so."""

    def interrupted(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupted)


def _stay(face: Face, services: Services) -> int:
    """Until a signal comes, or `reopen down`; then all is stopped. :raises Ended: one of them ended by itself."""
    from reopen.desk.orchestrator import alone, read_services

    session = face.session
    _let_signals_interrupt()
    gone = None
    try:
        while gone is None:
            time.sleep(LOOK_SECONDS)
            gone = next((service for service in services.services if not service.is_running), None)
    except KeyboardInterrupt:
        pass
    if gone is not None and not read_services(session.settings.home).services:
        return EXIT_OK  # `reopen down` was called elsewhere.
    with alone(session.settings.home):
        _stop(session, 10.0)
    if gone is not None:
        raise Ended(f"{gone.name} (process {gone.pid}) ended by itself; the others were stopped.", hint="See its log.")
    return EXIT_OK
