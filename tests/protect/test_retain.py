"""Retention over a vault: what stands above the rules, what a run writes and deletes, and what stops it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reopen.contracts import RetentionRule
from reopen.errors import Conflict, Corrupt, InvalidInput, NotFound, Refused
from reopen.protect.retain import retain as retain_module
from reopen.protect.retain.holds import active_holds, place_hold, release_hold
from reopen.protect.retain.retain import execute_retain, plan_retain
from reopen.protect.retain.stubs import read_stubs, stub_body
from reopen.protect.verify.verify import Level, verify_vault
from reopen.protect.witness import Witness
from reopen.vault import SnapshotRecord, Vault, make_keys
from tests.kit import a_keyring, a_vault, reopened, restore
from tests.protect.histories import DAY, a_history, add, create_early, first, plan, reasons, retain, verified
from tests.stores import MemoryStore

TWO_DAYS = RetentionRule(within=2 * DAY)
LAST_TWO = RetentionRule(last=2)


@pytest.fixture
def vault() -> Vault:
    return a_vault()


def present(vault: Vault, name: str = "it") -> list[str]:
    return [record.id for record in vault.records(name)]


def ids(records: list[SnapshotRecord]) -> list[str]:
    return [record.id for record in records]


# What goes


def test_a_run_leaves_a_stub_for_each_record_that_it_deletes_and_the_chain_holds(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [50, 40, 3, 1, 0.5])
    witness = Witness(tmp_path / "witness")
    witness.remember(vault)
    assert retain(vault, TWO_DAYS, witness=witness) == ids(records[:4])
    assert present(vault) == ids(records[4:])
    stubs = read_stubs(vault)
    assert {stub.digest for stub in stubs.values()} == {record.digest for record in records[:4]}
    assert [stubs[record.name].prev for record in records[:4]] == [record.prev for record in records[:4]]
    assert witness.missing(vault) == []
    assert verify_vault(vault, level=Level.CONTENT, witness=witness).findings == ()
    restore(vault, records[-1], tmp_path / "out")
    assert (tmp_path / "out/b/c").read_text() == "second"


def test_a_second_run_has_nothing_to_do(vault: Vault, tmp_path: Path) -> None:
    a_history(vault, tmp_path / "it", [9, 8, 1])
    assert len(retain(vault, LAST_TWO)) == 2
    store = vault.store
    assert isinstance(store, MemoryStore)
    before = dict(store.objects)
    assert retain(vault, LAST_TWO) == []
    assert store.objects == before


def test_only_records_and_stubs_change(vault: Vault, tmp_path: Path) -> None:
    """T6: the deleted record owned the manifest of all the others."""
    a_history(vault, tmp_path / "it", [9, 8, 1])
    before = {info.name for info in vault.store.list()}
    retain(vault, LAST_TWO)
    after = {info.name for info in vault.store.list()}
    assert {name.split("/")[0] for name in before - after} == {"snapshots"}
    assert {name.rsplit("/", 2)[0] for name in after - before} == {"ledger/expired"}


def test_without_rules_nothing_expires(vault: Vault, tmp_path: Path) -> None:
    a_history(vault, tmp_path / "it", [9, 8, 1])
    a_history(vault, tmp_path / "other", [9, 8, 1], "other")
    made = plan_retain(vault, {"it": RetentionRule()})
    assert [item.expiring for item in made.datasets] == [(), ()]
    assert execute_retain(made).expired == ()
    assert all("no rules" in item.reasons for dataset in made.datasets for item in dataset.decisions)


def test_only_the_datasets_that_are_named_are_planned(vault: Vault, tmp_path: Path) -> None:
    for name in ("one", "two"):
        a_history(vault, tmp_path / name, [9, 8, 1], name)
    made = plan_retain(vault, {"one": LAST_TWO, "two": LAST_TWO}, datasets=["two"])
    assert [item.dataset for item in made.datasets] == ["two"]
    with pytest.raises(NotFound, match="'three'"):
        plan_retain(vault, {}, datasets=["three"])


def test_a_plan_changes_nothing(vault: Vault, tmp_path: Path) -> None:
    a_history(vault, tmp_path / "it", [9, 8, 1])
    store = vault.store
    assert isinstance(store, MemoryStore)
    before = dict(store.objects)
    assert len(plan(vault, LAST_TWO).datasets[0].expiring) == 2
    assert store.objects == before


def test_each_snapshot_says_why_it_stays_or_goes(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [9, 1])
    made = plan(vault, RetentionRule(last=1, within=2 * DAY))
    decisions = made.datasets[0].decisions
    assert ids([item.record for item in decisions]) == ids(records[::-1]), "newest first"
    assert decisions[0].reasons == (
        "newest complete, not known to be bad", "newest record", "last", "within 2d",
    )  # fmt: skip
    assert [(item.keep, item.reasons) for item in decisions[1:]] == 2 * [
        (False, ("kept by no rule (last 1, within 2d)",))
    ]


# What stands above the rules


def test_the_newest_proven_snapshot_stays_and_so_does_the_newest_complete_one(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [50, 40, 30, 20])
    verified(vault, records[1])
    verified(vault, records[2], level="content")
    verified(vault, records[3], level="structure")
    newest = add(vault, records[-1], 0.1, state="incomplete")
    kept = reasons(plan(vault, RetentionRule(within=DAY)))
    assert kept[records[2].id] == ("newest complete, verified, clean",)
    assert kept[records[4].id] == ("newest complete, not known to be bad", "within 1d")
    assert kept[newest.id][0] == "newest record"
    assert len(kept) == 3


def test_damage_found_later_takes_the_proof_back_and_the_one_before_stays(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [50, 40, 30, 20])
    for record in records[:4]:
        verified(vault, record)
    verified(vault, records[3], result="damaged", level="structure")
    vault.record_fact("clean", dataset="it", snapshot=records[2].id, body={"verdict": "infected"})
    kept = reasons(plan(vault, RetentionRule(last=1)))
    assert kept[records[1].id] == ("newest complete, verified, clean",)
    assert set(kept) == {records[1].id, records[4].id}


def test_a_good_snapshot_stays_when_all_newer_ones_are_known_to_be_bad(vault: Vault, tmp_path: Path) -> None:
    """Nothing was ever proven here: the newest complete one is damaged, the next an unconfirmed writer's."""
    records = a_history(vault, tmp_path / "it", [50, 40])
    unconfirmed = add(vault, records[-1], 2, confirmed=False)
    damaged = add(vault, unconfirmed, 1)
    verified(vault, damaged, result="damaged")
    made = plan(vault, RetentionRule(within=0.5 * DAY))
    assert reasons(made)[records[-1].id][0] == "newest complete, not known to be bad"
    assert reasons(made)[damaged.id][0] == "newest complete"
    assert [item.record.id for item in made.datasets[0].expiring] == [
        unconfirmed.id,
        *ids(records[-2::-1]),
    ], "newest first"


def test_a_flawed_snapshot_says_what_is_wrong_with_it(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [3])
    flawed = add(vault, records[-1], 2, state="incomplete", confirmed=False)
    add(vault, flawed, 1)
    [reason] = reasons(plan(vault, RetentionRule(daily=30)))[flawed.id]
    assert reason.endswith(", incomplete and unconfirmed, but the only one")


def test_the_newest_record_stays_so_that_numbers_go_on(vault: Vault, tmp_path: Path) -> None:
    """Clocks may say otherwise: the newest by ``seq`` stands for an earlier time."""
    records = a_history(vault, tmp_path / "it", [2, 1])
    backwards = add(vault, records[-1], 400, state="incomplete")
    retain(vault, RetentionRule(last=1))
    assert present(vault) == [records[-1].id, backwards.id]
    assert verify_vault(vault).findings == ()


# Holds


def test_a_held_snapshot_stays_until_each_of_its_holds_is_released(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [9, 8, 1])
    one = place_hold(vault, "it", records[1], "case 4711").hold
    two = place_hold(vault, "it", records[1], "audit").hold
    assert reasons(plan(vault, LAST_TWO))[records[1].id] == (f"hold {one.id}: case 4711", f"hold {two.id}: audit")
    assert release_hold(vault, one.id[:12], "settled") == one
    assert [hold.reason for hold in active_holds(vault, "it")] == ["audit"]
    assert records[1].id not in retain(vault, LAST_TWO)
    release_hold(vault, two.id, "done")
    assert retain(vault, LAST_TWO) == [records[1].id]


def test_a_hold_on_a_dataset_keeps_all_of_it_and_of_no_other(vault: Vault, tmp_path: Path) -> None:
    a_history(vault, tmp_path / "it", [9, 8, 1])
    a_history(vault, tmp_path / "other", [9, 8, 1], "other")
    place_hold(vault, "it", None, "case 4711")
    assert retain(vault, LAST_TWO) == []
    assert len(retain(vault, LAST_TWO, "other")) == 2


def test_a_hold_and_its_release_need_a_reason_and_the_retention_key(vault: Vault, tmp_path: Path) -> None:
    record = first(vault, tmp_path / "it")
    with pytest.raises(InvalidInput, match="needs a reason"):
        place_hold(vault, "it", record, " ")
    hold = place_hold(vault, "it", record, "why").hold
    with pytest.raises(InvalidInput, match="needs a reason"):
        release_hold(vault, hold.id, "")
    with pytest.raises(NotFound, match=r"no hold that stands") as caught:
        release_hold(vault, "ffffffffffffffffffff", "x")
    assert hold.id in caught.value.hint
    place_hold(vault, "it", None, "another")
    with pytest.raises(NotFound):
        release_hold(vault, "", "x")
    signing = [key for key in vault.keyring.signing_keys if key.role != "retention"]
    poor = Vault.open(vault.store, type(vault.keyring)(vault.keyring.pins, signing=signing))
    with pytest.raises(Refused, match="retention key"):
        place_hold(poor, "it", record, "why")


def test_a_damaged_hold_stops_the_expiry_of_its_dataset(vault: Vault, tmp_path: Path) -> None:
    """T3, sequence 9."""
    records = a_history(vault, tmp_path / "it", [9, 8, 1])
    a_history(vault, tmp_path / "other", [9, 8, 1], "other")
    place_hold(vault, "it", records[1], "case 4711")
    spoil(vault, "ledger/held/")
    made = plan_retain(vault, {"it": LAST_TWO, "other": LAST_TWO})
    stopped, other = made.datasets
    assert isinstance(stopped.error, Corrupt)
    assert "ledger/held/dataset=it" in stopped.error.message
    assert stopped.expiring == ()
    assert stopped.decisions[-1].reasons == ("nothing of this dataset expires until what was found is settled",)
    assert (len(other.expiring), other.error, made.ok) == (2, None, False)


def test_a_record_that_cannot_be_believed_stops_the_expiry_of_its_dataset(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [9, 8, 1])
    spoil(vault, records[2].name)
    made = plan(vault, LAST_TWO)
    assert made.datasets[0].error is not None
    assert execute_retain(made).expired == ()
    assert {info.name for info in vault.store.list("snapshots/")} == {record.name for record in records}


def spoil(vault: Vault, prefix: str) -> None:
    store = vault.store
    assert isinstance(store, MemoryStore)
    [name] = store.names(prefix)
    data = bytearray(store.get(name))
    data[len(data) // 2] ^= 1
    store.replace(name, bytes(data))


# Before a run, and around it


def test_a_run_needs_the_retention_key_and_a_plan_does_not(tmp_path: Path) -> None:
    keys = make_keys()
    vault = a_vault(keys=keys)
    a_history(vault, tmp_path / "it", [9, 8, 1])
    made = plan_retain(Vault.open(vault.store, a_keyring(keys, "writer")), {"it": LAST_TWO})
    assert len(made.datasets[0].expiring) == 2
    with pytest.raises(Refused, match="retention key"):
        execute_retain(made)
    assert len(present(vault)) == 4


def test_a_rolled_back_vault_is_left_alone(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [9, 8, 1])
    witness = Witness(tmp_path / "witness")
    witness.remember(vault)
    vault.store.delete(records[-1].name)
    with pytest.raises(Refused, match="were seen in it before"):
        plan(vault, LAST_TWO, witness=witness)


def test_an_old_plan_is_not_carried_out(vault: Vault, tmp_path: Path) -> None:
    a_history(vault, tmp_path / "it", [9, 8, 1])
    made = plan(vault, LAST_TWO)
    old = replace(made, made_at_seconds=made.made_at_seconds - retain_module.PLAN_SECONDS_MAX - 1)
    with pytest.raises(Conflict, match="more than an hour old"):
        execute_retain(old)
    assert len(present(vault)) == 4


def test_a_record_that_changed_since_the_plan_is_not_deleted(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [9, 8, 1])
    made = plan(vault, LAST_TWO)
    create_early(vault, records[0], 5)
    result = execute_retain(made)
    assert "changed since it was planned" in result.failed["it"].message
    assert len(present(vault)) == 4


def test_two_runs_at_once_let_the_same_snapshots_go_once(vault: Vault, tmp_path: Path) -> None:
    a_history(vault, tmp_path / "it", [9, 8, 1])
    one, two = plan(vault, LAST_TWO), plan(vault, LAST_TWO)
    execute_retain(one)
    assert execute_retain(two).failed == {}
    assert len(present(vault)) == 2
    assert verify_vault(vault).findings == ()


def test_a_stub_that_does_not_read_as_written_deletes_nothing(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T4: for example a certificate that does not cover the dataset."""
    a_history(vault, tmp_path / "it", [9, 8, 1])
    made = plan(vault, LAST_TWO)
    narrow = {
        key: replace(item, datasets=("other",)) if item.role == "retention" else item
        for key, item in made.vault.certificates.items()
    }
    monkeypatch.setattr(made.vault, "certificates", narrow)
    result = execute_retain(made)
    assert "may not say this" in result.failed["it"].message
    assert len(present(vault)) == 4


def test_a_fact_that_is_no_stub_deletes_nothing(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T4: it is believed, and does not say which record it is about."""
    a_history(vault, tmp_path / "it", [9, 8, 1])
    monkeypatch.setattr(retain_module, "stub_body", lambda record, *_: {"seq": record.seq, "prev": record.prev})
    result = execute_retain(plan(vault, LAST_TWO))
    assert "does not read as it was written" in result.failed["it"].message
    assert len(present(vault)) == 4
    assert read_stubs(vault) == {}


def test_a_failing_dataset_stops_no_other(vault: Vault, tmp_path: Path) -> None:
    for name in ("one", "two"):
        a_history(vault, tmp_path / name, [9, 8, 1], name)
    made = plan_retain(reopened(vault), {"one": LAST_TWO, "two": LAST_TWO})
    create_early(vault, made.datasets[0].expiring[0].record, 5)
    result = execute_retain(made)
    assert set(result.failed) == {"one"}
    assert {item.record.dataset for item in result.expired} == {"two"}


def test_what_a_run_left_with_a_stub_is_kept_when_the_rules_say_so_now(vault: Vault, tmp_path: Path) -> None:
    """T5: a rule that was relaxed in time saves what has not gone yet."""
    records = a_history(vault, tmp_path / "it", [9, 8, 1])
    vault.record_fact("expired", dataset="it", snapshot=records[1].id, body=stub_body(records[1], ()))
    made = plan(vault, RetentionRule(last=10))
    assert made.datasets[0].expiring == ()
    assert records[1].id in made.datasets[0].notes[0]
    assert retain(vault, RetentionRule(last=2)) == ids(records[:2])
    assert len(list(vault.store.list("ledger/expired/"))) == 2, "one stub a record, however many runs it takes"
