"""Owns how the CSV files of a dataset are written: one fixed dialect, unless the contract's schema object says
otherwise.

Its ``customProperties`` may hold ``csvDelimiter`` (``,``), ``csvHeader`` (``true``) and ``csvNull`` (the empty text,
quoted or not). The profile of a snapshot and the checks of a recovery read the same files, so they read this one
answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvDialect:
    """Delimiter (one character), whether the first row names the columns, and the text that stands for null."""

    delimiter: str = ","
    header: bool = True
    null: str = ""


def dialect_of(schema: Mapping[str, Any]) -> CsvDialect:
    """The dialect that an ODCS schema object states."""
    stated = {str(item.get("property")): item.get("value") for item in schema.get("customProperties") or ()}
    return CsvDialect(
        delimiter=str(stated.get("csvDelimiter", ",")),
        header=str(stated.get("csvHeader", True)).lower() == "true",
        null=str(stated.get("csvNull", "")),
    )
