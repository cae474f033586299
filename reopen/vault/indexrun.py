"""Owns a *run*: rows of some index parts, sorted by chunk id, in memory or mapped from a file of the local cache.

A run holds a row a stored copy of a chunk, a row a frame (where it lies, and in which *source*), and a row a source:
one pack as one index part lists it. So what is decided for a whole part (is its writer trusted?) or a whole pack (is
it there?) is one number a source, and opening a run of a hundred million chunks looks at none of its rows.

The form of a file, little-endian: head (magic, key, counts) · BLAKE3 of head and tables · tables: parts as JSON,
sources, salts · prefixes, rows and frames, each from a multiple of 4096. It is this program's alone: no other reads it,
and one of another form is made anew.

Invariants
    I1  Rows are sorted by the first eight bytes of the chunk id as a big-endian number; equal ones lie together.
    I2  What decides for many rows (parts, sources, salts) is under one digest, checked when a file is opened. Every row
        and every frame carries a check over all its bytes, tied to this file; one that fails is not believed, and the
        file is removed. So a damaged file can hide a chunk, which costs space, but never shows one in the wrong pack.
    I3  A row whose numbers cannot be true (a negative length, a place past 4 GiB) is left out: that copy is not there.

The check is a multilinear hash modulo 2^64 with odd factors drawn from the file's key: a change within one word always
changes it, and so does, but for one in 2^60, any other that does not come from somebody who knows the key.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3
from numpy.typing import NDArray

from reopen.errors import Corrupt

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

ROW = np.dtype(
    [("tail", "<u8", (3,)), ("frame", "<u4"), ("offset", "<u4"), ("length", "<u4"), ("unused", "<u4"), ("check", "<u8")]
)
"""``tail``: bytes 8 to 31 of the chunk id. ``offset`` and ``length``: the chunk in the frame's raw bytes."""

FRAME = np.dtype(
    [
        ("source", "<u4"),
        ("salt", "<u4"),
        ("offset", "<u4"),
        ("length", "<u4"),
        ("raw_length", "<u4"),
        ("codec", "<u4"),
        ("counter", "<u8"),
        ("check", "<u8"),
    ]
)
SOURCE = np.dtype([("part", "<u4"), ("rows", "<u4"), ("pack", "V32")])
SALT = np.dtype("V16")

MAGIC = b"RPNRUN\x00\x01"
HEAD = struct.Struct("<8s16sQQQQQ")
PAGE_BYTES = 4096
_DIGEST_BYTES = 32
_FORGET_ABOVE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPart:
    """An index part whose rows are in a run: the name and digest of its statement, and whose chunks these are."""

    name: str
    digest: str
    writer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTables:
    """What decides for many rows."""

    parts: tuple[RunPart, ...]
    sources: NDArray[Any]
    """Of :data:`SOURCE`."""
    salts: NDArray[Any]
    """Of :data:`SALT`."""

    def pack_ids(self) -> Iterator[bytes]:
        """The pack of each source."""
        data = np.ascontiguousarray(self.sources["pack"]).tobytes()
        return (data[at : at + 32] for at in range(0, len(data), 32))


class Run:
    """Sorted rows with their frames and tables. Immutable; may be read by many threads."""

    def __init__(
        self,
        tables: RunTables,
        prefixes: U64,
        rows: NDArray[Any],
        frames: NDArray[Any],
        *,
        key: bytes = b"",
        path: Path | None = None,
        mapped: mmap.mmap | None = None,
        descriptor: int = -1,
    ) -> None:
        self.tables = tables
        self.prefixes = prefixes
        self.rows = rows
        self.frames = frames
        self.path = path
        self.is_whole = path is None
        """Whether every row was checked: what was made in this process was never anywhere else."""
        self._key = key
        self._factors = factors(key) if key else None
        self._mapped = mapped
        self._descriptor = descriptor

    def __len__(self) -> int:
        return len(self.prefixes)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def __reduce__(self) -> tuple[Any, ...]:
        """A mapped run travels to another process as its name; one in memory with its rows."""
        if self.path is None:
            return _in_memory, (self.tables, self.prefixes, self.rows, self.frames)
        # The file may be replaced by a larger one on the way; what this process has open is still there under its
        # descriptor, where the system has such names.
        return open_run, (self.path, f"/proc/{os.getpid()}/fd/{self._descriptor}")

    def good_rows(self, at: NDArray[np.int64], rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of some rows, read at these positions, are what was written (I2)."""
        if self._factors is None:
            return np.ones(len(rows), dtype=np.bool_)
        good = rows["check"] == check_rows(rows, self.prefixes[at], self._factors)
        return np.asarray(good & (rows["frame"] < len(self.frames)), dtype=np.bool_)

    def good_frames(self, at: NDArray[Any], frames: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of some frames, read at these numbers, are what was written (I2)."""
        if self._factors is None:
            return np.ones(len(frames), dtype=np.bool_)
        good = frames["check"] == check_frames(frames, at, self._factors)
        good &= (frames["source"] < len(self.tables.sources)) & (frames["salt"] < len(self.tables.salts))
        return np.asarray(good, dtype=np.bool_)

    def check_all(self, rows_a_step: int = 1 << 20) -> None:
        """Check every row, frame and the order, once.

        :raises Corrupt: something is not what was written; the file is removed.
        """
        if self.is_whole:
            return
        good = True
        for start in range(0, len(self), rows_a_step):
            at = np.arange(start, min(start + rows_a_step, len(self)))
            prefixes = self.prefixes[start : start + rows_a_step + 1]
            good &= bool((prefixes[:-1] <= prefixes[1:]).all()) and bool(self.good_rows(at, self.rows[at]).all())
            self.forget()
        for start in range(0, len(self.frames), rows_a_step):
            at = np.arange(start, min(start + rows_a_step, len(self.frames)))
            good &= bool(self.good_frames(at, self.frames[at]).all())
            self.forget()
        if not good:
            raise self.distrust()
        self.is_whole = True

    def distrust(self) -> Corrupt:
        """Remove the file, so that it is made anew from the vault; returns the error to raise where one is due."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        return Corrupt(
            f"the local copy of the index in {self.path} is damaged and was removed.",
            hint="Run it again: the index is read from the vault, where nothing is wrong.",
        )

    def forget(self) -> None:
        """Let go of the pages of a large file that reading has mapped; they stay in the page cache."""
        if self._mapped is not None and len(self._mapped) > _FORGET_ABOVE_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)


def _in_memory(tables: RunTables, prefixes: U64, rows: NDArray[Any], frames: NDArray[Any]) -> Run:
    return Run(tables, prefixes, rows, frames)


def make_run(parts: Sequence[tuple[RunPart, pa.Table]]) -> Run:
    """A run in memory from the rows of index parts (schema :data:`reopen.vault.tables.INDEX`)."""
    table = pa.concat_tables([rows for _, rows in parts])
    part = np.repeat(np.arange(len(parts), dtype=np.uint64), [rows.num_rows for _, rows in parts])
    numbers = {name: np.asarray(table.column(name).to_numpy(), dtype=np.int64) for name in _NUMBERS}
    possible = np.ones(table.num_rows, dtype=np.bool_)
    for values in numbers.values():
        possible &= values >= 0
    possible &= numbers["frame_offset"] < 1 << 32
    if not possible.all():
        table, part = table.filter(pa.array(possible)), part[possible]
        numbers = {name: values[possible] for name, values in numbers.items()}
    pack_numbers, packs = _dictionary(table.column("pack"), 32)
    salt_numbers, salts = _dictionary(table.column("slot_salt"), 16)
    pairs, source_of_row, rows_of_source = np.unique(
        part << np.uint64(32) | pack_numbers, return_inverse=True, return_counts=True
    )
    sources = np.zeros(len(pairs), dtype=SOURCE)
    sources["part"] = pairs >> np.uint64(32)
    sources["rows"] = rows_of_source
    sources["pack"] = packs.view("V32").reshape(-1)[(pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)]
    frames, frame_of_row = _frames(source_of_row.reshape(-1).astype(np.uint64), salt_numbers, numbers)
    ids = fixed_bytes(table.column("chunk_id"), 32)
    prefixes = prefixes_of(ids)
    order = np.argsort(prefixes, kind="stable")
    rows = np.zeros(len(prefixes), dtype=ROW)
    rows["tail"] = words_of(ids)[:, 1:][order]
    rows["frame"] = frame_of_row[order]
    rows["offset"] = numbers["chunk_offset"][order]
    rows["length"] = numbers["chunk_length"][order]
    tables = RunTables(parts=tuple(part for part, _ in parts), sources=sources, salts=salts.view(SALT).reshape(-1))
    return Run(tables, prefixes[order], rows, frames)


_NUMBERS = (
    "frame_offset",
    "frame_length",
    "frame_raw_length",
    "frame_counter",
    "frame_codec",
    "chunk_offset",
    "chunk_length",
)


def _frames(source: U64, salt: U64, numbers: dict[str, NDArray[np.int64]]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """One row a frame, and each chunk row's frame. Rows that name one place and do not agree get a frame each."""
    place = source << np.uint64(32) | numbers["frame_offset"].astype(np.uint64)
    order = np.argsort(place, kind="stable")
    begins = np.zeros(len(order), dtype=np.bool_)
    begins[:1] = True
    told = [place, salt, *(numbers[name] for name in _NUMBERS[1:5])]
    for values in told:
        begins[1:] |= np.diff(values[order]) != 0
    frame_of_row = np.empty(len(order), dtype=np.int64)
    frame_of_row[order] = np.cumsum(begins) - 1
    first = order[begins]
    frames = np.zeros(len(first), dtype=FRAME)
    frames["source"] = source[first]
    frames["salt"] = salt[first]
    for column, name in (
        ("offset", "frame_offset"),
        ("length", "frame_length"),
        ("raw_length", "frame_raw_length"),
        ("codec", "frame_codec"),
        ("counter", "frame_counter"),
    ):
        frames[column] = numbers[name][first]
    return frames, frame_of_row


def open_run(path: Path, fallback: str = "") -> Run:
    """Map a run that :func:`reopen.vault.indexmerge.write_run` wrote.

    :param fallback: another name of the same file, for when it was replaced meanwhile.
    :raises FileNotFoundError: there is none. :raises Corrupt: it is damaged or of another form, and was removed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if not fallback:
            raise
        descriptor = os.open(fallback, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _map(path, descriptor)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise Corrupt(
            f"the local copy of the index in {path} is damaged and was removed.",
            hint="Run it again: the index is read from the vault, where nothing is wrong.",
        ) from error


def _map(path: Path, descriptor: int) -> Run:
    mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    magic, key, rows, frames, sources, salts, parts_bytes = HEAD.unpack_from(mapped)
    if magic != MAGIC:
        raise ValueError("another form")
    places = layout(rows, frames, sources, salts, parts_bytes)
    if places.end != len(mapped):
        raise ValueError("cut short")
    told = memoryview(mapped)[HEAD.size + _DIGEST_BYTES : places.tables_end]
    digest = blake3(mapped[: HEAD.size]).update(told).digest()
    if digest != mapped[HEAD.size : HEAD.size + _DIGEST_BYTES]:
        raise ValueError("the tables are not what was written")
    parts = tuple(
        RunPart(name=name, digest=digest, writer=writer)
        for name, digest, writer in json.loads(told[:parts_bytes].tobytes())
    )
    tables = RunTables(
        parts=parts,
        # Copied: they are small, they decide, and they must stay what was checked.
        sources=np.frombuffer(told, SOURCE, sources, parts_bytes).copy(),
        salts=np.frombuffer(told, SALT, salts, parts_bytes + sources * SOURCE.itemsize).copy(),
    )
    return Run(
        tables,
        np.frombuffer(mapped, "<u8", rows, places.prefixes),
        np.frombuffer(mapped, ROW, rows, places.rows),
        np.frombuffer(mapped, FRAME, frames, places.frames),
        key=key,
        path=path,
        mapped=mapped,
        descriptor=descriptor,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the pieces of a file begin."""

    tables_end: int
    prefixes: int
    rows: int
    frames: int
    end: int


def layout(rows: int, frames: int, sources: int, salts: int, parts_bytes: int) -> Layout:
    """The layout of a file with so many of each."""

    def page(at: int) -> int:
        return -(-at // PAGE_BYTES) * PAGE_BYTES

    tables_end = HEAD.size + _DIGEST_BYTES + parts_bytes + sources * SOURCE.itemsize + salts * SALT.itemsize
    prefixes = page(tables_end)
    rows_at = page(prefixes + rows * 8)
    frames_at = page(rows_at + rows * ROW.itemsize)
    return Layout(
        tables_end=tables_end,
        prefixes=prefixes,
        rows=rows_at,
        frames=frames_at,
        end=frames_at + frames * FRAME.itemsize,
    )


def encode_tables(key: bytes, tables: RunTables, rows: int, frames: int) -> tuple[bytes, Layout]:
    """The beginning of a file, and the layout of all of it."""
    parts = json.dumps([[part.name, part.digest, part.writer] for part in tables.parts]).encode()
    counts = (rows, frames, len(tables.sources), len(tables.salts), len(parts))
    head = HEAD.pack(MAGIC, key, *counts)
    told = parts + tables.sources.tobytes() + tables.salts.tobytes()
    return head + blake3(head).update(told).digest() + told, layout(*counts)


def factors(key: bytes) -> U64:
    """Eight odd factors of the check, from a file's key."""
    drawn = np.frombuffer(blake3(b"reopen index run" + key).digest(length=64), "<u8").astype(np.uint64)
    return np.asarray(drawn | np.uint64(1))


def check_rows(rows: NDArray[Any], prefixes: U64, by: U64) -> U64:
    """The check of each row: over its id, frame and place in it."""
    words = np.ascontiguousarray(rows).view("<u8").reshape(-1, ROW.itemsize // 8)
    total = by[6] + by[5] * prefixes
    for number in range(5):
        total += by[number] * words[:, number]
    return np.asarray(total, dtype=np.uint64)


def check_frames(frames: NDArray[Any], numbers: NDArray[Any], by: U64) -> U64:
    """The check of each frame: over its number too, since rows name it by that."""
    words = np.ascontiguousarray(frames).view("<u8").reshape(-1, FRAME.itemsize // 8)
    total = by[7] + by[5] * numbers.astype(np.uint64)
    for number in range(4):
        total += by[number] * words[:, number]
    return np.asarray(total, dtype=np.uint64)


def prefixes_of(ids: U8) -> U64:
    """The first eight bytes of ids ``(n, 32)`` as numbers."""
    return np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def words_of(ids: U8) -> U64:
    """Ids ``(n, 32)`` as four words each."""
    return np.ascontiguousarray(ids).view("<u8").reshape(-1, 4)


def fixed_bytes(column: pa.ChunkedArray, width: int) -> U8:
    """A column of fixed-size binary as ``(n, width)``."""
    if len(column) == 0:
        return np.zeros((0, width), dtype=np.uint8)
    array = pa.concat_arrays(column.chunks)
    values = np.frombuffer(array.buffers()[1], np.uint8)
    return values[array.offset * width : (array.offset + len(array)) * width].reshape(-1, width)


def _dictionary(column: pa.ChunkedArray, width: int) -> tuple[U64, U8]:
    """Each row's number, and the distinct values."""
    if len(column) == 0:
        return np.zeros(0, dtype=np.uint64), np.zeros((0, width), dtype=np.uint8)
    encoded = pa.concat_arrays(column.chunks).dictionary_encode()
    numbers = encoded.indices.to_numpy(zero_copy_only=False).astype(np.uint64)
    return numbers, fixed_bytes(pa.chunked_array([encoded.dictionary]), width)
