"""Owns what the tests in a real browser share: one business with both sites, its services, and Debian's Chromium.

The services are those of ``reopen up``, started as a user starts them; the browser is the machine's own and is told to
ask nobody but loopback.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.flows.scene import Scene, make_scene
from tests.servers import free_port

FOLDER = Path(__file__).resolve().parent
START_SECONDS_MAX = 300
WAIT_MILLISECONDS = 300_000
"""For whatever a page is to show; the machine runs a server, three workers and a browser on its cores, and more."""

QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """A business whose services run. ``url``: of the pages; ``environment``: what reaches the server and the tests'
    own tree from another process."""

    scene: Scene
    url: str
    environment: dict[str, str]

    def reopen(self, site: str, *arguments: str) -> str:
        """What a command at a site prints; it has to succeed."""
        return _reopen(self.scene, site, self.environment, *arguments)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the browser."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker("ui")


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Two sites, two datasets; moving the ledger needs approval. Server, workers and deployments of both sites."""
    folder = tmp_path_factory.mktemp("a business")
    scene = make_scene(folder)
    contract = scene.folder / "contracts/ledger.odcs.yaml"
    contract.write_text(contract.read_text() + "  - {property: approval, value: required, vendor: reopen}\n")
    # Only people start anything while a test looks; what the contracts schedule is looked at by the page itself.
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "REOPEN_"))}
    environment |= {"PYTHONPATH": str(FOLDER.parent.parent), "NO_COLOR": "1"}
    try:
        _reopen(scene, "production", environment, "up", "--every-site", "--port", str(port))
        environment["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        yield Services(scene=scene, url=f"http://127.0.0.1:{port}", environment=environment)
    finally:
        _reopen(scene, "production", environment, "down")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "no Chromium is installed: `make check-ui` installs Debian's"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """An empty page; what it showed last is kept as a picture beside the test's files."""
    opened = browser.new_page(viewport={"width": 1400, "height": 1200})
    opened.set_default_timeout(WAIT_MILLISECONDS)
    yield opened
    opened.screenshot(path=tmp_path / "last.png", full_page=True)
    opened.close()


def _reopen(scene: Scene, site: str, environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "reopen.cli", "--config", str(scene.folder / f"{site}.toml"), *arguments]
    done = subprocess.run(
        command, env=environment, cwd=scene.folder, capture_output=True, text=True,
        timeout=START_SECONDS_MAX, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout
