"""Owns what can be wrong with settings as values, and the one error that tells all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reopen.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong with the settings."""

    key: str
    """The key of the file (``sites.standby.role``) or the variable of the environment; empty for the whole file."""
    message: str
    hint: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.key, self.message) if part)


def faults_error(file: Path, faults: Sequence[Fault]) -> InvalidInput:
    """The error that tells all faults of a settings file."""
    keys = ", ".join(fault.key for fault in faults)
    if len(faults) == 1:
        return InvalidInput(f"{file}: {faults[0]}", hint=faults[0].hint, file=file, keys=keys)
    rows = [f"{file}: {fault} Hint: {fault.hint}" for fault in faults]
    return InvalidInput("\n".join([f"The settings have {len(faults)} errors:", *rows]), file=file, keys=keys)
