"""Owns ``reopen runbook``: the plan as pages that a person can follow by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reopen.cli.face import Answer, Face, command
from reopen.cli.options import TargetOption
from reopen.cli.text import plain
from reopen.errors import InvalidInput

PANEL = "Run again"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "runbook", panel=PANEL, example="reopen runbook --html runbook.html")(runbook)


def runbook(
    face: Face,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as one HTML file, for a browser or paper.")
    ] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Write both forms into the control store, where the standby has them.")
    ] = False,
    to: TargetOption = None,
) -> Answer:
    """Print what a person follows on the worst day.

    The run-book of the next failover: contacts, order, objectives, what is lost, and every command. Its last pages work
    without Reopen. Replication, staging and drills keep it at the standby; keep a copy on paper.

    Changes: nothing; with --html the file, with --store the control store.
    Needs: any key of the vault.
    """
    from reopen.desk.runbook import keep_runbook, next_failover, surroundings_of
    from reopen.recover.runbook import runbook as as_markdown
    from reopen.recover.runbook import runbook_html

    session = face.session
    plan, around = next_failover(session, to=to), surroundings_of(session)
    text = as_markdown(plan, around)
    value = {"plan": plan.digest, "shape": plan.shape, "runbook": text, "html": None, "stored": None}
    show = []
    if html is not None:
        try:
            html.write_text(runbook_html(plan, around), encoding="utf-8")
        except OSError as error:
            raise InvalidInput(f"{html} cannot be written: {error.strerror}.", hint="Name another file.") from error
        value["html"] = str(html)
        show.append(f"the run-book is in {html}")
    if store:
        value["stored"] = plain(keep_runbook(session, plan=plan))
        show.append(f"the run-book is in {session.settings.control}: runbook.md and runbook.html")
    return Answer(value=value, show=show or [text])
