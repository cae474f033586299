"""Owns what the demo stands on: its two sites, their servers and tills, and the typing of commands there.

A site is a folder. One that is cut off from the other is moved away: whoever works inside goes on working, and nobody
outside reaches it any more, as when a network is lost.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from reopen.cli.demo import till
from reopen.clock import SYSTEM_CLOCK
from reopen.config import Settings
from reopen.errors import EXIT_NEGATIVE, InvalidInput, ReopenError
from reopen.sources import VERSIONS_FOLDER

CUT_OFF = "cut-off"
TILL_SECONDS_MAX = 30.0
"""How long a till may take to sell what the story waits for: a loaded machine needs a second for an order."""


class StageFailed(ReopenError):
    """A command of the demo did not do what the story needs."""

    kind = "demo"
    exit_code = EXIT_NEGATIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One site of the demo: where it lies, and the environment in which its commands run."""

    name: str
    folder: Path
    environment: dict[str, str]


class Stage:
    """The two sites, and what is typed and said there. Leaving it closes tills and servers."""

    def __init__(self, settings: Settings, console: Console, *, prefect: bool) -> None:
        self.settings = settings
        self.root = demo_folder(settings)
        self.production = _site(settings, "production", self.root / "production")
        self.standby = _site(settings, "standby", self.root / "standby")
        self._console = console
        self._prefect = prefect
        self._tills: dict[Path, subprocess.Popen[bytes]] = {}
        self._closing = ExitStack()

    def __enter__(self) -> Stage:
        shutil.rmtree(self.root, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._tills.values():
            process.kill()
            process.wait()
        self._closing.close()

    @property
    def flow(self) -> tuple[str, ...]:
        """The option that sends a command through Prefect."""
        return ("--flow",) if self._prefect else ()

    def start_server(self, site: Site) -> ExitStack:
        """A Prefect server for a site: the standby's own, because production's dies with it. Closing what is returned
        ends it; it starts while other work is done."""
        server = ExitStack()
        if self._prefect:
            start = importlib.import_module("tasks.environment").prefect_server
            site.environment["PREFECT_API_URL"] = server.enter_context(start(site.folder / "home", wait=False))
        self._closing.callback(server.close)
        return server

    def await_server(self, site: Site) -> None:
        """Wait until the site's server answers."""
        if self._prefect:
            importlib.import_module("tasks.environment").wait_for_server(site.environment["PREFECT_API_URL"])

    def open_till(self, site: Site, *, clerk: int, orders: int) -> None:
        """Start the site's till, a process of its own, and wait until it has sold so many orders."""
        (site.folder / till.CLOSE).unlink(missing_ok=True)
        (site.folder / till.SOLD).unlink(missing_ok=True)
        arguments = ["reopen.cli.demo.till", str(self.shown(site.folder)), "--clerk", str(clerk)]
        self._prompt(site.name, f"python -m {_quoted(arguments)} &")
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=self.settings.base, stdout=subprocess.DEVNULL
        )
        # Reaped at once when it ends: whoever asks whether it is there must not find a zombie.
        threading.Thread(target=process.wait, name=f"till-{clerk}", daemon=True).start()
        self._tills[site.folder] = process
        self.await_sales(site.folder, orders, process)

    def await_sales(self, folder: Path, orders: int, process: subprocess.Popen[bytes] | None = None) -> int:
        """Wait until a till has sold so many orders; how many they are."""
        limit = SYSTEM_CLOCK.elapsed_seconds() + TILL_SECONDS_MAX
        process = process or self._tills[self.production.folder]
        while (sold := till.sold_so_far(folder)) < orders:
            if process.poll() is not None or SYSTEM_CLOCK.elapsed_seconds() > limit:
                raise StageFailed(f"the till in {folder} sells nothing.", hint="What it says is above.")
            threading.Event().wait(till.LOOK_SECONDS)
        return sold

    def close_till(self, site: Site) -> int:
        """Close a till by hand; how many orders it sold."""
        self.type_shell(site, f"touch {self.shown(site.folder / till.CLOSE)}")
        (site.folder / till.CLOSE).touch()
        self._tills[site.folder].wait(TILL_SECONDS_MAX)
        return till.sold_so_far(site.folder)

    def move(self, source: Path, target: Path) -> None:
        """Move a site's folder: away from everybody who reaches it by its name, or back."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._prompt("anyone", f"mv {self.shown(source)} {self.shown(target)}")
        source.rename(target)

    def reopen(self, site: Site, *arguments: str, codes: tuple[int, ...] = (0,)) -> None:
        """Run a command of Reopen at a site, as its reader would type it."""
        self._prompt(site.name, f"reopen {_quoted(arguments)}")
        self._run(site, ["reopen.cli", *arguments], codes)

    def ask(self, site: Site, database: Path, *arguments: str) -> None:
        """Have the shop's own program ask its questions."""
        words = ["reopen.cli.demo.questions", str(self.shown(database)), *arguments]
        self._prompt(site.name, f"python -m {_quoted(words)}")
        self._run(site, words, (0,))

    def type_shell(self, site: Site, text: str) -> None:
        """Show a command of the shell; its caller does it."""
        self._prompt(site.name, text)

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._console.print(f"\n[bold cyan]## {title}[/]", highlight=False)

    def say(self, text: str) -> None:
        """Say something beside the commands."""
        self._console.print(f"· {text}", highlight=False, markup=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """A line as it is."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def shown(self, path: Path) -> Path:
        """A path as its reader would type it in the folder of the settings."""
        base = self.settings.base
        return path.relative_to(base) if path.is_relative_to(base) else path

    def _prompt(self, place: str, command: str) -> None:
        self._console.print(f"\n[bold]{place} $[/bold] ", highlight=False, end="")
        self._console.print(command, highlight=False, markup=False, soft_wrap=True)
        sys.stdout.flush()

    def _run(self, site: Site, words: list[str], codes: tuple[int, ...]) -> None:
        # Standard output is kept for the demo's own JSON where that is asked for.
        output = sys.stderr if self._console.stderr else None
        run = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.settings.base,
            env={**os.environ, **site.environment},
            # Nobody types anything while the story is told, also where it is told at a terminal.
            stdin=subprocess.DEVNULL,
            stdout=output,
            check=False,
        )
        if run.returncode not in codes:
            raise StageFailed(
                f"`{_quoted(words)}` at {site.name} ended with {run.returncode}.",
                hint=f"What it made is still in {self.root}; run it again by hand to look.",
            )


def demo_folder(settings: Settings) -> Path:
    """The folder of both sites; the demo removes it, so it must be its own."""
    folder = settings.base / ".reopen" / "demo"
    for site in settings.sites.values():
        if not Path(site.vault).is_relative_to(folder):
            raise InvalidInput(
                f"the vault of {site.name} in {settings.path} is {site.vault}, which is not below {folder}.",
                hint="The demo destroys a site for real: run it with the settings that come with the project.",
            )
    return folder


def tree_digests(root: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder of datasets (of a link in one: its target), by relative path. Not our own
    hash, on purpose. A dataset's own place may be a link to the version that serves."""
    found = {}
    for place in sorted(root.iterdir()):
        if place.name == VERSIONS_FOLDER:
            continue
        dataset = place.resolve()
        for folder, _, names in os.walk(dataset):
            for name in names:
                path = Path(folder) / name
                data = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
                found[f"{place.name}/{path.relative_to(dataset)}"] = hashlib.sha256(data).hexdigest()
    return found


def _site(settings: Settings, name: str, folder: Path) -> Site:
    environment = {
        "REOPEN_CONFIG": str(settings.path),
        "REOPEN_SITE": name,
        "REOPEN_HOME": str(folder / "home"),
        "REOPEN_KEYS": str(folder / "keys"),
    }
    return Site(name=name, folder=folder, environment=environment)


def _quoted(arguments: tuple[str, ...] | list[str]) -> str:
    """A command line as a person would type it: SQL in double quotes, because it has single ones."""
    return " ".join(
        f'"{word}"' if "'" in word and not set('"$`\\') & set(word) else shlex.quote(word) for word in arguments
    )
