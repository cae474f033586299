"""Owns the way from damage in packs to the files of snapshots: which paths have a chunk that no good copy holds.

A chunk may be stored in several packs; a file is hurt only when every copy of one of its chunks is. So the index is cut
down to what is good, and whoever finds nothing in it is hurt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3
from numpy.typing import NDArray

from reopen.vault.index import NOT_FOUND, ChunkIndex
from reopen.vault.tables import INDEX, chunk_layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What is not whole: packs as a whole, and of other packs single chunks (32-byte ids)."""

    packs: frozenset[bytes] = frozenset()
    chunks: Mapping[bytes, frozenset[bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.packs or self.chunks)


def good_index(rows: pa.Table, present: Collection[bytes], damage: Damage) -> ChunkIndex:
    """The index of the copies that are whole.

    :param rows: index rows, schema :data:`reopen.vault.tables.INDEX`.
    :param present: the packs that are there.
    """
    for pack, chunks in damage.chunks.items():
        in_pack = pc.equal(rows.column("pack"), pa.scalar(pack, pa.binary(32)))
        is_bad = pc.is_in(rows.column("chunk_id"), pa.array(sorted(chunks), pa.binary(32)))
        rows = rows.filter(pc.invert(pc.and_(in_pack, is_bad)))
    return ChunkIndex(rows, set(present) - damage.packs)


def row_digests(rows: pa.Table) -> dict[bytes, bytes]:
    """For each pack the BLAKE3 of its index rows, whatever their order: equal for what an index part says of a pack and
    what the pack's own directory says, if they say the same."""
    if rows.num_rows == 0:
        return {}
    names = ["pack", *(name for name in INDEX.names if name != "pack")]
    columns = [_row_bytes(rows.column(name).combine_chunks(), INDEX.field(name).type) for name in names]
    matrix = np.ascontiguousarray(np.concatenate(columns, axis=1))
    # As one opaque value a row, they sort by their bytes, and the pack comes first.
    matrix = np.sort(matrix.view(f"V{matrix.shape[1]}").reshape(-1)).view(np.uint8).reshape(matrix.shape)
    starts = [0, *(np.flatnonzero((matrix[1:, :32] != matrix[:-1, :32]).any(axis=1)) + 1).tolist(), len(matrix)]
    return {
        matrix[begin, :32].tobytes(): blake3(matrix[begin:end].tobytes()).digest() for begin, end in pairwise(starts)
    }


def _row_bytes(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> NDArray[np.uint8]:
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if pa.types.is_fixed_size_binary(kind):
        width = kind.byte_width
        values = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width :][: len(column) * width]
        return values.reshape(-1, width)
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype="<i8").view(np.uint8).reshape(-1, 8)


def hurt_paths(manifest: pa.Table, good: ChunkIndex) -> list[str]:
    """Paths of a manifest with a chunk that no good copy holds, in the manifest's order."""
    ids, rows, _ = chunk_layout(manifest)
    hurt = np.unique(rows[good.find(ids) == NOT_FOUND])
    return [str(path) for path in manifest.column("path").take(pa.array(hurt)).to_pylist()] if len(hurt) else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What is remembered of a manifest: the packs that hold its chunks, and whether some chunk is in no index part."""

    packs: frozenset[bytes]
    lacks_rows: bool


def needs_of(manifest: pa.Table, index: ChunkIndex) -> Needs:
    """What a manifest needs, where the index finds it first."""
    ids, _, _ = chunk_layout(manifest)
    positions = index.find(ids)
    found = positions[positions != NOT_FOUND]
    packs = frozenset(index.packs[int(number)] for number in np.unique(index.locate(found).pack))
    return Needs(packs=packs, lacks_rows=len(found) < len(positions))
