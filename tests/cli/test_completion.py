"""A shell is offered what fits: commands, options, datasets of the contracts, sites of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from reopen.cli.tree import app
from tests.cli.place import Place


def offered(shell: str, line: str, **env: str) -> str:
    """What a shell is offered at the end of a command line."""
    words = line.split(" ")
    asked = {
        "_REOPEN_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    result = CliRunner().invoke(app, [], prog_name="reopen", env={**asked, **env})
    assert "Traceback" not in result.output
    return result.stdout


@pytest.fixture
def settings(place: Place) -> dict[str, str]:
    """The environment of a shell that is at the place."""
    place.contract("invoices")
    return {"REOPEN_CONFIG": str(place.folder / "reopen.toml")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_is_offered_datasets_and_sites(shell: str, settings: dict[str, str]) -> None:
    datasets = offered(shell, "reopen snapshot ", **settings)
    assert "invoices" in datasets
    assert "papers" in datasets
    begun = offered(shell, "reopen restore in", **settings)
    assert "invoices" in begun
    assert "papers" not in begun
    assert "standby" in offered(shell, "reopen replicate --to st", **settings)
    assert "last-verified" in offered(shell, "reopen ls papers --at last-", **settings)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_is_offered_commands_and_options(shell: str) -> None:
    assert "snapshots" in offered(shell, "reopen snap")
    assert "rotate" in offered(shell, "reopen keys ro")
    assert "--dry-run" in offered(shell, "reopen prune --dr")
    assert "content" in offered(shell, "reopen verify --level ")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("reopen sql lost", "lost-now"),
        ("reopen help rec", "recovery"),
        ("reopen help keys ro", "rotate"),
        ("reopen decide papers sk", "skip"),
        ("reopen evidence list --kind dr", "drill"),
        ("reopen failover --accept-risk ", "old-primary-may-write"),
        ("reopen restore papers --at last-c", "last-clean"),
    ],
)
def test_words_that_an_argument_takes_are_offered(line: str, word: str) -> None:
    assert word in offered("bash", line)


def test_a_dataset_that_is_named_already_is_not_offered_again(settings: dict[str, str]) -> None:
    again = offered("bash", "reopen snapshot papers ", **settings)
    assert "invoices" in again
    assert "papers" not in again


def test_settings_that_cannot_be_read_offer_nothing_and_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("a = [")
    for file in (tmp_path / "broken.toml", tmp_path, Path("/bin/sh")):
        assert offered("bash", "reopen snapshot ", REOPEN_CONFIG=str(file)).strip() == ""


def test_without_settings_nothing_is_offered_and_nothing_is_said(tmp_path: Path) -> None:
    assert offered("bash", "reopen snapshot ", REOPEN_CONFIG=str(tmp_path / "none.toml")).strip() == ""


def test_the_settings_that_the_line_names_are_looked_into(place: Place) -> None:
    assert "papers" in offered("bash", f"reopen --config {place.folder}/reopen.toml snapshot ")
