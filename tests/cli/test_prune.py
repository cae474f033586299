"""``prune``: what it prints, what it changes, and which code it exits with."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.place import Place
from tests.cli.test_retention import keep


def let_a_day_pass(place: Place) -> None:
    """Make every object of the vault a day older, as the store's clock sees it."""
    for path in (place.folder / ".reopen/vault").rglob("*"):
        if path.is_file():
            then = datetime.fromtimestamp(path.stat().st_mtime, UTC) - timedelta(days=1, minutes=1)
            os.utime(path, (then.timestamp(), then.timestamp()))


def packs(place: Place) -> list[Path]:
    return [path for path in (place.folder / ".reopen/vault/packs").rglob("*") if path.is_file()]


@pytest.fixture
def expired(place: Place) -> Place:
    """Three snapshots, of which one is left; what the others had is a day old."""
    for number in range(3):
        place.write("papers", one=f"version {number} {'x' * number}")
        place.run("snapshot")
    keep(place, "{last: 1}")
    place.run("retain")
    let_a_day_pass(place)
    return place


def test_a_dry_run_tells_what_would_go_and_changes_nothing(expired: Place) -> None:
    before = len(packs(expired))
    found = expired.json("prune", "--dry-run")
    assert found["schema"] == "reopen.prune/1"
    assert (found["dry_run"], found["ok"], found["due_bytes"], found["under_way"]) == (True, True, 0, [])
    assert {row["todo"] for row in found["packs"]} <= {"delete", "repack"}
    assert found["packs"]
    assert 0 < found["unused_bytes"] < found["total_bytes"]
    assert "result" not in found
    shown = expired.run("prune", "--dry-run").stdout
    assert "would mark" in shown
    assert len(packs(expired)) == before
    assert not (expired.folder / ".reopen/vault/tombstones").exists()


def test_space_is_freed_by_the_run_after_the_grace(expired: Place) -> None:
    first = expired.json("prune", "--max-unused", "0%")["result"]
    assert first["freed_bytes"] == 0
    assert first["marked_bytes"] > 0
    assert first["due_at"] > "2026"
    assert "can go from" in expired.run("prune").stdout
    let_a_day_pass(expired)
    second = expired.run("prune")
    assert "freed" in second.stdout
    assert second.exit_code == 0
    assert len(packs(expired)) < 3
    assert expired.json("verify", "--level", "content")["findings"] == []
    assert expired.json("prune", "--dry-run")["unused_bytes"] == 0


def test_a_cost_and_a_grace_can_be_named(expired: Place) -> None:
    assert expired.json("prune", "--dry-run", "--repack-max-size", "0", "--grace", "1h")["grace_seconds"] == 3600.0


@pytest.mark.parametrize(
    "arguments",
    [("--grace", "1m"), ("--grace", "soon"), ("--max-unused", "200%"), ("--repack-max-size", "much"), ("--wait", "-1")],
    ids=" ".join,
)
def test_amounts_that_make_no_sense_are_wrong_input(place: Place, arguments: tuple[str, str]) -> None:
    place.run("prune", *arguments, code=2)


def test_without_the_retention_key_it_is_refused_and_says_where_to_run(expired: Place) -> None:
    for path in (expired.folder / ".reopen").rglob("retention-*.key"):
        path.unlink()
    ran = expired.run("prune", code=7)
    assert "needs a retention key" in ran.stderr
    assert expired.json("prune", "--dry-run")["unused_bytes"] > 0, "looking needs none"


def test_a_vault_that_lost_a_record_is_not_pruned(expired: Place) -> None:
    expired.write("papers", one="once more")
    expired.run("snapshot")
    newest = sorted((expired.folder / ".reopen/vault/snapshots").rglob("*.json"))[-1]
    newest.unlink()
    ran = expired.run("prune", code=7)
    assert "lacks 1 records" in ran.stderr
    assert "Nothing was changed" in ran.stderr
