"""Owns the taking of typed values out of a document that follows the standard, and the noting of what is wrong.

A :class:`Reader` never raises: a bad value is noted as a problem and read as absent, so that one run finds every
fault of a file. The vendor's own properties (``customProperties`` with ``vendor: reopen``) are read here too.

Called by the modules that turn parts of a contract into values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reopen.contracts.document import Document, Place
from reopen.contracts.problems import Problem, Severity, did_you_mean, shown

VENDOR = "reopen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One document and the problems found in it so far."""

    document: Document
    problems: list[Problem] = field(default_factory=list)

    @property
    def data(self) -> Mapping[str, Any]:
        """The whole document as plain data."""
        return self.document.data

    def error(self, place: Place, message: str, hint: str, *, value: object = None) -> None:
        """Note something that stops loading."""
        self.problems.append(self.document.problem(place, message, hint, value=value))

    def warn(self, place: Place, message: str, hint: str, *, value: object = None) -> None:
        """Note something that lint should tell."""
        self.problems.append(self.document.problem(place, message, hint, value=value, severity=Severity.WARNING))


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom:
    """The value of one custom property and where it stands."""

    value: Any
    place: Place


def vendor_properties(
    reader: Reader, properties: Sequence[Mapping[str, Any]], place: Place, known: Collection[str]
) -> dict[str, Custom]:
    """Our properties of a ``customProperties`` list, by name.

    Ours is what says ``vendor: reopen``, and what says no vendor and has a name of ours (before version 3.2 the
    standard had no vendors). An unknown name of ours is an error; a nameless near miss gets a warning.
    """
    found: dict[str, Custom] = {}
    for index, entry in enumerate(properties):
        name = str(entry["property"])
        at = (*place, index)
        vendor = entry.get("vendor")
        if vendor not in (None, VENDOR):
            continue
        if name not in known:
            near = did_you_mean(name, known)
            message = f"{name!r} is no property of vendor {VENDOR}; allowed: {', '.join(sorted(known))}."
            if vendor == VENDOR:
                reader.error((*at, "property"), message, f"{near}Correct the name.", value=name)
            elif name.lower() in {candidate.lower() for candidate in known}:
                reader.warn((*at, "property"), message, f"{near}It is not read as it stands.", value=name)
        elif name in found:
            first = reader.document.line(found[name].place)
            message = f"The property {name!r} is stated twice; the first is on line {first}."
            reader.error((*at, "property"), message, "Keep one of them.", value=name)
        else:
            found[name] = Custom(value=entry["value"], place=(*at, "value"))
    return found


def text_list(reader: Reader, custom: Custom | None, name: str, example: str) -> tuple[str, ...]:
    """A property that must be a list of non-empty texts; empty when it is absent or bad."""
    if custom is None:
        return ()
    hint = f"Write a list, for example 'value: [{example}]'."
    if not isinstance(custom.value, list):
        message = f"{name} must be a list of texts, not {shown(custom.value)}."
        reader.error(custom.place, message, hint, value=custom.value)
        return ()
    texts: list[str] = []
    for index, item in enumerate(custom.value):
        if isinstance(item, str) and item:
            texts.append(item)
        else:
            message = f"{name} must be a list of texts, and {shown(item)} is not one."
            reader.error((*custom.place, index), message, hint, value=item)
    return tuple(texts)
