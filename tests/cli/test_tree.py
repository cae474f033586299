"""All commands are known before any module of theirs is imported, and a command brings only what it uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reopen.cli.tree import COMMANDS, registered
from tests.cli.place import Place

LIBRARIES = (
    "asyncio",
    "duckdb",
    "email",
    "fsspec",
    "importlib.metadata",
    "jsonschema",
    "numpy",
    "obstore",
    "pathspec",
    "prefect",
    "pyarrow",
    "pydantic",
    "pyfastcdc",
    "rich",
    "ruamel",
)
TABLES = {"numpy", "pyarrow"}
MAIN = "import sys\nfrom reopen.cli.main import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n"


@pytest.mark.parametrize("module", dict.fromkeys(COMMANDS.values()))
def test_every_module_registers_the_commands_that_the_tree_says_it_has(module: str) -> None:
    assert list(registered(module)) == [name for name, where in COMMANDS.items() if where == module]


def imported(place: Place, *args: str) -> set[str]:
    """Which of the libraries a process that runs a command ends with; its output goes to pipes."""
    found = f"set({LIBRARIES!r}) & set(sys.modules)"
    code = f"{MAIN}    assert end.code in (None, 0, 3), end.code\nprint('libraries:', *{found})"
    done = subprocess.run(
        [sys.executable, "-c", code, "--config", str(place.folder / "reopen.toml"), *args],
        env={key: value for key, value in os.environ.items() if not key.startswith("REOPEN_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_and_version_import_no_engine(place: Place) -> None:
    assert imported(place, "--version") == set()
    assert imported(place, "--help") <= {"rich"}
    assert imported(place, "snapshot", "--help") <= {"rich"}


def test_short_verbs_import_only_what_they_use(place: Place, tmp_path: Path) -> None:
    """What a process imports is most of the time that these take. The place is settled: each verb ran before."""
    place.run("snapshot")
    place.run("replicate", "--to", "standby")
    assert imported(place, "snapshot") == TABLES, "nothing changed"
    # It also writes the run-book, from a plan whose digest pydantic's serialization makes.
    for_plan = {"email", "importlib.metadata", "pydantic"}
    assert imported(place, "replicate", "--to", "standby") <= for_plan, "one record is new"
    assert imported(place, "status") == set()
    assert imported(place, "snapshots") == set()
    assert imported(place, "verify", "--level", "stored") == TABLES
    assert imported(place, "restore", "papers", "--to", str(tmp_path / "all")) == TABLES
    only = ("--to", str(tmp_path / "one"), "--path", "sub/**")
    assert imported(place, "restore", "papers", *only) == {*TABLES, "pathspec"}
    place.write("papers", three="third")
    assert imported(place, "snapshot") == TABLES, "one small file is new"
