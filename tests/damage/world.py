"""A small vault with an object of every kind, ways to damage each region of each, and what restores bring back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reopen.errors import Corrupt, ReopenError
from reopen.protect import lease as leases
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, VerifyResult, verify_vault
from reopen.vault import NewKeys, SnapshotRecord, Vault, make_keys
from reopen.vault.pack import FOOTER_BYTES, HEADER_BYTES, SIGNATURE_BLOCK_BYTES, decode_footer
from reopen.vault.packreader import read_pack
from reopen.vault.record import lease_name
from tests.kit import EVERY_ROLE, a_dataset, a_table, a_vault, reopened, restore, snapshot
from tests.stores import MemoryStore
from tests.trees import age, grow, some_bytes

Spoil = Callable[[bytes], bytes]


@dataclass
class World:
    """A vault, the tree of each of its snapshots by id, and a replica that has all of it."""

    vault: Vault
    store: MemoryStore
    replica: MemoryStore
    keys: NewKeys
    trees: dict[str, dict[str, bytes]] = field(default_factory=dict)
    work: Path = field(default_factory=Path)
    _targets: Iterator[int] = field(default_factory=itertools.count)

    def damaged(self, name: str, spoil: Spoil | None) -> MemoryStore:
        """A copy of the vault in which one object is spoiled, or gone."""
        store = self.store.clone()
        if spoil is None:
            store.delete(name)
        else:
            data = spoil(store.get(name))
            assert data != store.get(name), "the damage changes nothing"
            store.replace(name, data)
        return store

    def swapped(self, one: str, other: str) -> MemoryStore:
        """A copy of the vault in which two objects lie under each other's names."""
        store = self.store.clone()
        first, second = store.get(one), store.get(other)
        store.replace(one, second)
        store.replace(other, first)
        return store

    def check(self, store: MemoryStore, level: Level) -> VerifyResult:
        """What verification says of a damaged copy."""
        return verify_vault(reopened(self.vault, store), level=level, record=False, workers=1)

    def lost(self, store: MemoryStore) -> dict[str, set[str]]:
        """What a damaged copy cannot bring back: for each snapshot the paths that a restore left out, having said so.

        Fails when a file comes back with other bytes than it had, or is left out without a word.
        """
        vault = reopened(self.vault, store)
        present = {record.id: record for record in vault.records()}
        return {snapshot: self._lost_of(vault, present.get(snapshot), snapshot) for snapshot in self.trees}

    def _lost_of(self, vault: Vault, record: SnapshotRecord | None, snapshot: str) -> set[str]:
        tree = self.trees[snapshot]
        if record is None:
            return set(tree)
        target = self.work / f"target-{next(self._targets)}"
        told: ReopenError | None = None
        try:
            restore(vault, record, target)
        except ReopenError as error:
            told = error
        found = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
        wrong = [name for name, data in found.items() if tree.get(name) != data]
        assert not wrong, f"restored wrongly: {wrong}"
        missing = set(tree) - set(found)
        assert bool(missing) == (told is not None), f"{sorted(missing)} left out, and the restore said: {told}"
        if isinstance(told, Corrupt) and "files" in told.context:
            assert told.context["files"] == len(missing)
        return missing


def make_world(work: Path) -> World:
    """Datasets ``it`` (two snapshots, a table, then a void and a lease) and ``other`` (one); two ledger facts."""
    keys, store = make_keys(), MemoryStore()
    vault = a_vault(store, keys=keys, roles=(*EVERY_ROLE, "root"))
    world = World(vault, store, MemoryStore("test-memory://replica"), keys, work=work)
    source = grow(work / "it", {"large": some_bytes(20_000, 1), "small": "x" * 500, "t.csv": "a,b\n1,2\n"})
    it = a_dataset("it", source, table=a_table(), pattern="*.parquet")
    _remember(world, snapshot(vault, it).record, source)
    grow(source, {"new": some_bytes(5000, 2)}, old=False)
    age(source)
    _remember(world, snapshot(vault, it).record, source)
    _leave_a_void_and_a_lease(vault, store)
    # After the void, so that a record names it as seen.
    other = grow(work / "other", {"alone": some_bytes(5000, 3)})
    _remember(world, snapshot(vault, a_dataset("other", other)).record, other)
    first = vault.records("it")[0]
    vault.record_fact("held", dataset="it", snapshot=first.id, body={"reason": "law"})
    vault.record_fact("held", dataset="other", snapshot=vault.records("other")[0].id, body={"reason": "law"})
    # Last, so that its facts and what a later writer has seen are at the replica as well.
    verify_vault(vault, level=Level.CONTENT)
    execute_replicate(plan_replicate(vault, world.replica), workers=1)
    return world


def _remember(world: World, record: SnapshotRecord, source: Path) -> None:
    world.trees[record.id] = {
        str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*") if path.is_file()
    }


def _leave_a_void_and_a_lease(vault: Vault, store: MemoryStore) -> None:
    """A writer of ``it`` died and was voided; another is at work."""
    for seq, snapshot_id in ((3, "dead00000000dead"), (4, "beef00000000beef")):
        leases.write_lease(vault, leases.LeaseName(dataset="it", seq=seq, snapshot=snapshot_id), exclusive=True)
        if seq == 3:
            store.age(lease_name("it", seq), leases.LEASE_SECONDS + 1)
            assert leases.void_dead_leases(vault, "it") == [snapshot_id]


def flip(at: int, bit: int = 0) -> Spoil:
    """Changes one bit; a negative position counts from the end."""

    def spoil(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[at] ^= 1 << bit
        return bytes(changed)

    return spoil


def cut(keep: Callable[[int], int]) -> Spoil:
    """Keeps the first bytes only; ``keep`` says how many of how many."""
    return lambda data: data[: keep(len(data))]


def plain_regions(data: bytes) -> dict[str, Spoil | None]:
    """Damage to an object without parts of its own: flips from end to end, cuts, one byte too many, and its loss."""
    marks = {"first byte": 0, "last byte": len(data) - 1}
    marks |= {f"{tenth} tenths in": len(data) * tenth // 10 for tenth in (1, 3, 5, 7, 9)}
    return {f"flip at {label}": flip(at, at % 8) for label, at in marks.items()} | _losses()


def pack_regions(vault: Vault, name: str) -> dict[str, Spoil | None]:
    """Damage to each region of a pack, as the page of the format names them."""
    data = vault.store.get(name)
    pack = read_pack(vault, name.rpartition("/")[2])
    directory_at, directory_bytes = decode_footer(data[-FOOTER_BYTES:], len(data), name)
    frames = pack.directory.frames
    signature_at = directory_at + directory_bytes
    marks = {
        "magic": 0,
        "version": 8,
        "flags": 10,
        "slot count": 12,
        "recipient count": 14,
        "vault id": 20,
        "salt": HEADER_BYTES,
        "recipient's id": HEADER_BYTES + 16,
        "encapsulated ML-KEM": HEADER_BYTES + 24 + 500,
        "encapsulated X25519": HEADER_BYTES + 24 + 1088 + 10,
        "sealed key": HEADER_BYTES + 24 + 1120 + 10,
        "first frame": int(frames["offset"][0]),
        "middle frame": int(frames["offset"][len(frames) // 2]) + 7,
        "tag of the last frame": directory_at - 3,
        "directory's nonce": directory_at + 2,
        "directory": directory_at + 30,
        "directory's tag": signature_at - 2,
        "signer": signature_at + 1,
        "signature": signature_at + SIGNATURE_BLOCK_BYTES - 9,
        "footer's offset": len(data) - FOOTER_BYTES,
        "footer's length": len(data) - FOOTER_BYTES + 8,
        "footer's version": len(data) - FOOTER_BYTES + 12,
        "footer's zeros": len(data) - 10,
        "final magic": len(data) - 1,
    }
    return {f"flip in {label}": flip(at, at % 8) for label, at in marks.items()} | _losses()


def _losses() -> dict[str, Spoil | None]:
    return {
        "cut by a byte": cut(lambda size: size - 1),
        "cut in half": cut(lambda size: size // 2),
        "emptied": cut(lambda size: 0),
        "a byte too many": lambda data: data + b"\0",
        "zeroed from half on": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
        "gone": None,
    }
