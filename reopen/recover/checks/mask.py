"""Owns the masking of failing rows: what a result may say of them where the contract does not allow to show them.

Evidence and reports go to people who may read that a check failed, and not whose row made it fail. Names of columns,
counts and whether a value is NULL stay; values do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "•••"
_QUOTED = re.compile(r"'[^']*'")
_ROW_LISTS = (
    "partial_unexpected_list",
    "unexpected_list",
    "partial_unexpected_index_list",
    "unexpected_index_list",
    "unexpected_rows",
)
"""Where Great Expectations puts values of rows."""
_COUNTS = "partial_unexpected_counts"
"""How often a value was met, as pairs of value and count; the count says nothing of the value."""


def mask_value(value: Any) -> Any:
    """A value with everything hidden but its columns and that it is NULL."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: mask_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [mask_value(part) for part in value]
    return MASK


def mask_measure(value: Any) -> Any:
    """What was measured over all rows: a number is shown, for it is what the rule is about; anything else is hidden."""
    return value if value is None or isinstance(value, int | float) else _number_or_mask(value)


def mask_text(text: str) -> str:
    """A message with what it quotes hidden: databases quote the value that they could not convert."""
    return _QUOTED.sub(f"'{MASK}'", text)


def mask_result(result: dict[str, Any]) -> None:
    """Mask one of the engine's own results in place."""
    mask_exceptions(result)
    body = result.get("result") or {}
    for part in (body, body.get("details") or {}):
        for key in _ROW_LISTS:
            if key in part:
                part[key] = mask_value(part[key])
        for entry in part.get(_COUNTS) or ():
            entry["value"] = mask_value(entry.get("value"))
    if "observed_value" in body:
        body["observed_value"] = mask_measure(body["observed_value"])


def mask_exceptions(result: dict[str, Any]) -> None:
    """Mask what an exception in a result quotes, in place; its traceback goes."""
    info = result.get("exception_info") or {}
    for entry in [info, *info.values()]:
        if isinstance(entry, dict) and "exception_message" in entry:
            entry["exception_message"] = mask_text(str(entry["exception_message"] or ""))
            entry["exception_traceback"] = ""


def _number_or_mask(value: Any) -> Any:
    # A decimal is a number that is no float: the text of one has digits and nothing else to hide.
    return value if re.fullmatch(r"-?\d+(\.\d+)?", str(value)) and not isinstance(value, str) else MASK
