"""Shards that other processes of this host write; W1 and W2 are the invariants of :mod:`reopen.protect.apart`."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from reopen.errors import Transient, VaultUnwritable
from reopen.protect import apart, capture, plan, snapshot
from reopen.protect.apart import processes_for
from reopen.protect.plan import SnapshotPlan, plan_snapshot
from reopen.protect.snapshot import SnapshotResult, execute_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import open_store
from reopen.storage.local import LocalStore
from reopen.vault import Vault
from tests.kit import SITE, a_dataset, a_vault, restore
from tests.trees import differences, grow, some_bytes

FILES = {f"{number % 7}/{number:03d}": some_bytes(400 + 10 * number, number) for number in range(60)} | {
    "large": some_bytes(20_000, 99),
    "empty": b"",
}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_FILES", 8)
    # Test runners have threads of their own, which hold none of our locks.
    monkeypatch.setattr(apart, "can_fork", lambda: True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return grow(tmp_path / "source", FILES)


def vault_in(folder: Path) -> Vault:
    return a_vault(open_store(str(folder)))


def take(vault: Vault, planned: SnapshotPlan, processes: int = 2) -> SnapshotResult:
    return execute_snapshot(vault, planned, workers=1, processes=processes)


def test_processes_give_what_threads_give(tmp_path: Path, source: Path) -> None:
    vault = vault_in(tmp_path / "vault")
    elsewhere = take(vault, plan_snapshot(vault, a_dataset("it", source), SITE)).record
    here = take(vault, plan_snapshot(vault, a_dataset("other", source), SITE), processes=1).record
    assert vault.manifest(elsewhere).equals(vault.manifest(here))
    assert here.totals.new_raw_bytes == 0, "everything is found by its id"
    assert elsewhere.totals.read_bytes == here.totals.read_bytes == sum(map(len, FILES.values()))
    assert elsewhere.totals.packs == 8, "each shard has packs of its own"
    assert len(elsewhere.indexes) == 1
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()
    restore(vault, elsewhere, tmp_path / "restored")
    assert differences(source, tmp_path / "restored") == []


def test_slots_of_processes_are_their_own(tmp_path: Path, source: Path) -> None:
    """A content key never leaves the process that made it, so no two packs share a slot."""
    from reopen.vault.indexparts import list_packs
    from reopen.vault.packreader import read_pack

    vault = vault_in(tmp_path / "vault")
    take(vault, plan_snapshot(vault, a_dataset("it", source), SITE))
    salts = [slot.salt for pack in list_packs(vault) for slot in read_pack(vault, pack.hex()).slots]
    assert len(salts) == len(set(salts)) == 8


def test_what_is_read_is_told_while_it_is_read(tmp_path: Path, source: Path) -> None:
    heard: list[object] = []

    class Heard:
        def start(self, label: str, total: int | None, unit: str) -> None:
            heard.append((label, total))

        def advance(self, amount: int) -> None:
            heard.append(amount)

        def finish(self) -> None:
            heard.append("end")

    vault = vault_in(tmp_path / "vault")
    planned = plan_snapshot(vault, a_dataset("it", source), SITE)
    execute_snapshot(vault, planned, processes=2, progress=Heard())
    total = sum(map(len, FILES.values()))
    assert (heard[0], heard[-1]) == (("it", total), "end")
    told = [amount for amount in heard[1:-1] if isinstance(amount, int)]
    assert sum(told) == total
    assert len(told) > 8


def test_a_process_that_dies_ends_the_snapshot_and_nothing_is_committed(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W2."""
    vault = vault_in(tmp_path / "vault")
    parent = os.getpid()
    write = capture.Capture.write_shard

    def die(self: capture.Capture, shard: plan.Shard) -> Any:
        if os.getpid() != parent and shard.number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, shard)

    monkeypatch.setattr(capture.Capture, "write_shard", die)
    dataset = a_dataset("it", source)
    with pytest.raises(Transient, match="process of the snapshot ended"):
        take(vault, plan_snapshot(vault, dataset, SITE))
    assert vault.records() == []
    assert list(vault.store.list("leases/")) == []
    monkeypatch.undo()
    monkeypatch.setattr(apart, "can_fork", lambda: True)
    again = take(vault, plan_snapshot(vault, dataset, SITE), processes=1).record
    restore(vault, again, tmp_path / "restored")
    assert differences(source, tmp_path / "restored") == []


def test_an_error_of_the_vault_in_a_process_is_told_as_itself(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = vault_in(tmp_path / "vault")
    create = LocalStore.create

    def full(self: LocalStore, name: str, pieces: Any) -> int:
        if name.startswith("packs/"):
            raise VaultUnwritable("it is full", hint="free space", object=name)
        return create(self, name, pieces)

    monkeypatch.setattr(LocalStore, "create", full)
    with pytest.raises(VaultUnwritable) as caught:
        take(vault, plan_snapshot(vault, a_dataset("it", source), SITE))
    assert caught.value.hint == "free space"
    assert vault.records() == []


def test_an_index_part_is_written_for_so_many_packs_that_came(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W1: by the parent, as the results come."""
    monkeypatch.setattr(snapshot, "PACKS_PER_INDEX_PART", 3)
    vault = vault_in(tmp_path / "vault")
    record = take(vault, plan_snapshot(vault, a_dataset("it", source), SITE)).record
    assert len(record.indexes) == 3, "eight packs: three, three, two"
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()


def test_a_worker_elsewhere_numbers_its_index_parts_apart(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "PACKS_PER_INDEX_PART", 1)
    monkeypatch.setattr("reopen.vault.packwriter.PACKS_PER_INDEX_PART", 1)
    vault = vault_in(tmp_path / "vault")
    planned = plan_snapshot(vault, a_dataset("it", source), SITE)
    with snapshot.SnapshotRun(vault, planned) as run:
        for shard in run.plan.shards:
            run.accept(apart.write_shard_apart(vault, run.plan, shard, run.id))
        record = run.commit().record
    assert len({part.name for part in record.indexes}) == len(record.indexes) >= 8
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()


def test_processes_are_used_where_that_pays_and_is_safe(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = vault_in(tmp_path / "vault")
    planned = plan_snapshot(vault, a_dataset("it", source), SITE)
    assert processes_for(vault, planned, 0) == 1, "few files"
    monkeypatch.setattr(apart, "FILES_WORTH_PROCESSES", 10)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert processes_for(vault, planned, 0) == 4
    assert processes_for(vault, planned, 3) == 3
    assert processes_for(vault, planned, 100) == len(planned.shards)
    assert processes_for(a_vault(), planned, 0) == 1, "a store that is no local folder may have threads"
    monkeypatch.undo()
    gate = threading.Event()
    beside = threading.Thread(target=gate.wait)
    beside.start()
    try:
        assert processes_for(vault, planned, 2) == 1, "another thread may hold a lock that a fork would keep for ever"
    finally:
        gate.set()
        beside.join()
