"""Several writers on one dataset, and what becomes of those that died: leases, voids and the order of snapshots."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reopen.clock import FixedClock
from reopen.errors import Conflict, Refused
from reopen.protect.lease import LEASE_SECONDS, void_dead_leases
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import SnapshotRun, execute_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import open_store
from reopen.vault import Vault, load_keyring, make_keys
from reopen.vault.record import lease_name
from tests.kit import SITE, a_dataset, a_vault, reopened, restore, save_keys, snapshot
from tests.stores import MemoryStore
from tests.trees import differences, grow, some_bytes

FILES = {f"file{number}": some_bytes(2000, number) for number in range(40)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return grow(tmp_path / "source", FILES)


def test_two_threads_that_start_together_both_commit(source: Path, tmp_path: Path) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    together = threading.Barrier(2)

    def take() -> int:
        own = reopened(vault)
        plan = plan_snapshot(own, dataset, SITE)
        together.wait()
        return execute_snapshot(own, plan, workers=1).record.seq

    with ThreadPoolExecutor(2) as pool:
        seqs = sorted(future.result() for future in [pool.submit(take), pool.submit(take)])
    assert seqs == [1, 2]
    assert [record.seq for record in vault.records("it")] == [1, 2]
    assert verify_vault(vault, level=Level.CONTENT).findings == ()
    for record in vault.records("it"):
        restore(vault, record, tmp_path / record.id)
        assert differences(source, tmp_path / record.id) == []


def test_a_plan_that_waited_while_another_committed_takes_the_next_number(source: Path) -> None:
    """Both were planned before either committed; the lease of the first is gone by the time the second asks for it."""
    vault, dataset = a_vault(), a_dataset("it", source)
    plans = [plan_snapshot(vault, dataset, SITE) for _ in range(3)]
    seqs = [execute_snapshot(vault, plan, workers=1).record.seq for plan in plans]
    assert seqs == [1, 2, 3]
    assert verify_vault(vault).findings == ()
    assert list(vault.store.list("leases/")) == []


def take_in_a_process(vault_url: str, keys: str, source: str, count: int) -> None:
    vault = Vault.open(open_store(vault_url), load_keyring(Path(keys)))
    for _ in range(count):
        snapshot(vault, a_dataset("it", source), workers=1)


@pytest.mark.slow
def test_two_processes_both_commit_all_their_snapshots(source: Path, tmp_path: Path) -> None:
    keys = make_keys()
    save_keys(keys, tmp_path / "keys")
    vault = a_vault(open_store(str(tmp_path / "vault")), keys=keys)
    spawn = multiprocessing.get_context("spawn")
    arguments = (str(tmp_path / "vault"), str(tmp_path / "keys"), str(source), 4)
    processes = [spawn.Process(target=take_in_a_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [record.seq for record in vault.records("it")] == list(range(1, 9))
    assert verify_vault(vault, level=Level.CONTENT).findings == ()


def a_dead_writer(vault: Vault, source: Path) -> SnapshotRun:
    """A snapshot that is under way, and whose lease was last renewed too long ago."""
    run = SnapshotRun(vault, plan_snapshot(vault, a_dataset("it", source), SITE), workers=1)
    assert isinstance(vault.store, MemoryStore)
    vault.store.age(lease_name("it", 1), LEASE_SECONDS + 1)
    return run


def test_a_dead_writer_is_voided_and_its_number_is_not_used_again(source: Path) -> None:
    vault = a_vault()
    dead = a_dead_writer(vault, source)
    result = snapshot(vault, a_dataset("it", source))
    assert result.voided == (dead.id,)
    assert result.record.seq == 2
    assert [record.seq for record in vault.records("it")] == [2]
    assert vault.invalid_records() == []
    assert list(vault.store.list("leases/")) == []
    dead.abandon()


def test_a_writer_that_comes_back_after_it_was_voided_loses(source: Path) -> None:
    """Of commit and void one wins; here the void was there first. What the writer stored is found by the next."""
    vault = a_vault()
    dead = a_dead_writer(vault, source)
    assert void_dead_leases(vault, "it") == [dead.id]
    for shard in dead.plan.shards:
        dead.write_shard(shard)
    with pytest.raises(Conflict, match="voided before it could commit"):
        dead.commit()
    dead.abandon()
    assert vault.records("it") == []
    assert snapshot(vault, a_dataset("it", source)).record.totals.new_raw_bytes == 0


def test_a_writer_that_committed_before_it_was_voided_keeps_its_snapshot(source: Path) -> None:
    vault = a_vault()
    dead = a_dead_writer(vault, source)
    with dead as run:
        for shard in run.plan.shards:
            run.write_shard(shard)
        record = run.commit().record
    assert void_dead_leases(vault, "it") == []
    assert [found.id for found in vault.records("it")] == [record.id]


def test_a_live_writer_is_not_voided(source: Path) -> None:
    vault = a_vault()
    run = SnapshotRun(vault, plan_snapshot(vault, a_dataset("it", source), SITE), workers=1)
    assert isinstance(vault.store, MemoryStore)
    vault.store.age(lease_name("it", 1), LEASE_SECONDS - 60)
    assert void_dead_leases(vault, "it") == []
    other = snapshot(vault, a_dataset("it", source)).record
    for shard in run.plan.shards:
        run.write_shard(shard)
    assert (other.seq, run.commit().record.seq) == (2, 1)
    assert [record.seq for record in vault.records("it")] == [1, 2]


def test_a_writer_that_was_suspended_for_too_long_refuses_to_commit(source: Path) -> None:
    clock = FixedClock(datetime.now(UTC))
    vault = a_vault(clock=clock)
    with SnapshotRun(vault, plan_snapshot(vault, a_dataset("it", source), SITE), workers=1) as run:
        for shard in run.plan.shards:
            run.write_shard(shard)
        clock.advance(timedelta(seconds=LEASE_SECONDS + 1))
        with pytest.raises(Refused, match="was not renewed"):
            run.commit()
        run.abandon()
    assert vault.records("it") == []


def test_a_damaged_lease_voids_nobody_and_stops_nobody(source: Path) -> None:
    vault = a_vault()
    dead = a_dead_writer(vault, source)
    assert isinstance(vault.store, MemoryStore)
    vault.store.replace(lease_name("it", 1), vault.store.get(lease_name("it", 1)).replace(b"lease", b"LEASE"))
    result = snapshot(vault, a_dataset("it", source))
    assert (result.voided, result.record.seq) == ((), 2)
    dead.abandon()


def test_the_store_s_own_time_decides_on_disk_too(source: Path, tmp_path: Path) -> None:
    """The machine's clock is not asked: the age of a lease is what its file says against the file system's now."""
    import os

    vault = a_vault(open_store(str(tmp_path / "vault")), clock=FixedClock())
    run = SnapshotRun(vault, plan_snapshot(vault, a_dataset("it", source), SITE), workers=1)
    assert void_dead_leases(vault, "it") == []
    path = tmp_path / "vault" / lease_name("it", 1)
    long_ago = path.stat().st_mtime - LEASE_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    assert void_dead_leases(vault, "it") == [run.id]
    assert not path.exists()
    run.abandon()


def test_an_abandoned_snapshot_leaves_no_lease_and_no_record(source: Path) -> None:
    vault = a_vault()
    run = SnapshotRun(vault, plan_snapshot(vault, a_dataset("it", source), SITE), workers=2)

    def interrupted() -> None:
        with run:
            for shard in run.plan.shards:
                run.write_shard(shard)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert vault.records() == []
    assert list(vault.store.list("leases/")) == []
    run.abandon()  # A second time does no harm.
