"""Owns the index that a restore works with: the vault's, and where that is damaged, what the packs say of themselves.

On the worst day there may be a vault, a recovery key and nobody who can repair, which takes a writer's key. A part of
the index that cannot be read then costs time, and no file.

Invariant
    I1  Rows come from parts that are pinned and signed, or from directories that open and are signed; of what can be
        had from neither nothing is invented.
"""

from __future__ import annotations

import pyarrow as pa

from reopen.errors import Corrupt, NotFound
from reopen.protect.readable import readable_rows
from reopen.vault import Vault
from reopen.vault.index import NOT_FOUND, ChunkIndex, Ids
from reopen.vault.indexparts import load_index
from reopen.vault.packreader import read_pack
from reopen.vault.packwriter import index_rows
from reopen.vault.statements import list_packs


def index_for_restore(vault: Vault, ids: Ids) -> ChunkIndex:
    """The index of all that is stored, as far as it can be had.

    :param ids: the chunks wanted, ``(n, 32)``; where some are missing, packs that no part covers are read whole.
    """
    try:
        index = load_index(vault)
    except (Corrupt, NotFound):
        return _from_what_is_left(vault)
    return _from_what_is_left(vault) if (index.find(ids) == NOT_FOUND).any() else index


def _from_what_is_left(vault: Vault) -> ChunkIndex:
    present = set(list_packs(vault))
    rows = readable_rows(vault)
    covered = set(rows.column("pack").unique().to_pylist())
    tables = [rows]
    for pack_id in sorted(present - covered):
        try:
            pack = read_pack(vault, pack_id.hex())
        except (Corrupt, NotFound):
            continue  # What only this pack holds is missing; the restore names the files.
        tables.append(index_rows(pack_id, pack.slots, pack.directory))
    return ChunkIndex(pa.concat_tables(tables), present)
