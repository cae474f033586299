"""Retention and what goes on around it: holds at every moment of a run, append-only vaults, planted times, replicas."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.contracts import RetentionRule
from reopen.errors import NotFound, Refused
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.retain.holds import active_holds, place_hold, release_hold
from reopen.protect.retain.keeping import TIME_MARGIN
from reopen.protect.retain.retain import Spared, execute_retain
from reopen.protect.retain.stubs import stub_body
from reopen.protect.verify.verify import verify_vault
from reopen.protect.witness import Witness
from reopen.storage import ObjectStore
from reopen.vault import Vault, create_vault, make_keys
from reopen.vault.features import APPEND_ONLY, optional_features
from tests.kit import EVERY_ROLE, SMALL, a_keyring, a_vault, reopened, restore
from tests.protect.histories import DAY, NOW, a_history, add, plan, reasons, retain, verified
from tests.stores import MemoryStore, Moment, WatchedStore

LAST_ONE = RetentionRule(last=1)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def vault(store: MemoryStore) -> Vault:
    return a_vault(store)


def append_only(store: ObjectStore) -> Vault:
    keys = make_keys()
    create_vault(store, keys, created_at=NOW, parameters=SMALL, optional_features=(APPEND_ONLY,))
    return Vault.open(store, a_keyring(keys, *EVERY_ROLE))


def present(vault: Vault) -> list[str]:
    return [record.id for record in vault.records("it")]


# Holds that meet a run


class HoldAt:
    """Places a hold, once, at the so-manieth moment (before or after a call of the store) of what runs on it.

    ``promised``: the snapshots that were there when the hold was told, so that they must stay.
    """

    def __init__(self, vault: Vault, snapshot: str | None, number: int) -> None:
        self._vault = vault
        self._snapshot = snapshot
        self._left = number
        self.over = False
        self.promised: set[str] = set()

    def __call__(self, moment: Moment, operation: str, name: str) -> None:
        self._left -= 1
        if self._left != -1:
            return
        self.over = True
        there = {record.id: record for record in self._vault.records("it")}
        if self._snapshot is None:
            place_hold(self._vault, "it", None, "case 4711")
            self.promised = set(present(self._vault))
        elif self._snapshot in there:
            place_hold(self._vault, "it", there[self._snapshot], "case 4711")
            self.promised = {self._snapshot}


@pytest.mark.parametrize("whole_dataset", [False, True])
def test_a_hold_placed_at_any_moment_of_a_run_keeps_what_was_there(
    store: MemoryStore, vault: Vault, tmp_path: Path, whole_dataset: bool
) -> None:
    """T7: whoever is told that a snapshot is held has it afterwards, even where its deletion came first."""
    records = a_history(vault, tmp_path / "it", [9, 8, 1])
    spared: list[Spared] = []
    for number in itertools.count():
        copy = store.clone()
        bystander = reopened(vault, copy)
        script = HoldAt(bystander, None if whole_dataset else records[1].id, number)
        made = plan(bystander, LAST_ONE)
        result = execute_retain(replace(made, vault=reopened(vault, WatchedStore(copy, script))))
        if not script.over:
            break
        assert result.failed == {}
        assert script.promised <= set(present(bystander))
        assert all("case 4711" in one.reason for one in result.spared)
        spared += result.spared
        assert verify_vault(bystander).findings == ()
        assert not script.promised & set(retain(bystander, LAST_ONE)), "the next run leaves it alone too"
    assert number > 20
    assert {one.restored for one in spared} == {False, True}, "held before the deletion, and after it"


def test_a_run_at_any_moment_of_a_hold_leaves_what_is_held(store: MemoryStore, vault: Vault, tmp_path: Path) -> None:
    """The mirror image: here the whole run falls between two steps of the hold."""
    records = a_history(vault, tmp_path / "it", [9, 8, 1])
    restored = []
    for number in itertools.count():
        copy = store.clone()
        script = RunAt(reopened(vault, copy), number)
        busy = reopened(vault, WatchedStore(copy, script))
        try:
            restored.append(place_hold(busy, "it", records[1], "case 4711").restored)
        except NotFound:
            assert records[1].id not in present(reopened(vault, copy)), "it was gone before"
            continue
        assert records[1].id in present(reopened(vault, copy))
        if not script.over:
            break
    assert number > 4
    assert set(restored) == {False, True}


class RunAt:
    """Runs retention, once, at the so-manieth moment of what else runs on the store."""

    def __init__(self, vault: Vault, number: int) -> None:
        self._vault = vault
        self._left = number
        self.over = False

    def __call__(self, moment: Moment, operation: str, name: str) -> None:
        self._left -= 1
        if self._left == -1:
            self.over = True
            retain(self._vault, LAST_ONE)


def test_a_held_snapshot_that_has_a_stub_stays_and_is_told(vault: Vault, tmp_path: Path) -> None:
    """A hold after the stub and before the deletion, with a crash between."""
    records = a_history(vault, tmp_path / "it", [9, 8, 1])
    vault.record_fact("expired", dataset="it", snapshot=records[1].id, body=stub_body(records[1], ()))
    hold = place_hold(vault, "it", records[1], "case 4711").hold
    made = plan(vault, LAST_ONE)
    [note] = made.datasets[0].notes
    assert "is kept: hold" in note
    assert "case 4711" in note
    execute_retain(made)
    assert present(vault) == [records[1].id, records[3].id]
    release_hold(vault, hold.id, "settled")
    assert retain(vault, LAST_ONE) == [records[1].id]


def test_a_hold_whose_record_is_gone_all_the_same_is_reported(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [9, 8, 1])
    held = records[1]
    retain(vault, LAST_ONE)
    body = {"reason": "case 4711", "record": held.digest, "seq": held.seq}
    vault.record_fact("held", dataset="it", snapshot=held.id, body=body)
    made = plan(vault, LAST_ONE)
    assert not made.ok
    assert held.name in made.datasets[0].findings[0]


# Append-only vaults and planted times


def test_an_append_only_vault_says_so_under_the_root_s_signature(store: MemoryStore) -> None:
    assert optional_features(append_only(store)) == {APPEND_ONLY}
    assert optional_features(a_vault()) == frozenset()


def test_an_append_only_vault_refuses_counts_and_names_the_periods_to_write(store: MemoryStore, tmp_path: Path) -> None:
    vault = append_only(store)
    a_history(vault, tmp_path / "it", [9, 8, 1])
    made = plan(vault, RetentionRule(daily=7, within=DAY), is_replica=True)
    error = made.datasets[0].error
    assert isinstance(error, Refused)
    assert "(daily 7)" in error.message
    assert "within_daily: 7d" in error.hint
    assert made.datasets[0].expiring == ()
    assert len(plan(vault, RetentionRule(within=DAY), is_replica=True).datasets[0].expiring) == 3


def test_counts_are_starved_by_planted_snapshots_and_periods_are_not(store: MemoryStore, tmp_path: Path) -> None:
    """Sequence 1 of the note, and what still stands above the rules in a vault that is not append-only."""
    plain, guarded = a_vault(), append_only(store)
    for vault, rule in ((plain, RetentionRule(daily=3)), (guarded, RetentionRule(within_daily=30 * DAY))):
        good = a_history(vault, tmp_path / vault.id, [5, 4, 3])
        verified(vault, good[-1])
        planted = good[-1]
        for hours in range(8):
            planted = add(vault, planted, 2 - hours / 4)
        kept = reasons(plan(vault, rule, is_replica=True))
        assert good[-1].id in kept, "the last proven one"
        assert (good[-2].id in kept) == (vault is guarded)


def age(store: MemoryStore, name: str, days: float) -> None:
    """Make an object look as old as a snapshot of so many days ago."""
    store.age(name, days * 86_400)


def test_a_planted_date_is_kept_reported_and_not_counted(store: MemoryStore, tmp_path: Path) -> None:
    vault = append_only(store)
    days = [40, 30, 20, 2]
    records = a_history(vault, tmp_path / "it", days)
    age(store, records[0].name, 1040)
    for record, ago in zip(records[1:], days, strict=True):
        age(store, record.name, ago)
    # Today somebody adds a snapshot that claims to be of 25 days ago, and one of next year.
    back_dated = add(vault, records[-1], 25)
    from_the_future = add(vault, back_dated, -365)
    add(vault, from_the_future, 0.01)
    made = plan(vault, RetentionRule(within_weekly=50 * DAY))
    kept = reasons(made)
    for planted in (back_dated, from_the_future):
        [reason] = kept[planted.id]
        assert reason.startswith("its time cannot be right")
    assert len(made.datasets[0].findings) == 2
    assert not made.ok
    assert {record.id for record in records[1:]} <= set(kept)
    assert [item.record.id for item in made.datasets[0].expiring] == [records[0].id]


def test_a_host_that_is_a_year_ahead_lets_nothing_go(vault: Vault, tmp_path: Path) -> None:
    """Sequence 5; the vault is an ordinary one."""
    records = a_history(vault, tmp_path / "it", [3, 2, 1])
    ahead = add(vault, records[-1], -365)
    add(vault, ahead, 0.5)
    made = plan(vault, RetentionRule(within=10 * DAY))
    assert [item.record.id for item in made.datasets[0].expiring] == [records[0].id]
    assert "its time cannot be right" in reasons(made)[ahead.id][0]


def test_a_snapshot_that_took_a_night_is_not_suspicious(store: MemoryStore, tmp_path: Path) -> None:
    vault = append_only(store)
    records = a_history(vault, tmp_path / "it", [0.9])
    age(store, records[0].name, 1000.9)
    assert plan(vault, RetentionRule(within=DAY)).datasets[0].findings == ()
    assert timedelta(days=1) == TIME_MARGIN


def test_a_replica_that_was_filled_at_once_is_not_suspicious(store: MemoryStore, tmp_path: Path) -> None:
    vault = append_only(store)
    a_history(vault, tmp_path / "it", [40, 30, 2])
    assert len(plan(vault, RetentionRule(within=DAY)).datasets[0].findings) == 4
    made = plan(vault, RetentionRule(within=35 * DAY), is_replica=True)
    assert made.ok
    assert len(made.datasets[0].expiring) == 2


def test_two_records_with_one_number_are_kept_and_reported(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [9, 8, 1])
    twin = add(vault, records[0], 8.5, seq=records[1].seq)
    made = plan(vault, LAST_ONE)
    assert {records[1].id, twin.id} <= set(reasons(made))
    assert len(made.datasets[0].findings) == 2


# Replicas


def replicate(vault: Vault, target: MemoryStore) -> None:
    execute_replicate(plan_replicate(reopened(vault), target))


def test_what_the_primary_lets_go_stays_at_its_replica_and_the_other_way_round(vault: Vault, tmp_path: Path) -> None:
    """T8, sequence 8."""
    records = a_history(vault, tmp_path / "it", [50, 40, 30, 20, 1])
    ids = [record.id for record in records]
    target = MemoryStore("test-memory://replica")
    replicate(vault, target)
    replica = reopened(vault, target)
    witness = Witness(tmp_path / "witness")
    witness.remember(vault)
    witness.remember(replica)

    assert retain(vault, RetentionRule(within=35 * DAY), witness=witness) == ids[:3]
    replicate(vault, target)
    assert present(replica) == ids, "expiry at the primary is not carried over"
    assert retain(replica, RetentionRule(within=25 * DAY), is_replica=True, witness=witness) == ids[:4]
    later = add(vault, records[-1], 0.5)
    replicate(vault, target)
    assert present(replica) == [*ids[4:], later.id], "what the replica let go is not copied again"
    assert present(vault) == [*ids[3:], later.id]
    for one in (vault, replica):
        assert verify_vault(reopened(one), witness=witness).findings == ()
        restore(one, later, tmp_path / one.store.url[-5:])


def test_a_new_replica_of_a_vault_that_let_snapshots_go_is_without_a_finding(vault: Vault, tmp_path: Path) -> None:
    a_history(vault, tmp_path / "it", [50, 40, 1])
    retain(vault, LAST_ONE)
    target = MemoryStore("test-memory://replica")
    replicate(vault, target)
    replica = reopened(vault, target)
    assert present(replica) == present(vault)
    assert verify_vault(replica).findings == ()


def test_a_hold_is_copied_to_the_replica_and_ends_there_by_its_own_release(vault: Vault, tmp_path: Path) -> None:
    records = a_history(vault, tmp_path / "it", [50, 40, 1])
    hold = place_hold(vault, "it", records[1], "case 4711").hold
    target = MemoryStore("test-memory://replica")
    replicate(vault, target)
    replica = reopened(vault, target)
    assert active_holds(replica) == [hold]
    release_hold(vault, hold.id, "settled")
    replicate(vault, target)
    assert active_holds(replica) == [hold]
    release_hold(replica, hold.id, "settled here too")
    assert active_holds(replica) == []
