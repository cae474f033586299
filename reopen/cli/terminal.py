"""Owns the person at the terminal: whether somebody sits there, what is said to them, and what they type.

Invariants
    I1  Nobody is asked where nobody can answer: standard input and standard error are both a terminal, the command has
        it (a job in the background does not), and the answer must not be JSON.
"""

from __future__ import annotations

import os
import select
import sys
import termios
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from reopen.cli.face import Face

COLUMNS_MIN = 20
"""A terminal that says it is narrower is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where a person types and reads. ``descriptor`` is that of the input; lines come whole from a terminal."""

    descriptor: int
    output: TextIO

    def say(self, text: str) -> None:
        """Write lines, each folded at the terminal's width below its own indent."""
        import textwrap

        width = max(COLUMNS_MIN, self._columns() - 1)
        for line in text.splitlines():
            indent = " " * (len(line) - len(line.lstrip()))
            folded = textwrap.fill(
                line, width, subsequent_indent=f"{indent}  ", break_on_hyphens=False, break_long_words=False
            )
            self.output.write(f"{folded}\n")
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
        try:
            data = os.read(self.descriptor, 4096)
        except OSError as error:
            # What a terminal that was closed gives; nobody sits there any more.
            raise EOFError from error
        if not data:
            raise EOFError
        return data.decode(errors="replace").strip()

    def _columns(self) -> int:
        import shutil

        try:
            columns = os.get_terminal_size(self.descriptor).columns
        except OSError:
            columns = 0
        # A pseudo-terminal that nobody gave a size says 0; COLUMNS, else 80, is the common rule then.
        return columns or shutil.get_terminal_size().columns


def find_terminal(face: Face) -> Terminal | None:
    """The terminal at which somebody sits; None where nobody does (I1)."""
    if face.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    descriptor = sys.stdin.fileno()
    if _is_in_background(descriptor):
        return None
    return Terminal(descriptor=descriptor, output=sys.stderr)


def _is_in_background(descriptor: int) -> bool:
    """Whether reading from the terminal would stop this process."""
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:
        # It is not the terminal of this session, so that no job control is done on it.
        return False
