"""Readers go on while prune removes what was marked: a restore is right, a check cries no alarm, a replica is whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.errors import ReopenError
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.recover.restore import execute_restore, plan_restore
from reopen.storage import ObjectStore
from reopen.vault import Vault
from tests.aged import AgedStore, prune
from tests.crash.crashes import Trees
from tests.crash.test_prune import used_vault
from tests.kit import reopened
from tests.stores import ActAt, MemoryStore, WatchedStore
from tests.trees import differences

pytestmark = pytest.mark.slow
READS = ("list", "get", "get_range", "head")
Property = Callable[[str, object], None]


@pytest.fixture
def due(tmp_path: Path) -> tuple[AgedStore, Vault, Trees]:
    """A vault with much to remove, all of it marked and due, and moved frames beside their old places."""
    store, vault, trees = used_vault(tmp_path)
    assert prune(vault, max_unused_share=0).repacked_packs > 0
    store.later()
    return store, vault, trees


def with_a_sweep_at_every_read(
    base: AgedStore, vault: Vault, read: Callable[[ObjectStore, AgedStore, int], None]
) -> int:
    """Let someone read clones of a store, and sweep at the 1st, 2nd, … read; returns how many sweeps there were."""
    for number in itertools.count():
        store = base.clone()

        def act(_operation: str, _name: str, store: AgedStore = store) -> None:
            assert prune(reopened(vault, store)).removed_packs > 0

        script = ActAt(number, "before", act, READS)
        read(WatchedStore(store, script), store, number)
        if not script.acted:
            return number
    raise AssertionError("unreachable")


@pytest.mark.parametrize("level", [Level.STORED, Level.CONTENT])
def test_a_check_cries_no_alarm(due: tuple[AgedStore, Vault, Trees], level: Level, record_property: Property) -> None:
    store, vault, _ = due

    def read(watched: ObjectStore, _: AgedStore, number: int) -> None:
        result = verify_vault(reopened(vault, watched), level=level, record=False, workers=1)
        assert result.findings == (), (number, result.findings)

    record_property("interleavings", with_a_sweep_at_every_read(store, vault, read))


def test_a_restore_is_right(due: tuple[AgedStore, Vault, Trees], tmp_path: Path, record_property: Property) -> None:
    store, vault, _ = due
    record = vault.records("it")[0]

    def read(watched: ObjectStore, _: AgedStore, number: int) -> None:
        target = tmp_path / f"restored-{number}-here"
        execute_restore(plan_restore(reopened(vault, watched), record, str(target)), workers=1)
        assert differences(tmp_path / "half", target) == []

    record_property("interleavings", with_a_sweep_at_every_read(store, vault, read))


def test_a_replica_is_whole_after_one_more_run_at_most(
    due: tuple[AgedStore, Vault, Trees], record_property: Property
) -> None:
    store, vault, trees = due

    def read(watched: ObjectStore, inner: AgedStore, number: int) -> None:
        target = MemoryStore(f"test-memory://replica-{number}")
        try:
            execute_replicate(plan_replicate(reopened(vault, watched), target), workers=1)
        except ReopenError:
            execute_replicate(plan_replicate(reopened(vault, inner), target), workers=1)
        replica = reopened(vault, target)
        assert len(replica.records()) == len(vault.records())
        assert verify_vault(replica, level=Level.CONTENT, record=False).findings == ()

    record_property("interleavings", with_a_sweep_at_every_read(store, vault, read))
    trees.check(vault)
