"""A change of keys that dies anywhere leaves a vault that every key in a file opens; running it again finishes it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.errors import Conflict, NotFound
from reopen.protect.keys.change import (
    execute_add_key,
    execute_rotate,
    plan_add_key,
    plan_rotate,
    remove_recipient,
    rotate_metadata_key,
)
from reopen.protect.keys.ending import execute_end_key, plan_end_key
from reopen.protect.keys.phrase import store_passphrase
from reopen.protect.keys.reseal import execute_reseal, plan_reseal
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import ObjectStore
from reopen.vault import Keyring, Vault
from reopen.vault.keyfiles import load_key
from tests.crash.crashes import crash_everywhere
from tests.kit import restore
from tests.protect.keyed import KEYS, Keyed
from tests.stores import MemoryStore
from tests.trees import differences

OLD = next(key.id for key in KEYS.signing if key.role == "writer")
Change = Callable[[Keyed, ObjectStore], None]


def add_recovery(keyed: Keyed, store: ObjectStore) -> None:
    plan = plan_add_key(keyed.open("root", store=store), "recovery", keyed.keys("new"))
    execute_add_key(plan)


def add_writer(keyed: Keyed, store: ObjectStore) -> None:
    execute_add_key(plan_add_key(keyed.open("root", store=store), "writer", keyed.keys("new")))


def rotate(keyed: Keyed, store: ObjectStore) -> None:
    try:
        plan = plan_rotate(keyed.open("root", store=store), "writer", keyed.keys("new"), key_id=OLD)
    except Conflict:
        return  # Done: the key has ended.
    assert execute_rotate(plan).end.ended


def end_stolen(keyed: Keyed, store: ObjectStore) -> None:
    try:
        plan = plan_end_key(keyed.open("root", store=store), OLD, reason="stolen")
    except Conflict:
        return  # Done: the key has ended.
    assert execute_end_key(plan).ended


def rotate_metadata(keyed: Keyed, store: ObjectStore) -> None:
    rotate_metadata_key(keyed.open("root", store=store))


def remove_first(keyed: Keyed, store: ObjectStore) -> None:
    try:
        remove_recipient(keyed.open("root", store=store), KEYS.recovery.id)
    except NotFound:
        return  # Done: nothing is sealed to it any more.


def reseal(keyed: Keyed, store: ObjectStore) -> None:
    execute_reseal(plan_reseal(keyed.open("root", "recovery", store=store)))


def passphrase(keyed: Keyed, store: ObjectStore) -> None:
    store_passphrase(keyed.open("root", "recovery", store=store))


CHANGES: dict[str, tuple[Change, int]] = {
    # And how many crash points it has at least: one for each mutation of the store, and one after the last.
    "add a recovery key": (add_recovery, 3),
    "add a writer": (add_writer, 2),
    "rotate the writer": (rotate, 5),
    "end a stolen writer": (end_stolen, 3),
    "rotate the metadata key": (rotate_metadata, 2),
    "remove a recovery key": (remove_first, 2),
    "seal old slots again": (reseal, 2),
    "store a passphrase": (passphrase, 2),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_keys_that_dies_anywhere_leaves_every_key_of_use(
    tmp_path: Path, record_property: Callable[[str, object], None], name: str
) -> None:
    change, points_min = CHANGES[name]
    keyed = Keyed(folder=tmp_path)
    record = keyed.snapshot(keyed.dataset())
    if change in (remove_first, reseal):
        keyed.add("recovery", "second")
    targets = (tmp_path / f"restored-{number}" for number in itertools.count())

    def operate(store: ObjectStore) -> None:
        change(keyed, store)

    def check(store: MemoryStore, finished: bool) -> None:
        every_key_opens(keyed, store)
        vault = keyed.open("recovery", store=store)
        assert [item.id for item in vault.records()] == [record.id]
        assert vault.invalid_records() == []
        assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()
        target = next(targets)
        restore(vault, vault.records()[0], target)
        assert differences(tmp_path / "data" / "it", target) == []
        if finished:
            converged(keyed, store, change)
            # Key files of this attempt belong to this store alone; the next attempt begins without.
            shutil.rmtree(keyed.keys("new"), ignore_errors=True)

    record_property("crash points", tried := crash_everywhere(keyed.store, operate, check))
    assert tried >= points_min


def every_key_opens(keyed: Keyed, store: MemoryStore) -> None:
    """Each key file by itself, but one that the vault has never heard of: its run died before the first document."""
    known = {name.removeprefix("keys/").removesuffix(".json") for name in store.names("keys/")}
    for path in sorted((keyed.folder / "keys").rglob("*.key")):
        key, pins = load_key(path)
        if key.id in known:
            ring = (
                Keyring(pins, recovery=[key]) if path.name.startswith("recovery") else Keyring(pins, signing=[key])  # type: ignore[list-item]
            )
            assert Vault.open(store, ring).roots == KEYS.roots
    # And all together, as on a machine that does everything.
    folders = [path.name for path in (keyed.folder / "keys").iterdir()]
    assert keyed.open(*folders, store=store).roots == KEYS.roots


def converged(keyed: Keyed, store: MemoryStore, change: Change) -> None:
    """A second run found and finished the first: one new key, not two."""
    vault = keyed.open("root", store=store)
    writers = [item for item in vault.certificates.values() if item.role == "writer"]
    fresh = list(keyed.keys("new").iterdir()) if keyed.keys("new").exists() else []
    if change in (add_recovery, add_writer, rotate):
        # Where the first run died after its last step it was done, and a second run is a second key.
        done_before = change is not rotate and len(fresh) == 2
        assert len(fresh) == 1 or done_before
    if change is rotate:
        assert len(writers) == 2
        assert set(vault.trust.ended) == {OLD}
        assert vault.trust.ending == frozenset()
        assert vault.trust.ended[OLD].successor == next(item.id for item in writers if item.id != OLD)
        assert keyed.open("new", store=store).keyring.has_role("writer")
    if change is end_stolen:
        assert set(vault.trust.ended) == {OLD}
    if change is add_recovery:
        assert len(vault.recipients) == 1 + len(fresh)
    if change is remove_first:
        assert KEYS.recovery.id not in {recipient.id for recipient in vault.recipients}
    if change is reseal:
        assert plan_reseal(vault).grants == 0
    assert store.names("leases/") == []
