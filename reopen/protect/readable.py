"""Owns reading the tables of a vault that may be damaged, and what they say of need: which packs hold what a snapshot
needs, and which of those a replica still lacks.

By name alone a pack that a vault's own prune removed, or repacked under another name, looks missing; need tells the
difference. All of this reads manifests and the index, so it needs a key that knows the roots.

Invariant
    I1  What cannot be read contributes nothing and stops nothing here; verify and repair are those who name it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from reopen.errors import Corrupt, NotFound
from reopen.protect.place import vault_at
from reopen.storage import ObjectStore
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.index import NOT_FOUND, ChunkIndex
from reopen.vault.indexparts import read_rows
from reopen.vault.statements import list_packs, read_statement, statement_names
from reopen.vault.tables import INDEX, MANIFEST, chunk_layout


def needed_packs(source: Vault, target: ObjectStore, records: Iterable[str], candidates: set[bytes]) -> set[bytes]:
    """Of some packs of a source, those that a target needs for some of the source's records.

    :param records: names of records at the source.
    :param candidates: 32-byte ids of packs that are at the source and not at the target.
    """
    replica = vault_at(source, target)
    have = ChunkIndex(readable_rows(replica), set(list_packs(replica)))
    offered = ChunkIndex(readable_rows(source), candidates)
    parsed = []
    for name in sorted(records):
        try:
            record = source.parse_record(name, source.store.get(name))
        except (Corrupt, NotFound):
            continue  # What it needs is not known, and nobody restores it.
        if record is not None:
            parsed.append(record)
    needed: set[bytes] = set()
    for manifest in readable_manifests(source, parsed):
        needed |= packs_for(manifest, have, offered)
    return needed


def packs_for(manifest: pa.Table, have: ChunkIndex, offered: ChunkIndex) -> set[bytes]:
    """The packs of ``offered`` that hold a chunk of the manifest which ``have`` lacks."""
    ids, _, _ = chunk_layout(manifest)
    lacking = ids[have.find(ids) == NOT_FOUND]
    positions = offered.find(lacking)
    located = offered.locate(positions[positions != NOT_FOUND])
    return {offered.packs[int(number)] for number in np.unique(located.pack)}


def readable_rows(vault: Vault, *, covering: bytes | None = None) -> pa.Table:
    """The index rows of every part that can be read (I1).

    :param covering: only of the parts that list this pack.
    """
    tables = []
    for name in statement_names(vault):
        try:
            statement = read_statement(vault, name)
            if covering is not None and covering.hex() not in statement.packs:
                continue
            tables.append(read_rows(vault, statement))
        except (Corrupt, NotFound):
            continue
    return pa.concat_tables(tables) if tables else INDEX.empty_table()


def readable_manifests(vault: Vault, records: Iterable[SnapshotRecord]) -> Iterable[pa.Table]:
    """Each manifest that these records name and that can be read, once (I1)."""
    seen: set[str] = set()
    for record in records:
        if record.manifest.snapshot in seen:
            continue
        seen.add(record.manifest.snapshot)
        try:
            yield vault.table(record.manifest, MANIFEST)
        except (Corrupt, NotFound):
            continue
