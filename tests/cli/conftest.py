"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest

from reopen.cli import asking, terminal
from reopen.cli.terminal import Terminal
from tests.cli.person import Person
from tests.cli.place import Place


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
