"""The report, the evidence page and the run-book in a real browser: on a phone and a desk, light and dark, with keys
alone, without scripts, by a screen reader's tree, and printed."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.ui.own_pages import DESKTOP, NAMES, PHONE, Scheme, make_pages, opened, violations

REFLOW = 320
"""CSS pixels: a desk's width at a zoom of 400 percent (WCAG 1.4.10)."""
PAPER = 687
"""CSS pixels between the margins of A4."""
FOCUSABLE = """() => [...document.querySelectorAll("a[href], summary, [tabindex='0']")]
    .filter((it) => it.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true}))"""
each = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_pages(tmp_path_factory.mktemp("pages"))


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (DESKTOP, "dark")])
@each
def test_nothing_is_against_the_rules_of_accessibility(
    browser: Browser, made: dict[str, Path], name: str, width: int, scheme: Scheme
) -> None:
    with opened(browser, made[name].as_uri(), width=width, scheme=scheme) as page:
        for details in page.locator("summary").all():
            details.click()
        assert violations(page) == []


@each
def test_nothing_is_cut_off_or_wider_than_the_window(browser: Browser, made: dict[str, Path], name: str) -> None:
    for width in (REFLOW, PHONE, DESKTOP):
        with opened(browser, made[name].as_uri(), width=width) as page:
            wide = page.evaluate(
                """() => [...document.querySelectorAll('html, .wide, .card, figure')]
                .filter((it) => it.scrollWidth > it.clientWidth + 1 && it.clientWidth)
                .map((it) => `${it.tagName} ${it.className} ${it.scrollWidth} > ${it.clientWidth}`)"""
            )
            assert wide == [], f"at {width} pixels"


@each
def test_a_page_asks_for_nothing_else_and_says_all_without_scripts(
    browser: Browser, made: dict[str, Path], name: str
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(made[name].as_uri(), wait_until="networkidle")
    page.get_by_role("heading", level=1).wait_for()
    for summary in page.locator("summary").all():
        summary.click()
        assert summary.locator("xpath=../*[2]").is_visible(), "what is folded opens without a script"

    assert asked == [made[name].as_uri()]
    context.close()


@each
def test_the_keys_reach_everything_in_order_and_show_where_they_are(
    browser: Browser, made: dict[str, Path], name: str
) -> None:
    with opened(browser, made[name].as_uri()) as page:
        count = page.evaluate(f"({FOCUSABLE})().length")
        assert count
        for place in range(count):
            page.keyboard.press("Tab")
            here = page.evaluate(
                f"""() => {{ const it = document.activeElement, style = getComputedStyle(it)
                const box = it.getBoundingClientRect()
                return [({FOCUSABLE})().indexOf(it), style.outlineStyle, parseFloat(style.outlineWidth),
                box.left >= 0 && box.bottom > 0 && box.top < innerHeight] }}"""
            )
            assert here == [place, "solid", 2, True], "each in the order of the page, ringed, and in sight"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body"), "nothing holds the keys"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "run-book"])
def test_the_first_key_skips_to_what_matters_and_enter_unfolds(
    browser: Browser, made: dict[str, Path], name: str
) -> None:
    with opened(browser, made[name].as_uri()) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        target = page.evaluate("document.querySelector(location.hash).getBoundingClientRect().top")
        assert -1 < target < 900

        for details in page.locator("details").all():
            details.locator("summary").focus()
            page.keyboard.press("Enter")
            assert details.get_attribute("open") is not None


@each
def test_a_screen_reader_finds_landmarks_headings_tables_and_pictures_by_name(
    browser: Browser, made: dict[str, Path], name: str
) -> None:
    with opened(browser, made[name].as_uri()) as page:
        for summary in page.locator("summary").all():
            summary.click()
        lines = [line.strip() for line in page.locator("body").aria_snapshot().splitlines()]
    levels = [int(found[1]) for line in lines if (found := re.search(r"^- '?heading .*\[level=(\d)\]", line))]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), "no level is left out"
    for landmark in ("banner", "main"):
        assert sum(line.startswith(f"- {landmark}:") for line in lines) == 1
    for role in ("table", "img", "region"):
        assert not [line for line in lines if re.match(rf"- {role}(:|$)", line)], f"each {role} has a name"
    if name.startswith("report"):
        assert any(line.startswith('- heading "Are we able to reopen? ') for line in lines)


@each
def test_a_row_is_a_card_on_a_phone_and_still_a_row_for_who_listens(
    browser: Browser, made: dict[str, Path], name: str
) -> None:
    with opened(browser, made[name].as_uri(), width=PHONE) as page:
        tables = page.locator("table.stack:visible, main > .wide > table:visible")
        for table in tables.all():
            lines = table.aria_snapshot()
            assert "- columnheader" in lines
            assert "- row" in lines
            cell = table.locator("tbody td[data-label]").first
            label = cell.evaluate("(it) => getComputedStyle(it, '::before').content")
            assert label == f'"{cell.get_attribute("data-label")}"'


@each
def test_paper_is_black_on_white_with_everything_unfolded(browser: Browser, made: dict[str, Path], name: str) -> None:
    with opened(browser, made[name].as_uri(), width=PAPER, scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        ground, ink = _colours(page)
        assert (ground, ink) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
        for folded in page.locator("details .wide").all():
            assert folded.bounding_box(), "what is folded on the screen is on paper"
        assert not page.locator(".skip, summary, nav").filter(visible=True).count()
        assert all(
            page.locator("thead").evaluate_all("all => all.map((it) => getComputedStyle(it).display)")[place]
            == "table-header-group"
            for place in range(page.locator("thead").count())
        ), "the head of a table stands on each of its pages"


def _colours(page: Page) -> tuple[str, str]:
    style = page.evaluate("(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))")
    return str(style[0]), str(style[1])
