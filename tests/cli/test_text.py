"""Tables and texts for a pipe are those that Rich would write."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
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


def on_a_terminal(table: Table, columns: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=columns, highlight=False, force_terminal=True, color_system=None).print(table)
    return stream.getvalue()


@given(st.sampled_from([60, 80, 120, 200]), st.data())
def test_a_table_fits_the_terminal_and_breaks_no_word_that_has_room(columns: int, data: st.DataObject) -> None:
    names = data.draw(
        st.lists(st.sampled_from(["dataset", ">files", "at", "", "recovery point"]), min_size=1, max_size=9)
    )
    cells = st.sampled_from(
        [
            "",
            "-",
            "ok",
            "1,204",
            "3fa1b2c4d5e6f708",
            "2026-11-22 14:03:11Z",
            "表",
            "a text of some words, which may be folded",
        ]
    )
    rows = data.draw(st.lists(st.tuples(*[cells] * len(names)), max_size=5))
    text = on_a_terminal(make_table(names, rows), columns)
    assert max(map(cell_len, text.splitlines())) <= columns
    told = text.split()
    for row in rows:
        for word in " ".join(row).split():
            assert word == "-" or word in told


def test_a_table_that_has_no_room_is_shown_row_by_row_without_what_says_nothing() -> None:
    names = ("dataset", ">tier", "", "exposure", "recovery point", "staged", "last drill")
    row = ("orders", "1", "ok", "3m20s", "a68358e5 2026-11-22 23:11:17Z", "-", "met 2026-11-22 23:11:24Z")
    assert [line.rstrip() for line in on_a_terminal(make_table(names, [row]), 60).splitlines()] == [
        "orders   tier 1   ok   exposure 3m20s",
        "   recovery point a68358e5 2026-11-22 23:11:17Z",
        "   last drill met 2026-11-22 23:11:24Z",
    ]


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
