"""``reopen decide``: what waits for a person, and saying what becomes of it."""

from __future__ import annotations

import pytest

from tests.cli.place import Place

VERSIONS = "standby/.reopen-versions/papers"
FAILOVER = ("failover", "--reason", "a test", "--accept-risk", "old-primary-may-write")


@pytest.fixture
def stuck(place: Place) -> Place:
    """A failover in which one of two datasets cannot be restored: a file lies where its versions should be."""
    place.contract("memos")
    place.write("memos", one="memo")
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    (place.folder / VERSIONS).parent.mkdir(parents=True)
    (place.folder / VERSIONS).write_text("in the way")
    place.run(*FAILOVER, code=3)
    return place


def test_what_failed_is_shown_with_its_reason_and_exit_3(stuck: Place) -> None:
    found = stuck.json("decide", code=3)

    assert [(step["step"], step["attempt"]) for step in found["waiting"]] == [("restore:papers", 1)]
    assert "restore:papers" in stuck.run("decide", code=3).stdout


def test_a_dataset_that_is_skipped_by_its_name_ends_the_failover_without_it(stuck: Place) -> None:
    taken = stuck.json("decide", "papers", "skip", "--why", "they can wait", "--by", "anna")["decision"]
    assert (taken["step"], taken["choice"], taken["by"]) == ("restore:papers", "skip", "anna")
    stuck.run("decide", "papers", "retry", code=4)

    result = stuck.json(*FAILOVER, code=3)

    reasons = {dataset["name"]: dataset["reason"] for dataset in result["measured"]["datasets"]}
    assert reasons["papers"].startswith("restore:papers skipped: anna: they can wait")
    assert reasons["memos"] == ""
    assert stuck.json("decide") == {"schema": "reopen.decide/1", "plan": result["plan"], "waiting": []}


def test_an_abort_is_told_and_the_next_failover_plans_anew(stuck: Place) -> None:
    stuck.run("decide", "restore:papers", "abort", "--why", "a false alarm", "--by", "anna")

    aborted = stuck.json(*FAILOVER, code=3)
    assert aborted["aborted"] == "anna: a false alarm"

    (stuck.folder / VERSIONS).unlink()
    anew = stuck.json(*FAILOVER)
    assert (anew["resumed"], anew["aborted"], anew["epoch"]) == (False, "", aborted["epoch"])
    assert anew["plan"] != aborted["plan"]
    assert (stuck.folder / "standby/papers/one").read_text() == "first"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("restore:papers",), 2),
        (("restore:papers", "shrug"), 2),
        (("restore:papers", "skip"), 7),
        (("restore:memos", "retry"), 4),
    ],
)
def test_a_decision_that_cannot_be_taken_is_refused(stuck: Place, arguments: tuple[str, ...], code: int) -> None:
    stuck.run("decide", *arguments, code=code)


def test_nothing_waits_where_nothing_was_begun(place: Place) -> None:
    assert "nothing waits" in place.run("decide").stdout
    place.run("decide", "papers", "retry", code=4)
