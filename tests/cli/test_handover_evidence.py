"""Roll-backs and reprotects are written down: who, why, the fence, what diverged, what was copied, where the log is."""

from __future__ import annotations

from pathlib import Path

import pytest

from reopen.control.log import EpochLog
from reopen.desk.session import open_session
from reopen.recover import rollback
from tests.cli.place import Place
from tests.cli.test_roles import ACCEPTED, hook

EVIDENCE = ".reopen/standby/control/evidence"


@pytest.fixture
def moved(place: Place) -> Place:
    """The business after an unplanned failover, with a snapshot that production took without the role."""
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    place.json("failover", "--reason", "fire", *ACCEPTED)
    return place


def page(place: Place) -> str:
    path = place.folder / "report.html"
    place.run("evidence", "show", "--html", str(path))
    return path.read_text()


def test_a_roll_back_is_evidence_of_who_why_the_fence_and_what_is_kept(moved: Place) -> None:
    hook(moved, "standby", "fence", "exit 0", more="enforces = true")
    done = moved.json("rollback", "--reason", "false alarm", "--by", "anna")

    shown = moved.json("evidence", "show")
    record = shown["record"]
    assert (shown["kind"], shown["number"], shown["epoch"], shown["digest"]) == ("rollback", 2, 2, done["evidence"])
    assert (record["fence"]["level"], record["fence"]["by"]) == ("enforced", "anna")
    [epoch] = [action for action in record["actions"] if action["kind"] == "epoch"]
    assert epoch["by"] == "anna"
    assert "false alarm" in epoch["what"]
    assert [step["step"] for step in record["steps"]] == ["fence", "unfence"]
    assert record["findings"]["role"] == "standby gave it back to production"
    assert record["findings"]["diverged"] == []
    told = moved.run("evidence", "show").stdout
    assert "rollback, standby to production, epoch 2: done" in told
    assert "role: standby gave it back to production" in told
    assert "rollback" in moved.run("evidence", "list", "--kind", "rollback").stdout
    found = moved.json("evidence", "verify")
    assert (found["problems"], found["records"], found["signed"], found["quotes"]) == ([], 2, 2, 2)
    html = page(moved)
    assert "Rolled back" in html
    assert "standby gave it back to production" in html
    assert "Objectives by tier" not in html


def test_a_roll_back_whose_driver_died_before_its_evidence_is_written_down_by_the_next(
    moved: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(rollback, "record_handover", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        moved.run("rollback", "--reason", "false alarm", *ACCEPTED, code=None)
    assert len(list((moved.folder / EVIDENCE).iterdir())) == 1

    again = moved.json("rollback", *ACCEPTED)

    assert (again["moved"], again["primary"], again["epoch"]) == (True, "production", 2)
    assert moved.json("evidence", "show")["kind"] == "rollback"
    assert "no failover to roll back" in moved.run("rollback", "--reason", "x", *ACCEPTED, code=6).stderr


def test_writers_that_are_given_back_by_hand_are_written_down(place: Place) -> None:
    """A driver that died left them held; there is no role to give back."""
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    append = EpochLog.append

    def dies(log: EpochLog, value: object, *, by: str) -> object:
        record = append(log, value, by=by)  # type: ignore[arg-type]
        if getattr(getattr(record.value, "outcome", None), "step", "") == "quiesce":
            raise SystemExit(1)
        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochLog, "append", dies)
        place.run("failover", "--planned", "--reason", "works", *ACCEPTED, code=None)
    hook(place, "production", "unquiesce", "exit 0")

    done = place.json("rollback", "--reason", "not today", "--by", "anna")

    assert not done["moved"]
    record = place.json("evidence", "show")["record"]
    assert record["kind"] == "given-back"
    assert "and are given back" in record["findings"]["writers"]
    assert [(action["by"], action["what"]) for action in record["actions"] if action["kind"] == "given-back"] == [
        ("anna", "not today")
    ]
    assert "Ended before its fence" in page(place)


def test_a_reprotect_is_evidence_of_what_was_copied_and_where_the_log_went(moved: Place) -> None:
    settings = moved.folder / "reopen.toml"
    home = moved.folder / "production-control"
    settings.write_text(settings.read_text().replace('role = "primary"', f'role = "primary"\ncontrol = "{home}"', 1))
    moved.json("commit", "--reason", "it runs")

    done = moved.json("reprotect", "--reason", "safe again", "--by", "bob")

    session = open_session(settings)
    store = session.control_store()
    evidence = moved.json("evidence", "show")
    record = evidence["record"]
    assert (evidence["kind"], evidence["digest"]) == ("reprotect", done["evidence"])
    assert record["findings"]["log"] == f"it moved to {done['log']}"
    assert record["findings"]["copied"] == done["copied"]
    assert [(action["by"], action["what"]) for action in record["actions"] if action["kind"] == "reprotect"] == [
        ("bob", "safe again")
    ]
    assert Path(store.url).is_relative_to(home), "it is written in the log's new home"
    assert moved.json("evidence", "verify")["problems"] == []
    told = moved.run("evidence", "show").stdout
    assert "copies: go from standby to production" in told
    assert "Protected anew" in page(moved)
    moved.run("reprotect", code=6)
