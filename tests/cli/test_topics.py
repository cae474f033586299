"""What people look up without a page at hand is told, fits the terminal, and names what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reference import settings
from reopen.cli.topics import OTHER_NAMES, TOPICS, find, laid_out, text_of, words
from tests.cli.place import Place
from tests.reference.test_words import faults, typed

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "reopen" / "cli" / "topics"


def test_every_text_is_a_topic_and_every_topic_has_a_text() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(TOPICS)
    assert set(OTHER_NAMES.values()) <= set(TOPICS)


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_is_told_to_people_and_to_programs(place: Place, name: str) -> None:
    told = place.run("help", name).stdout
    title = text_of(name).splitlines()[0].removeprefix("# ")
    assert told.startswith(title)
    assert place.json("help", name)["text"] == text_of(name)


@pytest.mark.parametrize("name", TOPICS)
def test_what_a_topic_tells_people_to_type_exists(name: str) -> None:
    assert [fault for line in typed(FOLDER / f"{name}.md") for fault in faults(line)] == []


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_fits_the_terminal(name: str, columns: int) -> None:
    """But for a command line, which is pasted whole, and a word that has no place to be broken at."""
    for line in laid_out(text_of(name), columns):
        assert len(line) <= min(columns, 80) or line.startswith("    ") or len(line.split()) == 1, line


def test_lists_hang_and_blocks_are_kept() -> None:
    text = "# Title\n\nsome\nwords\n\n- one that is\n  long\n- two\n\n```\nreopen a   b\n```\n"
    assert list(laid_out(text, 9)) == [
        "Title", "─────", "", "some", "words", "", "- one", "  that is", "  long", "- two", "", "    reopen a   b",
    ]  # fmt: skip


def test_without_a_topic_all_are_listed(place: Place) -> None:
    told = place.run("help").stdout
    assert all(name in told for name in TOPICS)
    assert [item["name"] for item in place.json("help")["topics"]] == list(TOPICS)


def test_a_topic_is_found_by_the_word_that_people_have_for_it(place: Place) -> None:
    assert find("exit-code") == find("codes") == "exit-codes"
    assert find("RTO") == "tiers"
    assert place.run("help", "exit", "codes").stdout == place.run("help", "exit-codes").stdout


def test_the_help_of_a_command_is_its_own(place: Place) -> None:
    assert place.run("help", "keys", "rotate").stdout.strip() == place.run("keys", "rotate", "--help").stdout.strip()
    told = place.json("help", "keys", "rotate")["command"]
    assert told["usage"] == "reopen keys rotate [OPTIONS]"
    assert {"--role", "--stolen"} <= {name for item in told["takes"] for name in item["names"]}
    [site] = [item for item in place.json("help", "replicate")["command"]["takes"] if "--to" in item["names"]]
    assert (site["default"], site["required"]) == ("the standby", False)


def test_what_is_near_is_proposed(place: Place) -> None:
    assert "Did you mean 'recovery'?" in place.run("help", "recovry", code=4).stderr
    assert "Did you mean 'rotate'?" in place.run("help", "keys", "rotat", code=4).stderr


def test_help_needs_no_settings(place: Place) -> None:
    (place.folder / "reopen.toml").write_text("not = [")
    assert place.run("help", "recovery").stdout
    assert place.run("help", "failover").stdout


def test_the_topic_of_settings_shows_every_table_and_every_variable_that_is_read(place: Place) -> None:
    told = place.run("help", "settings").stdout
    for table in re.findall(r"^## `(\[[a-z.]+\])`", settings.page(), re.MULTILINE):
        assert table in told
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "reopen").rglob("*.py")]
    read = {name for text in texts for name in re.findall(r'"(REOPEN_[A-Z_]*[A-Z])"', text)}
    assert "REOPEN_CONFIG" in read
    tables = {f"REOPEN_{name.upper()}" for name in re.findall(r"^\[([a-z]+)", told, re.MULTILINE)}
    assert read - tables <= set(re.findall(r"REOPEN_[A-Z_]*[A-Z]", told))


def test_the_words_are_those_of_the_engine() -> None:
    assert dict(words())["recovery point"] == "the snapshot that a recovery starts from"
    assert len(words()) > 40
