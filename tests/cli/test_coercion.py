"""What is answered without Typer's own coercion is what Typer would have answered."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
import typer.main

from reopen.cli.coercion import spare_pydantic


class Depth(StrEnum):
    """A choice."""

    SHALLOW = "shallow"
    VERY_DEEP = "very-deep"


app = typer.Typer(add_completion=False)


@app.command()
def everything(
    words: Annotated[list[str] | None, typer.Argument()] = None,
    text: Annotated[str | None, typer.Option()] = None,
    given: Annotated[str, typer.Option()] = "something",
    texts: Annotated[list[str] | None, typer.Option()] = None,
    count: Annotated[int | None, typer.Option(min=0)] = None,
    sample: Annotated[int, typer.Option(min=1)] = 16,
    share: Annotated[float, typer.Option()] = 0.5,
    depth: Annotated[Depth, typer.Option()] = Depth.SHALLOW,
    other: Annotated[Depth | None, typer.Option(case_sensitive=False)] = None,
    place: Annotated[Path | None, typer.Option()] = None,
    there: Annotated[Path, typer.Option(exists=True)] = Path(),
    flag: Annotated[bool, typer.Option("--flag")] = False,
    turned: Annotated[int, typer.Option(parser=lambda text: -int(text))] = 0,
) -> None:
    """Every kind of parameter that our commands have, and some that they do not."""


def outcome(arguments: list[str], *, spared: bool) -> Any:
    """The values, with their types, or the error."""
    command = typer.main.get_command(app)
    if spared:
        spare_pydantic(command.params)
    try:
        values = command.make_context("everything", list(arguments)).params
    except typer.TyperException as error:
        return error.format_message()
    return {name: (type(value), value) for name, value in values.items()}


LINES = [
    "",
    "one two",
    "--text x --given y --texts a --texts b",
    "--text=",
    "--count 3 --sample 2 --share 0.25",
    "--count -1",
    "--sample 0",
    "--count many",
    "--depth very-deep --other VERY-DEEP",
    "--depth VERY_DEEP",
    "--depth deepest",
    "--place . --there .",
    "--place gone/away",
    "--there gone/away",
    "--flag --turned 5",
    "--turned five",
    "--unknown",
]


@pytest.mark.parametrize("line", LINES)
def test_plain_values_are_those_of_typer(line: str) -> None:
    assert outcome(line.split(), spared=True) == outcome(line.split(), spared=False)


def test_a_file_that_may_not_be_read_is_refused_as_typer_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # What root is never told.
    arguments = ["--place", str(tmp_path / "file")]
    assert "not readable" in outcome(arguments, spared=True)
    assert outcome(arguments, spared=True) == outcome(arguments, spared=False)


def test_parameters_are_spared_once() -> None:
    [parameter, *_] = typer.main.get_command(app).params
    [once] = spare_pydantic([parameter])
    coercion = once.get_runtime_param()
    [twice] = spare_pydantic([once])
    assert twice.get_runtime_param() is coercion


def test_parameters_of_another_kind_are_left_alone() -> None:
    other = object()
    assert spare_pydantic([other]) == [other]
