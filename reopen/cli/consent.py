"""Owns the one rule about dangerous commands: at a terminal they show what they are about to do, and ask.

Dangerous is what takes something away that a run of the opposite command does not give back: the role, the way back,
writers that are held, copies, keys, what protects copies, what stands in a vault's place. What only adds is not asked.

Invariants
    C1  Where somebody sits (:mod:`reopen.cli.terminal`) nothing is changed before they have typed a yes. Anything else,
        the end of the input, or no answer within :data:`ANSWER_SECONDS_MAX` is refused (exit 7).
    C2  Where nobody sits the command goes on as it was typed: a timer, a pipe, a flow or a script has said what it
        wants by calling it, and must never hang. ``--json`` is never asked, ``--yes`` says yes beforehand.
    C3  What was begun and confirmed before, and is gone on with, is not asked again.
    C4  A command that would change nothing asks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from reopen.cli.text import duration_text, printable
from reopen.errors import Refused

if TYPE_CHECKING:
    from reopen.cli.face import Face

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Go on without asking; only a terminal is asked.")]

ANSWER_SECONDS_MAX = 600.0
"""Time to read a plan and ask a colleague. Some machines give their jobs a terminal at which nobody ever sits."""


def consent(face: Face, shown: Callable[[], Iterable[str]], *, yes: bool, kept: str = "nothing was changed") -> bool:
    """Show what is about to be done, and come back only when it is wanted (C1, C2); whether somebody was asked.

    :param shown: the lines; only called where they are shown. None of them: there is nothing to ask about (C4).
    :param kept: what is true when the answer is no.
    :raises Refused: anything but a yes was answered.
    """
    from reopen.cli import terminal as terminals

    terminal = None if yes else terminals.find_terminal(face)
    if terminal is None:
        return False
    lines = [printable(line) for line in shown()]
    if not lines:
        return False
    terminal.say("\n".join(lines))
    terminal.forget()
    terminal.say("Go on? Type yes, or anything else to leave everything as it is.")
    try:
        typed = terminal.line(seconds=ANSWER_SECONDS_MAX)
    except EOFError:
        typed = ""
    if typed is None:
        why = f"nobody answered within {duration_text(ANSWER_SECONDS_MAX)}"
    elif typed.lower() in ("y", "yes"):
        return True
    else:
        why = "it was not confirmed"
    raise Refused(f"{why}; {kept}.", hint="--yes goes on without the question.")
