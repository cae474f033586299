"""``reopen status`` judges and exits; how exposure is judged is tested in tests/review."""

from __future__ import annotations

import shutil

from tests.cli.place import Place


def test_what_was_never_verified_is_past_its_rpo(place: Place) -> None:
    place.run("snapshot")
    ran = place.run("status", code=3)
    assert "page" in ran.stdout
    assert "no snapshot was verified" in ran.stdout


def test_a_vault_that_cannot_be_opened_is_a_row_and_no_failure(place: Place) -> None:
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    found = place.json("status")
    errors = {vault["site"]: vault["error"] for vault in found["vaults"]}
    assert errors["production"] == ""
    assert "there is no vault" in errors["standby"]
    assert (found["schema"], found["alarm"], found["ok"]) == ("reopen.status/1", "ok", True)


def test_a_replica_that_lags_is_shown(place: Place) -> None:
    place.run("snapshot")
    place.run("replicate")
    place.write("papers", three="third")
    place.run("snapshot")
    assert "standby lacks 1" in place.run("status", code=3).stdout


def test_an_epoch_log_that_cannot_be_read_is_said_and_no_failure(place: Place) -> None:
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    log = place.folder / ".reopen/standby/control/log"
    log.mkdir(parents=True)
    (log / "0000000001.json").write_text("no link")
    assert "the epoch log cannot be read" in place.run("status").stdout
    assert place.json("status")["control"]["error"]


def test_a_control_store_that_is_not_mounted_is_no_log_that_has_not_begun(place: Place) -> None:
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    risk = ("--accept-risk", "old-primary-may-write")
    place.run("failover", "--reason", "fire", *risk)
    control = place.folder / ".reopen/standby/control"
    control.rename(place.folder / "unmounted")
    control.mkdir()

    shown = place.json("status", code=place.run("status", code=None).exit_code)["control"]
    again = place.run("failover", "--reason", "fire again", *risk, code=7)
    taken = place.run("snapshot")

    assert "is empty, and this site saw record" in shown["error"]
    assert "Mount the control store" in again.stderr
    assert "unconfirmed" in taken.stdout
    assert list(control.rglob("*.json")) == [], "nothing began anew"
    shutil.rmtree(control)
    (place.folder / "unmounted").rename(control)
    assert place.json("status", code=place.run("status", code=None).exit_code)["control"]["epoch"] == 1


def test_without_contracts_the_copies_are_still_shown(place: Place) -> None:
    place.run("snapshot")
    (place.folder / "data_contracts/papers.odcs.yaml").unlink()
    [dataset] = place.json("status")["datasets"]
    assert (dataset["contract"], dataset["alarm"]) == ("missing: not retired", "none")


def test_a_replica_that_cannot_be_read_is_no_good_news(place: Place) -> None:
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    (place.folder / ".reopen/standby/vault/vault.json").write_text("garbage")
    told = place.run("status", code=3).stdout
    assert "nobody knows what is away from the primary: no vault of standby opens" in told
