"""Owns the division of a restore: shards that can be pickled and sent to any process that has the vault's keys and sees
the target, and writing one.

A shard is a range of packs: each frame is read and opened by one shard, whatever files its chunks belong to. A file
with chunks in two shards grows in the work folder, and whoever ends the restore gives it its name; all others are
finished by their shard.

A shard may be written again after it failed half way: what it had done is done once more, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from reopen.errors import Corrupt, ReopenError
from reopen.recover.entries import Attributes
from reopen.recover.fetch import Fetcher, Pieces, plan_reads
from reopen.recover.tree import TREE_ERRORS, TreeWriter, stops_all, target_error
from reopen.vault import Vault

SHARD_COST_MIN = 16 << 20
SHARDS_MAX = 1024
FILE_COST = 24 << 10
"""What making a file costs, in bytes that could be decoded meanwhile: some 25 µs at 1 GB/s."""

Advance = Callable[[int], None]
"""Called with the bytes that were written since the last call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreShard:
    """Everything that writing a part of a restore takes, besides the vault.

    ``root``, ``work``: the target and the name of its work folder. By file: ``rows`` of the manifest, ``names``,
    ``attributes``, ``counts`` (chunks of it in this shard; none: the file is empty), ``is_whole`` (one chunk is all of
    it), ``ends_here`` (what this shard has is all that is missing). By chunk: ``pieces``, ``file`` (a number of a file
    here), ``offset`` and ``size`` (in the file, bytes).
    """

    number: int
    root: bytes
    work: bytes
    rows: NDArray[np.int64]
    names: Sequence[bytes]
    attributes: Sequence[Attributes]
    counts: NDArray[np.int64]
    is_whole: NDArray[np.bool_]
    ends_here: NDArray[np.bool_]
    pieces: Pieces
    file: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]


@dataclass(slots=True, kw_only=True)
class ShardResult:
    """What writing a shard did. ``damaged``: rows of files with a chunk that could not be had; ``failed``: rows of
    files that the target did not take; each with the first reason. ``bad_packs``: ids of all packs that had a part in
    damage."""

    number: int
    written_files: int = 0
    written_bytes: int = 0
    damaged: dict[int, Corrupt] = field(default_factory=dict)
    failed: dict[int, ReopenError] = field(default_factory=dict)
    bad_packs: set[bytes] = field(default_factory=set)


def cut_shards(pieces: Pieces, *, at_once: int) -> list[tuple[int, int]]:
    """Borders of shards as slices of the pieces: between two reads, of like cost, some eight for each that runs at a
    time, so that all end together."""
    reads = list(plan_reads(pieces.at))
    cost = [read.length + FILE_COST * (read.last - read.first) for read in reads]
    share = max(SHARD_COST_MIN, sum(cost) // (8 * at_once), sum(cost) // SHARDS_MAX)
    borders, since = [0], 0
    for read, amount in zip(reads, cost, strict=True):
        since += amount
        if since >= share or read.last == len(pieces):
            borders.append(read.last)
            since = 0
    return list(pairwise(borders))


def restore_shard(
    vault: Vault,
    shard: RestoreShard,
    *,
    fetcher: Fetcher | None = None,
    advance: Advance = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> ShardResult:
    """Write a shard.

    :param fetcher: one for all shards of a process, whose keys are then unsealed once.
    :param stopped: asked now and then; true ends the work early, and the result is then of no use.
    :raises TargetUnwritable: the target is full or broken. :raises Refused: no recovery key.
    :raises Transient: the store does not answer.
    """
    try:
        writer = TreeWriter(shard.root, shard.work, b"shard-%d" % shard.number)
    except OSError as error:
        raise target_error(error, repr(shard.root)) from error
    with writer:
        return _Shard(shard, writer).run(fetcher or Fetcher(vault), advance, stopped)


class _Shard:
    """One shard while it is written."""

    def __init__(self, shard: RestoreShard, writer: TreeWriter) -> None:
        self._shard = shard
        self._writer = writer
        self._result = ShardResult(number=shard.number)
        self._rows: list[int] = shard.rows.tolist()
        self._remaining: list[int] = shard.counts.tolist()
        self._is_whole: list[bool] = shard.is_whole.tolist()
        self._ends_here: list[bool] = shard.ends_here.tolist()
        self._file: list[int] = shard.file.tolist()
        self._offset: list[int] = shard.offset.tolist()
        self._size: list[int] = shard.size.tolist()

    def run(self, fetcher: Fetcher, advance: Advance, stopped: Callable[[], bool]) -> ShardResult:
        for file, count in enumerate(self._remaining):
            if count == 0:
                self._write_whole(file, memoryview(b""))
        for first, chunks in fetcher.fetch(self._shard.pieces):
            if stopped():
                break
            before = self._result.written_bytes
            for at, data in enumerate(chunks, first):
                file = self._file[at]
                if isinstance(data, memoryview) and len(data) != self._size[at]:
                    data = Corrupt(f"a chunk has {len(data)} bytes, and the manifest says {self._size[at]}.")
                if isinstance(data, Corrupt):
                    self._lose(file, data)
                elif self._is_whole[file]:
                    self._write_whole(file, data)
                else:
                    self._write_piece(file, self._offset[at], data)
            advance(self._result.written_bytes - before)
        return self._result

    def _write_whole(self, file: int, data: memoryview) -> None:
        shard = self._shard
        try:
            self._writer.write_file(shard.names[file], data, shard.attributes[file])
        except TREE_ERRORS as error:
            self._fail(file, error)
            return
        self._result.written_files += 1
        self._result.written_bytes += len(data)

    def _write_piece(self, file: int, offset: int, data: memoryview) -> None:
        row, shard = self._rows[file], self._shard
        if row in self._result.damaged or row in self._result.failed:
            return
        try:
            self._writer.write_piece(row, offset, data)
            self._result.written_bytes += len(data)
            self._remaining[file] -= 1
            if self._remaining[file] == 0 and self._ends_here[file]:
                self._writer.finish_file(row, shard.names[file], shard.attributes[file])
                self._result.written_files += 1
        except TREE_ERRORS as error:
            self._fail(file, error)

    def _lose(self, file: int, error: Corrupt) -> None:
        """A chunk is not to be had, so the file will not become whole; what was there before stays as it is."""
        row = self._rows[file]
        self._result.damaged.setdefault(row, error)
        pack = error.context.get("pack")
        if isinstance(pack, str):
            self._result.bad_packs.add(bytes.fromhex(pack))
        if self._ends_here[file]:
            self._writer.drop_file(row)

    def _fail(self, file: int, error: Exception) -> None:
        told = target_error(error, self._writer.shown(self._shard.names[file]))
        if stops_all(error):
            raise told from error
        self._result.failed.setdefault(self._rows[file], told)
