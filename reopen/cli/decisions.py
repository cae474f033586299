"""Owns ``reopen decide``: what a person says about a step that failed while a recovery runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, Face, command
from reopen.cli.text import instant_text, make_table, plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, InvalidInput

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.desk.decisions import Open

PANEL = "Run again"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "decide", panel=PANEL, example="reopen decide restore:papers skip --why 'they can wait'")(decide)


def decide(
    face: Face,
    step: Annotated[
        str | None, typer.Argument(metavar="STEP", help="A step that failed, or its dataset; what waits when none.")
    ] = None,
    choice: Annotated[str | None, typer.Argument(metavar="CHOICE", help="retry, skip or abort.")] = None,
    why: Annotated[str, typer.Option("--why", help="The reason; it stands in the log and the evidence.")] = "",
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who decides; else the user's name.")] = None,
) -> Answer:
    """Say what becomes of a step that failed: retry it, skip it, or abort the recovery. Exit 3 when something waits.

    It needs the epoch log and nothing else; the recovery that runs looks at the log every two seconds. What serves goes
    on serving after an abort; `reopen rollback` gives the role back.
    """
    from reopen.desk import decisions

    if step is None:
        return _waiting(decisions.open_decisions(face.session))
    if choice is None:
        raise InvalidInput(f"what becomes of {step}?", hint="Say retry, skip or abort after it.")
    taken = decisions.decide(face.session, step, decisions.choice_of(choice), by=by, why=why)
    value: dict[str, Any] = {"decision": plain(taken)}
    return Answer(value=value, show=[f"{taken.by} decided: {taken.choice} {taken.step} (attempt {taken.attempt})"])


def _waiting(found: Open | None) -> Answer:
    steps = () if found is None else found.steps
    value = {"plan": None if found is None else found.plan, "waiting": [plain(step) for step in steps]}
    show: list[RenderableType] = ["nothing waits for a decision"]
    if found is not None and steps:
        rows = [
            (
                step.step, "-" if step.tier is None else step.tier, step.attempt, instant_text(step.failed_at),
                instant_text(step.until), step.reason,
            )
            for step in steps
        ]  # fmt: skip
        columns = ("step", ">tier", ">attempt", "failed at", "waits until", "why")
        show = [
            f"the recovery at {found.target_site}, plan {found.plan[:16]}, has steps that failed:",
            make_table(columns, rows),
            *(f"{step.step}: {step.hint}" for step in steps if step.hint),
        ]
    return Answer(value=value, show=show, exit_code=EXIT_NEGATIVE if steps else EXIT_OK)
