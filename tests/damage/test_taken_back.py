"""Whatever is damaged, cut or gone comes back from a replica byte for byte, and nothing of the damage is destroyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.verify.verify import Level
from tests import proof
from tests.damage.world import Spoil, World, cut, flip, make_world
from tests.kit import reopened, restore

KINDS = ("packs/", "index/", "manifests/", "profiles/", "snapshots/", "ledger/")
SPOILERS: dict[str, Spoil | None] = {
    "a flipped bit": flip(200, 3),
    "half of it": cut(lambda size: size // 2),
    "nothing": None,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("taken-back"))


@pytest.mark.parametrize("left", SPOILERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_object_comes_back_byte_for_byte(world: World, kind: str, left: str, tmp_path: Path) -> None:
    tried = 0
    for name in world.store.names(kind):
        store = world.damaged(name, SPOILERS[left])
        spoiled = store.objects[name][0] if name in store.objects else None
        vault, replica = reopened(world.vault, store), reopened(world.vault, world.replica)
        result = execute_repair(plan_repair(vault, replica, Level.STORED))
        if spoiled is None and kind == "ledger/":
            # Whether a fact that is gone was ever here only the replica knows; its facts about this vault come back.
            assert result.lost == ()
        assert result.ok, name
        assert store.objects[name][0] == world.store.objects[name][0], name
        if spoiled is not None:
            assert spoiled in {store.get(aside) for aside in store.names("aside/")}, "the damage was destroyed"
        assert world.check(store, Level.STRUCTURE).findings == ()
        tried += 1
    # Everything restores after the last of them.
    for record in vault.records():
        restore(vault, record, tmp_path / record.id)
        found = {
            str(path.relative_to(tmp_path / record.id)): path.read_bytes()
            for path in (tmp_path / record.id).rglob("*")
            if path.is_file()
        }
        assert found == world.trees[record.id]
    proof.count("repairs", tried)


@pytest.mark.parametrize("kind", ["packs/", "index/", "manifests/", "snapshots/"])
def test_a_replica_with_the_same_damage_gives_nothing_and_the_loss_is_named(world: World, kind: str) -> None:
    """What nobody has is said, with what it costs, and the rest of the vault is as good as before."""
    tried = 0
    for name in world.store.names(kind):
        store, replica = world.damaged(name, flip(200, 3)), world.replica.clone()
        replica.replace(name, flip(200, 3)(replica.get(name)))
        vault = reopened(world.vault, store)
        result = execute_repair(plan_repair(vault, reopened(world.vault, replica), Level.STORED))
        lost = world.lost(store)
        if kind == "index/":
            assert not any(lost.values()), "rows are rebuilt from the packs"
        elif any(lost.values()):
            assert not result.ok
            assert name in {item.name for item in result.lost} or result.losses
        tried += 1
    assert tried > 0
    proof.count("repairs", tried)
