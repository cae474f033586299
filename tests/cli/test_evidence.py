"""The commands on evidence: what they show, and that they find what somebody changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.place import Place

RISK = "old-primary-may-write"


@pytest.fixture
def proven(place: Place) -> Place:
    """A verified snapshot that is replicated."""
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    return place


def records(place: Place) -> list[Path]:
    return sorted((place.folder / ".reopen/standby/control/evidence").iterdir())


def test_without_a_drill_there_is_nothing_to_show_and_nothing_wrong(place: Place) -> None:
    assert "no evidence" in place.run("evidence", "list").stdout
    assert "reopen drill" in place.run("evidence", "show", code=4).stderr
    assert place.json("evidence", "verify")["records"] == 0


def test_list_and_show_tell_what_a_drill_and_a_failover_came_to(proven: Place) -> None:
    proven.run("drill")
    proven.run("failover", "--reason", "fire", "--accept-risk", RISK)

    listed = proven.json("evidence", "list")["evidence"]
    shown = proven.run("evidence", "show").stdout
    drill = proven.json("evidence", "show", "1")

    assert [(row["number"], row["kind"], row["verdict"]) for row in listed] == [
        (1, "drill", "met"),
        (2, "failover", "met"),
    ]
    assert [row["kind"] for row in proven.json("evidence", "list", "--kind", "drill")["evidence"]] == ["drill"]
    assert "failover, unplanned, production to standby, epoch 1: met" in shown
    assert "promote:papers" in shown
    assert drill["record"]["planned"]["kind"] == "drill"
    assert proven.json("evidence", "show", drill["id"][:6])["digest"] == drill["digest"]
    proven.run("evidence", "show", "99", code=4)
    proven.run("evidence", "show", "nonsense", code=4)


def test_evidence_that_nobody_touched_is_signed_quoted_and_anchored(proven: Place) -> None:
    proven.run("drill")
    anchor = proven.json("evidence", "verify")["head"]["digest"]
    proven.run("failover", "--reason", "fire", "--accept-risk", RISK)

    found = proven.json("evidence", "verify", "--expect", anchor[:16])

    assert (found["ok"], found["records"], found["signed"], found["anchored_at"]) == (True, 2, 2, 1)
    assert found["quotes"] >= 2
    assert found["vaults"] == ["production", "standby"]
    assert "1 came after it" in proven.run("evidence", "verify", "--expect", anchor).stdout


def test_a_changed_record_exits_with_3_and_is_named(proven: Place) -> None:
    proven.run("drill")
    path = records(proven)[0]
    value = json.loads(path.read_bytes())
    value["body"]["evidence"]["assumed"] = 1
    path.write_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())

    ran = proven.run("evidence", "verify", code=3)

    assert "bad signature" in ran.stdout
    assert "0000000001.json" in ran.stdout


def test_a_chain_that_was_cut_short_is_found_by_the_drilled_facts_and_by_an_anchor(proven: Place) -> None:
    proven.run("drill")
    proven.run("drill")
    anchor = proven.json("evidence", "verify")["head"]["digest"]
    records(proven)[1].unlink()

    found = proven.json("evidence", "verify", "--expect", anchor, code=3)

    assert {problem["defect"] for problem in found["problems"]} == {"missing", "replaced"}
    details = " ".join(problem["detail"] for problem in found["problems"])
    assert "drilled fact" in details
    assert "written down elsewhere" in details
    proven.run("evidence", "verify", "--expect", "short", code=2)


def test_the_head_is_printed_as_an_anchor_that_verify_takes(proven: Place) -> None:
    assert "reopen drill" in proven.run("evidence", "head", code=4).stderr
    printed = proven.run("drill").stdout
    found = proven.json("evidence", "head")
    anchor = found["anchor"]

    assert anchor == f"1:{found['digest']}"
    assert f"anchor: {anchor}" in printed
    assert f"reopen evidence verify --anchor {anchor}" in printed
    assert proven.run("evidence", "head").stdout.splitlines()[0] == anchor
    assert proven.json("evidence", "verify", "--anchor", anchor)["anchored_at"] == 1
    wrong = proven.json("evidence", "verify", "--anchor", f"2:{found['digest']}", code=3)
    assert [problem["defect"] for problem in wrong["problems"]] == ["misplaced"]


def test_evidence_is_verified_with_the_vault_that_is_left(proven: Place) -> None:
    proven.run("drill")
    (proven.folder / ".reopen/vault").rename(proven.folder / "burnt")

    found = proven.json("evidence", "verify")

    assert (found["ok"], found["vaults"]) == (True, ["standby"])
    assert "no vault" in found["not_asked"]["production"]


def test_history_is_made_again_when_it_is_missing_and_answers_in_sql(proven: Place) -> None:
    proven.run("drill")
    history = proven.folder / ".reopen/standby/control/history/0000000001.parquet"
    history.unlink()

    assert proven.json("evidence", "history")["written"] == ["history/0000000001.parquet"]
    assert proven.json("evidence", "history")["written"] == []
    assert proven.json("evidence", "history", "--rebuild")["written"] == ["history/0000000001.parquet"]
    whole = proven.folder / "rows.parquet"
    proven.run("evidence", "history", "--to", str(whole))
    assert whole.stat().st_size > 0
    [row] = proven.json("sql", "SELECT dataset, verdict, rto_seconds, rto_left_seconds > 0 AS room FROM objectives")
    assert row == {"dataset": "papers", "verdict": "met", "rto_seconds": 14400, "room": True}
    [drill] = proven.json("sql", "SELECT verdict, datasets FROM drills")
    assert drill == {"verdict": "met", "datasets": 1}
    history.write_bytes(b"not Parquet")
    assert "--rebuild" in proven.run("evidence", "verify", code=3).stdout


def test_the_report_is_one_file_and_lies_beside_the_evidence_too(proven: Place) -> None:
    proven.run("drill")
    page = proven.folder / "report.html"

    assert proven.json("evidence", "show", "--html", str(page))["html"] == str(page)

    kept = proven.folder / ".reopen/standby/control/reports/0000000001-drill.html"
    assert page.read_text() == kept.read_text()
    assert "Objectives met" in page.read_text()
    nowhere = proven.run("evidence", "show", "--html", str(proven.folder / "nowhere/report.html"), code=None)
    assert "cannot be written" in nowhere.stderr
