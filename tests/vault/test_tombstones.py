"""Tombstones: what they mark, who may write them, and that an unreadable one never reads as "nothing is marked"."""

from __future__ import annotations

import pytest

from reopen.errors import Corrupt, Refused
from reopen.storage.canonical import RECORD_BYTES_MAX
from reopen.vault import Vault
from reopen.vault.canonical import JsonObject, seal_envelope
from reopen.vault.record import pack_name, part_name
from reopen.vault.tombstones import (
    NAMES_PER_TOMBSTONE_MAX,
    marked_packs,
    read_marks,
    read_tombstones,
    reusable_packs,
    write_tombstone,
)
from tests.stores import MemoryStore, WatchedStore
from tests.vault.kit import ALL, WRITER, new_vault, reopen

PACKS = [bytes([number]) * 32 for number in range(3)]
TABLE = part_name("manifests", 1, "orders", "00" * 8, 0)


def test_what_a_tombstone_names_is_marked() -> None:
    vault = new_vault(MemoryStore())
    assert read_marks(vault).packs == frozenset()
    name = write_tombstone(vault, packs=PACKS[:2], tables=[TABLE])
    write_tombstone(vault, packs=PACKS[1:])
    assert marked_packs(vault) == frozenset(PACKS)
    assert read_marks(vault).tables == {TABLE}
    first = next(tombstone for tombstone in read_tombstones(vault) if tombstone.name == name)
    assert (first.packs, first.tables) == (tuple(PACKS[:2]), (TABLE,))
    assert first.marked_at == vault.store.head(name).modified_at, "the store's time counts, not the writer's"


def test_a_writer_may_reuse_what_is_present_and_not_marked() -> None:
    store = MemoryStore()
    vault = new_vault(store)
    for pack in PACKS[:2]:
        store.put(pack_name(pack.hex()), [b"pack"])
    write_tombstone(vault, packs=PACKS[1:])
    assert reusable_packs(vault) == {PACKS[0]}


def test_tombstones_are_listed_before_packs() -> None:
    """Between the two the sweep ends: the pack goes, then its tombstone. In the other order it would look usable."""
    store = MemoryStore()
    vault = new_vault(store)
    store.put(pack_name(PACKS[0].hex()), [b"pack"])
    name = write_tombstone(vault, packs=PACKS[:1])

    listings = 0

    def sweep(moment: str, operation: str, prefix: str) -> None:
        nonlocal listings
        listings += operation == "list"
        if operation == "list" and listings == 2:
            store.delete(pack_name(PACKS[0].hex()))
            store.delete(name)

    vault.store = WatchedStore(store, sweep)
    assert reusable_packs(vault) == frozenset()
    assert listings == 2


def test_a_tombstone_that_goes_while_it_is_read_marks_nothing() -> None:
    store = MemoryStore()
    vault = new_vault(store)
    name = write_tombstone(vault, packs=PACKS)

    def vanish(moment: str, operation: str, asked: str) -> None:
        if (operation, asked) == ("get", name):
            store.delete(name)

    assert marked_packs(Vault.open(WatchedStore(store, vanish), vault.keyring)) == frozenset()


def test_only_the_retention_key_marks() -> None:
    vault = new_vault(MemoryStore())
    with pytest.raises(Refused, match="needs a retention key"):
        write_tombstone(reopen(vault, WRITER), packs=PACKS)
    forged = {"kind": "tombstone", "vault": vault.id, "id": "ab" * 8, "at": "", "packs": [], "tables": []}
    vault.store.create(f"tombstones/{'ab' * 8}.json", [seal_envelope(forged, vault.keyring.signer("writer"))])
    with pytest.raises(Corrupt, match="may not say this") as caught:
        marked_packs(vault)
    assert "aside/" in caught.value.hint


def changed(**fields: object) -> JsonObject:
    body: JsonObject = {"kind": "tombstone", "vault": "", "id": "ab" * 8, "at": "", "packs": [], "tables": []}
    return body | fields


@pytest.mark.parametrize(
    "body",
    [
        changed(id="cd" * 8),
        changed(packs=["../vault.json"]),
        changed(packs=["AB" * 32]),
        changed(packs=None),
        changed(packs={"ab" * 32: 1}),
        changed(packs=[7]),
        changed(tables=["vault.json"]),
        changed(tables=["manifests/key=1/dataset=a/snapshot=../part-00000.parquet"]),
        changed(tables=["snapshots/dataset=a/0000000001-0000000000000000.json"]),
        changed(tables="manifests/"),
    ],
    ids=lambda body: str({name: body[name] for name in ("id", "packs", "tables")}),
)
def test_a_tombstone_that_names_anything_else_is_not_believed(body: JsonObject) -> None:
    vault = new_vault(MemoryStore())
    signed = seal_envelope(body | {"vault": vault.id}, vault.keyring.signer("retention"))
    vault.store.create(f"tombstones/{'ab' * 8}.json", [signed])
    with pytest.raises(Corrupt):
        marked_packs(vault)


@pytest.mark.parametrize("position", [0, 10, 100, -10])
def test_a_damaged_tombstone_stops_writers(position: int) -> None:
    store = MemoryStore()
    vault = new_vault(store)
    name = write_tombstone(vault, packs=PACKS)
    data = bytearray(store.get(name))
    data[position] ^= 1
    store.replace(name, bytes(data))
    for stored in (bytes(data), bytes(data[: len(data) // 2]), b""):
        store.replace(name, stored)
        with pytest.raises(Corrupt):
            reusable_packs(vault)


def test_a_full_tombstone_fits_a_stored_document() -> None:
    vault = new_vault(MemoryStore(), ALL)
    longest = "d" * 63
    tables = [part_name("manifests", 10**9, longest, "00" * 8, number) for number in range(NAMES_PER_TOMBSTONE_MAX)]
    name = write_tombstone(vault, tables=tables)
    assert len(vault.store.get(name)) < RECORD_BYTES_MAX
    assert len(read_marks(vault).tables) == NAMES_PER_TOMBSTONE_MAX
