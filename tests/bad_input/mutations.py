"""Structure-aware mutations: valid values with one thing wrong, the way a hostile or faulty writer would have it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str | int, ...]

WRONG: tuple[Callable[[random.Random, Any], Any], ...] = (
    lambda chance, value: None,
    lambda chance, value: True,
    lambda chance, value: 0,
    lambda chance, value: -1,
    lambda chance, value: 2**53 - 1,
    lambda chance, value: -(2**53) + 1,
    lambda chance, value: chance.randrange(-(2**40), 2**40),
    lambda chance, value: 1 << 31,
    lambda chance, value: 0.5,
    lambda chance, value: "",
    lambda chance, value: "\0",
    lambda chance, value: "../../../etc/passwd",
    lambda chance, value: "0001-01-01T00:00:00+14:00",
    lambda chance, value: "9999-12-31T23:59:59-14:00",
    lambda chance, value: "\ud83d\ude00" * 300,
    lambda chance, value: "a" * 70_000,
    lambda chance, value: [],
    lambda chance, value: [[]],
    lambda chance, value: [None],
    lambda chance, value: {},
    lambda chance, value: {"": {}},
    lambda chance, value: [value, value],
    lambda chance, value: {"value": value},
    lambda chance, value: value[:-1] if isinstance(value, str | list) else str(value),
    lambda chance, value: value * 2 if isinstance(value, str | list) else [value],
    lambda chance, value: value.upper() if isinstance(value, str) else value,
    lambda chance, value: value + 1 if isinstance(value, int) else value,
    lambda chance, value: _deep(60),
)


def mutated(body: dict[str, Any], chance: random.Random, keep: tuple[str, ...] = ("kind",)) -> dict[str, Any]:
    """A copy of a document's body in which one to three members, however deep, are wrong, missing or too many.

    :param keep: top-level members that stay, so that the document still reaches the parser that is meant.
    """
    changed = copy.deepcopy(body)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = [place for place in _places(changed) if place and place[0] not in keep]
        if not places:
            break
        place = chance.choice(places)
        parent: Any = changed
        for step in place[:-1]:
            parent = parent[step]
        action = chance.random()
        if action < 0.15:
            del parent[place[-1]]
        elif action < 0.2 and isinstance(parent, dict):
            parent[f"unknown {chance.randrange(9)}"] = chance.choice(WRONG)(chance, parent[place[-1]])
        else:
            parent[place[-1]] = chance.choice(WRONG)(chance, parent[place[-1]])
    return changed


def scrambled(data: bytes, chance: random.Random) -> bytes:
    """Bytes with a few of them changed, cut out, doubled or moved."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        if not changed:
            return bytes(changed)
        at, length = chance.randrange(len(changed)), chance.choice((1, 1, 2, 8, 100))
        action = chance.randrange(6)
        if action == 0:
            changed[at] = chance.randrange(256)
        elif action == 1:
            del changed[at : at + length]
        elif action == 2:
            changed[at:at] = changed[at : at + length]
        elif action == 3:
            changed[at : at + length] = chance.randbytes(length)
        elif action == 4:
            changed[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
        else:
            del changed[at:]
    return bytes(changed)


def _places(value: Any, here: Path = ()) -> Iterator[Path]:
    yield here
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*here, key))


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value
