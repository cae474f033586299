"""Prune and snapshots under way: who is waited for, who is voided, and what a dead writer can still do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from reopen.clock import FixedClock
from reopen.errors import Conflict, Refused
from reopen.protect.lease import LEASE_SECONDS, LeaseName, write_lease
from reopen.protect.plan import plan_snapshot
from reopen.protect.prune.prune import execute_prune, plan_prune
from reopen.protect.snapshot import SnapshotRun
from reopen.protect.verify.verify import Level, verify_vault
from reopen.vault import Vault
from reopen.vault.record import lease_name
from tests.aged import AgedStore, expire, prune
from tests.crash.crashes import Trees
from tests.crash.test_prune import used_vault
from tests.kit import SITE, a_dataset, a_keyring, reopened, snapshot
from tests.protect.test_prune import KEYS, new_vault
from tests.trees import grow


@pytest.fixture
def due(tmp_path: Path) -> tuple[AgedStore, Vault, Trees]:
    """A vault where a sweep is due."""
    store, vault, trees = used_vault(tmp_path)
    assert prune(vault).marked_packs > 3
    store.later()
    return store, vault, trees


def under_way(vault: Vault, tmp_path: Path, name: str = "new") -> SnapshotRun:
    """A snapshot that has begun and read everything, and has not committed."""
    plan = plan_snapshot(vault, a_dataset(name, tmp_path / "other"), SITE)
    run = SnapshotRun(vault, plan, workers=1)
    for shard in plan.shards:
        run.write_shard(shard)
    return run


def test_nothing_goes_while_a_snapshot_from_before_is_alive(
    due: tuple[AgedStore, Vault, Trees], tmp_path: Path
) -> None:
    store, vault, trees = due
    run = under_way(vault, tmp_path)
    before = store.names("packs/")
    result = prune(vault)
    assert (result.freed_bytes, result.waiting_for) == (0, (lease_name("new", 1),))
    assert set(before) <= set(store.names("packs/"))
    trees.expect(run.commit().record, tmp_path / "other")
    assert prune(vault).removed_packs > 0
    trees.check(vault)


def test_prune_waits_as_long_as_it_is_told(due: tuple[AgedStore, Vault, Trees], tmp_path: Path) -> None:
    store, vault, trees = due
    clock = FixedClock()
    waiting = Vault.open(store, vault.keyring, clock=clock)
    run = under_way(vault, tmp_path)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(timedelta(seconds=seconds))
        if len(pauses) == 3:
            trees.expect(run.commit().record, tmp_path / "other")

    result = execute_prune(plan_prune(waiting), wait_seconds=600, pause=pause)
    assert len(pauses) == 3, "and not longer: what was marked just now is not due within the time"
    assert result.removed_packs > 0
    assert result.waiting_for == ()
    trees.check(vault)


def test_prune_stops_waiting_and_says_for_whom(due: tuple[AgedStore, Vault, Trees], tmp_path: Path) -> None:
    store, vault, _ = due
    clock = FixedClock()
    waiting = Vault.open(store, vault.keyring, clock=clock)
    run = under_way(vault, tmp_path)
    result = execute_prune(
        plan_prune(waiting), wait_seconds=100, pause=lambda seconds: clock.advance(timedelta(seconds=seconds))
    )
    assert (result.removed_packs, result.waiting_for) == (0, (lease_name("new", 1),))
    run.abandon()


def test_a_dead_writer_is_voided_by_the_retention_key_and_cannot_commit_any_more(
    due: tuple[AgedStore, Vault, Trees], tmp_path: Path
) -> None:
    store, vault, trees = due
    run = under_way(vault, tmp_path)
    store.later(timedelta(seconds=LEASE_SECONDS + 1))
    keeper = Vault.open(store, a_keyring(KEYS, "retention"))
    result = prune(keeper)
    assert result.removed_packs > 0
    assert result.waiting_for == ()
    with pytest.raises(Conflict, match="voided"):
        run.commit()
    run.abandon()
    trees.check(vault)
    trees.expect(snapshot(vault, a_dataset("new", tmp_path / "other")).record, tmp_path / "other")
    trees.check(vault)


def test_a_lease_that_comes_back_after_its_void_holds_nobody_up(
    due: tuple[AgedStore, Vault, Trees], tmp_path: Path
) -> None:
    """Its writer slept, was voided, wakes and renews: it is over all the same."""
    store, vault, _ = due
    run = under_way(vault, tmp_path)
    store.later(timedelta(seconds=LEASE_SECONDS + 1))
    assert prune(vault).removed_packs > 0
    write_lease(vault, LeaseName(dataset="new", seq=1, snapshot=run.id), exclusive=False)
    assert store.names("leases/") == [lease_name("new", 1)]
    snapshot(vault, a_dataset("later", tmp_path / "half"))
    store.later()
    write_lease(vault, LeaseName(dataset="new", seq=1, snapshot=run.id), exclusive=False)
    assert prune(vault).waiting_for == ()
    with pytest.raises(Conflict):
        run.commit()
    run.abandon()


def test_a_lease_whose_snapshot_is_committed_holds_nobody_up(
    due: tuple[AgedStore, Vault, Trees], tmp_path: Path
) -> None:
    _, vault, trees = due
    record = snapshot(vault, a_dataset("new", tmp_path / "other")).record
    trees.expect(record, tmp_path / "other")
    write_lease(vault, LeaseName(dataset="new", seq=record.seq, snapshot=record.id), exclusive=True)
    assert prune(vault).removed_packs > 0
    trees.check(vault)


def test_a_lease_that_cannot_be_believed_is_waited_for_and_then_named(due: tuple[AgedStore, Vault, Trees]) -> None:
    store, vault, _ = due
    store.put(lease_name("it", 99), [b"not a lease"])
    assert prune(vault).waiting_for == (lease_name("it", 99),)
    store.later(timedelta(seconds=LEASE_SECONDS + 1))
    before = dict(store.objects)
    with pytest.raises(Refused, match="neither be waited for nor voided"):
        prune(vault)
    assert store.objects == before
    store.delete(lease_name("it", 99))
    assert prune(vault).removed_packs > 0


def test_a_snapshot_that_waited_between_plan_and_lease_is_planned_again(tmp_path: Path) -> None:
    """It carries over files whose packs prune has marked, or even removed, since it was planned."""
    for days in (1, 2, 3):
        store, vault = new_vault()
        folder = grow(tmp_path / f"files{days}", {f"{number}": bytes([number]) * 9_000 for number in range(5)})
        record = snapshot(vault, a_dataset("it", folder)).record
        second = snapshot(vault, a_dataset("it", folder)).record
        plan = plan_snapshot(vault, a_dataset("it", folder), SITE)
        assert plan.read_files == 0
        expire(vault, [record, second])
        for _ in range(days):
            store.later()
            prune(vault)
        with SnapshotRun(vault, plan, workers=1) as run:
            assert run.plan.read_files == 5
            for shard in run.plan.shards:
                run.write_shard(shard)
            run.commit()
        assert store.names("leases/") == []
        assert verify_vault(reopened(vault), level=Level.CONTENT, record=False).findings == ()


def test_the_tables_of_a_record_that_is_gone_are_not_referred_to(tmp_path: Path) -> None:
    """An empty dataset has no chunks, so only its manifest can be missing."""
    for days in (0, 1, 2):
        store, vault = new_vault()
        folder = grow(tmp_path / f"empty{days}", {"nothing": b""})
        records = [snapshot(vault, a_dataset("it", folder)).record for _ in range(2)]
        plan = plan_snapshot(vault, a_dataset("it", folder), SITE)
        expire(vault, records)
        for _ in range(days):
            store.later()
            prune(vault)
        with SnapshotRun(vault, plan) as run:
            result = run.commit()
        assert not result.reused_manifest
        for _ in range(3):
            store.later()
            prune(vault)
        assert verify_vault(reopened(vault), level=Level.CONTENT, record=False).findings == ()
