"""Owns what can be wrong with contracts as values: one :class:`Problem` each, and the error that carries them all.

Invariants
    I1  A problem names the file; where the fault has a place in it, also the line and the path in the document.
    I2  Problems are reported in the order (file, line, path), errors and warnings together.
    I3  Loading raises once, with every error of every file; warnings never stop loading.

Called by everything in this room, and by the CLI, which prints problems.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reopen.errors import InvalidInput


class Severity(StrEnum):
    """``error`` stops loading; ``warning`` is advice that ``reopen contracts lint`` prints."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, where it is, and what to do about it."""

    severity: Severity
    file: Path
    line: int | None
    """1-based; ``None`` when the fault has no line, such as a folder without contracts."""
    path: str
    """Where in the document, for example ``slaProperties[1].unit``; empty for the whole file."""
    value: str
    """The offending value as written, shortened; empty when something is missing."""
    message: str
    hint: str

    def __str__(self) -> str:
        place = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        text = ": ".join(part for part in (place, self.severity.value, self.path, self.message) if part)
        return f"{text} Hint: {self.hint}" if self.hint else text

    def as_dict(self) -> dict[str, object]:
        """The problem as ``--json`` prints it."""
        return {
            "severity": self.severity.value,
            "file": str(self.file),
            "line": self.line,
            "path": self.path,
            "value": self.value,
            "message": self.message,
            "hint": self.hint,
        }


class ContractError(InvalidInput):
    """The contracts cannot be used; ``problems`` holds every error that was found (I3)."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = ordered(problems)
        count = len(self.problems)
        if count == 1:
            message = f"The contracts have 1 error: {self.problems[0]}"
        else:
            message = "\n".join([f"The contracts have {count} errors:", *map(str, self.problems)])
        super().__init__(message, problems=count)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.problems,)

    def as_dict(self) -> dict[str, object]:
        return super().as_dict() | {"problems": [problem.as_dict() for problem in self.problems]}


def ordered(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems in the order in which people read them (I2), each once."""
    return tuple(
        sorted(dict.fromkeys(problems), key=lambda p: (str(p.file), p.line or 0, p.path, p.severity.value, p.message))
    )


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """``Did you mean 'x'? `` for the nearest allowed value, or nothing when none is near. Made to start a hint."""
    lowered = {candidate.lower(): candidate for candidate in sorted(allowed)}
    near = difflib.get_close_matches(value.lower(), list(lowered), n=1, cutoff=0.6)
    return f"Did you mean {lowered[near[0]]!r}? " if near else ""


def shown(value: object, limit: int = 80) -> str:
    """A value for a message: its ``repr``, cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
