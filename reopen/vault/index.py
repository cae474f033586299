"""Owns finding a chunk: the index in memory, as sorted arrays, and index parts in the store.

An index part is two objects: ``index/<name>.parquet`` (encrypted rows of :data:`reopen.vault.tables.INDEX`) and
``index/<name>.json``, a signed statement that pins the Parquet file and lists the packs it covers. The statement is
written second: rows without a statement are not read, and the packs they cover are simply stored again.

Invariants
    I1  A row counts only when its pack is in the store's listing: ``find`` never returns a copy that is gone.
    I2  Lookups are vectorised over sorted 64-bit prefixes; equal prefixes are told apart by the whole id.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reopen.vault.tables import INDEX

Ids = NDArray[np.uint8]
NOT_FOUND = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Where chunks are stored, one array an attribute, aligned with the ids asked for."""

    pack: NDArray[np.int64]
    """Number of the pack in :attr:`ChunkIndex.packs`."""
    salt: NDArray[Any]
    """Slot salts as ``V16``."""
    frame_offset: NDArray[np.int64]
    frame_length: NDArray[np.int64]
    frame_raw_length: NDArray[np.int64]
    frame_counter: NDArray[np.int64]
    frame_codec: NDArray[np.int64]
    chunk_offset: NDArray[np.int64]
    chunk_length: NDArray[np.int64]


class ChunkIndex:
    """Chunk id to location, for the packs that are present."""

    def __init__(self, table: pa.Table, present: Collection[bytes]) -> None:
        table = table.combine_chunks()
        packs = table.column("pack").combine_chunks()
        packs = pa.concat_arrays(packs.chunks) if isinstance(packs, pa.ChunkedArray) else packs
        encoded = packs.dictionary_encode()
        self.packs: list[bytes] = encoded.dictionary.to_pylist()
        is_present = np.array([pack in present for pack in self.packs], dtype=bool)
        numbers = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        # A pack that is not in the listing counts as absent (I1).
        keep = np.flatnonzero(is_present[numbers]) if len(numbers) else np.zeros(0, dtype=np.int64)
        ids = _fixed_bytes(table.column("chunk_id"), 32)[keep]
        prefixes = _prefixes(ids)
        order = np.argsort(prefixes, kind="stable")
        self._rows = keep[order]
        self._prefixes = prefixes[order]
        self._ids = ids[order]
        self._pack_numbers = numbers
        self._table = table

    def __len__(self) -> int:
        return len(self._prefixes)

    def find(self, ids: Ids) -> NDArray[np.int64]:
        """For each id (``(n, 32)`` uint8) a position to hand to :meth:`locate`, or :data:`NOT_FOUND` (I2)."""
        positions = np.full(len(ids), NOT_FOUND, dtype=np.int64)
        if len(self) == 0 or len(ids) == 0:
            return positions
        wanted = _prefixes(ids)
        at = np.searchsorted(self._prefixes, wanted)
        open_rows = np.arange(len(ids))
        while len(open_rows):
            inside = at[open_rows] < len(self._prefixes)
            open_rows = open_rows[inside]
            open_rows = open_rows[self._prefixes[at[open_rows]] == wanted[open_rows]]
            same = (self._ids[at[open_rows]] == ids[open_rows]).all(axis=1)
            positions[open_rows[same]] = at[open_rows[same]]
            open_rows = open_rows[~same]
            at[open_rows] += 1
        return positions

    def restricted_to(self, present: Collection[bytes]) -> ChunkIndex:
        """The index of these packs only."""
        return ChunkIndex(self._table, present)

    def contains(self, chunk_id: bytes) -> bool:
        """Whether one chunk is stored in a present pack."""
        return bool(self.find(np.frombuffer(chunk_id, np.uint8).reshape(1, 32))[0] != NOT_FOUND)

    def locate(self, positions: NDArray[np.int64]) -> Located:
        """The locations at positions that :meth:`find` returned; none may be :data:`NOT_FOUND`."""
        rows = self._rows[positions]
        taken = self._table.take(pa.array(rows))

        def column(name: str) -> NDArray[np.int64]:
            return np.asarray(taken.column(name).to_numpy(), dtype=np.int64)

        return Located(
            pack=np.asarray(self._pack_numbers[rows], dtype=np.int64),
            salt=_fixed_bytes(taken.column("slot_salt"), 16).view("V16").reshape(-1),
            frame_offset=column("frame_offset"),
            frame_length=column("frame_length"),
            frame_raw_length=column("frame_raw_length"),
            frame_counter=column("frame_counter"),
            frame_codec=column("frame_codec"),
            chunk_offset=column("chunk_offset"),
            chunk_length=column("chunk_length"),
        )


def empty_index() -> ChunkIndex:
    """An index of nothing."""
    return ChunkIndex(INDEX.empty_table(), ())


def ids_array(ids: bytes) -> Ids:
    """Concatenated 32-byte ids as ``(n, 32)``."""
    return np.frombuffer(ids, np.uint8).reshape(-1, 32)


def _prefixes(ids: Ids) -> NDArray[np.uint64]:
    return np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def _fixed_bytes(column: pa.ChunkedArray, width: int) -> Ids:
    if len(column) == 0:
        return np.zeros((0, width), dtype=np.uint8)
    array = pa.concat_arrays(column.chunks)
    values = np.frombuffer(array.buffers()[1], np.uint8)
    return values[array.offset * width : (array.offset + len(array)) * width].reshape(-1, width)
