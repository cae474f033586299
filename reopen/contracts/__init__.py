"""What must survive, and how soon: ODCS contracts in, frozen :class:`Dataset` values out.

The names below are the room's public face. :mod:`reopen.contracts.load` is imported on first use, because it brings
the YAML parser and the JSON schema with it (0.3 s) and most rooms only need the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reopen.contracts.model import (
    Channel,
    Dataset,
    Location,
    Objective,
    RetentionRule,
    SourceKind,
    Table,
    TableFormat,
    Temperature,
    TierDefaults,
)
from reopen.contracts.problems import ContractError, Problem, Severity

if TYPE_CHECKING:
    from reopen.contracts.graph import Raise
    from reopen.contracts.load import Contracts, lint_contracts, load_contracts

__all__ = [
    "Channel",
    "ContractError",
    "Contracts",
    "Dataset",
    "Location",
    "Objective",
    "Problem",
    "Raise",
    "RetentionRule",
    "Severity",
    "SourceKind",
    "Table",
    "TableFormat",
    "Temperature",
    "TierDefaults",
    "lint_contracts",
    "load_contracts",
]


def __getattr__(name: str) -> object:
    if name in ("Contracts", "lint_contracts", "load_contracts"):
        from reopen.contracts import load

        return getattr(load, name)
    if name == "Raise":
        from reopen.contracts.graph import Raise

        return Raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
