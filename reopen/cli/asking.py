"""Owns asking the person at the terminal while a failover is typed: whether what is lost may be lost, and what becomes
of a dataset that failed.

Invariants
    I1  Nobody is asked where nobody sits: both standard input and standard error have to be a terminal, and the answer
        must not be JSON. Then everything is as without this module: the plan begins, and `reopen decide` decides.
    I2  An answer is the record that `reopen decide` would append. It may be given there while it is asked for here.
    I3  No question holds up what goes on beside it, and none outlives the recovery.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from reopen.cli.text import count_text, duration_text, instant_text, printable, size_text
from reopen.errors import Refused, ReopenError

if TYPE_CHECKING:
    from reopen.cli.face import Face
    from reopen.desk.decisions import Undecided
    from reopen.desk.session import Session
    from reopen.recover.plan import PlannedDataset, RecoveryPlan

LOOK_SECONDS = 1.0
"""How often the log is looked at for what failed: a person does not notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where a person types and reads. ``descriptor`` is that of the input; lines come whole from a terminal."""

    descriptor: int
    output: TextIO

    def say(self, text: str) -> None:
        """Write lines."""
        self.output.write(f"{text}\n")
        self.output.flush()

    def forget(self) -> None:
        """Drop what was typed before it was asked for: it is no answer."""
        if os.isatty(self.descriptor):
            termios.tcflush(self.descriptor, termios.TCIFLUSH)

    def line(self, *, seconds: float | None) -> str | None:
        """What was typed, without its end; None when nothing was in time.

        :raises EOFError: nobody can type any more.
        """
        ready, _, _ = select.select([self.descriptor], [], [], seconds)
        if not ready:
            return None
        data = os.read(self.descriptor, 4096)
        if not data:
            raise EOFError
        return data.decode(errors="replace").strip()


def find_terminal(face: Face) -> Terminal | None:
    """The terminal at which somebody sits; None where nobody does (I1)."""
    if face.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return Terminal(descriptor=sys.stdin.fileno(), output=sys.stderr)


def confirm(terminal: Terminal, plan: RecoveryPlan) -> None:
    """Show what a plan loses, and go on only with a yes.

    :raises Refused: anything else was answered; nothing was moved.
    """
    terminal.say(f"the role moves from {plan.source_site} to {plan.target_site} ({plan.scenario}):")
    for dataset in plan.datasets:
        terminal.say(f"    {printable(dataset.name)}: {_loss_of(dataset)}")
    if plan.left_out:
        terminal.say(f"    left out: {', '.join(item.dataset for item in plan.left_out)}")
    terminal.forget()
    terminal.say("Go on? Type yes, or anything else to leave everything as it is.")
    try:
        typed = terminal.line(seconds=None)
    except EOFError:
        typed = ""
    if (typed or "").lower() not in ("y", "yes"):
        raise Refused(
            "it was not confirmed; nothing was moved.",
            hint="`reopen plan failover` shows the plan in full; --yes goes on without the question.",
        )


def _loss_of(dataset: PlannedDataset) -> str:
    """What a dataset loses, as far as it is known (F4)."""
    if dataset.point is None:
        return f"is not recovered: {printable(dataset.problem)}"
    age = "for a time that is unknown" if dataset.rpa is None else duration_text(dataset.rpa.total_seconds())
    text = f"what was written in {age} is lost"
    loss = dataset.loss
    if loss is None or loss.files is None:
        return f"{text}; how many files is unknown"
    rows = "" if loss.rows is None else f", {loss.rows:,} rows"
    newer = "; there may be more" if loss.unknown else ""
    return f"{text}: {count_text(loss.files, 'file')}, {size_text(loss.size_bytes or 0)}{rows}{newer}"


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
