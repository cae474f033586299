"""The page of commands, from the tree that the command line itself uses: what ``--help`` says, in one place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import typer.main

from reference.markdown import cell, code, paragraphs, table
from reopen.cli.helptext import LABEL
from reopen.cli.tree import app

HEAD = """\
# Commands

What `reopen COMMAND --help` says, in one place. Every command also takes

| option | meaning |
| --- | --- |
| `--json` | Print one JSON document on standard output, and nothing else there: [what is in it](json.md). |
| `--config FILE` | The settings file; else what `REOPEN_CONFIG` names, else `./reopen.toml`. |
| `--quiet`, `-q` | Only results and errors: no progress and no notes. |
| `--verbose` | Of an error that nobody foresaw, the traceback too. |
| `--help`, `-h` | Show what it takes, and an example. |

All but `--help` may also stand before the command. *Changes* says what a command writes, *Needs* which [key](topics.md) or site
it takes; where a [code](exit-codes.md) has a meaning of its own, it is said.

Results go to standard output; notes, progress and errors to standard error. On a terminal tables are folded to its width;
in a pipe nothing is folded and nothing is coloured. `NO_COLOR` switches colours off, `FORCE_COLOR` on. How a command ended
is in its [exit code](exit-codes.md). `reopen --install-completion` has the shell (bash, zsh, fish) complete commands,
options, datasets and sites.
"""
_COMMON = {"json", "config", "quiet", "verbose", "help"}


def page() -> str:
    """The page, as Markdown."""
    root = typer.main.get_command(app)
    panels: dict[str, list[tuple[Sequence[str], Any]]] = {}
    for name, command in _children(root):
        panels.setdefault(command.rich_help_panel, []).append(((name,), command))
    parts = [HEAD]
    for panel, commands in panels.items():
        parts.append(f"## {panel}\n")
        for path, command in commands:
            parts += [_section(*found) for found in _with_below(path, command)]
    return "\n".join(parts)


def walk() -> Iterator[tuple[Sequence[str], Any]]:
    """Every command that does something, with the words that call it; groups are left out."""
    for name, command in _children(typer.main.get_command(app)):
        for path, found in _with_below((name,), command):
            if not hasattr(found, "commands"):
                yield path, found


def _with_below(path: Sequence[str], command: Any) -> Iterator[tuple[Sequence[str], Any]]:
    yield path, command
    for name, below in _children(command):
        yield from _with_below((*path, name), below)


def _children(command: Any) -> Iterator[tuple[str, Any]]:
    for name, found in getattr(command, "commands", {}).items():
        if not found.hidden:
            yield name, found


def _section(path: Sequence[str], command: Any) -> str:
    context = command.make_context(" ".join(("reopen", *path)), [], resilient_parsing=True)
    own = [item for item in command.get_params(context) if item.name not in _COMMON]
    usage = " ".join((context.info_name, *command.collect_usage_pieces(context)))
    lines = [f"### reopen {' '.join(path)}\n", _text(_plain(command.help)), f"\n```\n{usage}\n```\n"]
    if own:
        rows = [(_name(item, context), cell(_help(item, context))) for item in own]
        lines.append(table(("takes", "meaning"), rows) + "\n")
    example, _, further = _plain(command.epilog).partition("\n\n")
    lines.append(f"Example: `{example.removeprefix('Example: ')}`\n")
    if further:
        lines.append(f"{further}\n")
    return "\n".join(lines)


def _text(text: str) -> str:
    """A help text; what has a label becomes a list."""
    parts = [LABEL.split(part) for part in text.split("\n\n")]
    return "\n\n".join("\n".join(map(_labelled, part)) for part in parts)


def _labelled(line: str) -> str:
    label, _, rest = line.partition(": ")
    return f"- *{label}:* {paragraphs(rest)}" if LABEL.search(f"\n{line}") else paragraphs(line)


def _name(parameter: Any, context: Any) -> str:
    if parameter.param_type_name == "argument":
        return code(parameter.display_name_raw)
    kind = parameter.display_type_rich(ctx=context)
    names = [*parameter.opts, *parameter.secondary_opts]
    return ", ".join(code(f"{name} {kind}" if kind else name) for name in names)


def _help(parameter: Any, context: Any) -> str:
    words = _plain(parameter.help)
    default = parameter._extract_default_help_str(ctx=context) if parameter.show_default else None
    if parameter.required:
        words += " Required."
    elif isinstance(parameter.show_default, str):
        words += f" Default: {parameter.show_default}."
    elif default not in (None, "", (), False) and not getattr(parameter, "is_flag", False):
        words += f" Default: `{getattr(default, 'value', default)}`."
    if parameter.multiple:
        words += " May be repeated." if "repeated" not in words else ""
    return words


def _plain(text: str | None) -> str:
    """A help text without the escapes that Rich needs."""
    return re.sub(r"\\(\[[a-z#/@])", r"\1", text or "")
