"""Tables and texts for a pipe are those that Rich would write."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reopen.cli import face
from reopen.cli.face import PIPE_COLUMNS
from reopen.cli.text import Table, make_table

CELLS = st.one_of(
    st.sampled_from(
        ["", "ok", "failed", "-", "a b", "1,204", "[bold]x[/]", "ünïcode", "表", " edge ", "two\nlines", ":bug:"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
)


def by_rich(table: Table) -> str:
    stream = io.StringIO()
    Console(file=stream, width=PIPE_COLUMNS, highlight=False).print(table, markup=False, highlight=False)
    return stream.getvalue()


@given(st.data())
def test_a_table_for_a_pipe_is_what_rich_writes(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 4))
    names = data.draw(
        st.lists(st.sampled_from([">files", "name", "", ">", "a long name"]), min_size=width, max_size=width)
    )
    rows = data.draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=4))
    table = make_table(names, rows)
    text = table.for_pipe(PIPE_COLUMNS)
    assert text is None or f"{text}\n" == by_rich(table)
    if all(cell.isascii() and cell.isprintable() and cell == cell.strip() for row in rows for cell in row):
        assert text is not None, "the plain way is taken"


def test_a_table_that_is_wider_than_the_pipe_is_left_to_rich() -> None:
    table = make_table(("name",), [("x" * 50,)])
    assert table.for_pipe(50) is not None
    assert table.for_pipe(49) is None


@pytest.mark.parametrize(
    "text", ["plain", "", "two\nlines", "a\ttab", "über", "[red]not markup[/]", "x" * 5000, "bell\x07"]
)
def test_a_text_for_a_pipe_is_what_rich_writes(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    face._say(text)
    stream = io.StringIO()
    Console(file=stream, width=PIPE_COLUMNS, highlight=False).print(text, markup=False, highlight=False, soft_wrap=True)
    assert capsys.readouterr().out == stream.getvalue()


def test_what_looks_like_an_emoji_stays_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A name is shown, never interpreted."""
    face._say("notes:bug:1")
    face._say("notes:bug:1\ttab")
    assert capsys.readouterr().out.count(":bug:") == 2


def test_colour_that_is_asked_for_is_given(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    face._say(make_table(("state",), [("ok",)]))
    assert "\x1b[32mok" in capsys.readouterr().out
