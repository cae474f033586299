"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest

from reference.documents import faults
from reopen.cli import asking, terminal
from reopen.cli.face import Answer, Face
from reopen.cli.terminal import Terminal
from reopen.cli.text import plain
from tests.cli.person import Person
from tests.cli.place import Place


@pytest.fixture(autouse=True)
def documents(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Holds every document that a command prints to the schema of that command."""
    found: list[str] = []
    finish = Face.finish

    def held(self: Face, answer: Answer) -> int:
        if self.json and not answer.bare:
            found.extend(faults(self.name, {"schema": self.schema, **plain(answer.value)}))
        return finish(self, answer)

    monkeypatch.setattr(Face, "finish", held)
    yield
    assert not found, "\n".join(found)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Settings, keys and a vault, and one dataset ``papers`` with two files."""
    made = Place(folder=tmp_path)
    made.run("init")
    made.contract("papers")
    made.write("papers", one="first", sub__two="second")
    return made


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    """Somebody at a real pseudo-terminal."""
    outer, inner = pty.openpty()
    sitting = Person(outer)
    monkeypatch.setattr(asking, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(
        terminal, "find_terminal", lambda face: None if face.json else Terminal(descriptor=inner, output=sitting)
    )
    yield sitting
    os.close(inner)
    os.close(outer)
