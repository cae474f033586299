"""Owns the order of the demo: every step is a command that its reader can type, run as a process of its own.

Two folders stand for two sites. Production has its data, its vault, its Prefect home and a writer key; the standby has
the replica, the epoch log, the recovery and verifier keys and a Prefect home of its own. The disaster removes the whole
of production, its Prefect server included.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console

from reopen.cli.demo import business
from reopen.clock import SYSTEM_CLOCK, to_text
from reopen.config import Settings
from reopen.errors import EXIT_NEGATIVE, InvalidInput, ReopenError
from reopen.storage import open_store
from reopen.vault import create_vault, make_keys, save_key
from reopen.vault.keys import RecoveryKey, SigningKey

MANIFEST_QUESTIONS = {
    "what each snapshot saw, and what it cost to keep": """
        SELECT dataset, seq, state, files, size_bytes, added, modified, removed, stored_bytes
        FROM snapshots ORDER BY dataset, seq""",
    "what changed between the two snapshots": """
        SELECT dataset, change, count(*) AS files, sum(size_bytes) AS size_bytes
        FROM changes WHERE seq = 2 AND change <> 'unchanged' AND type <> 'dir' GROUP BY ALL ORDER BY ALL""",
    "which orders each file holds, from the profiles alone": """
        SELECT seq, path, rows, nulls, min, max FROM profiles
        WHERE dataset = 'orders' AND column_name = 'o_orderkey' ORDER BY seq, path""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One site of the demo: where it lies, and the environment in which its commands run."""

    name: str
    folder: Path
    environment: dict[str, str]


class StageFailed(ReopenError):
    """A command of the demo did not do what the story needs."""

    kind = "demo"
    exit_code = EXIT_NEGATIVE


class Story:
    """The demo from its first folder to its last query."""

    def __init__(self, settings: Settings, *, scale: float, console: Console, prefect: bool = True) -> None:
        self._settings = settings
        self._scale = scale
        self._console = console
        self._prefect = prefect
        self._started_seconds = SYSTEM_CLOCK.elapsed_seconds()
        root = _demo_folder(settings)
        self._root = root
        self._production = _site(settings, "production", root / "production")
        self._standby = _site(settings, "standby", root / "standby")

    def run(self) -> dict[str, object]:
        """Tell the whole story; raises at the first step that does not hold.

        :returns: what was proven, for ``--json``: the time of the failure, files compared, answers, seconds.
        """
        shutil.rmtree(self._root, ignore_errors=True)
        with ExitStack() as lost, ExitStack() as left:
            self._start_server(self._production, lost)
            self._start_server(self._standby, left)
            self._open_for_business()
            self._protect()
            before = self._prove()
            failed_at = self._destroy(lost)
            self._reopen(failed_at)
            files = self._compare(before)
        seconds = self._review()
        return {
            "failed_at": to_text(failed_at),
            "files_equal": files,
            "answers_equal": sorted(before[0]),
            "seconds": round(seconds, 1),
        }

    # The chapters

    def _open_for_business(self) -> None:
        self._chapter("A business: eight tables and a folder of documents, at the production site")
        size = business.make_business(self._production.folder / "data", self._scale)
        self._say(f"{size.files} files, {size.size_bytes / 1e6:.1f} MB in nine datasets of three tiers")
        self._make_vault()
        self._reopen_command(self._production, "contracts", "show")

    def _protect(self) -> None:
        self._chapter("Snapshots: the first, a day of business, the second, and a replica at the standby")
        self._await_server(self._production)
        self._reopen_command(self._production, "snapshot", *self._flow)
        changed = business.change_business(self._production.folder / "data")
        self._say("a day of business: " + ", ".join(f"{name} {count}" for name, count in changed.items()) + " changed")
        self._reopen_command(self._production, "snapshot", *self._flow)
        self._reopen_command(self._production, "replicate")

    def _prove(self) -> tuple[dict[str, str], dict[str, str]]:
        self._chapter("Proof: the standby reads every byte of its replica, then drills the whole recovery")
        self._await_server(self._standby)
        self._reopen_command(self._standby, "verify", "--level", "content", *self._flow)
        self._reopen_command(self._standby, "drill", *self._flow)
        data = self._production.folder / "data"
        return business.answers(data), _tree_digests(data)

    def _destroy(self, orchestrator: ExitStack) -> datetime:
        self._chapter("The disaster: production is gone, with its data, its vault, its keys and its orchestrator")
        orchestrator.close()
        failed_at = SYSTEM_CLOCK.now()
        shutil.rmtree(self._production.folder)
        self._say(f"removed {self._production.folder} at {to_text(failed_at)}")
        return failed_at

    def _reopen(self, failed_at: datetime) -> None:
        self._chapter("Failover: a fresh process with the standby's settings, replica and key")
        reason = "the production site is lost"
        self._reopen_command(
            self._standby,
            *("failover", "--reason", reason, "--assert-fenced", "its folder is removed, nothing of it runs"),
            *("--failed-at", to_text(failed_at), *self._flow),
        )

    def _compare(self, before: tuple[dict[str, str], dict[str, str]]) -> int:
        self._chapter("What was proven")
        answers, digests = before
        data = self._standby.folder / "data"
        again, found = business.answers(data), _tree_digests(data)
        differing = sorted(name for name in {*digests, *found} if digests.get(name) != found.get(name))
        if differing:
            raise StageFailed(f"{len(differing)} files differ from what production had, the first is {differing[0]}.")
        if again != answers:
            raise StageFailed("the business gets other answers at the standby than it got in production.")
        self._say(f"{len(found)} files at the standby are byte for byte what production had when it was lost")
        for name in answers:
            self._say(f"same answer as before: {name}")
        self._reopen_command(self._standby, "status")
        return len(found)

    def _review(self) -> float:
        self._chapter("Review: the manifests are Parquet, and DuckDB reads them")
        for title, question in MANIFEST_QUESTIONS.items():
            self._say(title)
            self._reopen_command(self._standby, "sql", " ".join(question.split()))
        self._say("and in any DuckDB of your own")
        self._reopen_command(self._standby, "sql", "--key")
        seconds = SYSTEM_CLOCK.elapsed_seconds() - self._started_seconds
        self._chapter(f"Open again. The whole of it took {seconds:.0f} s")
        program = _relative(Path(sys.executable).parent / "reopen")
        for command, use in (
            ("status", "exposure, recovery points, who is primary"),
            ("plan failover --runbook", "the plan as a runbook to follow by hand"),
            ("snapshots orders", "the history of one dataset"),
            ('sql "SELECT * FROM files"', "the history in SQL; without a query it lists the views"),
            ("restore orders --to /tmp/orders", "one dataset, anywhere"),
            ("--help", "everything else"),
        ):
            self._console.print(f"  {program} {command:<34} {use}", highlight=False)
        return seconds

    # How it is done

    @property
    def _flow(self) -> tuple[str, ...]:
        return ("--flow",) if self._prefect else ()

    def _start_server(self, site: Site, servers: ExitStack) -> None:
        """A Prefect server for each site: the standby's own, because production's dies with it. It starts while the
        business is made."""
        if self._prefect:
            start = importlib.import_module("tasks.environment").prefect_server
            site.environment["PREFECT_API_URL"] = servers.enter_context(start(site.folder / "home", wait=False))

    def _await_server(self, site: Site) -> None:
        if self._prefect:
            importlib.import_module("tasks.environment").wait_for_server(site.environment["PREFECT_API_URL"])

    def _make_vault(self) -> None:
        keys = make_keys(writers=2)
        homes: dict[Path, list[RecoveryKey | SigningKey]] = {
            self._production.folder / "keys": [keys.writers[0]],
            self._standby.folder / "keys": [keys.recovery, keys.writers[1], keys.role("verifier")],
            # Nobody needs these from day to day: they add keys and let copies go.
            self._root / "offline" / "keys": [keys.role("root"), keys.role("retention")],
        }
        for folder, members in homes.items():
            for key in members:
                save_key(folder, key, keys.pins)
        create_vault(open_store(self._settings.sites["production"].vault), keys, created_at=SYSTEM_CLOCK.now())
        self._say("production holds a writer key (it adds copies and can read none); the standby the recovery key")

    def _reopen_command(self, site: Site, *arguments: str) -> None:
        self._console.print(
            f"\n[bold]{site.name} $[/bold] reopen {_quoted(arguments)}", highlight=False, soft_wrap=True
        )
        sys.stdout.flush()
        command = [sys.executable, "-m", "reopen.cli", *arguments]
        # Standard output is kept for the demo's own JSON where that is asked for.
        output = sys.stderr if self._console.stderr else None
        run = subprocess.run(command, env={**os.environ, **site.environment}, stdout=output, check=False)
        if run.returncode:
            raise StageFailed(
                f"`reopen {_quoted(arguments)}` at {site.name} ended with {run.returncode}.",
                hint=f"What it made is still in {self._root}; run it again by hand to look.",
            )

    def _chapter(self, title: str) -> None:
        self._console.print(f"\n[bold cyan]## {title}[/]", highlight=False)

    def _say(self, text: str) -> None:
        self._console.print(f"· {text}", highlight=False, soft_wrap=True)


def _site(settings: Settings, name: str, folder: Path) -> Site:
    environment = {
        "REOPEN_CONFIG": str(settings.path),
        "REOPEN_SITE": name,
        "REOPEN_HOME": str(folder / "home"),
        "REOPEN_KEYS": str(folder / "keys"),
    }
    return Site(name=name, folder=folder, environment=environment)


def _demo_folder(settings: Settings) -> Path:
    """The folder of both sites; the demo removes it, so it must be its own."""
    folder = settings.base / ".reopen" / "demo"
    for site in settings.sites.values():
        if not Path(site.vault).is_relative_to(folder):
            raise InvalidInput(
                f"the vault of {site.name} in {settings.path} is {site.vault}, which is not below {folder}.",
                hint="The demo destroys a site for real: run it with the settings that come with the project.",
            )
    return folder


def _tree_digests(root: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder (of a link: its target), by relative path. Not our own hash, on purpose."""
    found = {}
    # A dataset's place may be a link to the version that serves.
    for place in (place for place in root.iterdir() if not place.name.startswith(".")):
        for folder, _, names in os.walk(place.resolve()):
            for name in names:
                path = Path(folder) / name
                data = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
                found[str(place.name / path.relative_to(place.resolve()))] = hashlib.sha256(data).hexdigest()
    return found


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _quoted(arguments: tuple[str, ...]) -> str:
    """A command line as a person would type it: SQL in double quotes, because it has single ones."""
    return " ".join(
        f'"{word}"' if "'" in word and not set('"$`\\') & set(word) else shlex.quote(word) for word in arguments
    )
