"""The page is one file that needs nothing else, for eyes, ears, keys and paper; its colours stand out."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from reopen.errors import ReopenError, TargetUnwritable, Transient
from reopen.review.report.assemble import make_report
from reopen.review.report.model import Standing
from reopen.review.report.render import render, write_text
from tests.recover.report.test_render import HOSTILE, Page, _contrast
from tests.review.report.standings import HEAD, HOUR, a_row, a_vault, well, with_dataset


def bad() -> Standing:
    """Much is wrong, and something speaks HTML."""
    lost = with_dataset(well(suspects={"papers": [HOSTILE]}), "orders", lambda d: replace(d, rpa=3 * HOUR))
    vaults = (a_vault("production", error=HOSTILE, coverage=None), lost.status.vaults[1])
    rows = (a_row(8, "orders", 1, verdict="failed", rta_seconds=None),)
    return replace(lost, status=replace(lost.status, vaults=vaults), history=rows, chain_problem="a gap")


def blind() -> Standing:
    """Nothing can be seen."""
    gone: ReopenError = Transient("no answer.")
    return well(readiness=gone, plan=gone, history=gone, head=gone, suspects=gone, kept=())


STANDINGS = {"well": well(), "bad": bad(), "blind": blind()}
each = pytest.mark.parametrize("name", STANDINGS)


def page_of(name: str) -> tuple[str, Page]:
    text = render(make_report(STANDINGS[name]))
    page = Page()
    page.feed(text)
    page.close()
    assert page.open_tags == []
    return text, page


@each
def test_the_page_needs_nothing_from_anywhere(name: str) -> None:
    text, page = page_of(name)

    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert not re.search(r"@import|url\((?!#)|https?://", text)
    for _, attributes in page.tags:
        assert not {key for key in attributes if key.startswith("on")}
        assert (attributes.get("href") or "#").startswith("#")


@each
def test_a_screen_reader_and_a_keyboard_find_their_way(name: str) -> None:
    _, page = page_of(name)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    tags = [tag for tag, _ in page.tags]

    assert len(ids) == len(set(ids))
    assert tags.count("h1") == tags.count("main") == tags.count("header") == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels)), "no level is left out"
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    for tag, attributes in page.tags:
        for key in ("aria-labelledby", "aria-describedby"):
            assert set(str(attributes.get(key) or "").split()) <= set(ids)
        if tag == "svg" and attributes.get("role") == "img":
            assert {"aria-label", "aria-labelledby"} & set(attributes)
        if attributes.get("class") in ("wide", "wide words"):
            assert (attributes["tabindex"], attributes["role"]) == ("0", "group"), "what scrolls can be focused"
    assert dict(page.tags[tags.index("html")][1])["lang"] == "en"
    assert page.tags[tags.index("a")][1]["href"] == "#risks"


def test_the_answer_stands_first_and_the_anchor_is_whole() -> None:
    _, page = page_of("well")

    assert page.words.startswith("Yes: are we able to reopen?")
    assert page.headings == [
        "Tiers", "Open risks, and what to do", "Datasets, as they would be recovered now",
        "Copies, and how much of them was read again", "Last drills and failovers", "Trends",
        "The anchor: keep this line", "How this was made",
    ]  # fmt: skip
    assert str(HEAD) in page.words
    assert f"reopen evidence verify --anchor {HEAD}" in page.words
    assert "standby, on host-2, with the settings /etc/reopen.toml" in page.words
    assert "50% 99% 100%" in page.words, "99.9% is not all"


def test_what_is_wrong_is_said_in_words_and_what_came_from_outside_is_escaped() -> None:
    text, page = page_of("bad")

    assert HOSTILE not in text
    assert page.words.count(HOSTILE) >= 2
    assert "orders would lose 3h of data, 30m is allowed; orders did not come back" in page.words
    assert "✕ no orders would lose" in page.words
    assert "The chain is broken: a gap" in page.words
    assert "production: cannot be read" not in page.words
    assert "cannot be read from standby" in page.words


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    _, page = page_of("blind")

    assert page.words.startswith("Not proven: are we able to reopen?")
    assert "The evidence could not be read: no answer." in page.words
    assert "There is no history yet that could show a trend." in page.words
    assert "Past drills cannot be read" in page.words
    assert "What was drilled and recovered could not be read: no answer." in page.words
    assert "never" not in page.words, "what nobody could read is not taken for what never was"
    assert page.words.count("unknown") >= 10


def test_every_series_of_a_plot_stands_out_from_its_ground() -> None:
    """Text at 4.5 to 1 is held by the test of the other page, which has the same style; lines and marks need 3 to 1."""
    style = page_of("well")[0].partition("<style>")[2].partition("</style>")[0]
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    for part in (light, dark.partition("* {")[0]):
        colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part))
        for name in ("restore", "validate", "promote", "warn", "bad", "ink"):
            assert _contrast(colour[name], colour["paper"]) >= 3, name
        assert _contrast(colour["ink"], colour["panel"]) >= 4.5
        assert _contrast(colour["link"], colour["paper"]) >= 4.5
    assert re.findall(r"\.curve\.s\d \{ stroke-dasharray", style), "dashes, too, tell the series apart"


def test_a_pipe_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()

    write_text(pipe, "the page")
    reader.join(10)

    assert got == ["the page"]
    assert pipe.is_fifo()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("the old one")

    write_text(target, "the new one")
    with pytest.raises(TargetUnwritable, match="cannot be written"):
        write_text(tmp_path / "nowhere" / "report.html", "text")

    assert target.read_text() == "the new one"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
