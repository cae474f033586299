"""Owns how the help of a command reads: texts as they were written, and no more about an option than people need.

Invariants
    H1  What stands in a help text is shown as it stands. Rich takes ``[watch]`` for the name of a style and drops it;
        so such brackets are escaped before Rich sees them.
    H2  A paragraph is one line for the terminal to fold, wherever the source broke it.
    H3  A list of commands shows the first sentence of each, which says what it does.
    H4  What a command changes, what it needs and what its exit codes mean begins a line each, after its label.

Called by :mod:`reopen.cli.face` for each command, once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

_TAG = re.compile(r"(\\*)(\[[a-z#/@][^\[]*?\])")
"""What Rich takes for a style, after the backslashes that it would take for an escape."""

LABEL = re.compile(r"\n(?=(?:Changes|Needs|Exit \d+): )")
"""The border before a line with a label (H4)."""

_FIRST_SENTENCE = re.compile(r".*?\.(?= [A-Z`])|.*", re.DOTALL)


def readable(text: str | None) -> str | None:
    """A help text for Rich (H1, H2); a paragraph whose lines are indented keeps them."""
    if text is None:
        return None
    paragraphs = inspect.cleandoc(text).split("\n\n")
    folded = [part if "\n " in part else "\n".join(map(_folded, LABEL.split(part))) for part in paragraphs]
    return _TAG.sub(lambda found: found[1] * 2 + "\\" + found[2], "\n\n".join(folded))


def _folded(text: str) -> str:
    return " ".join(text.split())


def make_readable(command: Any) -> None:
    """Make the texts of a command or group fit for Rich: its help, its epilog, and the help of each option."""
    command.help = readable(command.help)
    if command.help and not command.short_help:
        command.short_help = _FIRST_SENTENCE.match(command.help.partition("\n\n")[0])[0]  # type: ignore[index]
    command.epilog = readable(command.epilog)
    for parameter in command.params:
        if hasattr(parameter, "help"):
            parameter.help = readable(parameter.help)


def name_kinds(parameters: Iterable[Any], *, panel: str) -> list[Any]:
    """These parameters of Typer, said without the names of Python's types: a switch takes nothing, so nothing is named,
    and a number, a file or a text is what its help says.

    :param panel: where Typer's own ``--help`` is shown.
    """
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.name in _TYPERS:
            parameter.help = _TYPERS[parameter.name]
        if parameter.name == "help":
            parameter.rich_help_panel = panel
        kind = getattr(parameter, "type_descriptor", None)
        if kind is None or _names_its_choices(parameter, kind):
            continue
        if parameter.param_type_name == "argument" or getattr(parameter, "is_flag", False):
            parameter.display_type_rich = _nothing
        elif parameter.metavar is None:
            parameter.metavar = _KINDS.get(kind.annotation, parameter.opts[0].lstrip("-").upper())
    return parameters


def _names_its_choices(parameter: Any, kind: Any) -> bool:
    """Whether the allowed words have to be shown in the column of types, because the help does not name them all."""
    if not kind.is_choice:
        return False
    words = [str(getattr(choice, "value", choice)) for choice in kind.choices or ()]
    return not all(word in (parameter.help or "") for word in words)


def _nothing(ctx: Any = None) -> None:
    return None


_TYPERS = {
    "help": "Show this.",
    "install_completion": "Let this shell complete commands, options, datasets and sites.",
    "show_completion": "Print what that would install.",
}
"""What the options that Typer adds say."""

_KINDS = {int: "N", float: "NUMBER"}
