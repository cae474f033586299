"""Owns the growing of packs: many threads hand in sealed frames, one or two threads store finished packs.

Invariants
    I1  :meth:`PackWriter.add` returns when the frame is in a pack's buffer; the frame is durable only after
        :meth:`PackWriter.close` (or an index part that lists the pack).
    I2  At most one finished pack waits while each storing thread stores one, so memory is bounded by the packs of the
        storing threads and two more.
    I3  A failure to store is the vault's, never the source's: it is raised again by every later call.
    I4  Every :data:`PACKS_PER_INDEX_PART` stored packs are written to an index part, signed, so that a killed
        process loses at most that much work.

A crash leaves packs that no index part lists; they are extra data.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from blake3 import blake3

from reopen.errors import Conflict, Internal, ReopenError, VaultUnwritable
from reopen.ids import RandomBytes, system_random
from reopen.storage import ObjectStore
from reopen.vault.content import SealedFrame
from reopen.vault.keys import Roots, SigningKey
from reopen.vault.pack import (
    CHUNK_DTYPE,
    FRAME_DTYPE,
    NONCE_BYTES,
    Directory,
    Slot,
    encode_directory,
    encode_footer,
    encode_head,
    seal_directory,
    signature_message,
)
from reopen.vault.record import pack_name
from reopen.vault.tables import INDEX

PACKS_PER_INDEX_PART = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPack:
    """A pack that is durable: its id (32 bytes), stored size, and rows for the index."""

    id: bytes
    size_bytes: int
    rows: pa.Table


class _Building:
    """The bytes of one pack as they grow."""

    def __init__(self, head: bytes) -> None:
        self.pieces: list[bytes] = [head]
        self.size_bytes = len(head)
        self.frames: list[tuple[int, SealedFrame]] = []
        self.digest = blake3(head)

    def add(self, frame: SealedFrame) -> None:
        self.frames.append((self.size_bytes, frame))
        self._append(frame.stored)

    def _append(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.size_bytes += len(piece)
        self.digest.update(piece)

    def finish(self, vault_id: str, directory_key: bytes, signer: SigningKey, nonce: bytes) -> bytes:
        """Append directory, signature and footer; returns the pack's id."""
        directory_offset = self.size_bytes
        plain = encode_directory(_directory(self.frames))
        sealed = seal_directory(plain, directory_key, nonce, self.pieces[0], self.digest.digest())
        self._append(sealed)
        signature = signer.sign(signature_message(vault_id, self.digest.digest()))
        self._append(bytes.fromhex(signer.id) + signature)
        self._append(encode_footer(directory_offset, len(sealed)))
        return self.digest.digest()


class PackWriter:
    """Collects frames of one slot into packs and stores them."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        vault_id: str,
        roots: Roots,
        slot: Slot,
        signer: SigningKey,
        pack_bytes: int,
        flush: Callable[[list[StoredPack]], None],
        storers: int = 1,
        random_bytes: RandomBytes = system_random,
    ) -> None:
        """
        :param flush: writes an index part for the packs it is given; one call at a time, from a storing thread or from
            :meth:`close`.
        :param storers: threads that store packs; with two, one pack is written while another waits for the disk.
        """
        self._store = store
        self._vault_id = vault_id
        self._directory_key = roots.directory_key()
        self._slot = slot
        self._head = encode_head(vault_id, (slot,))
        self._signer = signer
        self._pack_bytes = pack_bytes
        self._flush = flush
        self._random_bytes = random_bytes
        self._lock = threading.Lock()
        self._building: _Building | None = None
        self._failure: BaseException | None = None
        self._ended = False
        self._flush_lock = threading.Lock()
        self._unflushed: list[StoredPack] = []
        self.stored_bytes = 0
        self.packs = 0
        self._waiting: queue.Queue[_Building | None] = queue.Queue(maxsize=1)
        self._threads = [
            threading.Thread(target=self._store_packs, name=f"reopen-packs-{number}", daemon=True)
            for number in range(storers)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, frame: SealedFrame) -> None:
        """Put a frame into the current pack (I1); blocks while a full pack waits and all storers are busy (I2).

        :raises VaultUnwritable: the store refused an earlier pack (I3).
        """
        full: _Building | None = None
        with self._lock:
            self._raise_failure()
            if self._ended:
                raise Internal("a frame was added after its pack writer was closed.")
            if self._building is None:
                self._building = _Building(self._head)
            self._building.add(frame)
            if self._building.size_bytes >= self._pack_bytes:
                full, self._building = self._building, None
        if full is not None:
            # Outside the lock: others go on filling the next pack while this one waits its turn.
            self._waiting.put(full)

    def close(self) -> None:
        """Store the last pack and flush the index; everything added is durable afterwards."""
        with self._lock:
            last, self._building = self._building, None
        if last is not None:
            self._waiting.put(last)
        self._end()
        self._flush_when(1)
        self._raise_failure()

    def abandon(self) -> None:
        """Stop without storing what is still in memory; what was stored stays, as extra data."""
        with self._lock:
            self._building = None
            self._failure = self._failure or VaultUnwritable("the snapshot was abandoned.")
        self._end()

    def _end(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, True
        if not ended:
            # Once only: nobody would take more of them out of the queue.
            for _ in self._threads:
                self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _store_packs(self) -> None:
        while (building := self._waiting.get()) is not None:
            if self._failure is not None:
                continue  # Whoever hands in a pack must not wait for ever; the error is theirs to find.
            try:
                self._store_one(building)
            except BaseException as error:  # noqa: BLE001 - handed to the threads that wait on this one
                self._failure = error
            self._flush_when(PACKS_PER_INDEX_PART)

    def _flush_when(self, packs: int) -> None:
        """Write an index part when at least so many packs have none."""
        with self._flush_lock:
            if self._failure is not None or len(self._unflushed) < packs:
                return
            ready, self._unflushed = self._unflushed, []
            try:
                self._flush(ready)
            except BaseException as error:  # noqa: BLE001 - handed to the threads that wait on this one
                self._failure = error

    def _store_one(self, building: _Building) -> None:
        pack_id = building.finish(self._vault_id, self._directory_key, self._signer, self._random_bytes(NONCE_BYTES))
        name = pack_name(pack_id.hex())
        try:
            self._store.create(name, building.pieces)
        except Conflict:
            # The name is the digest of bytes under a fresh random key: an object of this name and size is ours, and
            # what conflicted was our own earlier attempt whose acknowledgement was lost.
            if self._store.head(name).size_bytes != building.size_bytes:
                raise
        except ReopenError as error:
            error.context.setdefault("pack", pack_id.hex())
            raise
        rows = index_rows(pack_id, (self._slot,), _directory(building.frames))
        with self._flush_lock:
            self._unflushed.append(StoredPack(id=pack_id, size_bytes=building.size_bytes, rows=rows))
            self.stored_bytes += building.size_bytes
            self.packs += 1


def index_rows(pack_id: bytes, slots: tuple[Slot, ...], directory: Directory) -> pa.Table:
    """The index rows of a pack, from its directory."""
    frame_of_chunk = directory.frame_of_chunk()
    frames = directory.frames[frame_of_chunk]
    chunks = directory.chunks
    salts = np.array([np.void(slot.salt) for slot in slots], dtype="V16")[frames["slot"]]
    count = len(chunks)

    def fixed(values: bytes, width: int) -> pa.Array:
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), count, [None, pa.py_buffer(values)])

    columns = [
        fixed(np.ascontiguousarray(chunks["id"]).tobytes(), 32),
        fixed(pack_id * count, 32),
        fixed(salts.tobytes(), 16),
        pa.array(frames["offset"].astype(np.int64)),
        pa.array(frames["stored_length"].astype(np.int32)),
        pa.array(frames["raw_length"].astype(np.int32)),
        pa.array(frames["counter"].astype(np.int64)),
        pa.array(frames["codec"].astype(np.int8)),
        pa.array(chunks["offset"].astype(np.int32)),
        pa.array(chunks["length"].astype(np.int32)),
    ]
    return pa.Table.from_arrays(columns, schema=INDEX)


def _directory(frames: list[tuple[int, SealedFrame]]) -> Directory:
    frame_table = np.zeros(len(frames), dtype=FRAME_DTYPE)
    lengths = np.fromiter((length for _, frame in frames for length in frame.lengths), dtype=np.int64)
    counts = np.array([len(frame.lengths) for _, frame in frames], dtype=np.int64)
    first = np.concatenate(([0], np.cumsum(counts)[:-1])) if len(frames) else counts
    for column, values in (
        ("offset", [offset for offset, _ in frames]),
        ("counter", [frame.counter for _, frame in frames]),
        ("stored_length", [len(frame.stored) for _, frame in frames]),
        ("raw_length", [frame.raw_length for _, frame in frames]),
        ("first_chunk", first),
        ("codec", [frame.codec for _, frame in frames]),
    ):
        frame_table[column] = values
    chunk_table = np.zeros(len(lengths), dtype=CHUNK_DTYPE)
    chunk_table["id"] = np.frombuffer(b"".join(frame.ids for _, frame in frames), "V32")
    chunk_table["length"] = lengths
    # Chunks lie back to back within their frame: the running sum, less what it was where the frame began.
    ends = np.cumsum(lengths)
    starts = ends - lengths
    chunk_table["offset"] = starts - np.repeat(starts[first], counts) if len(frames) else starts
    return Directory(frames=frame_table, chunks=chunk_table)
