"""Replication and repair that die anywhere: the replica never shows a snapshot that it cannot restore."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.errors import NotFound
from reopen.protect.place import vault_at
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import ObjectStore
from reopen.vault import packwriter
from tests.aged import expire
from tests.crash.crashes import Trees, crash_everywhere, small_vault
from tests.kit import a_dataset, reopened, snapshot
from tests.stores import MemoryStore
from tests.trees import grow, some_bytes

FILES = {"a": some_bytes(60_000, 1), "b/c": some_bytes(3_000, 2)}
Property = Callable[[str, object], None]


def test_a_replication_that_dies_anywhere_never_shows_more_than_it_has(
    tmp_path: Path, record_property: Property, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into an empty target: whatever snapshots the replica shows are whole, and the second run completes it. One went
    before it was copied, and others say that they saw it: that is no roll-back, wherever the copying stops."""
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 2)
    source = grow(tmp_path / "source", FILES)
    _, vault = small_vault()
    trees = Trees(tmp_path)
    gone = snapshot(vault, a_dataset("two", source)).record
    for name in ("one", "two", "one"):
        trees.expect(snapshot(vault, a_dataset(name, source)).record, source)
    expire(vault, [gone])
    verify_vault(vault, level=Level.CONTENT)

    def operate(target: ObjectStore) -> None:
        execute_replicate(plan_replicate(vault, target), workers=1)

    def check(target: MemoryStore, finished: bool) -> None:
        try:
            replica = reopened(vault, target)
        except NotFound:
            assert not finished
            assert target.names("snapshots/") == []
            return
        trees.check(replica)
        if finished:
            assert target.names() == [info.name for info in vault.store.list()]
            assert plan_replicate(vault, target).objects == 0

    empty = MemoryStore("test-memory://replica")
    record_property("crash points", crash_everywhere(empty, operate, check))


def flip(store: MemoryStore, name: str) -> None:
    data = bytearray(store.get(name))
    data[len(data) // 2] ^= 1
    store.replace(name, bytes(data))


@pytest.mark.parametrize("damage", ["rows gone", "rows damaged", "statement damaged", "everything gone"])
def test_a_repair_that_dies_anywhere_is_finished_by_the_next(
    tmp_path: Path, record_property: Property, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Repair starts from a broken vault, so only the end must be whole; on the way nothing may be lost."""
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 2)
    source = grow(tmp_path / "source", FILES)
    base, vault = small_vault()
    trees = Trees(tmp_path)
    trees.expect(snapshot(vault, a_dataset("it", source)).record, source)
    parts = base.names("index/")
    rows, statement = next(n for n in parts if n.endswith(".parquet")), next(n for n in parts if n.endswith(".json"))
    if damage == "rows gone":
        base.delete(rows)
    elif damage == "rows damaged":
        flip(base, rows)
    elif damage == "statement damaged":
        flip(base, statement)
    else:
        for name in parts:
            base.delete(name)
    kept = {name for name in base.names() if not name.startswith("index/")}
    damaged = {name: base.get(name) for name in base.names("index/")}

    def operate(store: ObjectStore) -> None:
        execute_repair(plan_repair(reopened(vault, store)))

    def check(store: MemoryStore, finished: bool) -> None:
        assert kept <= set(store.names())
        for name, data in damaged.items():
            # Nothing is destroyed: what left the index lies aside.
            assert data in (store.objects.get(name, (b"",))[0], store.objects.get(f"aside/{name}", (b"",))[0])
        if finished:
            trees.check(reopened(vault, store))
            plan = plan_repair(reopened(vault, store))
            assert (plan.damaged, plan.packs) == ((), ())

    record_property("crash points", crash_everywhere(base, operate, check))


def test_a_repair_from_a_replica_that_dies_anywhere_keeps_what_was_damaged_and_is_finished_by_the_next(
    tmp_path: Path, record_property: Property, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object of each kind is damaged and one is gone. At each point the damaged bytes are where they were or
    aside, and whatever is in a place is what was there or the right object, never anything else."""
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 1)
    source = grow(tmp_path / "source", FILES)
    base, vault = small_vault()
    trees = Trees(tmp_path)
    for name in ("one", "two"):
        trees.expect(snapshot(vault, a_dataset(name, source)).record, source)
    vault.record_fact("held", dataset="one", snapshot=vault.find("one").id, body={})
    verify_vault(vault, level=Level.CONTENT)
    target = MemoryStore("test-memory://replica")
    execute_replicate(plan_replicate(vault, target))
    replica = reopened(vault, target)
    whole = {name: base.get(name) for name in base.names()}
    for kind in ("keys/", "packs/", "index/", "manifests/", "snapshots/", "ledger/"):
        names = base.names(kind)
        flip(base, names[0])
        base.delete(names[-1])
    flip(base, "vault.json")
    damaged = {name: base.get(name) for name in base.names() if base.get(name) != whole[name]}

    def operate(store: ObjectStore) -> None:
        execute_repair(plan_repair(vault_at(replica, store), replica))

    def check(store: MemoryStore, finished: bool) -> None:
        for name, data in damaged.items():
            assert data in (store.objects.get(name, (b"",))[0], store.objects.get(f"aside/{name}", (b"",))[0])
        for name in store.names():
            if not name.startswith("aside/"):
                assert store.get(name) in (whole[name], damaged.get(name)), name
        if finished:
            assert {name: store.get(name) for name in store.names() if not name.startswith("aside/")} == whole
            assert plan_repair(reopened(vault, store), replica).is_empty
            trees.check(reopened(vault, store))

    record_property("crash points", crash_everywhere(base, operate, check))
