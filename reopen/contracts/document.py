"""Owns one contract file as a value: plain data, and a line for every place. :mod:`reopen.contracts.parse` reads it.

Invariants
    I2  Data are dict, list, str, int, float, bool and None only; every key is text.
    I3  ``Document.line`` answers for every path, with the nearest place above it where a thing is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reopen.contracts.problems import Problem, Severity, shown

Place = tuple[str | int, ...]
"""A place in a document as keys and indexes, for example ``("slaProperties", 1, "unit")``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One contract file, parsed and not yet understood. ``digest`` is the BLAKE3 hex digest of its bytes."""

    file: Path
    digest: str
    data: Mapping[str, Any]
    lines: Mapping[Place, int]
    follows_standard: bool = False
    """Whether these very bytes were found to follow the standard before, so that it need not be asked again."""

    def line(self, place: Place) -> int:
        """The 1-based line of a place, or of the nearest enclosing place that exists (I3)."""
        while place not in self.lines:
            place = place[:-1]
        return self.lines[place]

    def problem(
        self, place: Place, message: str, hint: str, *, value: object = None, severity: Severity = Severity.ERROR
    ) -> Problem:
        """A problem at a place of this file."""
        return Problem(
            severity=severity,
            file=self.file,
            line=self.line(place),
            path=path_text(place),
            value="" if value is None else shown(value),
            message=message,
            hint=hint,
        )


class UnparseableError(Exception):
    """The file is no document at all; ``problem`` says why. Internal to this room."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def path_text(place: Place) -> str:
    """A place as people write it: ``slaProperties[1].unit``."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
