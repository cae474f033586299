"""A run of retention at every moment of what else goes on in a vault: nothing fails for it, nothing looks lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.contracts import RetentionRule
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.vault import Vault
from tests.kit import a_dataset, a_vault, reopened, restore, snapshot
from tests.protect.histories import a_history, retain
from tests.stores import MemoryStore, Moment, WatchedStore
from tests.trees import differences, grow

LAST_ONE = RetentionRule(last=1)
TREE: dict[str, bytes | str] = {"a": "first", "b/c": "second"}


class RunAt:
    """Runs retention, once, at the so-manieth moment (before or after a call) of what else runs on the store."""

    def __init__(self, vault: Vault, number: int) -> None:
        self._vault = vault
        self._left = number
        self.over = False

    def __call__(self, moment: Moment, operation: str, name: str) -> None:
        self._left -= 1
        if self._left == -1:
            self.over = True
            retain(self._vault, LAST_ONE)


def at_every_moment(vault: Vault, store: MemoryStore, work: Callable[[Vault, int], None]) -> int:
    """Do some work on a copy of the store, with retention running at its first moment, at its second, and so on; the
    vault is whole every time. Returns how many moments there were."""
    for number in itertools.count():
        copy = store.clone()
        script = RunAt(reopened(vault, copy), number)
        work(reopened(vault, WatchedStore(copy, script)), number)
        assert verify_vault(reopened(vault, copy), level=Level.CONTENT, record=False).findings == ()
        if not script.over:
            return number
    raise AssertionError("unreachable")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def vault(store: MemoryStore) -> Vault:
    return a_vault(store)


def test_a_verification_sees_nothing_lost_while_snapshots_go(store: MemoryStore, vault: Vault, tmp_path: Path) -> None:
    a_history(vault, tmp_path / "it", [9, 8, 1])

    def work(busy: Vault, number: int) -> None:
        assert verify_vault(busy, level=Level.STRUCTURE, workers=1).findings == ()

    assert at_every_moment(vault, store, work) > 10


def test_a_replication_finishes_while_snapshots_go_and_so_does_the_next(
    store: MemoryStore, vault: Vault, tmp_path: Path
) -> None:
    records = a_history(vault, tmp_path / "it", [9, 8, 1])

    def work(busy: Vault, number: int) -> None:
        target = MemoryStore(f"test-memory://replica-{number}")
        execute_replicate(plan_replicate(busy, target), workers=1)
        execute_replicate(plan_replicate(busy, target), workers=1)
        replica = reopened(vault, target)
        assert records[-1].id in [record.id for record in replica.records("it")]
        assert verify_vault(replica, record=False).findings == ()

    assert at_every_moment(vault, store, work) > 10


def test_a_snapshot_follows_its_parent_while_others_go(store: MemoryStore, vault: Vault, tmp_path: Path) -> None:
    a_history(vault, tmp_path / "it", [9, 8, 1])
    dataset = a_dataset("it", grow(tmp_path / "it", {"a": "changed"}))

    def work(busy: Vault, number: int) -> None:
        taken = snapshot(busy, dataset, workers=1).record
        assert taken.state == "complete"
        assert taken.id in [record.id for record in busy.records("it")]

    assert at_every_moment(vault, store, work) > 10


def test_a_restore_of_a_snapshot_that_goes_meanwhile_is_whole(store: MemoryStore, vault: Vault, tmp_path: Path) -> None:
    """Only its record goes; what it named is there until prune's grace is over."""
    records = a_history(vault, tmp_path / "it", [9, 8, 1])

    def work(busy: Vault, number: int) -> None:
        restore(busy, records[1], tmp_path / f"out-{number}")
        assert differences(grow(tmp_path / "wanted", TREE), tmp_path / f"out-{number}") == []

    assert at_every_moment(vault, store, work) > 3
