"""Every region of every kind of object, flipped, cut, lost or swapped: found by the level that claims to, with what it
hurts; and a restore writes right bytes or says that it cannot."""

from __future__ import annotations

import itertools
import json

import pytest

from reopen.errors import ReopenError
from reopen.protect.verify.verify import Level
from reopen.storage import ObjectStore
from tests import proof
from tests.damage.world import World, make_world, pack_regions, plain_regions


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("damage"))


def objects(store: ObjectStore, prefix: str, suffix: str = "") -> list[str]:
    return [info.name for info in store.list(prefix) if info.name.endswith(suffix)]


def blamed(world: World, store: ObjectStore, level: Level) -> tuple[set[str], dict[str, set[str]]]:
    """The objects with a finding, and the paths of each snapshot that a check says are hurt."""
    result = world.check(store, level)  # type: ignore[arg-type]
    paths: dict[str, set[str]] = {snapshot: set() for snapshot in world.trees}
    for finding in result.findings:
        if finding.path:
            paths[finding.snapshot].add(finding.path)
    for verdict in result.snapshots:
        assert verdict.intact or verdict.snapshot in {item.snapshot for item in result.findings}
    return {finding.object for finding in result.findings}, paths


def test_the_undamaged_vault_is_whole(world: World) -> None:
    for level in Level:
        assert blamed(world, world.store, level)[0] == set()
    assert not any(world.lost(world.store).values())


def test_a_damaged_pack_is_found_by_reading_it_and_blamed_for_exactly_what_a_restore_cannot_bring_back(
    world: World,
) -> None:
    """Reading the stored bytes finds every damage; opening the content tells, file by file, what it costs."""
    packs = objects(world.store, "packs/")
    tried = 0
    for number, name in enumerate(packs):
        regions = pack_regions(world.vault, name)
        # The first pack has every region hurt, the others one of each sort.
        some = ("flip in first frame", "cut in half", "gone")
        chosen = regions if number == 0 else {key: regions[key] for key in some}
        for region, spoil in chosen.items():
            store = world.damaged(name, spoil)
            lost = world.lost(store)
            structure, _ = blamed(world, store, Level.STRUCTURE)
            assert (name in structure) == ("flip" not in region and "zeroed" not in region), region
            stored, paths = blamed(world, store, Level.STORED)
            assert name in stored, region
            assert all(lost[snapshot] <= paths[snapshot] for snapshot in lost), region
            content, paths = blamed(world, store, Level.CONTENT)
            assert name in content, region
            assert paths == lost, region
            tried += 1
    proof.count("damages", tried)


@pytest.mark.parametrize("kind", ["manifests/", "profiles/", "index/"])
def test_a_damaged_table_is_found_by_a_check_of_the_structure(world: World, kind: str) -> None:
    tried = 0
    for number, name in enumerate(objects(world.store, kind, ".parquet")):
        for label, spoil in plain_regions(world.store.get(name)).items():
            if number and label not in ("flip at 5 tenths in", "gone"):
                continue
            store = world.damaged(name, spoil)
            found, paths = blamed(world, store, Level.STRUCTURE)
            assert name in found, label
            lost = world.lost(store)
            if kind == "index/":
                # What only this part locates is blamed by path; packs say what they hold, so it is restored.
                assert any(paths.values()), label
                assert not any(lost.values()), label
            if kind == "profiles/":
                assert not any(lost.values()), "a profile is about data, and no data needs it"
            tried += 1
    proof.count("damages", tried)


@pytest.mark.parametrize("kind", ["snapshots/", "ledger/", "index/"])
def test_a_damaged_document_is_found_by_a_check_of_the_structure(world: World, kind: str) -> None:
    """A document says for itself that it is damaged; that one is gone is known from those that have seen it."""
    tried = 0
    for name in objects(world.store, kind, ".json"):
        for label, spoil in plain_regions(world.store.get(name)).items():
            store = world.damaged(name, spoil)
            found, _ = blamed(world, store, Level.STRUCTURE)
            if spoil is None and kind == "ledger/":
                assert found == set(), "a fact is a statement of its own; only a replica or the reader's notes miss it"
            elif spoil is None and kind == "snapshots/":
                newest = name in {record.name for record in world.vault.records("other")[-1:]}
                assert newest or found, name
            else:
                assert name in found, label
            if label in ("gone", "flip at 5 tenths in"):
                world.lost(store)
            tried += 1
    proof.count("damages", tried)


def test_a_damaged_lease_hurts_nothing(world: World) -> None:
    tried = 0
    for name in objects(world.store, "leases/"):
        for spoil in plain_regions(world.store.get(name)).values():
            store = world.damaged(name, spoil)
            assert blamed(world, store, Level.CONTENT)[0] == set()
            tried += 1
    proof.count("damages", tried)


def test_damage_to_what_everything_rests_on_opens_no_vault(world: World) -> None:
    """``vault.json`` and the key documents are believed whole or not at all."""
    tried = 0
    for name in ["vault.json", *objects(world.store, "keys/")]:
        for label, spoil in plain_regions(world.store.get(name)).items():
            store = world.damaged(name, spoil)
            if spoil is None and name != "vault.json":
                found, _ = blamed(world, store, Level.STRUCTURE)
                # A certificate that signed something is missed by what it signed, one that is held here by its holder.
                assert any(name in item or "snapshots/" in item for item in found), f"{name} {label}"
            elif same_but_for_the_signer(world.store.get(name), store.objects.get(name, (b"",))[0]):
                # These are checked with the pinned key, whatever key they say signed them.
                assert blamed(world, store, Level.STRUCTURE)[0] == set()
            else:
                with pytest.raises(ReopenError):
                    world.check(store, Level.STRUCTURE)
            tried += 1
    proof.count("damages", tried)


def same_but_for_the_signer(data: bytes, damaged: bytes) -> bool:
    try:
        before, after = json.loads(data), json.loads(damaged)
        before["signature"]["signer"] = after["signature"]["signer"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(before == after)


@pytest.mark.parametrize("prefix", ["packs/", "manifests/", "profiles/", "index/", "snapshots/", "ledger/", "keys/"])
def test_two_objects_that_changed_places_are_both_found(world: World, prefix: str) -> None:
    tried = 0
    for suffix in (".parquet", ".json") if prefix == "index/" else ("",):
        names = objects(world.store, prefix, suffix)
        for one, other in itertools.pairwise(names):
            store = world.swapped(one, other)
            if prefix == "keys/":
                with pytest.raises(ReopenError):
                    world.check(store, Level.STORED)
                continue
            found, _ = blamed(world, store, Level.STORED)
            assert {one, other} <= found
            world.lost(store)
            tried += 1
    proof.count("damages", tried)
