"""Owns the command ``demo``: what `make run` runs."""

from __future__ import annotations

from typing import Annotated

import typer

from reopen.cli.face import Answer, Face, command
from reopen.errors import InvalidInput

PANEL = "Set up"
SCALE_MAX = 10.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "demo", panel=PANEL, example="reopen demo")(demo)


def demo(
    face: Face,
    scale: Annotated[
        float, typer.Option("--scale", metavar="NUMBER", help="How large its tables are: 0.1 is 36 MB; at most 10.")
    ] = 0.1,
    prefect: Annotated[
        bool, typer.Option("--prefect/--no-prefect", help="Run as Prefect flows, or by the engine alone.")
    ] = True,
) -> Answer:
    """Watch a small business lose its site and reopen.

    It makes a business with real tables, takes and checks copies, destroys production and opens at the standby. All of
    it is below .reopen/demo, made anew each time; your own data and vaults are not touched.

    Changes: the folder .reopen/demo.
    Needs: the extra `demo` of the package, which makes the tables.
    """
    from rich.console import Console

    from reopen.cli.demo.story import Story

    if not 0 < scale <= SCALE_MAX:
        raise InvalidInput(f"--scale {scale} is not between 0 and {SCALE_MAX:g}.", hint="0.1 is the usual one.")
    console = Console(stderr=face.json, quiet=face.quiet, soft_wrap=True)
    told = Story(face.session.settings, scale=scale, console=console, prefect=prefect).run()
    return Answer(value=told)
