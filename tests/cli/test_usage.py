"""A command line that cannot be read is told in plain words, with what to type instead."""

from __future__ import annotations

import pytest

from tests.cli.place import Place


@pytest.mark.parametrize(
    ("args", "wrong", "instead"),
    [
        ("snaphot", "there is no command 'snaphot'.", "Did you mean 'snapshot'?"),
        ("keys rotat", "there is no command 'rotat'.", "Did you mean 'rotate'?"),
        ("xyz", "there is no command 'xyz'.", "`reopen --help` lists the commands."),
        ("snapshot --wrkers 2", "there is no option --wrkers.", "Did you mean '--workers'?"),
        ("--vault standby status", "there is no option --vault.", "An option of a command stands after it."),
        ("snapshot --workers", "--workers needs a value after it.", "--help` shows"),
        ("snapshot --workers x", "--workers: it is no whole number.", "`reopen snapshot --help`"),
        ("snapshot --workers -1", "--workers: it has to be 0 or more.", "`reopen snapshot --help`"),
        ("verify --level strutured", "--level: 'strutured' is not one of", "Did you mean 'structure'?"),
        ("verify --older-than 30 --level stored", "--older-than '30': it is not a duration.", "15m, 1h30m or 7d"),
        ("ls", "DATASET is missing.", "DATASET: Its name, as in its contract."),
        ("restore papers", "--to is missing.", "--to URL: Where: a folder"),
        ("status extra", "it does not take 'extra'.", "`reopen status --help`"),
        ("demo --scale x", "--scale: it is no number.", "`reopen demo --help`"),
        ("decide papers perhaps", "'perhaps' is no decision", "`reopen decide --help` says what each of them does."),
    ],
)
def test_what_is_wrong_is_said_in_our_words(place: Place, args: str, wrong: str, instead: str) -> None:
    ran = place.run(*args.split(), code=2)
    assert ran.stderr.startswith(f"error: {wrong}")
    assert instead in ran.stderr.partition("hint: ")[2]
    assert place.run("--json", *args.split(), code=2).json["error"]["message"].startswith(wrong)


def test_json_may_be_asked_for_before_the_command(place: Place) -> None:
    assert place.run("--json", "snapshots").json == place.json("snapshots")
    assert place.run("--json", "snapshots", "--wrong", code=2).json["error"]["kind"] == "invalid-input"
    assert place.run("--json", "snapshots", "nothing", code=4).json["error"]["kind"] == "not-found"


def test_a_name_that_is_nearly_one_is_proposed_wherever_a_dataset_or_a_site_is_named(place: Place) -> None:
    place.run("snapshot")
    place.run("replicate")
    for args in (
        ("snapshot", "paper"), ("snapshots", "paper"), ("ls", "paper"), ("restore", "paper", "--to", "/nowhere"),
        ("hold", "paper", "--reason", "x"), ("verify", "paper"), ("contracts", "show", "paper"), ("locate", "paper"),
        ("plan", "failover", "paper"), ("retain", "paper"),
    ):  # fmt: skip
        assert "Did you mean 'papers'?" in place.run(*args, code=4).stderr, args
    for args in (("snapshots", "--vault", "stanby"), ("replicate", "--to", "stanby"), ("repair", "--from", "stanby")):
        assert "Did you mean 'standby'?" in place.run(*args, code=4).stderr, args
