"""Owns asking the person at the terminal while a recovery goes on: what becomes of a dataset that failed.

Invariants
    I1  An answer is the record that `reopen decide` would append. It may be given there while it is asked for here.
    I2  No question holds up what goes on beside it, and none outlives the recovery.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reopen.cli.text import instant_text, printable
from reopen.errors import ReopenError

if TYPE_CHECKING:
    from reopen.cli.terminal import Terminal
    from reopen.desk.decisions import Undecided
    from reopen.desk.session import Session

LOOK_SECONDS = 1.0
"""How often the log is looked at for what failed: a person does not notice."""


@contextmanager
def deciding(terminal: Terminal | None, session: Session) -> Iterator[None]:
    """Ask about each step that fails in the block, in a thread beside it.

    :param session: for this alone; the thread reads the log by it.
    """
    if terminal is None or session.log is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_ask_until, args=(over, terminal, session), name="asking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _ask_until(over: threading.Event, terminal: Terminal, session: Session) -> None:
    from reopen.desk.decisions import open_decisions

    asked: set[tuple[str, int]] = set()
    while not over.wait(LOOK_SECONDS):
        try:
            found = open_decisions(session)
        except ReopenError:
            continue  # The log cannot be read now. The recovery, which needs it more, tells.
        for step in () if found is None else found.steps:
            if (step.step, step.attempt) not in asked:
                asked.add((step.step, step.attempt))
                if not _ask(over, terminal, session, step):
                    return


def _ask(over: threading.Event, terminal: Terminal, session: Session, step: Undecided) -> bool:
    """Ask about one step until it is decided, here or elsewhere; False when nobody can answer any more."""
    from reopen.desk.decisions import choice_of, decide, open_decisions

    terminal.say(f"{step.step} failed: {printable(step.reason)}")
    if step.hint:
        terminal.say(printable(step.hint))
    terminal.forget()
    terminal.say(f"retry, skip WHY, or abort WHY? Until {instant_text(step.until)}; the others go on meanwhile.")
    while not over.is_set():
        try:
            typed = terminal.line(seconds=LOOK_SECONDS)
            if typed is None:
                found = open_decisions(session)
                if found is None or not any((s.step, s.attempt) == (step.step, step.attempt) for s in found.steps):
                    terminal.say(f"{step.step} does not wait any more.")
                    return True
                continue
            choice, _, why = typed.partition(" ")
            taken = decide(session, step.step, choice_of(choice.lower()), by=None, why=why.strip())
        except EOFError:
            return False
        except ReopenError as error:
            terminal.say(str(error))
            continue
        terminal.say(f"{taken.by} decided: {taken.choice} {taken.step}")
        return True
    return True
