"""Holds the links of the documentation: ``python -m reference.links build/site`` after the site was built.

1  Every link of a page leads to a file of the site, and to an anchor that is there.
2  No page loads anything from elsewhere: the site is read where there is no network.
3  Every link of the Markdown files, README included, leads to a file of the repository, where a forge shows them.
4  Every page is in the navigation.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
_LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("link", "href"), ("source", "src")}
_HARMLESS_RELATIONS = {"canonical", "prev", "next", "alternate"}
_LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


class _Page(HTMLParser):
    """What a page links to and loads, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors = {"", "top"}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what matters of a tag."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        for kind, name in _LOADS:
            if tag == kind and name in given and given.get("rel", "") not in _HARMLESS_RELATIONS:
                self.loads.append(given[name])


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def faults_of_site(site: Path) -> Iterator[str]:
    """What is wrong with a built site."""
    for path in sorted(site.rglob("*.html")):
        page, name = _read(path), path.relative_to(site)
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads:
                    yield f"{name} loads {link}"
                continue
            # A link from the site's root is one of the page that is shown for what is missing.
            start = site if parts.path.startswith("/") else path.parent
            target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name} links to {link}, which is not there"
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in _read(target).anchors:
                yield f"{name} links to {link}, and that page has no such anchor"


def faults_of_sources(root: Path) -> Iterator[str]:
    """What is wrong with the links of Markdown files, as a forge shows them."""
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        words = _CODE.sub("", path.read_text(encoding="utf-8"))
        for link in _LINK.findall(words):
            parts = urlsplit(link)
            if not parts.scheme and parts.path and not (path.parent / unquote(parts.path)).exists():
                yield f"{path.relative_to(root)} links to {link}, which is not there"


def faults_of_navigation(root: Path) -> Iterator[str]:
    """Pages that nobody is led to."""
    settings: dict[str, Any] = tomllib.loads((root / "zensical.toml").read_text(encoding="utf-8"))
    shown = set(_leaves(settings["project"]["nav"]))
    docs = root / "docs"
    for path in sorted(docs.rglob("*.md")):
        if str(path.relative_to(docs)) not in shown:
            yield f"docs/{path.relative_to(docs)} is not in the navigation of zensical.toml"


def _leaves(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    else:
        for item in node.values() if isinstance(node, dict) else node:
            yield from _leaves(item)


def main() -> None:
    """Say every fault; exit 1 when there is one."""
    faults = [*faults_of_site(Path(sys.argv[1])), *faults_of_sources(ROOT), *faults_of_navigation(ROOT)]
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
