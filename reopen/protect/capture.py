"""Owns reading files into the vault: read, chunk, name, compress, seal, pack, with every core at work.

A shard is worked by one caller; within it small files are read in groups of up to one frame by a pool of threads, and
a large file is read and cut by the caller while the pool names, compresses and seals its chunks. Everything heavy
(read, BLAKE3, FastCDC, zstd) releases the interpreter's lock.

Invariants
    I1  An error of the source (unreadable, vanished) is recorded for its file; an error of the vault ends the capture.
    I2  A file whose stamp changed while it was read is read once more; if it changed again it is kept as read and
        recorded ``changed_while_read``.
    I3  A chunk is stored once: the first thread to claim its id stores it, the others refer to it. Claims are never
        taken back, since a failed store ends the capture.
    I4  Bytes in flight are bounded: a caller waits when the pool is behind.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reopen.errors import SourceUnreadable
from reopen.progress import SILENT, Progress
from reopen.protect.plan import Shard, SnapshotPlan
from reopen.protect.profiles import Row, Tap, make_tap
from reopen.sources.files import SourceFile, Stamp
from reopen.storage.entries import names_of
from reopen.vault import Vault
from reopen.vault.chunker import Blocks, ReadInto, cut_stream
from reopen.vault.content import ChunkHasher, Sealer
from reopen.vault.index import NOT_FOUND, ids_array
from reopen.vault.packwriter import PackWriter

_JOBS_PER_WORKER = 4


@dataclass(slots=True)
class Captured:
    """What reading one file found. ``state``: ok, changed_while_read, unreadable or vanished."""

    row: int
    state: str
    ids: bytes = b""
    sizes: tuple[int, ...] = ()
    stamp: Stamp | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSummary:
    """What a shard did, small enough to be a task's result. Bytes unless named otherwise."""

    number: int
    files: int
    read_bytes: int
    new_raw_bytes: int
    unreadable: int
    seconds: float


@dataclass(slots=True)
class _Findings:
    captured: list[Captured] = field(default_factory=list)
    profile: list[Row] = field(default_factory=list)
    read_bytes: int = 0
    new_raw_bytes: int = 0


class Capture:
    """One snapshot's reading, shared by all its shards. Use from any number of threads; close or abandon at the end."""

    def __init__(
        self,
        vault: Vault,
        plan: SnapshotPlan,
        packs: PackWriter,
        sealer: Sealer,
        *,
        workers: int,
        progress: Progress = SILENT,
    ) -> None:
        self._plan = plan
        self._packs = packs
        self._sealer = sealer
        self._progress = progress
        self._hasher = ChunkHasher(vault.roots.chunk_id_key())
        self._seed = vault.roots.chunker_seed()
        self._chunk_sizes = vault.parameters.chunks
        self._frame_bytes = vault.parameters.frame_bytes
        self._clock = vault.clock
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="reopen-capture")
        self._jobs_max = workers * _JOBS_PER_WORKER
        self._blocks = Blocks()
        self._claims: set[bytes] = set()
        self._lock = threading.Lock()
        self._findings = _Findings()
        self._names: list[bytes] = names_of(plan.scan).to_pylist()
        self._sizes: NDArray[np.int64] = plan.scan.column("size_bytes").to_numpy()

    @property
    def captured(self) -> list[Captured]:
        """What was found, in no particular order."""
        return self._findings.captured

    @property
    def profile_rows(self) -> list[Row]:
        """Profile rows of the files that were read."""
        return self._findings.profile

    @property
    def read_bytes(self) -> int:
        """Bytes read from the source."""
        return self._findings.read_bytes

    @property
    def new_raw_bytes(self) -> int:
        """Raw bytes of chunks that were not stored before."""
        return self._findings.new_raw_bytes

    def write_shard(self, shard: Shard) -> ShardSummary:
        """Read a shard's files into packs; returns when every chunk is in a pack's buffer (not yet durable).

        :raises VaultUnwritable: the vault refuses bytes; nothing of the snapshot will be committed.
        """
        started = self._clock.elapsed_seconds()
        found = _Findings()
        jobs: deque[Future[_Findings]] = deque()
        try:
            for group in self._small_groups(shard.rows):
                if len(group) == 0:
                    continue
                if self._is_small(group[0]):
                    jobs.append(self._pool.submit(self._read_group, group))
                else:
                    _merge(found, self._read_large(group[0], parallel=True))
                while len(jobs) > self._jobs_max:
                    _merge(found, jobs.popleft().result())
            while jobs:
                _merge(found, jobs.popleft().result())
        finally:
            for job in jobs:
                job.cancel()
        with self._lock:
            _merge(self._findings, found)
        return ShardSummary(
            number=shard.number,
            files=len(shard.rows),
            read_bytes=found.read_bytes,
            new_raw_bytes=found.new_raw_bytes,
            unreadable=sum(item.state == "unreadable" for item in found.captured),
            seconds=self._clock.elapsed_seconds() - started,
        )

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _is_small(self, row: int) -> bool:
        return bool(self._sizes[row] <= self._chunk_sizes.min_size)

    def _small_groups(self, rows: NDArray[np.int64]) -> Iterator[list[int]]:
        """Runs of small files of up to a frame together; a large file is a run of its own."""
        group: list[int] = []
        group_bytes = 0
        for row in rows.tolist():
            size = int(self._sizes[row])
            if not self._is_small(row):
                yield group
                yield [row]
                group, group_bytes = [], 0
                continue
            if group and group_bytes + size > self._frame_bytes:
                yield group
                group, group_bytes = [], 0
            group.append(row)
            group_bytes += size
        yield group

    def _read_group(self, rows: list[int]) -> _Findings:
        found = _Findings()
        ids: list[bytes] = []
        pieces: list[bytes] = []
        for row in rows:
            data, item = self._read_small(row)
            if item.state in ("ok", "changed_while_read") and data is None:
                # It grew past a small file since the scan.
                _merge(found, self._read_large(row, parallel=False))
                continue
            found.captured.append(item)
            if data:
                item.ids, item.sizes = self._hasher(data), (len(data),)
                ids.append(item.ids)
                pieces.append(data)
                found.read_bytes += len(data)
            if data is not None:
                self._profile(found, row, data)
        fresh = self._claim(ids)
        chosen = [(one, piece) for one, piece, is_fresh in zip(ids, pieces, fresh, strict=True) if is_fresh]
        for frame in self._frames(chosen):
            self._packs.add(self._sealer.seal(b"".join(one for one, _ in frame), [piece for _, piece in frame]))
            found.new_raw_bytes += sum(len(piece) for _, piece in frame)
        self._progress.advance(found.read_bytes)
        return found

    def _frames(self, chunks: list[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
        """Chunks in runs of a frame. The group was sized by the scan, and its files may have grown since."""
        frame: list[tuple[bytes, bytes]] = []
        frame_bytes = 0
        for chunk in chunks:
            if frame and frame_bytes + len(chunk[1]) > self._frame_bytes:
                yield frame
                frame, frame_bytes = [], 0
            frame.append(chunk)
            frame_bytes += len(chunk[1])
        if frame:
            yield frame

    def _read_small(self, row: int) -> tuple[bytes | None, Captured]:
        """The bytes of a small file; ``None`` with a good state when it is no longer small."""
        limit = self._chunk_sizes.min_size
        for attempt in (1, 2):
            try:
                with self._plan.source.open(self._names[row]) as file:
                    before = file.stamp()
                    if before.size_bytes > limit:
                        return None, Captured(row, "ok")
                    data = _read_up_to(file, before.size_bytes + 1)
                    after = file.stamp()
            except FileNotFoundError:
                return None, Captured(row, "vanished")
            except SourceUnreadable as error:
                return None, Captured(row, "unreadable", error=str(error.context.get("reason", error.message)))
            if before == after and len(data) == before.size_bytes:
                return data, Captured(row, "ok", stamp=after)
            if attempt == 2:
                # Kept as read (I2): what was read is at most one byte longer than what was there at first.
                return data, Captured(row, "changed_while_read", stamp=after)
        raise AssertionError("unreachable")

    def _read_large(self, row: int, *, parallel: bool) -> _Findings:
        found = _Findings()
        for attempt in (1, 2):
            item, tap = Captured(row, "ok"), self._tap(row)
            try:
                with self._plan.source.open(self._names[row]) as file:
                    before = file.stamp()
                    # One byte more shows that it grew; no more, or a file that grows as fast as it is read has no end.
                    readinto = _up_to(file, before.size_bytes + 1)
                    item.ids, item.sizes = self._store_stream(readinto, tap, found, parallel=parallel)
                    item.stamp = file.stamp()
            except FileNotFoundError:
                item = Captured(row, "vanished")
            except SourceUnreadable as error:
                item = Captured(row, "unreadable", error=str(error.context.get("reason", error.message)))
            finally:
                rows = tap.finish() if tap is not None else []
            calm = item.stamp is None or (item.stamp == before and sum(item.sizes) == before.size_bytes)
            if calm or attempt == 2:
                break
        if not calm:
            item.state = "changed_while_read"
        if item.state in ("ok", "changed_while_read"):
            found.profile.extend(rows)
        found.captured.append(item)
        return found

    def _store_stream(
        self, readinto: ReadInto, tap: Tap | None, found: _Findings, *, parallel: bool
    ) -> tuple[bytes, tuple[int, ...]]:
        ids: list[bytes] = []
        sizes: list[int] = []
        waiting: deque[Future[tuple[bytes, int]]] = deque()

        def take(result: tuple[bytes, int]) -> None:
            ids.append(result[0])
            found.new_raw_bytes += result[1]

        try:
            for chunk in cut_stream(readinto, self._chunk_sizes, self._seed, self._blocks):
                sizes.append(len(chunk))
                found.read_bytes += len(chunk)
                if tap is not None:
                    tap.feed(chunk)
                if parallel:
                    waiting.append(self._pool.submit(self._store_chunk, chunk))
                    while len(waiting) > self._jobs_max:
                        take(waiting.popleft().result())
                else:
                    take(self._store_chunk(chunk))
        finally:
            # Also when the source failed halfway: other files may already refer to what these jobs have claimed.
            while waiting:
                take(waiting.popleft().result())
        return b"".join(ids), tuple(sizes)

    def _store_chunk(self, chunk: memoryview) -> tuple[bytes, int]:
        chunk_id = self._hasher(chunk)
        fresh = self._claim([chunk_id])[0]
        if fresh:
            self._packs.add(self._sealer.seal(chunk_id, [chunk]))
        self._progress.advance(len(chunk))
        return chunk_id, len(chunk) if fresh else 0

    def _claim(self, ids: list[bytes]) -> list[bool]:
        """For each id whether this caller is the one that must store it (I3)."""
        if not ids:
            return []
        stored = (self._plan.index.find(ids_array(b"".join(ids))) != NOT_FOUND).tolist()
        fresh = []
        with self._lock:
            for chunk_id, is_stored in zip(ids, stored, strict=True):
                fresh.append(not is_stored and chunk_id not in self._claims)
                if fresh[-1]:
                    self._claims.add(chunk_id)
        return fresh

    def _tap(self, row: int) -> Tap | None:
        dataset = self._plan.dataset
        if dataset.table is None:
            return None
        path = self._plan.scan.column("path")[row].as_py()
        return make_tap(dataset.table, dataset.location(self._plan.site).pattern, path)

    def _profile(self, found: _Findings, row: int, data: bytes) -> None:
        tap = self._tap(row)
        if tap is not None:
            tap.feed(data)
            found.profile.extend(tap.finish())


def _up_to(file: SourceFile, limit: int) -> ReadInto:
    """Reads a file up to ``limit`` bytes, then says it has ended."""
    left = limit

    def readinto(buffer: memoryview) -> int:
        nonlocal left
        count = file.readinto(buffer[:left]) if left else 0
        left -= count
        return count

    return readinto


def _read_up_to(file: SourceFile, limit: int) -> bytes:
    buffer = bytearray(limit)
    view = memoryview(buffer)
    filled = 0
    while filled < limit:
        count = file.readinto(view[filled:])
        if count == 0:
            break
        filled += count
    return bytes(view[:filled])


def _merge(into: _Findings, found: _Findings) -> None:
    into.captured.extend(found.captured)
    into.profile.extend(found.profile)
    into.read_bytes += found.read_bytes
    into.new_raw_bytes += found.new_raw_bytes
