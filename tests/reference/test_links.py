"""Links of the documentation are held: broken ones, missing anchors, what comes from elsewhere, pages nobody finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference.links import ROOT, faults_of_navigation, faults_of_site, faults_of_sources

HEAD = '<link rel="stylesheet" href="a.css"><link rel="canonical" href="https://example.org/"><h1 id="one">x</h1>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A built site of two pages."""
    (tmp_path / "a.css").write_text("")
    (tmp_path / "how").mkdir()
    (tmp_path / "index.html").write_text(f'{HEAD}<a href="how/to.html#two">y</a><a href="https://example.org">z</a>')
    (tmp_path / "how" / "to.html").write_text('<h2 id="two">x</h2><a href="../index.html#one">y</a>')
    return tmp_path


def test_a_site_whose_links_lead_somewhere_has_no_fault(site: Path) -> None:
    assert list(faults_of_site(site)) == []


@pytest.mark.parametrize(
    ("markup", "said"),
    [
        ('<a href="gone.html">x</a>', "index.html links to gone.html, which is not there"),
        ('<a href="how/to.html#three">x</a>', "links to how/to.html#three, and that page has no such anchor"),
        ('<a href="#three">x</a>', "links to #three, and that page has no such anchor"),
        ('<img src="gone.svg">', "links to gone.svg"),
        ('<script src="https://elsewhere.example/a.js"></script>', "index.html loads https://elsewhere.example/a.js"),
        ('<link rel="stylesheet" href="//fonts.example/a.css">', "index.html loads //fonts.example/a.css"),
    ],
)
def test_each_kind_of_fault_is_said(site: Path, markup: str, said: str) -> None:
    (site / "index.html").write_text(HEAD + markup)
    [fault] = faults_of_site(site)
    assert said in fault


def test_links_in_markdown_lead_to_files_as_a_forge_shows_them(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("[a](docs/a.md#x) [b](https://example.org) `[c](gone)`\n```\n[d](gone)\n```\n")
    (tmp_path / "docs" / "a.md").write_text("[a](../README.md) [b](gone.md)")
    assert list(faults_of_sources(tmp_path)) == ["docs/a.md links to gone.md, which is not there"]


def test_a_page_outside_of_the_navigation_is_said(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("a.md", "b.md"):
        (tmp_path / "docs" / name).write_text("")
    (tmp_path / "zensical.toml").write_text('[project]\nnav = [{ "More" = [{ "A" = "a.md" }] }]\n')
    [fault] = faults_of_navigation(tmp_path)
    assert "docs/b.md is not in the navigation" in fault


def test_the_links_of_this_repository_hold() -> None:
    assert [*faults_of_sources(ROOT), *faults_of_navigation(ROOT)] == []
