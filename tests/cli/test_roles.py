"""Commands about the role: approve, planned failover, commit, rollback, failback."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.place import Place

RISK = "old-primary-may-write"
ACCEPTED = ("--accept-risk", RISK)


@pytest.fixture
def running(place: Place) -> Place:
    """Production and a standby that has a first replica."""
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    return place


def hook(place: Place, site: str, kind: str, script: str, *, check: str = "", more: str = "") -> Path:
    """Give a site a hook; returns the file that it notes its calls in."""
    folder = place.folder / "hooks"
    folder.mkdir(exist_ok=True)
    noted = folder / f"{site}-{kind}.log"
    path = folder / f"{site}-{kind}.sh"
    path.write_text(f'#!/bin/sh\necho "$REOPEN_STEP $REOPEN_EPOCH $REOPEN_SITE $REOPEN_DATASET" >> {noted}\n{script}\n')
    path.chmod(0o755)
    settings = place.folder / "reopen.toml"
    text = settings.read_text()
    checked = f'\ncheck = ["/bin/sh", "-c", "{check}"]' if check else ""
    settings.write_text(f'{text}\n[sites.{site}.hooks.{kind}]\ncommand = ["{path}"]{checked}\n{more}\n')
    return noted


def calls(noted: Path) -> list[str]:
    return noted.read_text().splitlines() if noted.exists() else []


def serving(place: Place, site: str) -> str:
    folder = {"production": "data", "standby": "standby"}[site]
    return (place.folder / folder / "papers/one").read_text()


def test_a_planned_failover_takes_what_was_written_last_and_proves_that_nothing_is_lost(running: Place) -> None:
    held = hook(running, "production", "quiesce", "exit 0")
    fenced = hook(running, "production", "fence", "exit 0", more="enforces = true")
    running.write("papers", one="written after the last snapshot")

    found = running.json("failover", "--planned", "--reason", "works on the power line")

    assert (found["verdict"], found["primary"], found["scenario"]) == ("met", "standby", "planned")
    assert found["rpo_zero"] == "proven"
    assert found["fence"]["level"] == "enforced"
    assert serving(running, "standby") == "written after the last snapshot"
    assert found["measured"]["datasets"][0]["rpa"] == 0
    assert calls(held) == ["quiesce 1 production "]
    assert calls(fenced) == ["fence 1 production "]


def planned_dataset(place: Place) -> dict[str, Any]:
    planned = place.json("failover", "--planned", "--dry-run")["plan"]
    assert planned["kind"] == "prepare"
    [dataset] = planned["datasets"]
    found: dict[str, Any] = dataset
    return found


def test_a_planned_move_says_what_is_still_to_move_and_how_long_the_rest_takes(running: Place) -> None:
    running.run("drill")
    running.write("papers", one="written after the last snapshot")
    # Copied at production, and not replicated: that has to move too.
    running.write("papers", another="12345")
    running.run("snapshot")
    running.write("papers", one="and again")

    dataset = planned_dataset(running)
    shown = running.run("failover", "--planned", "--dry-run").stdout

    pending = dataset["pending"]
    # At least, because files that were written so shortly before a snapshot may have been written after it.
    assert pending["files"] >= 3
    assert pending["size_bytes"] >= len("written after the last snapshot") + len("12345") + len("and again")
    assert (pending["rows"], pending["removed"], pending["unknown"]) == (None, 0, "")
    assert dataset["predicted"]["own_runs"] == 1
    assert "papers: nothing is lost, because the final sync comes first: " in " ".join(shown.split())
    assert running.json("status")["control"]["primary"] == "production", "and nothing was moved"

    running.run("failover", "--planned", "--reason", "works", *ACCEPTED)

    [carried] = running.json("evidence", "show")["record"]["planned"]["datasets"]
    assert (carried["loss"]["files"], carried["loss"]["rows"], carried["loss"]["unknown"]) == (0, 0, "")
    assert carried["loss"]["against"] == carried["point"]["snapshot"]
    assert carried["predicted"]["p50"] > dataset["predicted"]["p50"], "the final sync is part of its clock"
    assert "pending" not in carried


def test_what_cannot_be_looked_at_is_said_to_be_unknown_and_why(running: Place) -> None:
    vault = running.folder / ".reopen/vault"
    vault.rename(running.folder / "away")
    assert "the vault of production cannot be read" in planned_dataset(running)["pending"]["unknown"]
    (running.folder / "away").rename(vault)
    (running.folder / "data/papers").rename(running.folder / "data/elsewhere")
    assert "papers" in planned_dataset(running)["pending"]["unknown"]
    hook(running, "production", "final_sync", "exit 0")
    assert planned_dataset(running)["pending"]["unknown"] == "production makes the final sync by its own hook"
    assert "predicted" not in planned_dataset(running), "there was no recovery yet"


def test_rpo_zero_is_unproven_where_nothing_enforces_the_fence(running: Place) -> None:
    found = running.json("failover", "--planned", "--reason", "test", *ACCEPTED)
    assert (found["verdict"], found["rpo_zero"], found["fence"]["level"]) == ("met", "unproven", "cooperative")


def test_a_write_between_the_final_sync_and_the_fence_is_seen(running: Place) -> None:
    late = running.folder / "data/papers/late"
    hook(running, "production", "fence", f"echo late > {late}", more="enforces = true")
    found = running.json("failover", "--planned", "--reason", "test")
    assert found["rpo_zero"] == "unproven"
    [confirmed] = [s for s in running.json("evidence", "show")["record"]["steps"] if s["step"] == "confirm"]
    assert "after the final sync" in confirmed["details"]["source"]["papers"]
    assert not (running.folder / "standby/papers/late").exists()


def test_a_fence_that_fails_gives_the_writers_back_and_moves_nothing(running: Place) -> None:
    hook(running, "production", "quiesce", "exit 0")
    hook(running, "production", "fence", "echo no route; exit 5", more="enforces = true")
    released = hook(running, "production", "unquiesce", "exit 0")
    unfenced = hook(running, "production", "unfence", "exit 0")

    ran = running.run("failover", "--planned", "--reason", "test", code=7)

    assert "fence hook of production failed with exit code 5: no route" in ran.stderr
    assert calls(released) == ["unquiesce 1 production "]
    assert calls(unfenced) == ["unquiesce 1 production "], "it may have acted"
    assert running.json("status")["control"]["primary"] == "production"
    assert not (running.folder / "standby/papers").exists()


def test_a_move_needs_its_approval_and_nothing_is_held_before(running: Place) -> None:
    held = hook(running, "production", "quiesce", "exit 0")
    contract = running.folder / "data_contracts/papers.odcs.yaml"
    contract.write_text(contract.read_text() + "  - {property: approval, value: required, vendor: reopen}\n")

    ran = running.run("failover", "--planned", "--reason", "test", *ACCEPTED, code=7)
    assert "nobody has approved" in ran.stderr
    assert "reopen approve" in ran.stderr
    assert calls(held) == []

    refused = running.json("approve", "--refuse", "--reason", "not today", "--by", "bob")
    assert not refused["granted"]
    assert "bob refused" in running.run("failover", "--planned", "--reason", "test", *ACCEPTED, code=7).stderr
    given = running.json("approve", refused["plan"][:16], "--reason", "agreed", "--by", "anna")
    assert given["plan"] == refused["plan"], "another plan would need another approval"
    running.run("approve", "--reason", "again", code=6)

    found = running.json("failover", "--planned", *ACCEPTED)
    assert found["verdict"] == "met"
    assert calls(held) == ["quiesce 1 production "]


def test_an_approval_must_be_asked_for(running: Place) -> None:
    assert "no plan waits" in running.run("approve", "--reason", "x", code=4).stderr


def test_a_failover_is_rolled_back_until_it_is_committed(running: Place) -> None:
    unfenced = hook(running, "production", "unfence", "exit 0")
    running.run("rollback", "--reason", "x", *ACCEPTED, code=6)
    running.json("failover", "--reason", "fire", *ACCEPTED)

    back = running.json("rollback", "--reason", "false alarm", *ACCEPTED)

    assert (back["moved"], back["primary"], back["epoch"]) == (True, "production", 2)
    assert calls(unfenced) == ["unfence 2 production "]
    assert running.json("status")["control"]["primary"] == "production"
    assert serving(running, "production") == "first"
    again = running.json("failover", "--reason", "fire, really", *ACCEPTED)
    assert (again["primary"], again["epoch"]) == ("standby", 3)
    running.run("commit", code=2)
    assert running.json("commit", "--reason", "the numbers are right")["primary"] == "standby"
    assert "committed" in running.run("rollback", "--reason", "x", *ACCEPTED, code=6).stderr
    running.run("commit", "--reason", "again", code=6)


def test_the_business_moves_back_with_what_was_written_and_late_writes_are_kept_aside(
    running: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.json("failover", "--reason", "fire", *ACCEPTED)
    # A writer that asks nobody, and production's own snapshot of what it wrote.
    running.write("papers", one="written late at production")
    late = running.json("snapshot")["datasets"][0]
    assert not late["confirmed"]
    assert "neither committed nor rolled back" in running.run("failback", "--reason", "x", *ACCEPTED, code=6).stderr
    running.json("commit", "--reason", "it runs")
    (running.folder / "standby/papers/one").write_text("written at the standby")
    # The standby's own writer key, made after the loss: production learns of it with the final sync that it signs.
    running.run("keys", "add", "--role", "writer", "--to", str(running.folder / ".reopen/keys"), "--vault", "standby")

    found = running.json("failback", "--reason", "rebuilt", *ACCEPTED)

    assert (found["verdict"], found["primary"], found["scenario"]) == ("met", "production", "failback")
    assert serving(running, "production") == "written at the standby"
    assert [(item["dataset"], item["snapshot"]) for item in found["diverged"]] == [("papers", late["snapshot"])]
    shown = running.json("evidence", "show")
    assert shown["record"]["findings"]["diverged"][0]["snapshot"] == late["snapshot"]
    plan = running.json("plan", "failover", "--point", "latest")
    assert plan["plan"]["datasets"][0]["point"]["snapshot"] != late["snapshot"]
    assert (running.folder / "data/papers").exists()


def test_after_a_commit_copies_go_the_other_way_and_the_log_moves_to_the_new_standby(running: Place) -> None:
    settings = running.folder / "reopen.toml"
    text = settings.read_text()
    running.json("failover", "--reason", "fire", *ACCEPTED)
    running.run("reprotect", code=6)
    running.json("commit", "--reason", "it runs")
    assert "Give [sites.production] a 'control'" in running.run("reprotect", code=7).stderr
    home = running.folder / "production-control"
    settings.write_text(text.replace('role = "primary"', f'role = "primary"\ncontrol = "{home}"', 1))

    found = running.json("reprotect", "--reason", "safe again")

    assert (found["primary"], found["standby"], found["moved"]) == ("standby", "production", True)
    assert found["log"].startswith(str(home))
    # The settings still name the old home; it names the next one, and that is followed.
    status = running.json("status")["control"]
    assert (status["primary"], status["error"]) == ("standby", "")
    assert running.json("evidence", "verify")["problems"] == []
    assert "standby" in str(running.json("locate", "papers"))
    (running.folder / "standby/papers/one").write_text("written at the standby")
    back = running.json("failback", "--reason", "rebuilt", *ACCEPTED)
    assert (back["primary"], serving(running, "production")) == ("production", "written at the standby")
    running.json("commit", "--reason", "it runs")
    again = running.json("reprotect")
    assert (again["primary"], again["standby"], again["moved"]) == ("production", "standby", True)
    # The old home at the standby is enough by itself, without those before it.
    shutil.rmtree(home)
    settings.write_text(text.replace('/control"', f'/control/{Path(again["log"]).name}"', 1))
    assert running.json("status")["control"]["primary"] == "production"
    assert running.json("evidence", "verify")["problems"] == []
