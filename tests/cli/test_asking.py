"""``reopen failover`` at a terminal: it asks before it begins, and about what fails; elsewhere it asks nobody."""

from __future__ import annotations

import io
import os
import pty
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from reopen.cli import asking
from reopen.cli.asking import Terminal, find_terminal
from reopen.cli.face import Face
from tests.cli.place import Place
from tests.cli.test_decisions import VERSIONS

FAILOVER = ("failover", "--reason", "a test", "--accept-risk", "old-primary-may-write")


@dataclass
class Person(io.StringIO):
    """Reads what is asked, and types an answer to each question as soon as it stands there."""

    descriptor: int
    answers: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def write(self, text: str) -> int:
        if self.answers and self.answers[0][0] in text:
            os.write(self.descriptor, f"{self.answers.pop(0)[1]}\n".encode())
        return super().write(text)


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    """Somebody at a real pseudo-terminal."""
    outer, inner = pty.openpty()
    sitting = Person(outer)
    monkeypatch.setattr(asking, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(
        asking, "find_terminal", lambda face: None if face.json else Terminal(descriptor=inner, output=sitting)
    )
    yield sitting
    os.close(inner)
    os.close(outer)


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
    settings.write_text(settings.read_text().replace('decide_within = "0s"', 'decide_within = "60s"'))
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


def test_where_nobody_sits_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    face = Face(name="failover", config=None, quiet=False, verbose=False, json=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())

    assert find_terminal(face) is None
