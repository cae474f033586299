"""Commands that make copies and end protection: what they print and which code they exit with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest

from reopen.contracts import Contracts
from reopen.desk.served import remember_place
from reopen.desk.session import open_session
from reopen.errors import SourceUnreadable, Transient
from reopen.protect.standing import Standing
from reopen.sources.local import LocalFiles
from tests.cli.place import Place


@pytest.fixture
def unreadable_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file ``one`` cannot be opened; its mode would not stop a test that runs as root."""
    real = LocalFiles.open

    def refuse(self: LocalFiles, name: bytes) -> Any:
        if name == b"one":
            raise SourceUnreadable("one cannot be read: Permission denied.", reason="Permission denied")
        return real(self, name)

    monkeypatch.setattr(LocalFiles, "open", refuse)


def test_a_snapshot_of_everything_tells_state_files_and_bytes(place: Place) -> None:
    found = place.json("snapshot")
    assert found["schema"] == "reopen.snapshot/1"
    [row] = found["datasets"]
    assert (row["dataset"], row["state"], row["seq"], row["confirmed"]) == ("papers", "complete", 1, True)
    assert (row["totals"]["files"], row["totals"]["read_bytes"]) == (2, 11)
    assert found["standing"] == {"epoch": 0, "confirmed": True, "held": False, "reason": ""}


def test_a_second_snapshot_of_the_same_files_says_that_nothing_changed(place: Place) -> None:
    place.run("snapshot")
    assert "nothing changed" in place.run("snapshot", "papers").stdout


def test_a_dry_run_tells_what_would_be_read_and_stores_nothing(place: Place) -> None:
    [row] = place.json("snapshot", "--dry-run")["datasets"]
    assert (row["state"], row["read_files"], row["read_bytes"]) == ("planned", 2, 11)
    assert place.json("snapshots")["snapshots"] == []


@pytest.mark.usefixtures("unreadable_one")
def test_an_incomplete_snapshot_exits_with_3_and_counts_what_it_lacks(place: Place) -> None:
    ran = place.run("snapshot", code=3)
    assert "incomplete" in ran.stdout
    assert "1 unreadable" in ran.stdout
    assert "without it this snapshot is no recovery point. Hint: " in ran.stdout


def test_a_damaged_local_copy_of_the_index_costs_time_and_is_told(place: Place) -> None:
    vault_id = place.json("snapshot")["vault"]
    folder = place.folder / ".reopen" / "cache" / f"index-{vault_id}"
    folder.mkdir(parents=True)
    (folder / "0123456789abcdef.run").write_bytes(b"damaged")
    ran = place.run("snapshot")
    assert "the local copy of the index could not be kept, which costs time" in " ".join(ran.stderr.split())
    assert list(folder.glob("*.run")) == []
    assert "local copy" not in place.run("snapshot").stderr


def test_a_failing_dataset_does_not_stop_the_others_and_its_error_is_the_exit_code(place: Place) -> None:
    place.contract("absent")
    found = place.json("snapshot", code=4)
    states = {row["dataset"]: row["state"] for row in found["datasets"]}
    assert states == {"absent": "failed", "papers": "complete"}
    error = next(row["error"] for row in found["datasets"] if row["dataset"] == "absent")
    assert error["kind"] == "not-found"
    assert "does not exist" in error["message"]


def test_a_snapshot_that_this_site_cannot_remember_is_stored_and_shown(place: Place) -> None:
    """The home of a site may be full where the vault has room."""
    place.run("snapshot")
    shutil.rmtree(place.folder / ".reopen/witness")
    (place.folder / ".reopen/witness").write_text("in the way")
    ran = place.run("snapshot", code=7)
    assert "complete" in ran.stdout
    assert "cannot be written" in ran.stdout
    assert "What was done in the vault is done" in ran.stdout
    assert len(place.json("snapshots")["snapshots"]) == 2
    assert place.json("snapshot", code=7)["datasets"][0]["state"] == "complete"


def test_a_site_that_is_not_the_primary_makes_unconfirmed_snapshots_and_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.run("snapshot")
    place.run("replicate")
    (place.folder / "standby/papers").mkdir(parents=True)
    monkeypatch.setenv("REOPEN_SITE", "standby")
    ran = place.run("snapshot")
    assert "note: production is primary" in ran.stderr
    assert "unconfirmed" in ran.stdout
    assert [row["confirmed"] for row in place.json("snapshots")["snapshots"]] == [True, False]


def test_a_snapshot_without_the_epoch_log_is_unconfirmed(place: Place) -> None:
    log = place.folder / ".reopen/standby/control/log"
    log.mkdir(parents=True)
    (log / "0000000001.json").write_text("no link")
    found = place.json("snapshot")
    assert found["standing"]["confirmed"] is False
    assert "the epoch log cannot be read" in found["standing"]["reason"]


def test_without_the_epoch_log_an_object_store_is_not_believed_to_serve_at_its_place(place: Place) -> None:
    """What stands there may be of an earlier life of the site; a local dataset, whose place leads on, is protected."""
    place.contract("scans")
    contract = place.folder / "data_contracts/scans.odcs.yaml"
    local = "{server: production, type: local, path: data/scans, format: mixed}"
    there = '{server: production, type: s3, location: "s3://nobody-asks-this-bucket/scans", format: mixed}'
    contract.write_text(contract.read_text().replace(local, there))
    log = place.folder / ".reopen/standby/control/log"
    log.mkdir(parents=True)
    (log / "0000000001.json").write_text("no link")
    ran = place.run("snapshot", code=None)
    assert ran.exit_code not in (0, 3)
    assert "scans: " in ran.stdout
    assert "0000000001.json" in ran.stdout
    assert len(place.json("snapshots", "papers")["snapshots"]) == 1


def test_without_the_epoch_log_an_object_store_is_copied_from_where_it_served_last(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unconfirmed, so nobody takes it for what the primary wrote; never while the log answers in between."""
    place.contract("scans")
    contract = place.folder / "data_contracts/scans.odcs.yaml"
    local = "{server: production, type: local, path: data/scans, format: mixed}"
    there = '{server: production, type: s3, location: "s3://nobody-asks-this-bucket/scans", format: mixed}'
    contract.write_text(contract.read_text().replace(local, there))
    session = open_session(place.folder / "reopen.toml")
    dataset = session.dataset("scans")
    asked = session.served(dataset, "production", Standing())
    assert asked.location("production").url == "s3://nobody-asks-this-bucket/scans"
    promoted = replace(asked, locations={"production": replace(asked.location("production"), url="s3://b/version-2")})
    remember_place(session.settings.home, promoted, "production")

    def unreadable(site: str) -> Contracts:
        raise Transient("the log does not answer")

    monkeypatch.setattr(session, "as_served", unreadable)

    known = session.served(dataset, "production", Standing(confirmed=False, reason="it does not answer"))
    assert known.location("production").url == "s3://b/version-2"
    with pytest.raises(Transient):
        session.served(dataset, "production", Standing())
    with pytest.raises(Transient):
        session.served(replace(dataset, name="others"), "production", Standing(confirmed=False))


def test_a_dataset_is_retired_only_when_its_contract_is_gone_and_only_once(place: Place) -> None:
    place.run("snapshot")
    assert "it is protected" in place.run("retire", "papers", "--reason", "old", code=6).stderr
    (place.folder / "data_contracts/papers.odcs.yaml").unlink()
    assert "missing: not retired" in place.run("status").stdout
    assert place.json("retire", "papers", "--reason", "old")["snapshots"] == 1
    assert "retired" in place.run("status").stdout
    assert place.json("status")["datasets"][0]["contract"] == "retired"
    assert len(place.json("snapshots")["snapshots"]) == 1
    place.run("retire", "papers", "--reason", "old", code=6)


def test_to_retire_needs_the_retention_key(place: Place) -> None:
    place.run("snapshot")
    (place.folder / "data_contracts/papers.odcs.yaml").unlink()
    next((place.folder / ".reopen/keys").glob("retention-*.key")).unlink()
    assert "retention key" in place.run("retire", "papers", "--reason", "old", code=7).stderr
