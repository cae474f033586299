"""Owns ``reopen decide``: what a person says about a step that failed while a recovery runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, Face, command
from reopen.cli.options import ByOption
from reopen.cli.text import instant_text, make_table, plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, InvalidInput

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.desk.decisions import Open

PANEL = "Run again"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "decide", panel=PANEL, example="reopen decide restore:papers skip --reason 'they can wait'")(decide)


def decide(
    face: Face,
    step: Annotated[
        str | None,
        typer.Argument(metavar="STEP", help="A step that failed, or its dataset. What waits is listed when left out."),
    ] = None,
    choice: Annotated[str | None, typer.Argument(metavar="CHOICE", help="retry, skip or abort.")] = None,
    why: Annotated[
        str, typer.Option("--reason", "--why", metavar="REASON", help="Why, in your words; it is recorded.")
    ] = "",
    by: ByOption = None,
) -> Answer:
    """Say what becomes of a step that failed.

    retry: again. skip: go on without it, and without what needs it. abort: begin nothing more; what serves goes on
    serving, and `reopen rollback` gives the role back. Without a step it lists what waits, why, and until when. The
    recovery that runs sees it within two seconds.

    Changes: adds the decision to the epoch log.
    Needs: the epoch log in reach, from any machine; a --reason to skip or abort. No key.
    Exit 3: without a step, when something waits.
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
