"""The documentation in a real browser: on a phone and a desk, light and dark, searched, and where it lacks a page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.ui.own_pages import DESKTOP, PHONE, WCAG, Scheme, opened, violations

SITE = Path(__file__).parents[2] / "build/site"


class _Quiet(SimpleHTTPRequestHandler):
    """Serves the site as a web server does, its own page for what is not there."""

    def log_message(self, _format: str, *_arguments: object) -> None:
        """Say nothing."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with the page for what is not there."""
        body = (SITE / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the built site."""
    assert SITE.is_dir(), "the site is not built: `make docs`"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(SITE))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [
        ("index", PHONE, "light"), ("quick-start", DESKTOP, "dark"), ("0011-failover-and-failback", DESKTOP, "light"),
        ("reviews", PHONE, "dark"),
    ],
)  # fmt: skip
def test_a_page_keeps_the_rules_and_fits_its_window(
    browser: Browser, site: str, name: str, width: int, scheme: Scheme
) -> None:
    with opened(browser, f"{site}/{name}.html", width=width, scheme=scheme) as page:
        assert violations(page, WCAG) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_search_finds_a_page_and_nothing_is_asked_of_another_host(browser: Browser, site: str) -> None:
    with opened(browser, "about:blank") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{site}/index.html")
        page.get_by_role("button", name="Search").first.click()
        page.keyboard.type("failback")
        expect(page.get_by_role("link", name="Failover and failback").first).to_be_visible(timeout=60_000)
        assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []


def test_a_command_can_be_copied(browser: Browser, site: str) -> None:
    with opened(browser, f"{site}/quick-start.html") as page:
        assert page.locator("pre .md-code__nav, .highlight .md-code__nav").count() >= 5


def test_what_is_not_there_leads_back(browser: Browser, site: str) -> None:
    with opened(browser, f"{site}/no/such/page.html") as page:
        expect(page.get_by_role("heading", level=1)).to_contain_text("404")
        page.get_by_role("link", name="Quick start").first.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Quick start")
