"""Owns rewriting index parts that list packs which leave, so that a part never lists what is gone for long.

Invariants
    I1  Every pack that stays and that a replaced part listed is listed, with every row it had there, by a part that
        retention wrote and that lists no pack which leaves.
    I2  Rows keep whose they are: parts of different origins are never joined.
    I3  A few parts are in memory at a time (:data:`BATCH_BYTES`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reopen.ids import new_id
from reopen.protect.prune.survey import Survey
from reopen.vault import Vault
from reopen.vault.indexparts import read_rows, write_index_part
from reopen.vault.packwriter import StoredPack
from reopen.vault.statements import IndexStatement
from reopen.vault.tables import INDEX

PACKS_PER_PART_MAX = 1000
"""A statement lists its packs by id and must stay far below the cap of a stored document."""

BATCH_BYTES = 32 << 20
"""Stored bytes of index parts that are joined into one: about a million rows, 120 MB while they are open."""

_ORDER = [
    ("pack", "ascending"),
    ("frame_offset", "ascending"),
    ("chunk_offset", "ascending"),
    ("chunk_id", "ascending"),
]


def replace_parts(vault: Vault, found: Survey, affected: Sequence[IndexStatement], stays: Collection[str]) -> None:
    """Write new parts for the packs that stay of the affected ones; the old parts are left to the caller.

    :param stays: ids (hex) of packs. :raises NotFound: an affected part is gone.
    """
    replaced = {item.part.name for item in affected}
    # What an interrupted run wrote need not be written again. A part of a writer's replaces nothing of retention's.
    ours = [item for item in found.statements if item.part.name not in replaced and item.origin != item.writer]
    for origin in sorted({item.origin for item in affected}):
        written = [item for item in ours if item.origin == origin]
        for batch in _batches([item for item in affected if item.origin == origin]):
            _replace_batch(vault, found, origin, batch, written, stays)


def _batches(items: Sequence[IndexStatement]) -> Iterator[list[IndexStatement]]:
    batch: list[IndexStatement] = []
    for item in items:
        packs = sum(len(one.packs) for one in (*batch, item))
        if batch and (packs > PACKS_PER_PART_MAX or sum(one.parquet.size for one in (*batch, item)) > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _replace_batch(
    vault: Vault,
    found: Survey,
    origin: str,
    batch: Sequence[IndexStatement],
    written: Sequence[IndexStatement],
    stays: Collection[str],
) -> None:
    left = {pack for item in batch for pack in item.packs if pack in stays}
    if not left:
        return
    rows = _rows_by_pack(vault, batch, left)
    before = _rows_by_pack(vault, [item for item in written if left & set(item.packs)], left)
    number = found.number()
    packs = [
        StoredPack(id=pack, size_bytes=int(found.sizes[number[pack]]), rows=its)
        for pack, its in rows.items()
        # Only an equal copy makes ours superfluous: a part that names the pack and lacks rows does not.
        if pack not in before or not its.equals(before[pack])
    ]
    signer = vault.keyring.signer("retention")
    for start in range(0, len(packs), PACKS_PER_PART_MAX):
        name = f"prune-{new_id(vault.random_bytes)}"
        write_index_part(vault, name, packs[start : start + PACKS_PER_PART_MAX], signer, origin=origin)


def _rows_by_pack(vault: Vault, statements: Sequence[IndexStatement], packs: Collection[str]) -> dict[bytes, pa.Table]:
    """The rows of some packs in some parts, each once, in an order of their own."""
    wanted = pa.array([bytes.fromhex(pack) for pack in packs], pa.binary(32))
    tables = [INDEX.empty_table()]
    for item in statements:
        rows = read_rows(vault, item)
        tables.append(rows.filter(pc.is_in(rows.column("pack"), wanted)))
    joined = pa.concat_tables(tables)
    distinct = joined.group_by(INDEX.names).aggregate([]).select(INDEX.names).cast(INDEX).sort_by(_ORDER)
    if distinct.num_rows == 0:
        return {}
    numbers = pc.rank(distinct.column("pack"), tiebreaker="dense").to_numpy()
    borders = [0, *(np.flatnonzero(np.diff(numbers.astype(np.int64))) + 1).tolist(), distinct.num_rows]
    ids = distinct.column("pack")
    return {ids[start].as_py(): distinct.slice(start, end - start) for start, end in pairwise(borders)}
