"""Commands about what a site has ready and where consumers find it."""

from __future__ import annotations

import json
import os

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


def fail_over(place: Place) -> None:
    place.run("failover", "--reason", "fire", "--accept-risk", RISK)


def test_before_a_failover_a_dataset_is_where_its_contract_says(place: Place) -> None:
    [found] = place.json("locate", "papers")["datasets"]
    assert (found["site"], found["epoch"], found["url"]) == ("production", 0, str(place.folder / "data/papers"))


def test_after_a_failover_it_is_a_version_at_the_standby_and_the_place_leads_there(
    proven: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_over(proven)
    [found] = proven.json("locate")["datasets"]
    assert (found["site"], found["epoch"], found["promotion"]) == ("standby", 1, 1)
    assert os.path.realpath(found["place"]) == found["url"]
    serving = proven.folder / ".reopen/standby/serving"
    assert json.loads((serving / "serving.json").read_text())["datasets"]["papers"]["url"] == found["url"]
    assert "papers" in proven.run("locate", "papers").stdout
    assert proven.json("sql", "SELECT 1 AS one", "--serving") == [{"one": 1}]
    assert "CREATE" in proven.run("sql", "CREATE TABLE mine (a INT)", "--serving", code=2).stderr

    monkeypatch.setenv("REOPEN_SITE", "standby")
    (serving / "serving.json").unlink()
    os.unlink(found["place"])
    pointer = proven.json("locate", "--refresh")["pointer"]
    assert (pointer["site"], pointer["problems"]) == ("standby", [])
    assert (serving / "serving.json").exists()
    assert os.path.realpath(found["place"]) == found["url"]


def test_a_dataset_that_serves_nowhere_exits_with_3(proven: Place) -> None:
    fail_over(proven)
    proven.contract("memos")
    proven.write("memos", one="1")
    ran = proven.run("locate", "memos", code=3)
    assert "nowhere" in ran.stdout
    assert "it was not promoted there" in ran.stdout
    proven.run("locate", "papers")
    proven.run("locate", "nonsense", code=4)


def test_a_snapshot_at_the_new_primary_takes_the_promoted_version_and_nothing_of_the_others(
    proven: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_over(proven)
    monkeypatch.setenv("REOPEN_SITE", "standby")
    (proven.folder / "standby/papers/three").write_text("written after the failover")
    [row] = proven.json("snapshot")["datasets"]
    assert (row["state"], row["totals"]["files"], row["totals"]["added"]) == ("complete", 3, 1)
    listed = {entry["path"] for entry in proven.json("ls", "papers")["entries"]}
    assert listed == {"one", "sub", "sub/two", "three"}


def test_the_folder_of_versions_is_part_of_no_dataset(proven: Place) -> None:
    fail_over(proven)
    versions = proven.folder / "data/papers/.reopen-versions/other/0000000001-0123456789abcdef"
    versions.mkdir(parents=True)
    (versions / "x").write_text("not ours")
    proven.run("snapshot", code=None)
    assert not [entry for entry in proven.json("ls", "papers")["entries"] if "reopen" in entry["path"]]


@pytest.fixture
def standby(proven: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """At the standby, where everything is kept hot."""
    settings = proven.folder / "reopen.toml"
    settings.write_text(settings.read_text().replace('temperature = "cold"', 'temperature = "hot"'))
    monkeypatch.setenv("REOPEN_SITE", "standby")
    return proven


def newer(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A further day at production, copied and verified."""
    monkeypatch.setenv("REOPEN_SITE", "production")
    place.write("papers", three="third")
    for command in (("snapshot",), ("verify", "--level", "stored"), ("replicate",)):
        place.run(*command)
    monkeypatch.setenv("REOPEN_SITE", "standby")


def versions(place: Place) -> list[str]:
    found = (place.folder / "standby/.reopen-versions/papers").iterdir()
    return sorted(path.name for path in found if not path.name.startswith(".") and path.is_dir())


def test_staging_prepares_a_version_and_a_second_run_has_nothing_to_do(standby: Place) -> None:
    [planned] = standby.json("stage", "--dry-run")["datasets"]
    assert (planned["work"], planned["temperature"]) == ("stage", "hot")
    assert not (standby.folder / "standby").exists()
    [first] = standby.json("stage")["datasets"]
    assert (first["status"], first["files"], first["version"]) == ("pass", 2, planned["version"])
    assert versions(standby) == [first["version"]]
    assert not (standby.folder / "standby/papers").exists(), "nothing serves before it is promoted"
    [second] = standby.json("stage")["datasets"]
    assert (second["work"], second["written_bytes"]) == ("current", 0)
    assert (standby.folder / ".reopen/standby/serving/staged.duckdb").exists()


def test_a_newer_snapshot_is_staged_by_copying_and_the_older_version_goes(
    standby: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = standby.json("stage")["datasets"]
    newer(standby, monkeypatch)
    [second] = standby.json("stage")["datasets"]
    assert (second["copied_bytes"], second["written_bytes"]) == (len("first" + "second"), len("third"))
    assert second["removed"] == [first["version"]]
    assert versions(standby) == [second["version"]]


def test_a_failover_promotes_the_staged_version_and_restores_nothing(standby: Place) -> None:
    [staged] = standby.json("stage")["datasets"]
    plan = standby.json("plan", "failover")["plan"]["datasets"][0]
    assert (plan["temperature"], plan["staged"]["version"]) == ("hot", staged["version"])
    assert "hot staged" in standby.run("plan", "failover").stdout
    [stands] = standby.json("status")["datasets"][0]["staged"]
    assert (stands["site"], stands["version"], stands["status"]) == ("standby", staged["version"], "pass")
    assert stands["age_seconds"] > 0
    assert f"standby {staged['snapshot'][:8]}" in standby.run("status", code=None).stdout
    fail_over(standby)
    [found] = standby.json("locate")["datasets"]
    assert found["url"].endswith(staged["version"])
    assert (standby.folder / "standby/papers/one").read_text() == "first"
    assert "is the primary" in standby.run("stage", code=6).stderr


def test_only_a_standby_with_an_epoch_log_stages(proven: Place) -> None:
    assert "is the primary" in proven.run("stage", code=6).stderr
    settings = proven.folder / "reopen.toml"
    settings.write_text("\n".join(line for line in settings.read_text().splitlines() if "control" not in line))
    assert "epoch log" in proven.run("stage", code=7).stderr


def test_a_cold_dataset_is_not_staged(proven: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REOPEN_SITE", "standby")
    [found] = proven.json("stage")["datasets"]
    assert (found["status"], found["work"]) == ("none", "none")
    assert "cold" in found["problem"]
