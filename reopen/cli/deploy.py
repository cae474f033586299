"""Owns ``reopen deploy``: the schedules on the Prefect server become what the contracts say. Works through the package
``deployments``, which stands above this one and is looked up by name, like the flows (:mod:`reopen.cli.flows_bridge`).
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, Face, command
from reopen.cli.text import make_table
from reopen.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from reopen.desk.session import Session

PANEL = "Schedule"
URL_VARIABLE = "PREFECT_API_URL"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "deploy", panel=PANEL, example="reopen deploy --dry-run")(deploy)


def deploy(
    face: Face,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    keep_stale: Annotated[
        bool,
        typer.Option("--keep-stale", help="Leave what no contract asks for any more. Without it, that is removed."),
    ] = False,
) -> Answer:
    """Make the schedules on the Prefect server fit the contracts.

    One deployment for each thing that this site does, with the automations that go with them. What people changed there
    by hand stays: schedules of their own, and whether one is paused.

    Changes: deployments and automations of this site; nothing in a vault.
    Needs: the server of `reopen up`, or the one that PREFECT_API_URL names.
    """
    from reopen.desk.orchestrator import url_of

    session = face.session
    url = os.environ.get(URL_VARIABLE) or url_of(session.settings.home)
    if not url:
        raise Refused(
            "no Prefect server is known: none was started by `reopen up`, and PREFECT_API_URL names none.",
            hint="`reopen up` starts one and deploys; or set PREFECT_API_URL, as in http://127.0.0.1:4200/api.",
        )
    changes = bring(session, url, prune=not keep_stale, dry_run=dry_run)
    return Answer(value=as_value(changes, url, dry_run=dry_run), show=tables(changes, dry_run=dry_run))


def bring(session: Session, url: str, *, prune: bool = True, dry_run: bool = False) -> Sequence[Any]:
    """Make a server agree with the contracts; returns what changed, with ``action``, ``full_name`` and ``detail`` each.

    :raises Refused: Prefect is not installed.
    """
    changes: Sequence[Any] = part("deployments.deploy", session).deploy(session, url, prune=prune, dry_run=dry_run)
    return changes


def part(module: str, session: Session) -> Any:
    """A module above this one. :raises Refused: it is not installed."""
    try:
        environment = importlib.import_module("tasks.environment")
        environment.prepare(session.settings.home)
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Refused(
            f"this needs the module {error.name}, which is not installed.",
            hint="Install the package with its orchestrator. Everything else works without: cron can run `reopen`.",
        ) from error


def as_value(changes: Sequence[Any], url: str, *, dry_run: bool) -> dict[str, Any]:
    """What changed, for ``--json``."""
    return {
        "url": url,
        "dry_run": dry_run,
        "changed": any(change.action not in ("unchanged", "stale") for change in changes),
        "changes": [{"action": change.action, "name": change.full_name, "detail": change.detail} for change in changes],
    }


def tables(changes: Sequence[Any], *, dry_run: bool) -> list[RenderableType]:
    """What changed as a table, and in a line what did not."""
    told = [change for change in changes if change.action != "unchanged"]
    same = len(changes) - len(told)
    shown: list[RenderableType] = []
    if told:
        rows = [(change.action, change.full_name, change.detail or "-") for change in told]
        shown.append(make_table(("", "what", "when, or why"), rows))
    word = "would be left as they are" if dry_run else "were as the contracts say"
    return [*shown, *([f"{same} {word}"] if same else [])]
