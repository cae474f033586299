"""Stored values across versions: what a member that was added later means for what was stored before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest

from reopen.control.values import from_json, later, stored, to_json
from reopen.errors import Corrupt


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stored value with members of two versions."""

    name: str
    note: str = ""
    group: Annotated[str, later("")] = ""
    temperature: Annotated[str, later("cold")] = "cold"


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A stored value that holds others."""

    parts: tuple[Part, ...]


def test_what_an_earlier_version_stored_reads_and_encodes_again_as_it_was() -> None:
    earlier = {"parts": [{"name": "orders", "note": ""}]}

    value = from_json(Whole, earlier, "plan")

    assert value == Whole(parts=(Part(name="orders"),))
    assert to_json(value) == earlier


def test_a_later_member_is_stored_when_it_says_something() -> None:
    value = Whole(parts=(Part(name="orders", group="sales", temperature="warm"),))

    assert to_json(value) == {"parts": [{"name": "orders", "note": "", "group": "sales", "temperature": "warm"}]}
    assert from_json(Whole, to_json(value), "plan") == value


def test_a_member_that_no_version_knows_is_refused() -> None:
    with pytest.raises(Corrupt, match="colour"):
        from_json(Part, {"name": "orders", "colour": "red"}, "plan")
