"""Owns the commands about the program itself: ``version`` and ``help``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen import __version__
from reopen.cli.face import Answer, Face, Lines, command
from reopen.cli.text import make_table
from reopen.cli.topics import COLUMNS_MAX, TOPICS, find, laid_out, text_of, words
from reopen.errors import NotFound

if TYPE_CHECKING:
    from rich.console import RenderableType

PANEL = "About"

EXIT_CODES: tuple[tuple[int, str, str], ...] = (
    (0, "done", "The command did what was asked, and what it found is good."),
    (1, "internal", "A fault of ours, or an error that nobody foresaw. --verbose shows the traceback."),
    (2, "invalid-input", "An option, the settings, a contract or a key file is wrong. Correct it and run again."),
    (3, "negative", "It worked, and what it found is bad: an incomplete snapshot, damage, a missed objective."),
    (4, "not-found", "A dataset, snapshot, vault, key or path does not exist."),
    (5, "corrupt", "Stored bytes are not what was written. `reopen verify` names them, `reopen repair` mends some."),
    (6, "conflict", "Somebody else got there first, or the state is not the expected one. Look, then decide."),
    (7, "refused", "A rule of safety forbids it: a key that is not here, a full vault, a weak fence."),
    (8, "transient", "A store or a network did not answer. Try again later."),
    (130, "interrupted", "Stopped by Ctrl-C. What was stored is kept."),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "version", panel=PANEL, example="reopen version --json")(version)
    command(app, "help", panel=PANEL, example="reopen help recovery")(help_)


def version(face: Face) -> Answer:
    """Show the version.

    Changes: nothing.
    Needs: nothing.
    """
    return Answer(value={"version": __version__}, show=[f"reopen {__version__}"])


def help_(
    face: Face,
    asked: Annotated[
        list[str] | None,
        typer.Argument(metavar="TOPIC", help="A topic, or a command such as keys rotate; without one all are listed."),
    ] = None,
) -> Answer:
    """Explain a topic or a command; works offline.

    Changes: nothing.
    Needs: nothing; neither settings nor keys are read.
    """
    if not asked:
        return _listed()
    topic = find("-".join(asked))
    return _command(asked) if topic is None else _topic(topic)


def _listed() -> Answer:
    topics = [{"name": name, "summary": summary} for name, summary in TOPICS.items()]
    show: list[RenderableType | Lines] = [
        make_table(("topic", ""), TOPICS.items()),
        "\n`reopen help TOPIC` explains one, `reopen help COMMAND` a command, `reopen --help` lists the commands.",
    ]
    return Answer(value={"topics": topics}, show=show)


def _topic(name: str) -> Answer:
    text = text_of(name)
    value: dict[str, Any] = {"topic": name, "text": text}
    show: list[Any] = [Lines(laid_out(text, _columns()))]
    if name == "exit-codes":
        value["exit_codes"] = [{"code": code, "kind": kind, "meaning": meaning} for code, kind, meaning in EXIT_CODES]
        show += ["", make_table((">code", "kind", "meaning"), EXIT_CODES)]
    elif name == "words":
        value["words"] = [{"word": word, "meaning": meaning} for word, meaning in words()]
        show += ["", make_table(("word", "meaning"), words())]
    elif name == "settings":
        from reopen.config import default_settings_text

        value["settings"] = default_settings_text()
        show += [
            "",
            Lines(laid_out("## What `reopen init` writes: every key, explained", _columns())),
            "",
            Lines(default_settings_text().splitlines()),
        ]
    return Answer(value=value, show=show)


def _columns() -> int:
    """The width of the terminal; a pipe is as wide as a text may be."""
    return shutil.get_terminal_size((COLUMNS_MAX, 24)).columns if os.isatty(1) else COLUMNS_MAX


def _command(path: Sequence[str]) -> Answer:
    """The help of a command, as ``--help`` shows it."""
    import typer.main

    from reopen.cli.tree import app

    found: Any = typer.main.get_command(app)
    context = found.make_context("reopen", [], resilient_parsing=True)
    for word in path:
        below = getattr(found, "commands", {})
        if word not in below:
            raise _nothing_on(" ".join(path), below)
        found = below[word]
        context = found.make_context(word, [], resilient_parsing=True, parent=context)
    parameters = [item for item in found.get_params(context) if not getattr(item, "hidden", False)]
    value = {
        "topic": " ".join(path),
        "command": {
            "usage": " ".join((context.command_path, *found.collect_usage_pieces(context))),
            "text": _as_written(found.help),
            "takes": [_parameter(item) for item in parameters],
            "below": list(getattr(found, "commands", {})),
        },
    }
    return Answer(value=value, show=[Lines(_shown(found, context))])


def _nothing_on(asked: str, below: Any) -> NotFound:
    from reopen.contracts.problems import did_you_mean

    near = did_you_mean(asked.rpartition(" ")[2], [*TOPICS, *below])
    return NotFound(
        f"there is no help on {asked!r}.",
        hint=f"{near}Topics: {', '.join(TOPICS)}. `reopen --help` lists the commands.",
    )


def _shown(found: Any, context: Any) -> Iterator[str]:
    """No lines of ours: where they are written, Typer lays the help out for the terminal, and writes it."""
    found.get_help(context)
    yield from ()


def _parameter(item: Any) -> dict[str, Any]:
    is_argument = item.param_type_name == "argument"
    default = item.show_default if isinstance(item.show_default, str) else item.default
    return {
        "names": [item.display_name_raw] if is_argument else [*item.opts, *item.secondary_opts],
        "required": bool(item.required),
        "repeated": item.nargs == -1 if is_argument else bool(item.multiple),
        "meaning": _as_written(item.help),
        "default": None
        if default in (None, "", (), False) or callable(default)
        else str(getattr(default, "value", default)),
    }


def _as_written(text: str | None) -> str:
    """A help text without the escapes that Rich needs."""
    return (text or "").replace("\\[", "[")
