"""Every command, and its help as people see it; made once for all tests of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import typer.main
from typer.testing import CliRunner

from reopen.cli.tree import app


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below one, with the words that call it."""
    for name, found in getattr(command, "commands", {}).items():
        yield (*path, name), found
        yield from commands(found, (*path, name))


TREE = dict(commands(typer.main.get_command(app)))


LEAVES = [path for path, command in TREE.items() if not hasattr(command, "commands")]
"""Those that do something; the others are groups."""


@cache
def shown(*path: str, columns: int = 3000) -> str:
    """The help of a command on a terminal so wide."""
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    assert result.exit_code == 0
    return result.stdout
