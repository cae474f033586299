"""A vault in a local folder that loses power at any call: what the disk is left with shows no snapshot that is not
whole, and what a verb has reported done is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from reopen.ids import seeded_random
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import open_store
from reopen.vault import Vault, load_keyring, make_keys, packwriter
from tests import proof
from tests.crash.power import PowerModel, Tree, write_tree
from tests.kit import a_dataset, a_vault, restore, save_keys, snapshot
from tests.trees import age, differences, grow, some_bytes

KEYS = make_keys(seeded_random(20261122))
FILES = {"a": some_bytes(40_000, 1), "b/c": some_bytes(3_000, 2), "d": b""}


def first_snapshot(disk: Path, source: Path) -> None:
    save_keys(KEYS, disk / "keys")
    snapshot(a_vault(open_store(str(disk / "vault")), keys=KEYS), a_dataset("it", source), workers=1)


def second_snapshot(disk: Path, source: Path) -> None:
    (source / "a").write_bytes(some_bytes(30_000, 3))
    age(source)
    snapshot(opened(disk), a_dataset("it", source), workers=1)


def replicate(disk: Path, source: Path) -> None:
    execute_replicate(plan_replicate(opened(disk), open_store(str(disk / "replica"))), workers=1)


def verify(disk: Path, source: Path) -> None:
    verify_vault(opened(disk), level=Level.CONTENT, workers=1)


def repair(disk: Path, source: Path) -> None:
    for path in (disk / "vault" / "index").glob("*.parquet"):
        path.unlink()
    execute_repair(plan_repair(opened(disk)))


def opened(disk: Path, name: str = "vault") -> Vault:
    return Vault.open(open_store(str(disk / name)), load_keyring(disk / "keys"))


def objects(tree: Tree) -> Tree:
    """Without temporary files, which nothing refers to, and the folders that hold nothing else."""
    return {name: data for name, data in tree.items() if data is not None and "/." not in name}


VERBS: dict[str, tuple[Callable[[Path, Path], None], Callable[[Path, Path], None] | None]] = {
    "the making of a vault and its first snapshot": (first_snapshot, None),
    "a snapshot of what changed": (second_snapshot, first_snapshot),
    "a replication": (replicate, first_snapshot),
    "a check that signs facts": (verify, first_snapshot),
    "a repair": (repair, first_snapshot),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_loss_of_power_at_any_call_leaves_whole_snapshots_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Both disks at every moment: one that keeps nothing unsynced, one that keeps every name and no unsynced byte."""
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 2)
    operate, prepare = VERBS[verb]
    disk, source = tmp_path / "disk", grow(tmp_path / "source", FILES)
    trees = {1: grow(tmp_path / "before", FILES)}
    disk.mkdir()
    if prepare is not None:
        prepare(disk, source)
    model = PowerModel(disk)
    with model.watching():
        operate(disk, source)
    trees[2] = source
    assert objects(model.states["slow"][-1][1]) == objects(model.now()), "what is reported done is not durable"
    tried, seen = 0, set()
    for name, states in model.states.items():
        for number, (after, tree) in enumerate(states):
            tried += 1
            found = frozenset(objects(tree).items())
            if found in seen:
                continue  # The same objects as a moment before, or as on the other disk.
            seen.add(found)
            left = tmp_path / f"{name}-{number}"
            write_tree(tree, left)
            for place in ("vault", "replica"):
                if (left / place / "vault.json").exists():
                    look_at(left, place, trees, must_be_whole=verb != "a repair", where=f"{name} disk after {after}")
    proof.count("losses of power", tried)


def look_at(disk: Path, place: str, trees: dict[int, Path], *, must_be_whole: bool, where: str) -> None:
    vault = opened(disk, place)
    assert vault.invalid_records() == [], where
    if must_be_whole:
        assert verify_vault(vault, level=Level.CONTENT, record=False, workers=1).findings == (), where
        for record in vault.records():
            target = disk / f"restored-{record.id}"
            restore(vault, record, target)
            assert differences(trees[record.seq], target, metadata=False) == [], where


def write_without_syncing(path: Path, pieces: Sequence[bytes]) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        return os.writev(descriptor, pieces)
    finally:
        os.close(descriptor)


def test_the_model_finds_a_store_that_does_not_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the test: with the syncing of folders, or of files, left out, both disks show it."""
    from reopen.storage import local

    disk = tmp_path / "disk"
    disk.mkdir()
    store = local.LocalStore(disk / "vault")
    monkeypatch.setattr(local, "_fsync_folder", lambda folder: None)
    model = PowerModel(disk)
    with model.watching():
        store.put("a/b", [b"bytes"])
    assert objects(model.states["slow"][-1][1]) == {}
    assert objects(model.states["hasty"][-1][1]) == {"vault/a/b": b"bytes"}
    monkeypatch.setattr(local, "_write_durably", write_without_syncing)
    with model.watching():
        local.LocalStore(disk / "vault").put("c", [b"bytes"])
    assert objects(model.states["hasty"][-1][1])["vault/c"] == b""


def test_a_vault_whose_folder_another_process_made_is_durable_all_the_same(tmp_path: Path) -> None:
    """Who made the folder may have died before it was synced to the disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    model = PowerModel(disk)
    with model.watching():
        (disk / "vault").mkdir()
        open_store(str(disk / "vault")).put("a", [b"x"])
    assert objects(model.states["slow"][-1][1]) == {"vault/a": b"x"}
