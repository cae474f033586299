"""``reopen clear``, and where a suspect recovery point is shown."""

from __future__ import annotations

import os

import pytest

from tests.cli.person import Person
from tests.cli.place import Place

TEXT = "\n".join(f"row {number}, amount {number * 3}" for number in range(2000))
WHY = ("--reason", "a new export format")


@pytest.fixture
def suspect(place: Place) -> Place:
    """Two verified snapshots, here and at the standby, of which the second looks encrypted."""
    place.write("papers", **{f"{number}.txt": f"{number} {TEXT}" for number in range(8)})
    place.run("snapshot")
    for path in sorted((place.folder / "data/papers").glob("*.txt")):
        path.write_bytes(os.urandom(path.stat().st_size))
        path.rename(path.with_name(path.name + ".locked"))
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    return place


def points(place: Place, *args: str) -> list[int]:
    return [dataset["point"]["seq"] for dataset in place.json("plan", "failover", *args)["plan"]["datasets"]]


def test_a_suspect_point_is_named_and_last_clean_passes_over_it_until_it_is_cleared(suspect: Place) -> None:
    first, second = suspect.json("snapshots")["snapshots"]
    assert first["suspicion"] is None
    assert second["suspicion"]["since"] == second["snapshot"]
    assert "complete, suspect" in suspect.run("snapshots").stdout
    assert (points(suspect), points(suspect, "--at", "last-clean")) == ([2], [1])
    assert "names got the ending .locked" in suspect.json("plan", "failover")["suspect"]["papers"]
    said = suspect.run("plan", "failover").stdout
    assert "papers: its recovery point may be encrypted or infected" in said
    assert "--at last-clean" in said
    assert suspect.json("plan", "failover", "--at", "last-clean")["suspect"] == {}

    cleared = suspect.json("clear", "papers", "--at", "latest", *WHY, "--by", "anna")

    assert (cleared["snapshot"], cleared["by"], cleared["still"]) == (second["snapshot"], "anna", [])
    assert suspect.json("snapshots")["snapshots"][1]["suspicion"] is None
    assert points(suspect, "--at", "last-clean") == [1], "the standby has not heard of it"
    suspect.run("replicate")
    assert points(suspect, "--at", "last-clean") == [2]
    assert "may be encrypted" not in suspect.run("plan", "failover").stdout


def test_a_person_is_told_before_a_failover_to_a_suspect_point(suspect: Place, person: Person) -> None:
    person.answering("no")
    suspect.run("failover", "--reason", "a test", "--accept-risk", "old-primary-may-write", code=7)
    assert "its recovery point may be encrypted" in " ".join(person.getvalue().split())


def test_whoever_is_not_asked_is_told_too_that_a_suspect_point_was_taken(suspect: Place) -> None:
    """By a script with --yes, and of a restore: beside the result, and in it."""
    restored = suspect.run("restore", "papers", "--to", str(suspect.folder / "back"), "--dry-run")
    assert "may be encrypted or infected: suspect since snapshot" in restored.stderr
    assert "--at last-clean" in restored.stderr

    ran = suspect.run("failover", "--yes", "--reason", "a test", "--accept-risk", "old-primary-may-write")

    assert "note: papers: its recovery point may be encrypted or infected" in ran.stderr
    assert "note: papers: its recovery point may be encrypted or infected" in ran.stdout
    again = suspect.json("restore", "papers", "--to", str(suspect.folder / "back"), "--dry-run")
    assert "names got the ending .locked" in again["suspect"]


def test_what_is_still_suspect_after_a_clearing_is_told(suspect: Place) -> None:
    for note in ("restored", "and more"):
        suspect.write("papers", note=note)
        suspect.run("snapshot")
    _, encrypted, restored, newest = (item["snapshot"] for item in suspect.json("snapshots")["snapshots"])

    said = suspect.run("clear", "papers", "--at", newest, *WHY).stdout
    assert f"snapshot {newest} of papers is cleared (a new export format)" in said
    assert f"still suspect since snapshot {encrypted[:8]}" in said

    (still,) = suspect.json("clear", "papers", "--at", restored, *WHY)["still"]
    assert (still["since"], still["verdict"]) == (encrypted, "suspect")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("clear", "papyrus", "--at", "latest", *WHY), 4, "papers"),
        (("clear", "papers", "--at", "ffff", *WHY), 4, "ffff"),
        (("clear", "papers", "--at", "last-clean", *WHY), 4, "nothing is known against"),
        (("clear", "papers", "--at", "latest", "--reason", " "), 2, "needs a reason"),
        (("clear", "papers", *WHY), 2, "--at"),
        (("clear", "papers", "--at", "latest"), 2, "--reason"),
    ],
)
def test_what_is_asked_wrongly_is_told(suspect: Place, arguments: tuple[str, ...], code: int, said: str) -> None:
    assert said in suspect.run(*arguments, code=code).stderr


def test_the_keys_of_the_primary_alone_clear_nothing(suspect: Place) -> None:
    next((suspect.folder / ".reopen/keys").glob("verifier-*.key")).unlink()
    assert "verifier key" in suspect.run("clear", "papers", "--at", "latest", *WHY, code=7).stderr
    assert suspect.json("snapshots")["snapshots"][1]["suspicion"] is not None
