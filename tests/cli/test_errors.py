"""Errors: one line and a hint for people, one document for programs, and the right exit code."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reopen.desk.session import Session
from reopen.errors import Corrupt, Internal, Transient
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


def test_an_error_whose_place_knows_no_next_step_has_the_usual_one_of_its_kind() -> None:
    assert "reopen repair --from SITE" in Corrupt("x is damaged.").next_step
    assert "run the same command again" in str(Transient("x did not answer."))
    assert "report it" in str(Internal("x.").as_dict()["hint"])
    assert Corrupt("x.", hint="Look.").next_step == "Look."
    assert Corrupt("x.").hint == "", "whoever knows a better step than the usual one can tell"
    assert pickle.loads(pickle.dumps(Corrupt("x.", hint="Look."))).hint == "Look."


def test_a_vault_that_does_not_open_is_named_with_the_way_to_mend_it(place: Place) -> None:
    place.run("snapshot")
    place.run("replicate")
    vault = place.folder / ".reopen/vault"
    (vault / "vault.json").write_text("garbage")
    told = place.run("snapshots", code=5).stderr
    assert f"the vault in {vault} does not open: vault.json is not valid JSON" in told
    assert "hint: `reopen repair --from SITE`" in told
    place.run("repair", "--from", "standby")
    shutil.rmtree(vault / "keys")
    told = place.run("snapshots", code=6).stderr
    assert f"none of the keys here is listed in keys/ of the vault in {vault}" in told
    place.run("repair", "--from", "standby")
    assert place.run("snapshots").exit_code == 0


def test_a_file_where_a_folder_has_to_be_is_called_a_file(place: Place) -> None:
    place.run("snapshot")
    target = place.folder / "taken"
    target.write_text("mine")
    told = place.run("restore", "papers", "--to", str(target), code=6).stderr
    assert f"{target} is there and is no folder" in told
    assert target.read_text() == "mine"
    data = place.folder / "data/papers"
    shutil.rmtree(data)
    data.write_text("a file")
    assert f"{data} is no folder" in place.run("snapshot", code=4).stdout


def test_a_report_that_cannot_be_written_is_an_error_of_its_place(place: Place) -> None:
    (place.folder / "file").write_text("")
    told = place.run("report", "--to", str(place.folder / "file/report.html"), code=7).stderr
    assert "report.html cannot be written: Not a directory" in told


def test_a_risk_that_is_misspelt_is_not_taken_for_accepted(place: Place) -> None:
    risk = ("--accept-risk", "old-primary")
    told = place.run("failover", "--reason", "fire", *risk, code=2).stderr
    assert "'old-primary' is no risk; allowed: old-primary-may-write" in told
