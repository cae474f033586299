"""Owns ``reopen ready``: could this site take over now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reopen.cli.face import Answer, Face, command
from reopen.cli.text import count_text, duration_text, make_table, plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.recover.readiness import Readiness

PANEL = "Look"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "ready", panel=PANEL, example="reopen ready --site standby")(ready)


def ready(
    face: Face,
    site: Annotated[
        str | None,
        typer.Option(
            "--site", metavar="SITE", help="The site to look at.", show_default="the one that would take over"
        ),
    ] = None,
    send_test: Annotated[bool, typer.Option("--send-test", help="Send a test message to every channel.")] = False,
) -> Answer:
    """Look whether a site could take over now.

    Software, reach, keys and rights, room, age of the copies, and what changed since the last drill that passed. Each
    check says what was measured and what to do. A recovery is not tried: `reopen drill` does that.

    Changes: nothing; it writes a few bytes where a recovery would, and removes them.
    Needs: to be run at that site, with the keys that a recovery there would use.
    Exit 3: a check failed.
    """
    from reopen.desk.readiness import assess_site

    found = assess_site(face.session, site=site, send=send_test)
    return ready_answer(found)


def ready_answer(found: Readiness) -> Answer:
    """What was checked, what failed first and then what warned, and how it ended in a line."""
    from reopen.recover.readiness import Mark

    order = tuple(Mark)
    rows = [
        (check.area.value, check.name, check.dataset or "-", check.verdict.value, check.value, check.what_to_do)
        for check in sorted(found.checks, key=lambda check: -order.index(check.verdict))
    ]
    failed = f"; failed: {', '.join(dict.fromkeys(check.name for check in found.failed))}" if found.failed else ""
    ended = "could take over now" if found.ok else "could NOT take over now"
    counts = f"{count_text(len(found.checks), 'check')}, {len(found.failed)} failed, {len(found.warned)} warned"
    show: list[RenderableType] = [
        make_table(("area", "check", "dataset", "", "measured", "what to do"), rows),
        f"{found.site} {ended}: {counts}, in {duration_text(found.seconds)}{failed}",
    ]
    value = {"ok": found.ok, "verdict": found.verdict.value, **plain(found)}
    return Answer(value=value, show=show, exit_code=EXIT_OK if found.ok else EXIT_NEGATIVE)
