"""``reopen failover`` at a terminal: it asks before it begins, and about what fails; elsewhere it asks nobody."""

from __future__ import annotations

import pytest

from tests.cli.person import Person
from tests.cli.place import Place
from tests.cli.test_decisions import VERSIONS

FAILOVER = ("failover", "--reason", "a test", "--accept-risk", "old-primary-may-write")


@pytest.fixture
def replicated(place: Place) -> Place:
    """A verified replica that is older than what production's vault has."""
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    place.write("papers", three="third")
    place.run("snapshot")
    return place


def test_what_is_lost_is_shown_and_without_a_yes_nothing_is_moved(replicated: Place, person: Person) -> None:
    person.answers = [("Go on?", "maybe")]

    ran = replicated.run(*FAILOVER, code=7)

    assert "papers: what was written in " in person.getvalue()
    assert "is lost: 1 file, 5 B" in person.getvalue()
    assert "it was not confirmed; nothing was moved" in ran.stderr
    assert "nothing waits" in replicated.run("decide").stdout
    assert not (replicated.folder / "standby/papers").exists()


def test_with_a_yes_it_goes_on(replicated: Place, person: Person) -> None:
    person.answers = [("Go on?", "yes")]
    replicated.run(*FAILOVER)
    assert (replicated.folder / "standby/papers/one").read_text() == "first"
    assert person.answers == []


@pytest.mark.parametrize("option", ["--yes", "--json"])
def test_nobody_is_asked_who_said_so_before(replicated: Place, person: Person, option: str) -> None:
    replicated.run(*FAILOVER, option)

    assert person.getvalue() == ""


def test_a_dataset_that_fails_is_asked_about_until_the_answer_can_be_taken(replicated: Place, person: Person) -> None:
    replicated.contract("memos")
    replicated.write("memos", one="memo")
    for command in (("snapshot",), ("verify", "--level", "stored"), ("replicate",)):
        replicated.run(*command)
    settings = replicated.folder / "reopen.toml"
    settings.write_text(settings.read_text().replace('decide_within = "auto"', 'decide_within = "60s"'))
    (replicated.folder / VERSIONS).parent.mkdir(parents=True)
    (replicated.folder / VERSIONS).write_text("in the way")
    person.answers = [
        ("Go on?", "yes"),
        ("retry, skip WHY", "shrug"),
        ("'shrug' is no decision", "skip"),
        ("reason", "skip they can wait"),
    ]

    ran = replicated.run(*FAILOVER, code=3)

    assert "decided: skip restore:papers" in person.getvalue()
    assert "they can wait" in ran.stdout
    assert (replicated.folder / "standby/memos/one").read_text() == "memo"
