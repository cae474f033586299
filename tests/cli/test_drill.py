"""Drills by scenario, through the command line: what they suppose, what they find, and that they touch nothing real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.place import Place

WORDS = " ".join(f"order {number} was delivered to customer {number * 7}" for number in range(3000))


@pytest.fixture
def proven(place: Place) -> Place:
    """Three verified snapshots of a dataset whose files compress, replicated."""
    place.write("papers", **{f"file{number}": f"{number} {WORDS}" for number in range(6)})
    place.run("snapshot")
    for number in (1, 2):
        place.write("papers", one=f"version {number} {WORDS}")
        place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    return place


def bytes_below(folder: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def left_in_scratch(place: Place) -> list[str]:
    return sorted(path.name for path in (place.folder / ".reopen/standby/scratch").iterdir())


def test_a_lost_site_is_drilled_without_opening_anything_of_the_primary(proven: Place) -> None:
    found = proven.json("drill", "--scenario", "site-loss")

    isolation = found["isolation"]
    assert (found["ok"], isolation["source_store_opened"]) == (True, False)
    assert isolation["source_store"] not in isolation["stores_opened"]
    assert any("standby" in url for url in isolation["stores_opened"])
    (proven.folder / ".reopen/vault").rename(proven.folder / "burnt")
    (proven.folder / "data").rename(proven.folder / "burnt-data")
    assert proven.json("drill", "--scenario", "site-loss")["ok"]
    assert "is lost" in proven.run("drill", "--scenario", "site-loss", "--vault", "production", code=7).stderr
    assert left_in_scratch(proven) == []


def test_points_by_chance_are_the_same_for_the_same_seed_and_are_recorded(proven: Place) -> None:
    first = proven.json("drill", "--random-within", "30d", "--seed", "7")
    again = proven.json("drill", "--random-within", "30d", "--seed", "7")

    assert first["selection"] | {"at": ""} == again["selection"] | {"at": ""}
    assert first["selection"]["seed"] == 7
    assert first["selection"]["moments"] == 3
    points = {
        proven.json("drill", "--random-within", "30d", "--seed", str(seed))["selection"]["points"]["papers"]
        for seed in range(3)
    }
    assert len(points) > 1, "another seed chooses another snapshot, now and then"
    drawn = proven.json("drill", "--random-within", "30d")["selection"]["seed"]
    assert drawn >= 0
    proven.run("drill", "--random-within", "30d", "--point", "latest", code=2)
    proven.run("drill", "--random-within", "a month", code=2)
    assert "longer" in proven.run("drill", "--random-within", "0s", code=4).stderr


def test_an_encryption_is_noticed_in_a_copy_and_a_point_before_it_is_recovered(proven: Place) -> None:
    found = proven.json("drill", "--scenario", "ransomware", "--seed", "1")

    [encrypted] = found["findings"]["encrypted"]
    assert (found["ok"], encrypted["noticed"]) == (True, True)
    assert any("ending .locked" in reason for reason in encrypted["reasons"])
    assert any("does not compress" in reason for reason in encrypted["reasons"])
    assert found["findings"]["point_verdict"] == "unscanned"
    assert left_in_scratch(proven) == []


def test_a_snapshot_of_encrypted_data_is_suspect_and_passed_over(proven: Place) -> None:
    good = proven.json("drill", "--scenario", "ransomware")["selection"]["points"]["papers"]
    for path in sorted((proven.folder / "data/papers").rglob("*")):
        if path.is_file():
            path.with_name(path.name + ".crypted").write_bytes(os.urandom(path.stat().st_size))
            path.unlink()
    proven.run("snapshot")
    proven.run("verify", "--level", "stored")

    found = proven.json("drill", "--scenario", "ransomware")

    assert found["selection"]["points"]["papers"] == good
    [passed] = found["selection"]["passed_over"]["papers"]
    assert passed["verdict"] == "suspect"
    assert any(".crypted" in reason for reason in passed["reasons"])
    assert "passed over" in proven.run("drill", "--scenario", "ransomware").stdout


def test_a_dataset_with_nothing_but_suspect_snapshots_does_not_pass(place: Place) -> None:
    place.write("papers", **{f"file{number}": f"{number} {WORDS}" for number in range(6)})
    place.run("snapshot")
    for path in sorted((place.folder / "data/papers").rglob("*")):
        if path.is_file():
            path.write_bytes(os.urandom(path.stat().st_size))
    place.run("snapshot")
    place.run("verify", "--level", "stored", "--latest")

    found = place.json("drill", "--scenario", "ransomware", code=3)

    assert "no verified snapshot that is not suspect" in found["finding"]


def test_a_removed_file_comes_back_alone(proven: Place) -> None:
    found = proven.json("drill", "--scenario", "operator-error", "--seed", "3")

    [removed] = found["findings"]["removed"]
    assert found["ok"]
    assert (removed["brought_back"], removed["others"], removed["others_touched"]) == (1, 7, [])
    assert found["facts"] == [], "one file does not prove the plan"
    again = proven.json("drill", "--scenario", "operator-error", "--seed", "3")["findings"]["removed"][0]
    assert again["removed"] == removed["removed"]


def test_a_rotten_byte_is_found_and_repaired_from_the_other_site_in_memory_only(proven: Place) -> None:
    vaults = (proven.folder / ".reopen/vault", proven.folder / ".reopen/standby/vault")
    before = [bytes_below(vault) for vault in vaults]

    found = proven.json("drill", "--scenario", "bit-rot", "--seed", "1")

    assert (found["ok"], found["findings"]["found"]) == (True, "digest_mismatch")
    assert found["findings"]["repaired_from"].endswith(".reopen/vault")
    assert found["findings"]["found_after"] == "ok"
    assert [bytes_below(vault) for vault in vaults] == before


def test_a_rotten_byte_that_no_other_site_has_fails_its_dataset_clearly(proven: Place) -> None:
    (proven.folder / ".reopen/vault").rename(proven.folder / "burnt")

    found = proven.json("drill", "--scenario", "bit-rot", code=3)

    assert found["findings"]["repaired_from"] is None
    assert "no vault" in found["findings"]["unreachable"]["production"]
    [dataset] = found["measured"]["datasets"]
    assert (dataset["verdict"], "damaged" in dataset["reason"]) == ("failed", True)
    assert left_in_scratch(proven) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drill_that_is_stopped_by_a_signal_cleans_up(proven: Place, number: signal.Signals) -> None:
    """The hook of the audit sends the signal when the first restored file is opened, so in the middle of a step."""
    script = f"""
import os, signal, sys, threading
from reopen.recover.wiring import RealVerbs
restore = RealVerbs.restore
def stopped(self, dataset):
    result = restore(self, dataset)
    assert os.listdir(os.path.dirname(dataset.target_url))
    os.kill(os.getpid(), {int(number)})
    return result
RealVerbs.restore = stopped
# Whoever starts the tests in the background has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from reopen.cli.main import main
main(["--config", {str(proven.folder / "reopen.toml")!r}, "drill", "--json"])
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path.cwd())

    assert ran.returncode == 130, ran.stderr
    assert json.loads(ran.stdout)["error"]["kind"] == "interrupted"
    assert left_in_scratch(proven) == []
    assert not (proven.folder / ".reopen/standby/control/evidence").exists()
