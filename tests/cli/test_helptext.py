"""Help says what was written, names no type of Python, and fits the terminal."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args

import pytest
import typer

from reopen.cli.helptext import readable
from tests.cli.helped import TREE, shown


def told(text: str) -> str:
    """What is told, without what only lays it out."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def written(command: Any) -> list[str]:
    """The help texts of a command as they stand in the source: its docstring, and what each option says of itself."""
    callback = command.callback
    texts = [] if callback is None else [callback.__doc__ or ""]
    for hint in inspect.get_annotations(callback).values() if callback is not None else ():
        texts += [
            info.help for info in get_args(hint)[1:] if isinstance(info, typer.models.ParameterInfo) and info.help
        ]
    return texts


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_help_shows_every_word_that_was_written(path: tuple[str, ...]) -> None:
    output = told(shown(*path))
    for text in written(TREE[path]):
        assert told(text) in output
    assert not re.search(r"<(bool|str|int|float|list.*|path)>", output), "a type of Python tells people nothing"


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("path", [(), ("failover",), ("drill",), ("repair",), ("keys", "rotate")], ids=" ".join)
def test_help_fits_the_terminal(path: tuple[str, ...], columns: int) -> None:
    assert max(map(len, shown(*path, columns=columns).splitlines())) <= columns


def test_the_list_of_commands_shows_the_first_sentence_of_each() -> None:
    output = told(shown())
    assert "Take a snapshot of each dataset. retire" in output
    assert "prune Free the space of what no snapshot needs any more." in output


def test_brackets_are_kept_and_lines_are_joined() -> None:
    """What Rich would take for a style is escaped, and nothing else."""
    assert readable("so many ([watch] in\nthe settings)") == "so many (\\[watch] in the settings)"
    assert readable("a list [1, 2] and [A]") == "a list [1, 2] and [A]"
    assert readable("one\n\ntwo\nthree") == "one\n\ntwo three"
    assert readable(None) is None


def test_what_has_a_label_begins_a_line() -> None:
    text = "what it\ndoes.\n\nChanges: this\nand that.\nNeeds: a key.\nExit 3: bad."
    assert readable(text) == "what it does.\n\nChanges: this and that.\nNeeds: a key.\nExit 3: bad."
