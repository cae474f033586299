"""Owns what the reading of a shard found: columns, so that a million files are no million objects, and so that another
process can hand it over."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from reopen.protect.profiles import Row
from reopen.sources.files import Stamp
from reopen.vault.packwriter import StoredPack
from reopen.vault.record import Part

CAPTURED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("chunks", pa.binary(), nullable=False),
        pa.field("chunk_sizes", pa.binary()),
        pa.field("size_bytes", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("ctime_ns", pa.int64()),
        pa.field("inode", pa.int64()),
        pa.field("error", pa.string()),
    ]
)
"""One row a file that was read, ``row`` being its row in the scan. ``state``: ok, changed_while_read, unreadable or
vanished. ``chunks`` and ``chunk_sizes`` as in :data:`reopen.vault.tables.MANIFEST`. ``size_bytes`` is what was
captured, and the times are those of the file that was read; null where nothing was read, or where the store has no
such thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSummary:
    """What a shard did, small enough to be a task's result. Bytes unless named otherwise."""

    number: int
    files: int
    read_bytes: int
    new_raw_bytes: int
    unreadable: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """Everything a shard leaves behind. ``captured`` has schema :data:`CAPTURED`. ``packs`` are stored and in no index
    part yet, ``index_parts`` were written on the way: both only where another process did the work."""

    summary: ShardSummary
    captured: pa.Table
    profile: tuple[Row, ...]
    packs: tuple[StoredPack, ...] = ()
    index_parts: tuple[Part, ...] = ()
    stored_bytes: int = 0
    stored_packs: int = 0


@dataclass(slots=True)
class Findings:
    """A shard's findings as they grow; one thread adds at a time."""

    rows: list[int] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    chunk_sizes: list[bytes | None] = field(default_factory=list)
    sizes_bytes: list[int | None] = field(default_factory=list)
    stamps: list[Stamp | None] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    profile: list[Row] = field(default_factory=list)
    read_bytes: int = 0
    new_raw_bytes: int = 0

    def add_read(self, row: int, state: str, stamp: Stamp | None, ids: bytes, sizes: list[int]) -> None:
        """A file that was read: its chunk ids, 32 bytes each, and their raw sizes."""
        self.rows.append(row)
        self.states.append(state)
        self.chunks.append(ids)
        self.chunk_sizes.append(np.array(sizes, dtype="<u4").tobytes() if len(sizes) > 1 else None)
        self.sizes_bytes.append(sum(sizes))
        self.stamps.append(stamp)

    def add_unread(self, row: int, state: str, error: str | None = None) -> None:
        """A file that is gone or cannot be read."""
        self.rows.append(row)
        self.states.append(state)
        self.chunks.append(b"")
        self.chunk_sizes.append(None)
        self.sizes_bytes.append(None)
        self.stamps.append(None)
        if error is not None:
            self.errors[row] = error

    def merge(self, other: Findings) -> None:
        """Take over what another part of the shard found."""
        self.rows += other.rows
        self.states += other.states
        self.chunks += other.chunks
        self.chunk_sizes += other.chunk_sizes
        self.sizes_bytes += other.sizes_bytes
        self.stamps += other.stamps
        self.errors |= other.errors
        self.profile += other.profile
        self.read_bytes += other.read_bytes
        self.new_raw_bytes += other.new_raw_bytes

    def to_table(self) -> pa.Table:
        """As :data:`CAPTURED`."""
        stamps = self.stamps
        errors = [self.errors.get(row) for row in self.rows] if self.errors else [None] * len(self.rows)
        columns = [
            pa.array(self.rows, pa.int64()),
            pa.array(self.states, pa.string()),
            pa.array(self.chunks, pa.binary()),
            pa.array(self.chunk_sizes, pa.binary()),
            pa.array(self.sizes_bytes, pa.int64()),
            pa.array([None if stamp is None else stamp.mtime_ns for stamp in stamps], pa.int64()),
            pa.array([None if stamp is None else stamp.ctime_ns for stamp in stamps], pa.int64()),
            pa.array([None if stamp is None else stamp.inode for stamp in stamps], pa.int64()),
            pa.array(errors, pa.string()),
        ]
        return pa.Table.from_arrays(columns, schema=CAPTURED)
