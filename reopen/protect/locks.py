"""Owns which objects a snapshot's lock has to cover, where the store has object lock (:mod:`reopen.storage.locked`).

What a snapshot writes is locked as it is written. What it reuses may be old and its lock nearly over: a pack that was
locked for 30 days a month ago, and that tonight's snapshot needs for 30 more. So before the commit everything that the
record needs is locked for at least the period.

Invariants
    I1  When a record exists, every object that restoring it needs is locked for at least the store's period from then
        on: its packs, its tables, the keys.
    I2  What was written less than :data:`reopen.storage.locked.SPARE_SHARE` of the period ago has that much to spare
        and is not asked for; the rest costs one request an object and snapshot, two when it is extended.

Index parts are locked when they are written and not extended: ``repair`` rebuilds them from the packs, and a part that
is locked for ever could never make way for one without the packs that prune removes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from reopen.storage import ObjectStore, locking
from reopen.storage.locked import SPARE_SHARE
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.create import VAULT_OBJECT
from reopen.vault.record import TableRef, pack_name

if TYPE_CHECKING:
    import pyarrow as pa

    from reopen.vault.index import ChunkIndex

SHARED_PREFIXES = (VAULT_OBJECT, "keys/", "trust/")
"""What every snapshot needs to be opened."""


def packs_of(manifest: pa.Table, index: ChunkIndex) -> set[bytes]:
    """The packs (32-byte ids) in which an index finds the chunks of a manifest; what it does not know is left out."""
    # Imported here, because only a store with object lock asks for it.
    import numpy as np

    from reopen.vault.index import NOT_FOUND
    from reopen.vault.tables import chunk_layout

    ids, _, _ = chunk_layout(manifest)
    positions = index.find(ids)
    located = index.locate(positions[positions != NOT_FOUND])
    return {bytes(index.packs[int(number)]) for number in np.unique(located.pack)}


def keep_locked(vault: Vault, *, manifest: pa.Table, index: ChunkIndex, tables: Iterable[TableRef | None]) -> int:
    """Lock what a snapshot relies on, before its record is created (I1); returns how many locks were extended.

    Does nothing where the store has no object lock.

    :param index: what the snapshot's reused chunks were found in; what it stored itself was locked when it was written.
    :param tables: the snapshot's manifest and profile, which an earlier one may own.
    :raises NotFound: an object that the snapshot relies on is gone.
    """
    store = locking(vault.store)
    if store is None:
        return 0
    names = [part.name for table in tables if table is not None for part in table.parts]
    names += [pack_name(pack.hex()) for pack in packs_of(manifest, index)]
    return _extend(vault, names)


def keep_newest_locked(vault: Vault, datasets: Collection[str] = ()) -> int:
    """Lock what the newest snapshot of each dataset needs: for a replica, whose old objects nobody else asks about.

    :param datasets: none means all. :returns: how many locks were extended; 0 where the store has no object lock.
    """
    if locking(vault.store) is None:
        return 0
    from reopen.vault.indexparts import load_index

    index = load_index(vault)
    names: list[str] = []
    for dataset in datasets or vault.datasets():
        record = vault.newest(dataset)
        if record is not None:
            names += _names_of(vault, record, index)
    return _extend(vault, names)


def keep_replica_locked(source: Vault, target: ObjectStore) -> int:
    """:func:`keep_newest_locked` of a replica, after a replication: what was copied was locked as it was written, and
    what had been there before is needed for longer now."""
    if locking(target) is None or not any(info.name == VAULT_OBJECT for info in target.list(VAULT_OBJECT)):
        return 0
    return keep_newest_locked(Vault.open(target, source.keyring, clock=source.clock))


def _names_of(vault: Vault, record: SnapshotRecord, index: ChunkIndex) -> list[str]:
    tables = [table for table in (record.manifest, record.profile) if table is not None]
    packs = packs_of(vault.manifest(record), index)
    return [
        record.name,
        *(part.name for table in tables for part in table.parts),
        *(pack_name(pack.hex()) for pack in packs),
    ]


def _extend(vault: Vault, names: Iterable[str]) -> int:
    store = locking(vault.store)
    assert store is not None
    now = store.now()
    fresh_after = now - store.lock_period * SPARE_SHARE
    wanted = set(names)
    for prefix in SHARED_PREFIXES:
        wanted |= {info.name for info in store.list(prefix)}
    # One listing a kind of object tells what is young, which is most of it on most days.
    folders = {name.partition("/")[0] for name in wanted}
    young = {info.name for folder in folders for info in store.list(folder) if info.modified_at > fresh_after}
    return store.lock_until(sorted(wanted - young), now + store.lock_period)
