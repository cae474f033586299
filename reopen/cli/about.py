"""Owns the commands about the program itself: ``version`` and ``help``."""

from __future__ import annotations

from typing import Annotated

import typer

from reopen import __version__
from reopen.cli.face import Answer, Face, command
from reopen.cli.text import make_table
from reopen.errors import NotFound

PANEL = "About"

EXIT_CODES: tuple[tuple[int, str, str], ...] = (
    (0, "done", "The command did what was asked, and what it found is good."),
    (1, "internal", "A fault of ours, or an error that nobody foresaw. --verbose shows the traceback."),
    (2, "invalid-input", "An option, the settings, a contract or a key file is wrong. Correct it and run again."),
    (3, "negative", "It worked, and what it found is bad: an incomplete snapshot, damage, a missed objective."),
    (4, "not-found", "A dataset, snapshot, vault, key or path does not exist."),
    (5, "corrupt", "Stored bytes are not what was written. `reopen verify` names them, `reopen repair` mends some."),
    (6, "conflict", "Somebody else got there first, or the state is not the expected one. Look, then decide."),
    (7, "refused", "A rule of safety forbids it: a key that is not here, a full vault, a weak fence."),
    (8, "transient", "A store or a network did not answer. Try again later."),
    (130, "interrupted", "Stopped by Ctrl-C. What was stored is kept."),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @command(app, "version", panel=PANEL, example="reopen version --json")
    def version(face: Face) -> Answer:
        """Show the version."""
        return Answer(value={"version": __version__}, show=[f"reopen {__version__}"])

    @command(app, "help", panel=PANEL, example="reopen help exit-codes")
    def help_(
        face: Face, topic: Annotated[str, typer.Argument(help="exit-codes.", metavar="TOPIC")] = "exit-codes"
    ) -> Answer:
        """Explain a topic: exit-codes."""
        if topic != "exit-codes":
            raise NotFound(
                f"there is no help on {topic!r}.", hint="Topics: exit-codes. `reopen --help` lists commands."
            )
        codes = [{"code": code, "kind": kind, "meaning": meaning} for code, kind, meaning in EXIT_CODES]
        return Answer(value={"exit_codes": codes}, show=[make_table((">code", "kind", "meaning"), EXIT_CODES)])
