"""Owns a *run*: rows of some index parts, sorted by chunk id, in memory or mapped from a file of the local cache.

A run holds a row a stored copy of a chunk, and a row a *source*: one slot of one pack as one index part lists it. So
what is decided for a whole part (is its writer trusted?) or a whole pack (is it there?) is one number a source, and
opening a run of a hundred million chunks looks at none of its rows.

The form of a file, little-endian: head (magic, key, counts) · BLAKE3 of head and tables · tables: parts as JSON,
sources · prefixes and rows, each from a multiple of 4096. It is this program's alone: no other reads it, and one of
another form is made anew.

Invariants
    I1  Rows are sorted by the first eight bytes of the chunk id as a big-endian number; equal ones lie together.
    I2  What decides for many rows (parts, sources) is under one digest, checked when a file is opened. Every row
        carries a check over all its bytes, tied to this file; one that fails is not believed, and the file is removed.
        So a damaged file can hide a chunk, which costs space, but never shows one in the wrong pack.
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
    [
        ("tail", "<u8", (3,)),
        ("frame_counter", "<u8"),
        ("source", "<u4"),
        ("frame_offset", "<u4"),
        ("frame_length", "<u4"),
        ("frame_raw_length", "<u4"),
        ("chunk_offset", "<u4"),
        ("chunk_length", "<u4"),
        ("frame_codec", "<u4"),
        ("unused", "<u4"),
        ("check", "<u8"),
    ]
)
"""``tail``: bytes 8 to 31 of the chunk id. The rest as in :data:`reopen.vault.tables.INDEX`, pack and salt as a source.
"""

NUMBERS = (
    "frame_offset",
    "frame_length",
    "frame_raw_length",
    "frame_counter",
    "frame_codec",
    "chunk_offset",
    "chunk_length",
)
SOURCE = np.dtype([("part", "<u4"), ("rows", "<u4"), ("pack", "V32"), ("salt", "V16")])

MAGIC = b"RPNRUN\x00\x01"
HEAD = struct.Struct("<8s16sQQQ")
PAGE_BYTES = 4096
_DIGEST_BYTES = 32
_FORGET_AFTER_ROWS = 1 << 9
"""Rows read in a file before its pages are let go. Each may map what the system has in one piece: up to 2 MiB of the
page cache, which costs no memory of its own and counts as this process's while it is mapped."""
_ROWS_A_STEP = 1 << 18


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

    def pack_ids(self) -> Iterator[bytes]:
        """The pack of each source."""
        data = np.ascontiguousarray(self.sources["pack"]).tobytes()
        return (data[at : at + 32] for at in range(0, len(data), 32))


class Run:
    """Sorted rows with their tables. Immutable; may be read by many threads."""

    def __init__(
        self,
        tables: RunTables,
        prefixes: U64,
        rows: NDArray[Any],
        *,
        key: bytes = b"",
        path: Path | None = None,
        mapped: mmap.mmap | None = None,
        descriptor: int = -1,
    ) -> None:
        self.tables = tables
        self.prefixes = prefixes
        self.rows = rows
        self.path = path
        self.is_whole = path is None
        """Whether every row was checked: what was made in this process was never anywhere else."""
        self._key = key
        self._factors = factors(key) if key else None
        self._mapped = mapped
        self._descriptor = descriptor
        self._rows_read = 0

    def __len__(self) -> int:
        return len(self.prefixes)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def __reduce__(self) -> tuple[Any, ...]:
        """A mapped run travels to another process as its name; one in memory with its rows."""
        if self.path is None:
            return _in_memory, (self.tables, self.prefixes, self.rows)
        # The file may be replaced by a larger one on the way; what this process has open is still there under its
        # descriptor, where the system has such names.
        return open_run, (self.path, f"/proc/{os.getpid()}/fd/{self._descriptor}")

    def good_rows(self, at: NDArray[np.int64], rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of some rows, read at these positions, are what was written (I2)."""
        if self._factors is None:
            return np.ones(len(rows), dtype=np.bool_)
        good = rows["check"] == check_rows(rows, self.prefixes[at], self._factors)
        return np.asarray(good & (rows["source"] < len(self.tables.sources)), dtype=np.bool_)

    def check_all(self) -> None:
        """Check every row and the order, once.

        :raises Corrupt: something is not what was written; the file is removed.
        """
        if self.is_whole:
            return
        for start in range(0, len(self), _ROWS_A_STEP):
            at = np.arange(start, min(start + _ROWS_A_STEP, len(self)))
            prefixes = self.prefixes[start : start + _ROWS_A_STEP + 1]
            in_order = bool((prefixes[:-1] <= prefixes[1:]).all())
            if not in_order or not self.good_rows(at, self.rows[start : start + _ROWS_A_STEP]).all():
                raise self.distrust()
            self.forget(len(at))
        self.is_whole = True

    def distrust(self) -> Corrupt:
        """Remove the file, so that it is made anew from the vault; returns the error to raise where one is due."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        return Corrupt(
            f"the local copy of the index in {self.path} is damaged and was removed.",
            hint="Run it again: the index is read from the vault, where nothing is wrong.",
        )

    def forget(self, rows_read: int) -> None:
        """After rows were read: let go of a large file's pages once many are mapped. They stay in the page cache."""
        self._rows_read += rows_read
        if self._rows_read < _FORGET_AFTER_ROWS or self._mapped is None:
            return
        self._rows_read = 0
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)


def _in_memory(tables: RunTables, prefixes: U64, rows: NDArray[Any]) -> Run:
    return Run(tables, prefixes, rows)


def make_run(parts: Sequence[tuple[RunPart, pa.Table]]) -> Run:
    """A run in memory from the rows of index parts (schema :data:`reopen.vault.tables.INDEX`)."""
    table = pa.concat_tables([rows for _, rows in parts])
    part = np.repeat(np.arange(len(parts), dtype=np.uint64), [rows.num_rows for _, rows in parts])
    numbers = {name: np.asarray(table.column(name).to_numpy(), dtype=np.int64) for name in NUMBERS}
    possible = numbers["frame_offset"] < 1 << 32
    for values in numbers.values():
        possible &= values >= 0
    if not possible.all():
        table, part = table.filter(pa.array(possible)), part[possible]
        numbers = {name: values[possible] for name, values in numbers.items()}
    sources, source_of_row = _sources(table, part)
    ids = fixed_bytes(table.column("chunk_id"), 32)
    prefixes = prefixes_of(ids)
    order = np.argsort(prefixes, kind="stable")
    rows = np.zeros(len(prefixes), dtype=ROW)
    rows["tail"] = words_of(ids)[:, 1:][order]
    rows["source"] = source_of_row[order]
    for name, values in numbers.items():
        rows[name] = values[order]
    return Run(RunTables(parts=tuple(part for part, _ in parts), sources=sources), prefixes[order], rows)


def _sources(table: pa.Table, part: U64) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The sources of some rows, and each row's."""
    pack_numbers, packs = _dictionary(table.column("pack"), 32)
    salt_numbers, salts = _dictionary(table.column("slot_salt"), 16)
    within = pack_numbers * np.uint64(len(salts)) + salt_numbers
    every = np.uint64(max(1, len(packs) * len(salts)))
    keys, source_of_row, counts = np.unique(part * every + within, return_inverse=True, return_counts=True)
    sources = np.zeros(len(keys), dtype=SOURCE)
    if len(keys):
        sources["part"] = keys // every
        sources["rows"] = counts
        sources["pack"] = packs.view("V32").reshape(-1)[(keys % every // np.uint64(len(salts))).astype(np.int64)]
        sources["salt"] = salts.view("V16").reshape(-1)[(keys % np.uint64(len(salts))).astype(np.int64)]
    return sources, source_of_row.reshape(-1)


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
    magic, key, rows, sources, parts_bytes = HEAD.unpack_from(mapped)
    if magic != MAGIC:
        raise ValueError("another form")
    places = layout(rows, sources, parts_bytes)
    if places.end != len(mapped):
        raise ValueError("cut short")
    told = memoryview(mapped)[HEAD.size + _DIGEST_BYTES : places.tables_end]
    digest = blake3(mapped[: HEAD.size]).update(told).digest()
    if digest != mapped[HEAD.size : HEAD.size + _DIGEST_BYTES]:
        raise ValueError("the tables are not what was written")
    parts = tuple(
        RunPart(name=name, digest=at, writer=writer) for name, at, writer in json.loads(bytes(told[:parts_bytes]))
    )
    # Copied: they are small, they decide, and they must stay what was checked.
    tables = RunTables(parts=parts, sources=np.frombuffer(told, SOURCE, sources, parts_bytes).copy())
    return Run(
        tables,
        np.frombuffer(mapped, "<u8", rows, places.prefixes),
        np.frombuffer(mapped, ROW, rows, places.rows),
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
    end: int


def layout(rows: int, sources: int, parts_bytes: int) -> Layout:
    """The layout of a file with so many of each."""

    def page(at: int) -> int:
        return -(-at // PAGE_BYTES) * PAGE_BYTES

    tables_end = HEAD.size + _DIGEST_BYTES + parts_bytes + sources * SOURCE.itemsize
    prefixes = page(tables_end)
    rows_at = page(prefixes + rows * 8)
    return Layout(tables_end=tables_end, prefixes=prefixes, rows=rows_at, end=rows_at + rows * ROW.itemsize)


def encode_tables(key: bytes, tables: RunTables, rows: int) -> tuple[bytes, Layout]:
    """The beginning of a file, and the layout of all of it."""
    parts = json.dumps([[part.name, part.digest, part.writer] for part in tables.parts]).encode()
    counts = (rows, len(tables.sources), len(parts))
    head = HEAD.pack(MAGIC, key, *counts)
    told = parts + tables.sources.tobytes()
    return head + blake3(head).update(told).digest() + told, layout(*counts)


def factors(key: bytes) -> U64:
    """The odd factors of the check, one a word of a row with two to spare, from a file's key."""
    words = ROW.itemsize // 8 + 1
    drawn = np.frombuffer(blake3(b"reopen index run" + key).digest(length=8 * words), "<u8").astype(np.uint64)
    return np.asarray(drawn | np.uint64(1))


def check_rows(rows: NDArray[Any], prefixes: U64, by: U64) -> U64:
    """The check of each row: over its id, its source and its place."""
    words = np.ascontiguousarray(rows).view("<u8").reshape(-1, ROW.itemsize // 8)
    # A constant, so that a row of zeros, as a hole in a file reads, does not pass.
    return np.asarray(words[:, :-1] @ by[:-2] + by[-2] * prefixes + by[-1], dtype=np.uint64)


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
