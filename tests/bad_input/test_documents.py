"""Signed documents that say nonsense under a right signature: whoever holds a key of the role can write them, and they
must stop no reader of the rest."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.errors import ReopenError
from reopen.protect.lease import LEASE_SECONDS, void_dead_leases
from reopen.protect.plan import plan_snapshot
from reopen.protect.repair.repair import plan_repair
from reopen.protect.replicate.replicate import plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.vault import NewKeys, Vault
from reopen.vault.canonical import seal_envelope
from reopen.vault.keys import SigningKey
from tests import proof
from tests.bad_input.mutations import mutated
from tests.damage.world import World, make_world
from tests.kit import SITE, a_dataset, reopened, restore
from tests.stores import MemoryStore

HOW_MANY = pytest.mark.parametrize(
    "tries", [pytest.param(30, id="some"), pytest.param(300, id="many", marks=pytest.mark.soak)]
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("bad"))


def signer(keys: NewKeys, data: bytes) -> SigningKey:
    """The key that signed a document."""
    found = json.loads(data)["signature"]["signer"]
    return next(key for key in keys.signing if key.id == found)


def resealed(world: World, name: str, body: dict[str, object]) -> MemoryStore | None:
    """The vault with another body under a right signature; ``None`` for one that has no canonical form."""
    store = world.store.clone()
    try:
        data = seal_envelope(body, signer(world.keys, store.get(name)))
    except ReopenError:
        return None
    store.replace(name, data)
    return store


def use_everything(world: World, store: MemoryStore, target: Path) -> int:
    """Everything that reads a vault; returns how much of it refused, with an error of ours."""
    dataset = a_dataset("it", world.work / "it")
    refused = 0

    def run(call: Callable[[Vault], object]) -> None:
        nonlocal refused
        try:
            call(vault)
        except ReopenError:
            refused += 1

    try:
        vault = reopened(world.vault, store)
    except ReopenError:
        return 1
    run(lambda vault: verify_vault(vault, level=Level.CONTENT, record=False, workers=1))
    run(lambda vault: plan_snapshot(vault, dataset, SITE))
    run(lambda vault: vault.find("it", "last-verified"))
    run(lambda vault: vault.find("it", "at:2999-01-01T00:00:00Z"))
    run(lambda vault: plan_replicate(vault, MemoryStore("test-memory://empty")))
    run(plan_repair)
    for name in store.names("leases/"):
        store.age(name, LEASE_SECONDS + 1)
    run(lambda vault: void_dead_leases(vault, "it"))
    for number, record in enumerate(vault.records("it")):
        run(lambda vault, record=record, number=number: restore(vault, record, target / str(number)))  # type: ignore[misc]
    return refused


@HOW_MANY
@pytest.mark.parametrize("prefix", ["snapshots/", "ledger/", "leases/", "index/"])
def test_a_document_that_says_nonsense_stops_nobody_with_more_than_an_error(
    world: World, tmp_path: Path, prefix: str, tries: int
) -> None:
    chance = random.Random(prefix)
    names = [name for name in world.store.names(prefix) if name.endswith(".json")]
    tried = 0
    for number in range(tries):
        name = names[number % len(names)]
        body = json.loads(world.store.get(name))["body"]
        keep = ("kind", "vault", "dataset", "seq", "id", "fact", "snapshot") if chance.random() < 0.7 else ("kind",)
        store = resealed(world, name, mutated(body, chance, keep))
        if store is None:
            continue
        use_everything(world, store, tmp_path / str(number))
        tried += 1
    proof.count("bad inputs", tried)
