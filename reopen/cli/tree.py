"""Owns the command tree: which commands there are, and which module each is in.

A module is imported when one of its commands is called, or when all are to be shown: whoever takes a snapshot does not
wait for what ``reopen prune`` needs.

Invariants
    T1  :data:`COMMANDS` names what the modules register, no more and no less (tests/cli/test_tree.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.main

from reopen.cli.face import ConfigOption, JsonOption, QuietOption, ReopenGroup, VerboseOption

EPILOG = (
    "Exit codes: 0 done; 1 a fault of ours; 2 wrong input; 3 it worked and what it found is bad; 4 not found; "
    "5 damaged; 6 conflict; 7 refused for safety; 8 try again later; 130 interrupted.\n\n"
    "Example: reopen snapshot\n\n"
    "See also: `reopen help recovery` on the worst day, `reopen help` for all topics"
)

COMMANDS: Mapping[str, str] = {
    "init": "setup",
    "demo": "demo.command",
    "up": "up",
    "down": "up",
    "deploy": "deploy",
    "snapshot": "copies",
    "retire": "copies",
    "verify": "upkeep",
    "replicate": "upkeep",
    "repair": "upkeep",
    "retain": "retention",
    "hold": "retention",
    "release": "retention",
    "clear": "clearing",
    "prune": "prune",
    "snapshots": "history",
    "ls": "history",
    "diff": "history",
    "sql": "ask",
    "catalog": "ask",
    "status": "state",
    "report": "report",
    "metrics": "report",
    "ready": "ready",
    "watch": "watch",
    "restore": "restoring",
    "failover": "recovery",
    "approve": "roles",
    "commit": "roles",
    "rollback": "roles",
    "failback": "roles",
    "reprotect": "roles",
    "runbook": "runbook",
    "kit": "kit",
    "decide": "decisions",
    "stage": "standby",
    "locate": "standby",
    "drill": "drill",
    "version": "about",
    "help": "about",
    "keys": "keys",
    "contracts": "contracts",
    "plan": "recovery",
    "evidence": "evidence",
    "notify": "notices",
}
"""The module below :mod:`reopen.cli` of each command or group of commands, in the order of the help. Each module has
``register(app)``."""


def registered(module: str) -> dict[str, Any]:
    """The commands and groups that a module below :mod:`reopen.cli` registers, by name."""
    part = typer.Typer(rich_markup_mode="rich")
    import_module(f"reopen.cli.{module}").register(part)
    return dict(typer.main.get_group(part).commands)


class _Commands(MutableMapping[str, Any]):
    """The commands by name, each made when it is first looked up. All names are known from the beginning."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = dict.fromkeys(COMMANDS)

    def __getitem__(self, name: str) -> Any:
        if self._made[name] is None:
            self._made |= registered(COMMANDS[name])
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


class _Tree(ReopenGroup):
    """The top of the command tree."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()


def _show_version(wanted: bool) -> None:
    if wanted:
        from reopen import __version__

        sys.stdout.write(f"reopen {__version__}\n")
        raise typer.Exit


def make_app() -> typer.Typer:
    """The whole command tree."""
    app = typer.Typer(
        name="reopen",
        cls=_Tree,
        help="Keep copies of the data a business runs on, and prove that it can reopen from them.",
        epilog=EPILOG,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def top(
        ctx: typer.Context,
        config: ConfigOption = None,
        json: JsonOption = False,
        quiet: QuietOption = False,
        verbose: VerboseOption = False,
        version: Annotated[
            bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
        ] = False,
    ) -> None:
        ctx.obj = {"config": config, "json": json, "quiet": quiet, "verbose": verbose}

    return app


app = make_app()
