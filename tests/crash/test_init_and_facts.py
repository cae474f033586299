"""The making of a vault, checks that sign facts, holds and their end: they die at any mutation, and nothing is lost or
half said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.clock import SYSTEM_CLOCK
from reopen.errors import Conflict, NotFound
from reopen.ids import seeded_random
from reopen.protect.retain.holds import active_holds, place_hold, release_hold
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import ObjectStore
from reopen.vault import Vault, create_vault, load_keyring, make_keys
from tests import proof
from tests.crash.calls import failing_at
from tests.crash.crashes import Trees, crash_everywhere, small_vault
from tests.kit import EVERY_ROLE, SMALL, a_dataset, a_keyring, reopened, restore, save_keys, snapshot
from tests.stores import MemoryStore, SimulatedCrash
from tests.trees import differences, grow, some_bytes

KEYS = make_keys(seeded_random(20261122))
FILES = {"a": some_bytes(20_000, 1), "b/c": b"x"}


def test_a_vault_whose_making_died_anywhere_is_none_or_whole(tmp_path: Path) -> None:
    """There is no vault, and making it again makes it; or there is one, and its keys open it."""
    source = grow(tmp_path / "source", FILES)

    def operate(store: ObjectStore) -> None:
        try:
            create_vault(store, KEYS, created_at=SYSTEM_CLOCK.now(), parameters=SMALL)
        except Conflict:
            # The second run finds it made.
            assert "vault.json" in {info.name for info in store.list()}

    def check(store: MemoryStore, finished: bool) -> None:
        if "vault.json" not in store.names():
            assert not finished
            with pytest.raises(NotFound):
                Vault.open(store, a_keyring(KEYS, *EVERY_ROLE))
            return
        for role in ("recovery", "root", "writer", "verifier", "retention"):
            Vault.open(store, a_keyring(KEYS, role))
        if finished:
            vault = Vault.open(store.clone(), a_keyring(KEYS, *EVERY_ROLE))
            record = snapshot(vault, a_dataset("it", source)).record
            assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()
            assert record.state == "complete"

    tried = crash_everywhere(MemoryStore(), operate, check)
    assert tried > 8
    proof.count("crash points", tried)


def test_key_files_whose_writing_died_anywhere_are_whole_or_not_there(tmp_path: Path) -> None:
    number = 0
    while True:
        folder = tmp_path / f"keys-{number}"
        with failing_at(number, SimulatedCrash()) as death:
            try:
                save_keys(KEYS, folder)
            except SimulatedCrash:
                assert death.happened
        if not death.happened:
            break
        for path in folder.glob("*.key"):
            assert KEYS.pins == load_keyring(path.parent).pins
            assert path.stat().st_size > 1000
        number += 1
    assert set(load_keyring(folder).roles) >= set(EVERY_ROLE)
    proof.count("crash points", number)


def check_with_facts(vault: Vault) -> None:
    verify_vault(vault, level=Level.CONTENT, workers=1)


def hold_and_release(vault: Vault) -> None:
    place_hold(vault, "it", vault.records()[0], "law")
    for hold in active_holds(vault):
        release_hold(vault, hold.id, "settled")


@pytest.mark.parametrize("act", [check_with_facts, hold_and_release])
def test_facts_that_died_anywhere_are_whole_or_not_there(tmp_path: Path, act: Callable[[Vault], None]) -> None:
    source = grow(tmp_path / "source", FILES)
    base, vault = small_vault()
    trees = Trees(tmp_path)
    for name in ("it", "other", "it"):
        trees.expect(snapshot(vault, a_dataset(name, source)).record, source)

    def operate(store: ObjectStore) -> None:
        act(reopened(vault, store))

    def check(store: MemoryStore, finished: bool) -> None:
        now = reopened(vault, store)
        assert now.invalid_facts() == []
        trees.check(now)
        if finished and act is hold_and_release:
            assert active_holds(now) == []
        if finished and act is check_with_facts:
            assert {fact.snapshot for fact in now.facts("verified")} == {record.id for record in now.records()}

    tried = crash_everywhere(base, operate, check)
    assert tried > 2
    proof.count("crash points", tried)


def test_a_vault_on_disk_whose_making_died_at_any_call_is_made_by_the_next(tmp_path: Path) -> None:
    """As above with the calls of the operating system, of which a store's mutation makes several."""
    from reopen.storage import open_store

    source = grow(tmp_path / "source", FILES)
    number = 0
    while True:
        place = str(tmp_path / f"vault-{number}")
        with failing_at(number, SimulatedCrash()) as death:
            try:
                create_vault(open_store(place), KEYS, created_at=SYSTEM_CLOCK.now(), parameters=SMALL)
            except SimulatedCrash:
                assert death.happened
        store = open_store(place)
        if not any(info.name == "vault.json" for info in store.list()):
            create_vault(store, KEYS, created_at=SYSTEM_CLOCK.now(), parameters=SMALL)
        vault = Vault.open(store, a_keyring(KEYS, *EVERY_ROLE))
        if number % 8 == 0 or not death.happened:
            record = snapshot(vault, a_dataset("it", source), workers=1).record
            restore(vault, record, tmp_path / f"target-{number}")
            assert differences(source, tmp_path / f"target-{number}") == []
        if not death.happened:
            break
        number += 1
    assert number > 20
    proof.count("crash points", number)
