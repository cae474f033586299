"""Owns reading files into the vault: read, chunk, name, compress, seal, pack, with every core at work.

A shard is worked by one caller. Small files it reads itself, one after another, and hands over in groups of up to one
frame; large ones it reads and cuts. Threads name, compress and seal what it hands over. So what holds the interpreter's
lock (opening and reading many small files) is in one thread, and what releases it (BLAKE3, zstd) in the others.

Invariants
    I1  An error of the source (unreadable, vanished) is recorded for its file; an error of the vault ends the capture.
    I2  A file whose stamp changed while it was read is read once more; if it changed again it is kept as read and
        recorded ``changed_while_read``.
    I3  A chunk is stored once by a capture: the first thread to claim its id stores it, the others refer to it. Claims
        are never taken back, since a failed store ends the capture.
    I4  Bytes in flight are bounded: a caller waits when the threads are behind.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from reopen.errors import SourceUnreadable
from reopen.progress import SILENT, Progress
from reopen.protect.captured import Findings, ShardResult, ShardSummary
from reopen.protect.plan import Reading, Shard
from reopen.protect.profiles import Tap, make_tap
from reopen.sources.files import SourceFile, Stamp, text_name
from reopen.vault import Vault
from reopen.vault.chunker import Blocks, ReadInto, cut_stream
from reopen.vault.content import ChunkHasher, Sealer
from reopen.vault.index import NOT_FOUND, ids_array
from reopen.vault.packwriter import PackWriter

_JOBS_PER_WORKER = 4


@dataclass(slots=True)
class Group:
    """Small files that were read and are handed over together; an empty one has an empty piece and no chunk."""

    rows: list[int] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    stamps: list[Stamp] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    size_bytes: int = 0


class Capture:
    """One process's reading for one snapshot, shared by its shards. Use from any number of threads; close at the
    end."""

    def __init__(
        self,
        vault: Vault,
        reading: Reading,
        packs: PackWriter,
        sealer: Sealer,
        *,
        workers: int,
        progress: Progress = SILENT,
    ) -> None:
        self.source = reading.source
        self.frame_bytes = vault.parameters.frame_bytes
        self.small_max = vault.parameters.chunks.min_size
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="reopen-capture")
        self.jobs_max = workers * _JOBS_PER_WORKER
        self._index = reading.index
        self._table = reading.dataset.table
        self._pattern = reading.dataset.location(reading.site).pattern
        self._packs = packs
        self._sealer = sealer
        self._progress = progress
        self._hasher = ChunkHasher(vault.roots.chunk_id_key())
        self._seed = vault.roots.chunker_seed()
        self._chunk_sizes = vault.parameters.chunks
        self._clock = vault.clock
        self._blocks = Blocks()
        self._claims: set[bytes] = set()
        self._lock = threading.Lock()

    def write_shard(self, shard: Shard) -> ShardResult:
        """Read a shard's files into packs; returns when every chunk is in a pack's buffer (not yet durable).

        :raises VaultUnwritable: the vault refuses bytes; nothing of the snapshot will be committed.
        """
        started = self._clock.elapsed_seconds()
        found = _ShardRun(self, shard).run()
        summary = ShardSummary(
            number=shard.number,
            files=len(shard.rows),
            read_bytes=found.read_bytes,
            new_raw_bytes=found.new_raw_bytes,
            unreadable=found.states.count("unreadable"),
            seconds=self._clock.elapsed_seconds() - started,
        )
        return ShardResult(summary=summary, captured=found.to_table(), profile=tuple(found.profile))

    def close(self) -> None:
        """Stop the threads."""
        self.pool.shutdown(cancel_futures=True)

    def store_group(self, group: Group) -> Findings:
        """Name, compress and seal a group of small files."""
        found = Findings()
        filled = [self._hasher(piece) if piece else b"" for piece in group.pieces]
        fresh = self._claim([chunk_id for chunk_id in filled if chunk_id])
        chosen: list[tuple[bytes, bytes]] = []
        at = 0
        for row, name, state, stamp, chunk_id, piece in zip(
            group.rows, group.names, group.states, group.stamps, filled, group.pieces, strict=True
        ):
            found.add_read(row, state, stamp, chunk_id, [len(piece)])
            if chunk_id:
                if fresh[at]:
                    chosen.append((chunk_id, piece))
                at += 1
            if self._table is not None:
                self._profile(found, name, piece)
        for frame in self._frames(chosen):
            self._packs.add(self._sealer.seal(b"".join(one for one, _ in frame), [piece for _, piece in frame]))
            found.new_raw_bytes += sum(len(piece) for _, piece in frame)
        found.read_bytes = group.size_bytes
        self._progress.advance(group.size_bytes)
        return found

    def _frames(self, chunks: list[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
        """Chunks in runs of a frame. The group was sized by the scan, and its files may have grown since."""
        frame: list[tuple[bytes, bytes]] = []
        frame_bytes = 0
        for chunk in chunks:
            if frame and frame_bytes + len(chunk[1]) > self.frame_bytes:
                yield frame
                frame, frame_bytes = [], 0
            frame.append(chunk)
            frame_bytes += len(chunk[1])
        if frame:
            yield frame

    def store_chunk(self, chunk: memoryview) -> tuple[bytes, int]:
        """Name, compress and seal one chunk of a large file; its id, and how many of its bytes are new."""
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
        stored = (self._index.find(ids_array(b"".join(ids))) != NOT_FOUND).tolist()
        fresh = []
        with self._lock:
            for chunk_id, is_stored in zip(ids, stored, strict=True):
                fresh.append(not is_stored and chunk_id not in self._claims)
                if fresh[-1]:
                    self._claims.add(chunk_id)
        return fresh

    def cut(self, readinto: ReadInto) -> Iterator[memoryview]:
        """The chunks of a stream."""
        return cut_stream(readinto, self._chunk_sizes, self._seed, self._blocks)

    def tap(self, name: bytes) -> Tap | None:
        """What profiles a file as it goes by, if it is part of a table."""
        return None if self._table is None else make_tap(self._table, self._pattern, text_name(name)[0])

    def _profile(self, found: Findings, name: bytes, data: bytes) -> None:
        tap = self.tap(name)
        if tap is not None:
            tap.feed(data)
            found.profile.extend(tap.finish())


class _ShardRun:
    """The work of one caller on one shard."""

    def __init__(self, capture: Capture, shard: Shard) -> None:
        self._capture = capture
        self._shard = shard
        self._source = capture.source
        self._small_max = capture.small_max
        self._found = Findings()
        self._group = Group()
        self._jobs: deque[Future[Findings]] = deque()
        self._buffer = memoryview(bytearray(self._small_max + 1))

    def run(self) -> Findings:
        shard, frame_bytes = self._shard, self._capture.frame_bytes
        try:
            for row, name, size in zip(shard.rows.tolist(), shard.names.to_pylist(), shard.sizes.tolist(), strict=True):
                if size > self._small_max:
                    self._hand_over()
                    self._read_large(row, name)
                    continue
                if self._group.size_bytes + size > frame_bytes:
                    self._hand_over()
                self._read_small(row, name)
            self._hand_over()
            while self._jobs:
                self._found.merge(self._jobs.popleft().result())
        finally:
            for job in self._jobs:
                job.cancel()
        return self._found

    def _hand_over(self) -> None:
        if not self._group.rows:
            return
        group, self._group = self._group, Group()
        self._jobs.append(self._capture.pool.submit(self._capture.store_group, group))
        while len(self._jobs) > self._capture.jobs_max:
            self._found.merge(self._jobs.popleft().result())

    def _read_small(self, row: int, name: bytes) -> None:
        """Add a small file to the group; one that is no longer small is read as a large one."""
        state = "ok"
        for attempt in (1, 2):
            try:
                with self._source.open(name) as file:
                    before = file.stamp()
                    size = before.size_bytes
                    if size > self._small_max:
                        break
                    # One byte more shows that it grew.
                    filled = file.readinto(self._buffer[: size + 1])
                    while filled < size and (count := file.readinto(self._buffer[filled : size + 1])):
                        filled += count
                    after = file.stamp()
            except FileNotFoundError:
                self._found.add_unread(row, "vanished")
                return
            except SourceUnreadable as error:
                self._found.add_unread(row, "unreadable", str(error.context.get("reason", error.message)))
                return
            if before != after or filled != size:
                if attempt == 1:
                    continue
                # Kept as read (I2): what was read is at most one byte longer than what was there at first.
                state = "changed_while_read"
            group = self._group
            group.rows.append(row)
            group.names.append(name)
            group.states.append(state)
            group.stamps.append(after)
            group.pieces.append(bytes(self._buffer[:filled]))
            group.size_bytes += filled
            return
        self._read_large(row, name)

    def _read_large(self, row: int, name: bytes) -> None:
        found = self._found
        for attempt in (1, 2):
            state, stamp, error = "ok", None, None
            ids, sizes = b"", list[int]()
            tap = self._capture.tap(name)
            try:
                with self._source.open(name) as file:
                    before = file.stamp()
                    # One byte more shows that it grew; no more, or a file that grows as fast as it is read has no end.
                    ids, sizes = self._store_stream(_up_to(file, before.size_bytes + 1), tap)
                    stamp = file.stamp()
            except FileNotFoundError:
                state = "vanished"
            except SourceUnreadable as failure:
                state, error = "unreadable", str(failure.context.get("reason", failure.message))
            finally:
                profile = tap.finish() if tap is not None else []
            calm = stamp is None or (stamp == before and sum(sizes) == before.size_bytes)
            if calm or attempt == 2:
                break
        if state != "ok":
            found.add_unread(row, state, error)
            return
        found.add_read(row, "ok" if calm else "changed_while_read", stamp, ids, sizes)
        found.profile.extend(profile)

    def _store_stream(self, readinto: ReadInto, tap: Tap | None) -> tuple[bytes, list[int]]:
        capture, found = self._capture, self._found
        ids: list[bytes] = []
        sizes: list[int] = []
        waiting: deque[Future[tuple[bytes, int]]] = deque()

        def take(result: tuple[bytes, int]) -> None:
            ids.append(result[0])
            found.new_raw_bytes += result[1]

        try:
            for chunk in capture.cut(readinto):
                sizes.append(len(chunk))
                found.read_bytes += len(chunk)
                if tap is not None:
                    tap.feed(chunk)
                waiting.append(capture.pool.submit(capture.store_chunk, chunk))
                while len(waiting) > capture.jobs_max:
                    take(waiting.popleft().result())
        finally:
            # Also when the source failed halfway: other files may already refer to what these jobs have claimed.
            while waiting:
                take(waiting.popleft().result())
        return b"".join(ids), sizes


def _up_to(file: SourceFile, limit: int) -> ReadInto:
    """Reads a file up to ``limit`` bytes, then says it has ended."""
    left = limit

    def readinto(buffer: memoryview) -> int:
        nonlocal left
        count = file.readinto(buffer[:left]) if left else 0
        left -= count
        return count

    return readinto
