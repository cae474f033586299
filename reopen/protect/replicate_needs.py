"""Owns which packs a vault still lacks, by need: what its snapshots hold and no pack of its own has.

By name alone a pack that a vault's own prune removed, or repacked under another name, looks missing. This reads
manifests and the index, so it needs a key that knows the roots; it is asked only where names do not settle the matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pyarrow as pa

from reopen.errors import Corrupt, NotFound
from reopen.protect.place import vault_at
from reopen.storage import ObjectStore
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.index import NOT_FOUND, ChunkIndex
from reopen.vault.statements import list_packs, read_statement
from reopen.vault.tables import INDEX, MANIFEST, chunk_layout, decode_parquet


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


def readable_rows(vault: Vault, names: Collection[str] | None = None) -> pa.Table:
    """The index rows of every part that can be read; a damaged part contributes none.

    :param names: only the parts of these statements.
    """
    tables = []
    for info in vault.store.list("index/"):
        if not info.name.endswith(".json") or (names is not None and info.name not in names):
            continue
        try:
            statement = read_statement(vault, info.name)
            data = vault.get_pinned(statement.parquet)
            tables.append(decode_parquet(data, INDEX, vault.metadata_key(statement.key), statement.parquet.name))
        except (Corrupt, NotFound):
            continue  # Repair and verify name it; here it only offers nothing.
    return pa.concat_tables(tables) if tables else INDEX.empty_table()


def readable_manifests(vault: Vault, records: Iterable[SnapshotRecord]) -> Iterable[pa.Table]:
    """Each manifest that these records name and that can be read, once."""
    seen: set[str] = set()
    for record in records:
        if record.manifest.snapshot in seen:
            continue
        seen.add(record.manifest.snapshot)
        try:
            yield vault.table(record.manifest, MANIFEST)
        except (Corrupt, NotFound):
            continue  # Without it nobody knows what the snapshot needs.
