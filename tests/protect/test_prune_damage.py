"""A damaged vault is not pruned: nobody can tell what is needed. Damage that hides nothing is met and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.errors import Corrupt, NotFound, Refused, ReopenError
from reopen.protect.lease import LeaseName, void_dead_leases, write_lease
from reopen.protect.prune.prune import plan_prune
from reopen.protect.witness import Witness
from reopen.vault import Vault
from reopen.vault.packreader import read_pack
from reopen.vault.record import lease_name
from reopen.vault.statements import IndexStatement, list_packs, read_statements
from tests.aged import AgedStore, prune, prune_to_the_end
from tests.crash.crashes import Trees
from tests.crash.test_prune import used_vault
from tests.kit import a_dataset, snapshot
from tests.trees import grow

Damage = Callable[[AgedStore, str], None]


def flip(store: AgedStore, name: str) -> None:
    data = bytearray(store.get(name))
    data[len(data) // 2] ^= 1
    store.replace(name, bytes(data))


def cut(store: AgedStore, name: str) -> None:
    store.replace(name, store.get(name)[:-1])


def lose(store: AgedStore, name: str) -> None:
    store.delete(name)


@pytest.fixture
def used(tmp_path: Path) -> tuple[AgedStore, Vault, Trees]:
    """A vault with tombstones that are due, and more to mark and repack."""
    store, vault, trees = used_vault(tmp_path)
    prune(vault, repack_max_bytes=0)
    write_lease(vault, LeaseName(dataset="it", seq=90, snapshot="ab" * 8), exclusive=True)
    store.age(lease_name("it", 90), 2000)
    void_dead_leases(vault, "it")
    store.later()
    return store, vault, trees


def needed_pack(vault: Vault) -> str:
    """A pack that holds needed and other frames."""
    chosen = next(choice for choice in plan_prune(vault).packs if choice.needed_bytes and choice.unused_bytes)
    return f"packs/{chosen.id.hex()[:2]}/{chosen.id.hex()}"


def needed_part(vault: Vault) -> IndexStatement:
    """The index part that lists it."""
    pack = needed_pack(vault).rpartition("/")[2]
    return next(item for item in read_statements(vault) if pack in item.packs)


@pytest.mark.parametrize("damage", [flip, cut, lose])
@pytest.mark.parametrize(
    "kind", ["record", "void", "manifest", "profile", "statement", "rows", "tombstone", "needed pack"]
)
def test_damage_that_hides_what_is_needed_stops_prune_before_it_changes_anything(
    used: tuple[AgedStore, Vault, Trees], kind: str, damage: Damage
) -> None:
    store, vault, _ = used
    record = vault.records("it")[0]
    name = {
        "record": lambda: record.name,
        "void": lambda: next(name for name in store.names("snapshots/") if "abababab" in name),
        "manifest": lambda: record.manifest.parts[0].name,
        "profile": lambda: record.profile.parts[0].name if record.profile else "",
        "statement": lambda: needed_part(vault).part.name,
        "rows": lambda: needed_part(vault).parquet.name,
        "tombstone": lambda: store.names("tombstones/")[0],
        "needed pack": lambda: needed_pack(vault),
    }[kind]()
    damage(store, name)
    before = dict(store.objects)
    harmless = {
        # Their loss says nothing that is still believed, or is not seen without reading every byte.
        ("void", lose),
        ("profile", flip),
        ("tombstone", lose),
        ("needed pack", flip),
    }
    if (kind, damage) in harmless:
        plan_prune(vault)
        return
    with pytest.raises(ReopenError) as caught:
        prune(vault)
    assert isinstance(caught.value, Refused | Corrupt | NotFound)
    assert caught.value.hint
    assert store.objects == before


def test_a_record_that_a_later_one_followed_is_missed(tmp_path: Path) -> None:
    store, vault, _ = used_vault(tmp_path)
    first, *_ = vault.records("it")
    store.delete(first.name)
    with pytest.raises(Refused, match="seen in it before"):
        plan_prune(vault)


def test_a_newest_record_that_another_dataset_s_snapshot_saw_is_missed(tmp_path: Path) -> None:
    store, vault, _ = used_vault(tmp_path)
    store.delete(vault.records("it")[-1].name)
    with pytest.raises(Refused, match="seen in it before"):
        plan_prune(vault)


def test_a_newest_record_that_this_reader_saw_is_missed(tmp_path: Path) -> None:
    store, vault, _ = used_vault(tmp_path)
    witness = Witness(tmp_path / "witness")
    snapshot(vault, a_dataset("alone", grow(tmp_path / "alone", {"a": b"x" * 5000})))
    witness.remember(vault)
    store.delete(vault.records("alone")[-1].name)
    plan_prune(vault)
    with pytest.raises(Refused, match="alone"):
        plan_prune(vault, witness=witness)


def test_a_pack_to_be_repacked_that_is_damaged_stays_and_is_named(used: tuple[AgedStore, Vault, Trees]) -> None:
    store, vault, _ = used
    name = needed_pack(vault)
    flip(store, name)
    damaged = store.get(name)
    result = prune(vault, max_unused_share=0)
    assert [pack for pack, _ in result.unreadable] == [name.rpartition("/")[2]]
    for _ in range(3):
        store.later()
        prune(vault, max_unused_share=0)
    assert store.get(name) == damaged, "repair may need what is whole of it"


def moved(used: tuple[AgedStore, Vault, Trees]) -> tuple[bytes, bytes]:
    """Repack; returns a source that is marked and due now, and a pack its frames were moved to."""
    store, vault, _ = used
    before = set(list_packs(vault))
    result = prune(vault, max_unused_share=0)
    assert result.repacked_packs > 0
    store.later()
    new = sorted(set(list_packs(vault)) - before)
    salts = {slot.salt for slot in read_pack(vault, new[0].hex()).slots}
    marked = {pack for item in plan_prune(vault).found.tombstones for pack in item.packs} & set(list_packs(vault))
    source = next(pack for pack in sorted(marked) if salts & {slot.salt for slot in read_pack(vault, pack.hex()).slots})
    return source, new[0]


@pytest.mark.parametrize("damage", [flip, cut, lose])
def test_a_source_goes_only_when_its_moved_frames_can_be_read_back(
    used: tuple[AgedStore, Vault, Trees], damage: Damage
) -> None:
    """What retention moved is damaged before the sweep: the old pack is still there, and its frames are moved again."""
    store, vault, trees = used
    source, target = moved(used)
    damage(store, f"packs/{target.hex()[:2]}/{target.hex()}")
    result = prune(vault, max_unused_share=0)
    assert source in list_packs(vault)
    assert result.held_packs > 0
    if damage is lose:
        prune_to_the_end(vault, store)
        assert source not in list_packs(vault)
        trees.check(vault)


def test_a_source_that_is_damaged_itself_is_kept_and_named(used: tuple[AgedStore, Vault, Trees]) -> None:
    store, vault, _ = used
    source, _ = moved(used)
    flip(store, f"packs/{source.hex()[:2]}/{source.hex()}")
    result = prune(vault)
    assert source in list_packs(vault)
    assert source.hex() in [pack for pack, _ in result.unreadable]
