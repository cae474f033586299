"""Owns how a command line that Typer cannot read is told: what is wrong in our words, and what to type instead.

Called by :mod:`reopen.cli.face`, which gives what it is told to people and to programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from reopen.errors import InvalidInput

_NUMBER = "it is no whole number"
_PYDANTIC = (
    (re.compile(r"Value error, "), ""),
    (re.compile(r"Input should be a valid integer.*", re.DOTALL), f"{_NUMBER}."),
    (re.compile(r"Input should be a valid number.*", re.DOTALL), "it is no number."),
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"it has to be \1 or more."),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"it has to be \1 or less."),
)
"""What the library that reads values says, and what we say."""

_NO_COMMAND = re.compile(r"No such command '(.*?)'\.")
_TOO_MANY = re.compile(r"Got unexpected extra argument\(s\) \((.*)\)", re.DOTALL)
_NO_VALUE = re.compile(r"Option '(.*?)' requires an argument\.")
_CHOICE = re.compile(r"'(.*)' is not one of (.*?)\.?$", re.DOTALL)


def as_ours(error: Any) -> InvalidInput | None:
    """An error of Typer as one of ours; None where nothing is to be said (it showed the help)."""
    text = error.format_message()
    if not text:
        return None
    context = getattr(error, "ctx", None)
    # The context knows the command whose help would have told.
    path = getattr(context, "command_path", "reopen")
    message, near = _said(error, text, context)
    shows = "lists the commands" if hasattr(getattr(context, "command", None), "commands") else "shows what it takes"
    return InvalidInput(message, hint=f"{near}`{path} --help` {shows}.")


def _said(error: Any, text: str, context: Any) -> tuple[str, str]:
    """The message, and what begins the hint."""
    kind = type(error).__name__
    if kind == "NoSuchOption":
        return f"there is no option {error.option_name}.", _other_option(error.option_name, context)
    if found := _NO_COMMAND.match(text):
        commands = getattr(getattr(context, "command", None), "commands", {})
        return f"there is no command {found[1]!r}.", _did_you_mean(found[1], commands)
    if found := _TOO_MANY.match(text):
        return f"it does not take {found[1]!r}.", ""
    if found := _NO_VALUE.match(text):
        return f"{found[1]} needs a value after it.", ""
    if kind == "MissingParameter":
        name = _name(error.param)
        takes = f" {error.param.metavar}" if name.startswith("-") and error.param.metavar else ""
        return f"{name} is missing.", f"{name}{takes}: {error.param.help} " if error.param.help else ""
    if kind == "BadParameter" and error.param is not None:
        wrong = error.message
        for pattern, ours in _PYDANTIC:
            wrong = pattern.sub(ours, wrong)
        near = ""
        if found := _CHOICE.match(wrong):
            near = _did_you_mean(found[1], re.findall(r"'(.*?)'", found[2]))
        return f"{_name(error.param)}: {wrong.rstrip('.')}.", near
    return text, ""


def _name(parameter: Any) -> str:
    """What people write: the option, or the placeholder of the argument."""
    return str(parameter.metavar or parameter.name if parameter.param_type_name == "argument" else parameter.opts[0])


def _other_option(wrong: str, context: Any) -> str:
    command = getattr(context, "command", None)
    if command is None:
        return ""
    known = {name.lstrip("-"): name for item in command.get_params(context) for name in item.opts}
    near = _did_you_mean(wrong.lstrip("-"), known).replace("'", "'--", 1)
    if not near and hasattr(command, "commands"):
        return "An option of a command stands after it. "
    return near


def _did_you_mean(value: str, allowed: Iterable[str]) -> str:
    from reopen.contracts.problems import did_you_mean

    return did_you_mean(value, allowed)
