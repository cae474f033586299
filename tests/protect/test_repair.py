"""An index is derived: whatever of it is lost or damaged comes back from the packs, and nothing is destroyed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reopen.errors import Refused
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.verify.verify import Level, verify_vault
from reopen.recover.restore import plan_restore
from reopen.vault import NewKeys, Vault, make_keys, packwriter
from tests.kit import a_dataset, a_keyring, a_vault, reopened, restore, snapshot
from tests.stores import MemoryStore
from tests.trees import differences, grow, some_bytes

FILES: dict[str, bytes | str] = {"large": some_bytes(120_000, 1), "small": "x"}


@pytest.fixture
def keys() -> NewKeys:
    return make_keys()


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: NewKeys) -> Vault:
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 2)
    vault = a_vault(keys=keys)
    snapshot(vault, a_dataset("it", grow(tmp_path / "source", FILES)))
    return vault


def store_of(vault: Vault) -> MemoryStore:
    assert isinstance(vault.store, MemoryStore)
    return vault.store


def flip(store: MemoryStore, name: str) -> None:
    data = bytearray(store.get(name))
    data[len(data) // 2] ^= 1
    store.replace(name, bytes(data))


def first(store: MemoryStore, ending: str) -> str:
    return next(name for name in store.names("index/") if name.endswith(ending))


def lose_rows(store: MemoryStore) -> None:
    store.delete(first(store, ".parquet"))


def lose_statement(store: MemoryStore) -> None:
    store.delete(first(store, ".json"))


def damage_rows(store: MemoryStore) -> None:
    flip(store, first(store, ".parquet"))


def damage_statement(store: MemoryStore) -> None:
    flip(store, first(store, ".json"))


def lose_everything(store: MemoryStore) -> None:
    for name in store.names("index/"):
        store.delete(name)


@pytest.mark.parametrize("harm", [lose_rows, lose_statement, damage_rows, damage_statement, lose_everything])
def test_the_index_comes_back_from_the_packs(vault: Vault, tmp_path: Path, harm: Callable[[MemoryStore], None]) -> None:
    store = store_of(vault)
    packs = {name: store.get(name) for name in store.names("packs/")}
    harm(store)
    left = {name: store.get(name) for name in store.names("index/")}
    assert not verify_vault(vault, level=Level.STRUCTURE, record=False).ok
    restore(vault, vault.find("it"), tmp_path / "before")
    assert differences(tmp_path / "source", tmp_path / "before") == [], "a restore reads the packs' own directories"
    result = execute_repair(plan_repair(vault))
    assert result.rebuilt_packs > 0
    assert result.unreadable == ()
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()
    restore(vault, vault.find("it"), tmp_path / "target")
    assert differences(tmp_path / "source", tmp_path / "target") == []
    assert {name: store.get(name) for name in store.names("packs/")} == packs
    for name, data in left.items():
        assert data in (store.objects.get(name, (b"",))[0], store.objects.get(f"aside/{name}", (b"",))[0])
    again = execute_repair(plan_repair(vault))
    assert (again.rebuilt_packs, again.written_parts, again.moved_aside) == (0, (), ())
    # What was rebuilt is signed by this writer, so the next snapshot reuses its chunks.
    assert snapshot(vault, a_dataset("copy", tmp_path / "source")).record.totals.new_raw_bytes == 0


def test_a_damaged_pack_contributes_nothing_and_is_named(vault: Vault, tmp_path: Path) -> None:
    store = store_of(vault)
    pack = store.names("packs/")[0]
    flip(store, pack)
    lose_everything(store)
    result = execute_repair(plan_repair(vault))
    assert result.unreadable == (pack.rpartition("/")[2],)
    assert result.rebuilt_packs == len(store.names("packs/")) - 1
    assert not verify_vault(vault, level=Level.STRUCTURE, record=False).ok


def test_a_pack_of_another_vault_is_not_indexed(vault: Vault, tmp_path: Path) -> None:
    """Put here under its right name, by somebody who has no key of this vault."""
    other = a_vault()
    snapshot(other, a_dataset("it", tmp_path / "source"))
    (foreign, *_) = [info.name for info in other.store.list("packs/")]
    vault.store.put(foreign, [other.store.get(foreign)])
    result = execute_repair(plan_repair(vault))
    assert (result.rebuilt_packs, result.unreadable) == (0, (foreign.rpartition("/")[2],))
    assert result.written_parts == ()


def test_planning_changes_nothing(vault: Vault) -> None:
    lose_rows(store_of(vault))
    before = dict(store_of(vault).objects)
    plan = plan_repair(vault)
    assert (len(plan.damaged), len(plan.packs)) == (1, 2)
    assert store_of(vault).objects == before


def test_repair_needs_a_writer_s_key(vault: Vault, keys: NewKeys) -> None:
    lose_rows(store_of(vault))
    reader = Vault.open(vault.store, a_keyring(keys, "recovery"))
    before = dict(store_of(vault).objects)
    with pytest.raises(Refused, match="writer key"):
        execute_repair(plan_repair(reader))
    assert store_of(vault).objects == before


def test_a_whole_vault_needs_no_repair(vault: Vault) -> None:
    plan = plan_repair(reopened(vault))
    assert (plan.damaged, plan.packs) == ((), ())
    assert plan_restore(vault, vault.find("it"), "/nowhere").files == 2


def test_a_repair_makes_no_writer_trust_what_another_stored(tmp_path: Path) -> None:
    """I6: dedup poisoning by way of a lost index. Chunks of another are stored once more, those of its own are not."""
    keys = make_keys(writers=2)
    first, second = (
        replace(keys, signing=tuple(k for k in keys.signing if k.role != "writer" or k is one)) for one in keys.writers
    )
    source = grow(tmp_path / "source", FILES)
    theirs = a_vault(keys=keys)
    theirs = Vault.open(theirs.store, a_keyring(first, "writer"))
    snapshot(theirs, a_dataset("it", source))
    store = store_of(theirs)
    for name in store.names("index/"):
        store.delete(name)
    ours = Vault.open(store, a_keyring(second, "writer", "recovery"))
    assert execute_repair(plan_repair(ours)).rebuilt_packs > 0
    assert restore(ours, ours.find("it"), tmp_path / "restored").written_files == len(FILES)
    copied = snapshot(ours, a_dataset("mine", source)).record
    assert copied.totals.new_raw_bytes == copied.totals.size_bytes
    again = Vault.open(store, a_keyring(first, "writer"))
    assert snapshot(again, a_dataset("again", source)).record.totals.new_raw_bytes > 0, "its word is not first hand"
    for name in store.names("index/"):
        store.delete(name)
    execute_repair(plan_repair(ours))
    assert snapshot(ours, a_dataset("once-more", source)).record.totals.new_raw_bytes == 0
