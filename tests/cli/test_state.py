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


def test_an_epoch_log_that_cannot_be_read_is_no_fine_status(place: Place) -> None:
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    log = place.folder / ".reopen/standby/control/log"
    log.mkdir(parents=True)
    (log / "0000000001.json").write_text("no link")
    shown = place.run("status", code=3).stdout
    assert "primary: not known; the settings say production" in shown
    assert "look at this: the epoch log cannot be read" in shown
    found = place.json("status", code=3)
    assert (found["ok"], found["alarm"], bool(found["control"]["error"])) == (False, "ok", True)


def test_a_replica_that_is_out_of_reach_is_no_fine_status(place: Place) -> None:
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    assert "fine: 1 dataset within the RPO" in place.run("status").stdout, "nothing was replicated yet"
    place.run("replicate")
    vault = place.folder / ".reopen/standby/vault"
    (vault / "vault.json").write_text("no vault")
    assert "the vault of standby cannot be read" in place.run("status", code=3).stdout


def test_a_planned_move_that_waits_and_one_that_is_done_are_told(place: Place) -> None:
    contract = place.folder / "data_contracts/papers.odcs.yaml"
    asks = "  - {property: approval, value: required, vendor: reopen}\n"
    contract.write_text(contract.read_text() + asks)
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    move = ("failover", "--planned", "--reason", "works", "--accept-risk", "old-primary-may-write")
    place.run(*move, code=7)

    waits = place.json("status", code=3)["control"]
    shown = " ".join(place.run("status", code=3).stdout.split())
    place.run("approve", "--reason", "agreed")
    place.run(*move)
    done = place.json("status")["control"]

    assert (waits["primary"], waits["move"]["waits"], waits["move"]["target"]) == ("production", True, "standby")
    assert "the planned move from production to standby" in shown
    assert f"`reopen approve {waits['move']['plan'][:16]} --reason WHY` approves it" in shown
    assert (done["primary"], done["move"], done["uncommitted"]) == ("standby", None, True)
    assert "the last move is not committed: `reopen commit --reason WHY` accepts it" in " ".join(
        place.run("status").stdout.split()
    )


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
