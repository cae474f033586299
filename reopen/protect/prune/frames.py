"""Owns counting the index against what records need: which frames of which packs, part by part.

Called by the survey (:mod:`reopen.protect.prune.survey`), whose invariants I2 and I3 are kept here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reopen.progress import Progress
from reopen.storage import ObjectInfo
from reopen.vault import Vault
from reopen.vault.indexparts import read_rows
from reopen.vault.pack import PACK_BYTES_MAX
from reopen.vault.record import PACK_NAME
from reopen.vault.statements import IndexStatement, read_statement_or_hint, while_parts_change

Prefixes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Every frame that the index knows in present packs, one array an attribute; each frame is there once."""

    pack: NDArray[np.int64]
    """Number of the pack in :attr:`Survey.packs`."""
    stored_length: NDArray[np.int64]
    identity: Prefixes
    """Slot salt and counter, mixed into 64 bits: equal for a frame and its moved copy."""
    needed: NDArray[np.bool_]
    """Whether a record needs a chunk in it."""


class CountedIndex:
    """The index counted against what is needed: part by part, so that never more than one is in memory."""

    def __init__(self, vault: Vault, needed: Prefixes, marked: Collection[bytes], progress: Progress) -> None:
        self._vault = vault
        self._needed = needed
        self._progress = progress
        parts = while_parts_change(vault, self._read_parts)
        # The packs are listed after the parts: a row counts only when its pack is there now.
        listed = {
            bytes.fromhex(m[1]): info for info in vault.store.list("packs/") if (m := PACK_NAME.fullmatch(info.name))
        }
        self.packs = tuple(sorted(listed))
        self.sizes = np.array([listed[pack].size_bytes for pack in self.packs], dtype=np.int64)
        self.modified_at = tuple(listed[pack].modified_at for pack in self.packs)
        self.marked = np.array([pack in marked for pack in self.packs], dtype=np.bool_)
        self.origins = self._origins()
        self.loose_rows = self._loose_rows()
        self.found = np.zeros(len(needed), dtype=np.bool_)
        self.safe = np.zeros(len(needed), dtype=np.bool_)
        self.frames = self._join(parts)

    def listed_by(self, snapshots: set[str]) -> NDArray[np.bool_]:
        """Packs that index parts of these snapshots list."""
        theirs = {pack for item in self.statements if owner_of(item.part.name) in snapshots for pack in item.packs}
        return np.array([pack.hex() in theirs for pack in self.packs], dtype=np.bool_)

    def _read_parts(self, names: list[str]) -> list[_Part]:
        self.statements: list[IndexStatement] = []
        parts = []
        self._progress.start("read index", len(names), "parts")
        for name in names:
            statement = read_statement_or_hint(self._vault, name)
            parts.append(_Part(read_rows(self._vault, statement), self._needed))
            self.statements.append(statement)
            self._progress.advance(1)
        self._progress.finish()
        return parts

    def _origins(self) -> tuple[str, ...]:
        said: dict[str, set[str]] = {}
        moved: dict[str, set[str]] = {}
        for statement in self.statements:
            for pack in statement.packs:
                said.setdefault(pack, set()).add(statement.origin)
                if statement.origin != statement.writer:
                    moved.setdefault(pack, set()).add(statement.origin)
        # Where retention says whose chunks it moved, nobody else is asked.
        found = (moved.get(pack.hex()) or said.get(pack.hex(), set()) for pack in self.packs)
        return tuple(next(iter(origins)) if len(origins) == 1 else "" for origins in found)

    def _loose_rows(self) -> list[ObjectInfo]:
        listed = list(self._vault.store.list("index/"))
        stems = {info.name.removesuffix(".json") for info in listed if info.name.endswith(".json")}
        stems |= {statement.part.name.removesuffix(".json") for statement in self.statements}
        return [
            info
            for info in listed
            if info.name.endswith(".parquet") and info.name.removesuffix(".parquet") not in stems
        ]

    def _join(self, parts: list[_Part]) -> Frames:
        number = {pack: at for at, pack in enumerate(self.packs)}
        # One more at the end, for the number -1: what is absent is neither whole nor unmarked.
        whole = np.append(self._whole(), False)
        marked = np.append(self.marked, True)
        packs_of: list[NDArray[np.int64]] = []
        present_of: list[NDArray[np.bool_]] = []
        for part in parts:
            numbers = np.array([number.get(pack, -1) for pack in part.packs] or [-1], dtype=np.int64)
            packs_of.append(numbers[part.pack])
            present_of.append(packs_of[-1] >= 0)
            holders = numbers[part.needed_pack]
            usable = whole[holders]
            self.found[part.needed_at[usable]] = True
            self.safe[part.needed_at[usable & ~marked[holders]]] = True

        def joined(columns: list[NDArray[Any]], kind: Any) -> NDArray[Any]:
            kept = [column[present] for column, present in zip(columns, present_of, strict=True)]
            return np.concatenate([*kept, np.zeros(0, dtype=kind)])

        pack: NDArray[np.int64] = joined(list(packs_of), np.int64)
        offset: NDArray[np.int64] = joined([part.offset for part in parts], np.int64)
        is_needed: NDArray[np.bool_] = joined([part.needed for part in parts], np.bool_)
        identity: Prefixes = joined([part.identity for part in parts], np.uint64)
        # Several parts may list a pack: a frame counts once, and is needed if any of them says so (I2). Two parts that
        # differ about what it is count as two frames: one of them is wrong, and must not hide the other.
        order = np.lexsort((identity, offset, pack))
        columns = pack[order], offset[order], identity[order]
        is_new = np.any([np.diff(column, prepend=column[:1]) != 0 for column in columns], axis=0)
        is_new[:1] = True
        first, group = order[is_new], np.cumsum(is_new) - 1
        needed = np.zeros(len(first), dtype=np.bool_)
        needed[group[is_needed[order]]] = True
        return Frames(
            pack=pack[first],
            stored_length=joined([part.stored_length for part in parts], np.int64)[first],
            identity=identity[first],
            needed=needed,
        )

    def _whole(self) -> NDArray[np.bool_]:
        """Packs whose size is the one that every statement gives: of another one nobody knows what is left."""
        stated: dict[str, set[int]] = {}
        for statement in self.statements:
            for pack, size in statement.packs.items():
                stated.setdefault(pack, set()).add(size)
        sizes = zip(self.packs, self.sizes.tolist(), strict=True)
        return np.array([stated.get(pack.hex(), {size}) == {size} for pack, size in sizes], dtype=np.bool_)


class _Part:
    """One index part, reduced to its frames and to which needed chunks lie in which of its packs."""

    def __init__(self, rows: pa.Table, needed: Prefixes) -> None:
        encoded = _one_array(rows.column("pack")).dictionary_encode()
        self.packs: list[bytes] = encoded.dictionary.to_pylist()
        packs = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        offset = rows.column("frame_offset").to_numpy().astype(np.int64)
        # What no pack can hold is no place: whatever is said to be there is not found there.
        sane = (offset >= 0) & (offset <= PACK_BYTES_MAX)
        packs, offset = packs[sane], offset[sane]
        wanted, at = is_in(prefixes_of(_fixed(rows.column("chunk_id"), 32)[sane]), needed)
        self.needed_at, self.needed_pack = at[wanted], packs[wanted]
        _, first, group = np.unique(packs * (PACK_BYTES_MAX + 1) + offset, return_index=True, return_inverse=True)
        self.pack, self.offset = packs[first], offset[first]
        self.stored_length = rows.column("frame_length").to_numpy().astype(np.int64)[sane][first]
        salts = _fixed(rows.column("slot_salt"), 16)[sane][first]
        counters = rows.column("frame_counter").to_numpy().astype(np.uint64)[sane][first]
        self.identity = frame_identity(salts, counters)
        self.needed = np.zeros(len(first), dtype=np.bool_)
        self.needed[group[wanted]] = True


def frame_identity(salts: NDArray[np.uint8], counters: NDArray[np.uint64]) -> Prefixes:
    """Slot salt (``(n, 16)``) and counter of frames in 64 bits. Two that differ may agree by accident: then a pack is
    opened that need not be."""
    halves = np.ascontiguousarray(salts).view("<u8").reshape(-1, 2)
    with np.errstate(over="ignore"):
        return np.asarray(
            halves[:, 0] ^ (halves[:, 1] * np.uint64(0x9E3779B97F4A7C15)) ^ (counters * np.uint64(0xC2B2AE3D27D4EB4F)),
            dtype=np.uint64,
        )


def is_in(values: Prefixes, ordered: Prefixes) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """For each value whether it is in a sorted array, and where."""
    if len(ordered) == 0:
        return np.zeros(len(values), dtype=np.bool_), np.zeros(len(values), dtype=np.int64)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[at] == values, at


def prefixes_of(ids: NDArray[np.uint8]) -> Prefixes:
    """The first 64 bits of chunk ids (``(n, 32)``)."""
    return np.ascontiguousarray(ids[:, :8]).view("<u8").reshape(-1).astype(np.uint64)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([*column.chunks, pa.array([], column.type)])


def _fixed(column: pa.ChunkedArray, width: int) -> NDArray[np.uint8]:
    array = _one_array(column)
    if len(array) == 0:
        return np.zeros((0, width), dtype=np.uint8)
    values = np.frombuffer(array.buffers()[1], np.uint8)
    return values[array.offset * width : (array.offset + len(array)) * width].reshape(-1, width)


def owner_of(name: str) -> str:
    """The snapshot that an index part belongs to, from its name; something else for prune's and repair's."""
    return name.removeprefix("index/").partition("-")[0]
