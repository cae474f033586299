"""Commands that run again from copies. The checks of tables have tests of their own; these datasets have none."""

from __future__ import annotations

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


def served(place: Place) -> str:
    return (place.folder / "standby/papers/one").read_text()


def test_restore_writes_what_was_captured_and_a_second_one_writes_nothing(place: Place) -> None:
    place.run("snapshot")
    target = place.folder / "out"
    first = place.json("restore", "papers", "--to", str(target))["result"]
    assert (first["written_files"], (target / "sub/two").read_text()) == (2, "second")
    second = place.json("restore", "papers", "--to", str(target), "--check")["result"]
    assert (second["written_files"], second["unchanged_files"]) == (0, 2)


def test_restore_keeps_what_it_did_not_write_unless_asked(place: Place) -> None:
    place.run("snapshot")
    target = place.folder / "out"
    target.mkdir()
    (target / "mine").write_text("kept")
    place.run("restore", "papers", "--to", str(target), "--path", "sub/**")
    assert (target / "mine").exists()
    assert not (target / "one").exists()
    assert place.json("restore", "papers", "--to", str(target), "--delete")["result"]["deleted"] == 1
    assert not (target / "mine").exists()


def test_a_dry_run_of_restore_writes_nothing(place: Place) -> None:
    place.run("snapshot")
    found = place.json("restore", "papers", "--to", str(place.folder / "out"), "--dry-run")
    assert (found["files"], found["dry_run"]) == (2, True)
    assert not (place.folder / "out").exists()


def test_restore_without_the_recovery_key_is_refused(place: Place) -> None:
    place.run("snapshot")
    next((place.folder / ".reopen/keys").glob("recovery-*.key")).unlink()
    place.run("restore", "papers", "--to", str(place.folder / "out"), code=7)


def test_a_plan_shows_points_and_objectives_and_prints_as_a_runbook(proven: Place) -> None:
    found = proven.json("plan", "failover")
    [dataset] = found["plan"]["datasets"]
    assert (dataset["name"], dataset["point"]["verified_level"]) == ("papers", "stored")
    assert (found["plan"]["source_site"], found["plan"]["target_site"]) == ("production", "standby")
    ran = proven.run("plan", "failover", "--runbook")
    assert ran.stdout.startswith("# Failover: production to standby")
    assert "reopen restore papers" in ran.stdout


def test_a_plan_without_a_recovery_point_exits_with_3_and_says_why(place: Place) -> None:
    place.run("snapshot")
    place.run("replicate")
    ran = place.run("plan", "failover", code=3)
    assert "papers: no recovery point" in ran.stdout
    assert place.json("plan", "failover", "--point", "latest")["without_point"] == []
    place.run("plan", "failover", "--point", "nonsense", code=2)


def test_a_drill_that_passes_cleans_up_and_shows_in_the_status(proven: Place) -> None:
    found = proven.json("drill")
    assert (found["ok"], found["clean_up"]["gone"], len(found["facts"])) == (True, True, 1)
    scratch = proven.folder / ".reopen/standby/scratch"
    assert [path.name for path in scratch.iterdir()] == []
    assert proven.json("status")["datasets"][0]["drill"]["verdict"] == "met"


def test_a_drill_of_a_tier_that_nothing_is_in_exits_with_4(proven: Place) -> None:
    assert "Tiers: 3" in proven.run("drill", "--tier", "1", code=4).stderr


def test_a_failover_needs_a_reason_and_a_fence(proven: Place) -> None:
    assert "--reason" in proven.run("failover", code=2).stderr
    assert RISK in proven.run("failover", "--reason", "test", code=7).stderr
    assert not (proven.folder / "standby/papers").exists()
    assert proven.json("status")["control"]["epoch"] == 0


def test_a_failover_moves_the_role_and_a_second_one_does_not_move_it_back(proven: Place) -> None:
    found = proven.json("failover", "--reason", "fire", "--accept-risk", RISK)
    assert (found["verdict"], found["primary"], found["epoch"]) == ("met", "standby", 1)
    assert served(proven) == "first"
    status = proven.json("status")
    assert (status["control"]["primary"], status["control"]["reason"]) == ("standby", "fire")
    proven.write("papers", one="written after the failover")
    again = proven.run("failover", "--reason", "again", "--accept-risk", RISK, code=6)
    assert "serves already" in again.stderr
    assert (proven.folder / "data/papers/one").read_text() == "written after the failover"


def test_a_failover_at_a_bare_standby_needs_only_its_settings_replica_and_keys(
    proven: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (proven.folder / "data").rename(proven.folder / "burnt-data")
    (proven.folder / ".reopen/vault").rename(proven.folder / "burnt-vault")
    monkeypatch.setenv("REOPEN_SITE", "standby")
    monkeypatch.setenv("REOPEN_HOME", str(proven.folder / "standby-home"))
    assert proven.json("failover", "--reason", "fire", "--assert-fenced", "it is ashes")["verdict"] == "met"
    assert served(proven) == "first"
    status = proven.json("status")
    errors = {vault["site"]: vault["error"] for vault in status["vaults"]}
    assert "there is no vault" in errors["production"]
    assert errors["standby"] == ""


def test_a_dry_run_of_failover_shows_the_plan_and_moves_nothing(proven: Place) -> None:
    assert proven.json("failover", "--dry-run")["plan"]["kind"] == "failover"
    assert not Path(proven.folder / "standby/papers").exists()


def test_a_failure_later_than_now_is_wrong_input(proven: Place) -> None:
    proven.run("plan", "failover", "--failed-at", "2999-01-01T00:00:00Z", code=2)
    proven.run("plan", "failover", "--failed-at", "yesterday", code=2)
