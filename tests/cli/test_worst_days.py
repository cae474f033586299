"""The worst days, by the command line: each ends well and says so, in the exit code, in one message with what to do
next, and in the evidence."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reopen.control.log import EpochLog
from reopen.desk.left import TRIES_MAX
from reopen.errors import VaultUnwritable
from tests.cli.place import Place, Ran
from tests.cli.test_handover_evidence import EVIDENCE
from tests.cli.test_roles import ACCEPTED, calls, hook
from tests.disks import give_room, small_disk_at

FIRE = ("failover", "--reason", "fire", *ACCEPTED)
ROWS = "id,total\n1,10\n2,20\n2,30\n"
CHECKED = """\
schema:
  - name: orders
    physicalName: orders.csv
    properties:
      - {name: id, logicalType: integer, unique: true, required: true}
      - {name: total, logicalType: integer}
"""


def protect(place: Place) -> Place:
    """A verified snapshot of everything, replicated."""
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    return place


@pytest.fixture
def ready(place: Place) -> Place:
    """Production with a verified replica at the standby."""
    return protect(place)


def depends(place: Place, name: str, on: str) -> None:
    contract = place.folder / f"data_contracts/{name}.odcs.yaml"
    contract.write_text(contract.read_text() + f"  - {{property: dependsOn, value: [{on}], vendor: reopen}}\n")


def reasons(place: Place) -> dict[str, str]:
    """Why each dataset did not reopen, as the newest evidence has it."""
    record = place.json("evidence", "show")["record"]
    return {result["name"]: result["reason"] for result in record["measured"]["datasets"]}


def role(place: Place) -> str:
    return str(place.run("status", "--json", code=None).json["control"]["primary"])


def is_told(ran: Ran, *parts: str) -> None:
    """An error in one message, with a hint of what to do."""
    assert ran.stderr.count("error: ") == 1, ran.stderr
    assert "hint: " in ran.stderr
    assert "Traceback" not in ran.stderr
    for part in parts:
        assert part in ran.stderr, ran.stderr


def test_a_full_standby_fails_its_dataset_and_goes_on_when_there_is_room(place: Place, tmp_path: Path) -> None:
    place.contract("memos")
    place.write("memos", one="memo")
    place.write("papers", big="0123456789abcdef" * 40_000)
    contract = place.folder / "data_contracts/papers.odcs.yaml"
    with small_disk_at(tmp_path / "small", size="256k", file_bytes_max=256 * 1024) as disk:
        contract.write_text(contract.read_text().replace("path: standby/papers", f"path: {disk}/papers"))
        protect(place)

        ran = place.run(*FIRE, code=3)

        assert "papers" in ran.stdout
        found = reasons(place)
        assert "the target is full" in found["papers"], found
        assert found["memos"] == "", "its sibling serves"
        give_room(disk)
        again = place.json("failover", *ACCEPTED)
        assert (again["verdict"], again["resumed"]) == ("met", True)
        assert (disk / "papers/one").read_text() == "first"
        shutil.rmtree(disk / ".reopen-versions")


def test_with_the_recovery_key_of_another_vault_nothing_moves(
    ready: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Place(folder=tmp_path_factory.mktemp("other"))
    other.run("init")
    shutil.rmtree(ready.folder / ".reopen/keys")
    shutil.copytree(other.folder / ".reopen/keys", ready.folder / ".reopen/keys")

    is_told(ready.run(*FIRE, code=7), "key")
    assert not list((ready.folder / ".reopen/standby/control").glob("log/*")), "nothing was begun"


def test_without_the_recovery_key_the_role_does_not_move(ready: Place) -> None:
    for key in (ready.folder / ".reopen/keys").glob("recovery-*"):
        key.unlink()

    is_told(ready.run(*FIRE, code=7), "recovery key")
    assert role(ready) == "production"


def test_without_a_verified_point_the_role_does_not_move(place: Place) -> None:
    place.run("snapshot")
    place.run("replicate")

    is_told(place.run(*FIRE, code=7), "no complete snapshot that was verified", "Nothing was moved", "--at latest")
    assert role(place) == "production"


@pytest.fixture
def doubled(place: Place) -> Place:
    """Orders with a key that is there twice, papers that need them, memos that need nobody."""
    for name in ("orders", "memos"):
        place.contract(name)
    contract = place.folder / "data_contracts/orders.odcs.yaml"
    text = (
        contract.read_text()
        .replace("format: mixed", "format: csv")
        .replace("customProperties:", CHECKED + "customProperties:")
    )
    contract.write_text(text)
    depends(place, "papers", "orders")
    place.write("memos", one="memo")
    (place.folder / "data/orders").mkdir(parents=True)
    (place.folder / "data/orders/orders.csv").write_text(ROWS)
    return protect(place)


def test_a_check_that_fails_closes_its_dataset_and_those_that_need_it_and_nobody_else(doubled: Place) -> None:
    ran = doubled.run(*FIRE, code=3)

    found = reasons(doubled)
    assert found["orders"].startswith("validate:orders failed"), found
    assert "orders" in found["papers"]
    assert found["memos"] == ""
    assert "Try an earlier recovery point" in ran.stdout
    # The whole failover is on record, with what was not done.
    steps = {step["step"]: step["result"] for step in doubled.json("evidence", "show")["record"]["steps"]}
    assert (steps["validate:orders"], steps["promote:papers"], steps["promote:memos"]) == (
        "failed", "not executed", "done",
    )  # fmt: skip
    assert not (doubled.folder / "standby/papers").exists(), "it must not serve beside what nobody trusts"


def test_a_check_that_fails_waits_for_a_decision_and_ends_by_itself_past_the_limit(doubled: Place) -> None:
    settings = doubled.folder / "reopen.toml"
    settings.write_text(settings.read_text().replace('decide_within = "auto"', 'decide_within = "1s"'))

    doubled.run(*FIRE, code=3)

    assert reasons(doubled)["orders"].startswith("validate:orders failed")
    [waiting] = [step for step in doubled.json("decide", code=3)["waiting"] if step["step"] == "validate:orders"]
    assert waiting["attempt"] == 1
    doubled.json("decide", "orders", "skip", "--why", "they are mended by hand", "--by", "anna")
    doubled.run("failover", *ACCEPTED, code=3)
    assert "anna: they are mended by hand" in reasons(doubled)["orders"]


def test_a_replica_that_is_behind_is_opened_and_the_loss_is_said_before_and_after(ready: Place) -> None:
    ready.contract("papers", rpo_hours=0.00001)
    ready.write("papers", one="never replicated")

    ran = ready.run(*FIRE, code=3)

    assert "RPA is over RPO" in ran.stdout
    [result] = ready.json("evidence", "show")["record"]["measured"]["datasets"]
    assert (result["verdict"], result["reason"]) == ("missed", "RPA is over RPO")
    assert result["rpa"] > result["rpo"]


def test_a_channel_that_is_down_is_on_record_and_stops_nothing(ready: Place) -> None:
    settings = ready.folder / "reopen.toml"
    settings.write_text(settings.read_text().replace("urls = []", 'urls = ["json://127.0.0.1:9/x"]'))

    ready.json(*FIRE)

    messages = ready.json("evidence", "show")["record"]["messages"]
    assert {message["status"] for message in messages} == {"failed"}
    assert all(message["error"] for message in messages)
    assert "failed" in ready.run("evidence", "show").stdout


def test_a_production_that_is_half_alive_goes_on_writing_and_nobody_is_served_by_it(ready: Place) -> None:
    """A foreign writer that asks nobody, and our own snapshots of what it writes."""
    ready.json(*FIRE)
    ready.write("papers", one="written late")

    taken = ready.run("snapshot")

    assert "unconfirmed" in taken.stdout
    assert "standby is primary since epoch 1" in taken.stderr
    assert (ready.folder / "standby/papers/one").read_text() == "first"
    record = ready.json("evidence", "show")["record"]
    assert (record["fence"]["level"], record["fence"]["accepted_risks"]) == ("cooperative", ["old-primary-may-write"])
    is_told(ready.run("replicate", code=7), "run it at the primary")
    ready.run("replicate", "--to", "standby")
    late = ready.json("snapshot")["datasets"][0]["snapshot"]
    ready.json("commit", "--reason", "it runs")
    back = ready.json("failback", "--reason", "rebuilt", *ACCEPTED)
    assert (ready.folder / "data/papers/one").read_text() == "first"
    assert late in [item["snapshot"] for item in back["diverged"]]


def test_a_control_store_that_is_no_store_stops_the_failover_before_anything_moves(ready: Place) -> None:
    control = ready.folder / ".reopen/standby/control"
    shutil.rmtree(control, ignore_errors=True)
    control.write_text("the disk was not mounted, and somebody left a note")

    ran = ready.run(*FIRE, code=None)

    assert ran.exit_code not in (0, 3)
    is_told(ran, "control")
    assert not (ready.folder / "standby/papers").exists()


def test_a_contract_that_is_edited_after_the_approval_is_planned_and_approved_anew(ready: Place) -> None:
    fenced = hook(ready, "production", "fence", "exit 0", more="enforces = true")
    contract = ready.folder / "data_contracts/papers.odcs.yaml"
    contract.write_text(contract.read_text() + "  - {property: approval, value: required, vendor: reopen}\n")
    is_told(ready.run(*FIRE, code=7), "nobody has approved")
    old = ready.json("approve", "--reason", "agreed", "--by", "anna")["plan"]
    contract.write_text(contract.read_text().replace("version: 1.0.0", "version: 1.1.0"))

    is_told(ready.run("failover", *ACCEPTED, code=2), "contract of papers was changed", "needs a reason")
    ran = ready.run(*FIRE, code=7)

    is_told(ran, "nobody has approved")
    assert f"contract of papers was changed after plan {old[:16]}" in ran.stderr
    assert calls(fenced) == [], "nothing is fenced by a plan that would fail"
    new = ready.json("approve", "--reason", "agreed again", "--by", "anna")["plan"]
    assert new != old
    done = ready.json("failover", *ACCEPTED)
    assert (done["verdict"], done["plan"]) == ("met", new)
    status = ready.json("status")["control"]
    assert (status["primary"], status["reason"]) == ("standby", "fire"), "the reason need not be said twice"


def held(place: Place) -> None:
    """A planned move whose driver died when the writers were held."""
    append = EpochLog.append

    def dies(log: EpochLog, value: Any, *, by: str) -> Any:
        record = append(log, value, by=by)
        if getattr(getattr(record.value, "outcome", None), "step", "") == "quiesce":
            raise SystemExit(1)
        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochLog, "append", dies)
        place.run(
            "failover", "--planned", "--reason", "works", "--quiesce-max", "1s", *ACCEPTED, code=None
        )  # fmt: skip


def watch_soon(place: Place) -> None:
    settings = place.folder / "reopen.toml"
    settings.write_text(settings.read_text().replace('every = "1m"', 'every = "1s"'))


def look_until_relieved(place: Place) -> Any:
    """The first look of the watch that finds the writers held for too long: two seconds after they were."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = place.run("watch", "--once", "--json", code=None).json
        if found["relief"] is not None:
            return found
    raise AssertionError("the writers are held for ever")


def test_writers_that_a_dead_driver_left_held_are_given_back_by_the_watch(ready: Place) -> None:
    released = hook(ready, "production", "unquiesce", "exit 0")
    watch_soon(ready)
    held(ready)

    found = look_until_relieved(ready)

    assert found["relief"]["given_back"]
    assert not found["ok"]
    assert calls(released) == ["unquiesce 1 production "]
    assert ready.json("watch", "--once")["relief"] is None
    record = ready.json("evidence", "show")["record"]
    assert (record["kind"], record["actions"][-1]["by"]) == ("given-back", "reopen watch")
    assert ready.json("status")["control"]["primary"] == "production"


def test_writers_that_cannot_be_given_back_are_told_once_with_what_to_do(ready: Place) -> None:
    called = hook(ready, "production", "unquiesce", "echo no route; exit 5")
    watch_soon(ready)
    held(ready)

    found = look_until_relieved(ready)

    assert not found["relief"]["given_back"]
    assert "no route" in found["relief"]["problem"]
    assert "reopen rollback" in found["relief"]["hint"]
    assert ready.json("watch", "--once")["relief"] is None, "it is tried and told again after a while"
    assert len(calls(called)) == 1


def test_a_failover_that_nobody_goes_on_with_is_told_once_and_said_to_go_on(
    ready: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an automation does by its event, `reopen failover` does here: it goes on by the log."""
    append = EpochLog.append

    def dies(log: EpochLog, value: Any, *, by: str) -> Any:
        record = append(log, value, by=by)
        if getattr(getattr(record.value, "outcome", None), "step", "") == "fence":
            raise SystemExit(1)
        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochLog, "append", dies)
        ready.run(*FIRE, *ACCEPTED, code=None)
    monkeypatch.setattr("reopen.recover.left.LEFT_AFTER", timedelta(0))

    looks = [ready.run("watch", "--once", "--json", code=None).json["left"] for _ in range(3)]

    assert [look is None for look in looks] == [True, False, True], "it takes two looks, and is told once"
    assert (looks[1]["target"], looks[1]["by_itself"]) == ("standby", True)
    assert ready.json("failover")["verdict"] == "met"
    assert ready.run("watch", "--once", "--json", code=None).json["left"] is None


def test_a_recovery_that_dies_each_time_is_left_to_people_in_the_end(
    ready: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = EpochLog.append

    def dies(log: EpochLog, value: Any, *, by: str) -> Any:
        record = append(log, value, by=by)
        if getattr(record.value, "step", "") == "restore:papers":
            raise SystemExit(1)
        return record

    monkeypatch.setattr("reopen.recover.left.LEFT_AFTER", timedelta(0))
    monkeypatch.setattr(EpochLog, "append", dies)
    ready.run(*FIRE, *ACCEPTED, code=None)
    told = []
    for _ in range(TRIES_MAX + 1):
        looks = [ready.run("watch", "--once", "--json", code=None).json["left"] for _ in range(2)]
        told.append(looks[1]["by_itself"])
        ready.run("failover", code=None)

    assert told == [*[True] * TRIES_MAX, False]


def test_a_move_that_was_given_back_and_not_written_down_is_written_by_the_watch(
    ready: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(ready, "production", "unquiesce", "exit 0")
    hook(ready, "production", "final_sync", "exit 4")
    watch_soon(ready)

    def dies(*_: Any, **__: Any) -> Any:
        raise SystemExit(1)

    def full(*_: Any, **__: Any) -> Any:
        raise VaultUnwritable("no space is left.")

    with monkeypatch.context() as patch:
        patch.setattr("reopen.recover.planned.record_end", dies)
        ready.run("failover", "--planned", "--reason", "works", *ACCEPTED, code=None)
    evidence = ready.folder / EVIDENCE
    before = len(list(evidence.glob("*.json")))
    with monkeypatch.context() as patch:
        patch.setattr("reopen.recover.rollback.record_end", full)
        found = look_until_relieved(ready)
    assert found["relief"]["given_back"]
    assert found["relief"]["unwritten"]
    assert "no space is left" in found["relief"]["problem"]

    # What was tried is tried again after a while; this watch has forgotten that it tried.
    for memory in ready.folder.rglob("held-writers.json"):
        memory.unlink()
    assert ready.json("watch", "--once")["relief"] is None
    assert len(list(evidence.glob("*.json"))) == before + 1
    record = ready.json("evidence", "show")["record"]
    assert (record["kind"], record["scenario"]) == ("given-back", "planned")
    assert "final-sync:papers failed" in record["findings"]["ended"]
