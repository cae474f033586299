"""Owns how a long operation tells that it is alive. The engine reports; the face (a terminal, a log, a Prefect
artifact) decides how it looks. A :class:`Progress` may be called from many threads at once.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What an operation calls while it works."""

    def start(self, label: str, total: int | None, unit: str) -> None:
        """A stage begins: its name, how much there is to do (``None``: unknown) and in which unit (``bytes``,
        ``files``)."""
        ...

    def advance(self, amount: int) -> None:
        """``amount`` more units of the current stage are done."""
        ...

    def finish(self) -> None:
        """The current stage is over."""
        ...


class NoProgress:
    """Says nothing; the default of every verb."""

    def start(self, label: str, total: int | None, unit: str) -> None:
        """Ignore the start of a stage."""

    def advance(self, amount: int) -> None:
        """Ignore progress."""

    def finish(self) -> None:
        """Ignore the end of a stage."""


SILENT = NoProgress()
