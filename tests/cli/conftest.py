"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Settings, keys and a vault, and one dataset ``papers`` with two files."""
    made = Place(folder=tmp_path)
    made.run("init")
    made.contract("papers")
    made.write("papers", one="first", sub__two="second")
    return made
