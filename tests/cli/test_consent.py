"""The one rule about dangerous commands (C1 to C4): they ask where somebody sits, and nowhere else."""

from __future__ import annotations

import importlib
import io
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reopen.cli import consent
from reopen.cli.face import Face
from reopen.cli.terminal import Terminal, find_terminal
from reopen.errors import Conflict
from tasks import environment, watching
from tests.cli.helped import TREE
from tests.cli.person import Person
from tests.cli.place import Place
from tests.cli.test_prune import let_a_day_pass
from tests.cli.test_retention import keep

RISK = ("--accept-risk", "old-primary-may-write")
FAILOVER = ("failover", "--reason", "a test", *RISK)
DANGEROUS = {
    ("failover",), ("failback",), ("rollback",), ("commit",), ("reprotect",), ("approve",), ("restore",), ("retire",),
    ("retain",), ("release",), ("prune",), ("repair",), ("keys", "remove"), ("keys", "rotate"), ("keys", "passphrase"),
}  # fmt: skip


@pytest.fixture
def replicated(place: Place) -> Place:
    """A verified replica of all that production has."""
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    return place


def refused(place: Place, person: Person, *args: str) -> str:
    """What a command said before a person answered it with a no."""
    ran = place.run(*args, code=7)
    assert "it was not confirmed" in ran.stderr
    assert person.answers == [], "it was asked"
    return person.getvalue()


def test_exactly_the_dangerous_commands_can_be_told_yes_beforehand() -> None:
    with_yes = {path for path, command in TREE.items() if any("--yes" in one.opts for one in command.params)}
    assert with_yes == DANGEROUS


def test_the_role_is_given_accepted_and_taken_back_only_with_a_yes(replicated: Place, person: Person) -> None:
    refused(replicated, person.answering("no"), *FAILOVER)
    replicated.run(*FAILOVER, "--yes")
    assert person.getvalue().count("Go on?") == 1

    said = refused(replicated, person.answering(""), "commit", "--reason", "fine")
    assert "standby stays the primary, epoch 1" in said
    assert "there is no roll-back from then on" in said
    said = refused(replicated, person.answering("no"), "rollback", "--reason", "false alarm", *RISK)
    assert "the role goes back from standby to production" in said
    assert replicated.json("status")["control"]["primary"] == "standby"

    person.answering("yes")
    replicated.run("rollback", "--reason", "false alarm", *RISK)
    assert replicated.json("status")["control"]["primary"] == "production"


def test_a_failback_says_what_stops_and_moves_nothing_without_a_yes(replicated: Place, person: Person) -> None:
    replicated.run(*FAILOVER, "--yes")
    replicated.run("commit", "--reason", "fine", "--yes")
    settings = replicated.folder / "reopen.toml"
    settings.write_text(settings.read_text().replace("[sites.production]", "[sites.production]\ncontrol = 'control-2'"))
    assert "the epoch log moves to" in refused(replicated, person.answering("no"), "reprotect")

    said = refused(replicated, person.answering("no"), "failback", "--reason", "repaired", *RISK)

    assert "the role moves from standby to production (failback)" in said
    assert "the writers of standby are held for 1h at most" in " ".join(said.split())
    assert replicated.json("status")["control"]["primary"] == "standby"


def test_copies_and_what_protects_them_go_only_with_a_yes(place: Place, person: Person) -> None:
    place.run("snapshot")
    held = place.json("hold", "papers", "--reason", "case 1")["hold"]
    assert "papers may expire" in refused(place, person.answering("no"), "release", held, "--reason", "settled")
    person.answering("yes")
    place.run("release", held, "--reason", "settled")

    contract = place.folder / "data_contracts/papers.odcs.yaml"
    keep(place, "{last: 1}")
    for text in ("second", "third"):
        place.write("papers", one=text)
        place.run("snapshot")
    said = refused(place, person.answering("no"), "retain")
    assert "papers: " in said
    assert "1 stay" in said
    assert len(place.json("snapshots", "papers")["snapshots"]) == 3
    place.run("retain", "--yes")
    let_a_day_pass(place)
    said = refused(place, person.answering("no"), "prune", "--max-unused", "0")
    assert "mark " in said
    assert place.json("prune", "--dry-run")["due_at"] is None, "nothing is marked"

    next((place.folder / ".reopen/vault/index").glob("*.parquet")).unlink()
    assert "1 damaged index part" in refused(place, person.answering("no"), "repair")

    contract.unlink()
    assert "is protected no more" in refused(place, person.answering("n"), "retire", "papers", "--reason", "moved")


def test_keys_end_only_with_a_yes(place: Place, person: Person) -> None:
    writer = next(key["id"] for key in place.json("keys", "list")["keys"] if key["role"] == "writer")

    said = refused(place, person.answering("no"), "keys", "remove", writer, "--stolen")
    assert "nothing is waited for" in said
    assert "ends for ever (rotated)" in refused(place, person.answering("no"), "keys", "rotate", "--role", "writer")
    place.run("keys", "passphrase")
    refused(place, person.answering("no"), "keys", "passphrase", "--forget")
    recovery = next(key["id"] for key in place.json("keys", "list")["keys"] if key["role"] == "recovery")
    refused(place, person.answering("no"), "keys", "remove", recovery, "--still-needed")

    found = place.json("keys", "list")["keys"]
    assert [key["state"] for key in found if key["role"] == "writer"] == ["current"]
    assert [key["passphrase"] for key in found if key["id"] == recovery] == [True]


def test_a_restore_asks_before_it_removes_and_only_then(place: Place, person: Person, tmp_path: Path) -> None:
    place.run("snapshot")
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("not in the snapshot")

    place.run("restore", "papers", "--to", str(target))
    assert person.getvalue() == ""
    refused(place, person.answering("no"), "restore", "papers", "--to", str(target), "--delete")
    assert (target / "mine").exists()


def test_nothing_is_asked_where_nothing_would_change(place: Place, person: Person) -> None:
    place.run("snapshot")
    place.run("retain")
    place.run("prune")
    place.run("repair")
    place.run("commit", "--reason", "there is no failover", code=6)
    assert person.getvalue() == ""


def test_a_flow_is_not_begun_before_somebody_agreed(
    replicated: Place, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    def flow(request: Any) -> None:
        begun.append(request)
        raise Conflict("it was begun")

    modules: dict[str, object] = {
        "flows.requests": SimpleNamespace(FailoverRequest=lambda **fields: SimpleNamespace(**fields)),
        "flows.failover": SimpleNamespace(failover=flow),
        "tasks.environment": environment,
        "tasks.watching": watching,
    }
    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: modules.get(name) or real(name))

    said = refused(replicated, person.answering("no"), *FAILOVER, "--flow")
    assert "papers: what was written in" in said
    assert not begun
    person.answering("yes")
    assert "it was begun" in replicated.run(*FAILOVER, "--flow", code=6).stderr
    assert len(begun) == 1


def test_a_terminal_at_which_nobody_answers_holds_nothing_up_for_ever(
    replicated: Place, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent, "ANSWER_SECONDS_MAX", 0.05)
    ran = replicated.run(*FAILOVER, code=7)
    assert "nobody answered within" in ran.stderr
    assert "Go on?" in person.getvalue()


def test_nobody_sits_at_a_pipe_nor_behind_a_job_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    face = Face(name="failover")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert find_terminal(face) is None
    outer, inner = pty.openpty()
    with open(inner, closefd=False) as there:
        monkeypatch.setattr("sys.stdin", there)
        monkeypatch.setattr("sys.stderr", there)
        monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp())
        assert find_terminal(face) is not None
        assert find_terminal(Face(name="failover", json=True)) is None
        monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp() + 1)
        assert find_terminal(face) is None
    os.close(inner)
    os.close(outer)


def test_lines_are_folded_at_the_width_of_the_terminal_below_their_own_indent() -> None:
    outer, inner = pty.openpty()
    termios.tcsetwinsize(inner, (24, 40))
    said = io.StringIO()
    Terminal(descriptor=inner, output=said).say("what goes:\n    " + "orders and more " * 5)
    os.close(inner)
    os.close(outer)
    lines = said.getvalue().splitlines()
    assert max(map(len, lines)) < 40
    assert [len(line) - len(line.lstrip()) for line in lines[1:]] == [4, 6, 6]


def test_at_a_narrow_terminal_without_colours_a_command_asks_and_goes_on(replicated: Place) -> None:
    """The real thing: a process whose terminal is a pseudo-terminal of 60 columns, and who types."""
    replicated.run(*FAILOVER, "--yes")

    said, code = at_a_terminal(replicated, "rollback", "--reason", "false alarm", *RISK, typed="yes")

    assert code == 0, said
    assert "Go on? Type yes" in said
    assert "production is the primary" in said
    assert "\x1b" not in said
    question = said.partition("Go on?")[0].splitlines()
    assert max(map(len, question)) < 60


def at_a_terminal(place: Place, *args: str, typed: str) -> tuple[str, int]:
    """What a process prints whose terminal this is, and its exit code; it is answered when it asks."""
    outer, inner = pty.openpty()
    termios.tcsetwinsize(inner, (24, 60))
    given = {name: value for name, value in os.environ.items() if not name.startswith(("REOPEN_", "COLUMNS"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "reopen.cli", "--config", str(place.folder / "reopen.toml"), *args],
        stdin=inner, stdout=inner, stderr=inner, env=given | {"NO_COLOR": "1", "TERM": "xterm"}, start_new_session=True,
    )  # fmt: skip
    os.close(inner)
    said = b""
    for data in printed(outer):
        if b"Go on?" not in said and b"Go on?" in said + data:
            os.write(outer, f"{typed}\n".encode())
        said += data
    os.close(outer)
    return said.decode().replace("\r\n", "\n"), process.wait(60)


def printed(descriptor: int) -> Iterator[bytes]:
    """What comes out of a terminal until nobody is behind it; no longer than a minute."""
    while select.select([descriptor], [], [], 60)[0]:
        try:
            data = os.read(descriptor, 4096)
        except OSError:
            return
        if not data:
            return
        yield data
