"""Owns the command tree and the console entry point."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import typer

from reopen.cli import (
    about,
    contracts,
    copies,
    decisions,
    drill,
    evidence,
    history,
    keys,
    notices,
    prune,
    ready,
    recovery,
    retention,
    runbook,
    setup,
    standby,
    state,
    upkeep,
)
from reopen.cli.demo import command as demo
from reopen.cli.face import ConfigOption, QuietOption, ReopenGroup, VerboseOption

EPILOG = (
    "Exit codes: 0 done; 1 a fault of ours; 2 wrong input; 3 it worked and what it found is bad; 4 not found; "
    "5 damaged; 6 conflict; 7 refused for safety; 8 try again later; 130 interrupted. `reopen help exit-codes` says "
    "more. Example: reopen snapshot"
)

GROUPS = (
    setup,
    keys,
    demo,
    contracts,
    copies,
    upkeep,
    retention,
    prune,
    history,
    state,
    ready,
    recovery,
    runbook,
    decisions,
    standby,
    drill,
    evidence,
    notices,
    about,
)
"""Modules with ``register(app)``, in the order of the help."""


def make_app() -> typer.Typer:
    """The whole command tree."""
    app = typer.Typer(
        name="reopen",
        cls=ReopenGroup,
        help="Keep copies of the data a business runs on, and prove that it can reopen from them.",
        epilog=EPILOG,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def top(
        ctx: typer.Context, config: ConfigOption = None, quiet: QuietOption = False, verbose: VerboseOption = False
    ) -> None:
        ctx.obj = {"config": config, "quiet": quiet, "verbose": verbose}

    for group in GROUPS:
        group.register(app)
    return app


app = make_app()


class _NoPandas(MetaPathFinder):
    """The first Arrow array of a process imports pandas where it is installed, only to ask whether it was handed a
    series: most of a second, in a process that has no use for it. Checks that need pandas run in one of their own."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Nothing is found by this; ``pandas`` is not even looked for."""
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not used by the command line", name=fullname)
        return None


def main(args: list[str] | None = None) -> Any:
    """Run ``reopen``; exits the process."""
    sys.meta_path.insert(0, _NoPandas())
    # numpy's linear algebra would start a thread a core, which spin and which we have no use for.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A scan makes millions of tuples and no cycles; looking for those took a seventh of its time.
    gc.set_threshold(200_000, 20, 50)
    # A file name may hold what the locale cannot show.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app(args=args, prog_name="reopen")
