"""Errors: one line and a hint for people, one document for programs, and the right exit code."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reopen.desk.session import Session
from tests.cli.place import Place


def process(place: Place, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A real process, started in the place's folder."""
    return subprocess.run(
        [sys.executable, "-m", "reopen.cli", *args],
        cwd=place.folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_settings_the_exit_code_is_4_and_the_hint_is_init(tmp_path: Path) -> None:
    ran = Place(folder=tmp_path).run("snapshot", code=4)
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: There is no settings file")
    assert "hint: `reopen init`" in ran.stderr


def test_without_a_vault_the_exit_code_is_4(place: Place) -> None:
    shutil.rmtree(place.folder / ".reopen/vault")
    error = place.json("snapshots", code=4)["error"]
    assert set(error) == {"kind", "message", "hint", "context"}
    assert "there is no vault" in error["message"]


def test_with_the_keys_of_another_vault_the_exit_code_is_7(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Place(folder=tmp_path_factory.mktemp("other"))
    other.run("init")
    shutil.rmtree(place.folder / ".reopen/keys")
    shutil.copytree(other.folder / ".reopen/keys", place.folder / ".reopen/keys")
    assert "the keys here belong to vault" in place.run("snapshots", code=7).stderr


def test_an_unknown_dataset_exits_with_4_and_the_nearest_name(place: Place) -> None:
    assert "Did you mean 'papers'?" in place.run("snapshot", "paper", code=4).stderr
    place.run("snapshots", "paper", code=4)
    place.run("restore", "paper", "--to", str(place.folder / "out"), code=4)


def test_a_broken_contract_exits_with_2_and_all_its_problems(place: Place) -> None:
    path = place.folder / "data_contracts/papers.odcs.yaml"
    path.write_text(path.read_text().replace("unit: h", "unit: fortnights"))
    assert len(place.json("snapshot", code=2)["error"]["problems"]) == 2
    found = place.json("contracts", "lint", code=2)
    assert (found["schema"], found["errors"]) == ("reopen.contracts-lint/1", 2)


def test_an_unknown_site_exits_with_4(place: Place) -> None:
    assert "Sites: production, standby" in place.run("snapshots", "--vault", "moon", code=4).stderr


@pytest.mark.parametrize(
    "args", [("snapshot", "--wrong"), ("wrong",), ("restore", "papers"), ("verify", "--level", "x")]
)
def test_a_wrong_command_line_exits_with_2_in_both_forms(place: Place, args: tuple[str, ...]) -> None:
    ran = place.run(*args, code=2)
    assert ran.stderr.startswith("error: ")
    assert "--help`" in ran.stderr
    assert place.json(*args, code=2)["error"]["kind"] == "invalid-input"


def test_an_unforeseen_error_is_one_line_and_a_traceback_only_when_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Session, site: str | None = None) -> None:
        raise RuntimeError("the roof\nfell in")

    monkeypatch.setattr(Session, "vault", fail)
    ran = place.run("snapshots", code=1)
    assert ran.stderr == "error: unexpected: RuntimeError: the roof\nhint: Run with --verbose for the traceback.\n"
    assert "Traceback" in place.run("snapshots", "--verbose", code=1).stderr
    assert place.json("snapshots", code=1)["error"]["message"].startswith("unexpected: RuntimeError")


def test_an_interrupt_exits_with_130(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Session, site: str | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "vault", interrupt)
    assert "interrupted" in place.run("snapshots", code=130).stderr


def test_options_may_stand_before_or_after_the_command(place: Place) -> None:
    settings = str(place.folder / "reopen.toml")
    for args in (("--config", settings, "--quiet", "snapshot"), ("snapshot", "--config", settings, "--quiet")):
        result = process(place, *args)
        assert (result.returncode, result.stderr) == (0, "")


def test_a_process_finds_its_settings_in_the_folder_or_by_the_environment(place: Place, tmp_path: Path) -> None:
    place.run("snapshot")
    here = process(place, "snapshots", "--json")
    there = subprocess.run(
        [sys.executable, "-m", "reopen.cli", "snapshots", "--json"],
        cwd=tmp_path.parent,
        env={**os.environ, "REOPEN_CONFIG": str(place.folder / "reopen.toml")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(here.stdout) == json.loads(there.stdout)


def test_standard_output_of_a_pipe_holds_results_only_and_progress_goes_to_standard_error(place: Place) -> None:
    result = process(place, "snapshot")
    assert result.returncode == 0
    assert result.stdout.startswith("dataset")
    assert "papers: 11 B in" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr


def test_a_reader_that_stops_early_is_no_error(place: Place) -> None:
    place.write("papers", **{f"file{number}": "x" for number in range(2000)})
    place.run("snapshot")
    script = f"{shlex.quote(sys.executable)} -m reopen.cli ls papers | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=place.folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_quiet_leaves_results_and_errors_and_verbose_adds_a_traceback_only(place: Place) -> None:
    loud, quiet = place.run("snapshot"), place.run("snapshot", "--quiet")
    assert "papers: 11 B in" in loud.stderr
    assert quiet.stderr == ""
    assert quiet.stdout.split()[:3] == loud.stdout.split()[:3] == ["dataset", "state", "snapshot"]
    wrong = place.run("snapshot", "nothing", "--quiet", code=4)
    assert wrong.stdout == ""
    assert wrong.stderr.startswith("error: ")
    assert "Traceback" not in place.run("snapshot", "nothing", "--verbose", code=4).stderr


@pytest.mark.parametrize(("not_wanted", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colours_unless_they_are_not_wanted(
    place: Place, monkeypatch: pytest.MonkeyPatch, not_wanted: str, coloured: bool
) -> None:
    """FORCE_COLOR stands for the terminal here; NO_COLOR wins over it."""
    place.run("snapshot")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", not_wanted)
    assert ("\x1b[32m" in place.run("snapshots").stdout) == coloured
    assert ("\x1b[1;31m" in place.run("snapshots", "none", code=4).stderr) == coloured
