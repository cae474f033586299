"""Owns the writing of shards outside the process that commits: in processes of this host, or wherever a task runner has
workers.

What is shared is the vault. Each worker makes a slot of its own (a content key never leaves its process), stores its
own packs, and hands back what it found; the process that holds the lease writes the index parts and commits. Chunks
that two workers meet at the same time are stored twice, which an index allows.

Processes of this host begin as copies of the one that plans (``fork``), so they need no start-up and no copy of the
plan. That is safe only while no other thread of ours runs and no library that keeps threads has been used, so it is
done for local folders on Linux, from the command line, before the lease is taken.

Invariants
    W1  A worker whose parent is gone ends: it can never store on behalf of a snapshot that nobody will commit.
    W2  An index part that a worker writes lists packs that are durable, as in the committing process.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.connection import wait
from typing import Self

from reopen.errors import Internal
from reopen.protect.capture import Capture
from reopen.protect.captured import ShardResult
from reopen.protect.plan import Reading, Shard, SnapshotPlan
from reopen.storage import local_path
from reopen.vault import Vault
from reopen.vault.content import Sealer
from reopen.vault.indexparts import write_index_part
from reopen.vault.packwriter import PACKS_PER_INDEX_PART, PackWriter, StoredPack
from reopen.vault.record import Part

FILES_WORTH_PROCESSES = 20_000
"""Below this, reading small files takes less than the second that processes cost to begin and to end."""

_LARGE_FILE_BYTES = 1 << 20
"""What is spent on larger files releases the interpreter's lock, so threads keep every core busy with them."""


def write_shard_apart(vault: Vault, reading: Reading, shard: Shard, snapshot: str, *, workers: int = 1) -> ShardResult:
    """Write one shard into packs of its own.

    :param snapshot: id of the snapshot under way; names the index parts that are written here.
    :returns: everything durable; the packs that are in no index part yet are in the result.
    """
    sealer = Sealer(vault.id, vault.recipients, vault.random_bytes)
    signer = vault.keyring.signer("writer")
    parts: list[Part] = []
    left: list[StoredPack] = []

    def flush(packs: list[StoredPack]) -> None:
        if len(packs) < PACKS_PER_INDEX_PART:
            left.extend(packs)
            return
        # Numbers of their own: those of the committing process count from zero.
        name = f"{snapshot}-{(shard.number + 1) * 10_000 + len(parts)}"
        parts.append(write_index_part(vault, name, packs, signer, dataset=reading.dataset.name))

    packs = PackWriter(
        vault.store,
        vault_id=vault.id,
        roots=vault.roots,
        slot=sealer.slot,
        signer=signer,
        pack_bytes=vault.parameters.pack_bytes,
        flush=flush,
        random_bytes=vault.random_bytes,
    )
    capture = Capture(vault, reading, packs, sealer, workers=workers)
    try:
        result = capture.write_shard(shard)
        packs.close()
    except BaseException:
        capture.close()
        packs.abandon()
        raise
    capture.close()
    return replace(
        result, packs=tuple(left), index_parts=tuple(parts), stored_bytes=packs.stored_bytes, stored_packs=packs.packs
    )


def processes_for(vault: Vault, plan: SnapshotPlan, wanted: int) -> int:
    """How many processes shall read: ``wanted``, or for 0 one a core where many small files are read from and into
    local folders. More than one is never used where processes cannot begin as copies of this one."""
    if wanted == 1 or sys.platform != "linux":
        return 1
    if local_path(vault.store.url) is None or local_path(plan.source.url) is None:
        return 1
    if wanted:
        return wanted
    small = sum(int((shard.sizes <= _LARGE_FILE_BYTES).sum()) for shard in plan.shards)
    large_bytes = sum(int(shard.sizes[shard.sizes > _LARGE_FILE_BYTES].sum()) for shard in plan.shards)
    pays = small >= FILES_WORTH_PROCESSES and large_bytes * 2 <= plan.read_bytes
    return (os.cpu_count() or 1) if pays else 1


class ShardProcesses:
    """Processes of this host that write shards; with a count of one there is none."""

    def __init__(self, vault: Vault, plan: SnapshotPlan, count: int) -> None:
        self.count = min(count, len(plan.shards))
        self._pool: ProcessPoolExecutor | None = None
        if self.count > 1:
            _inherit(vault, plan)
            context = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(self.count, mp_context=context, initializer=_end_with_parent)
            # With this context all processes begin at the first call, from this thread.
            self._pool.submit(_nothing).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            _inherit(None, None)

    def write(self, shards: Sequence[Shard], snapshot: str) -> Iterator[ShardResult]:
        """Write shards; results as they come.

        :raises ReopenError: a shard's own. :raises Internal: a process died.
        """
        assert self._pool is not None
        futures: list[Future[ShardResult]] = [
            self._pool.submit(_write_inherited, number, snapshot) for number in range(len(shards))
        ]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise Internal(
                "a process that read files was killed; nothing was committed.",
                hint="Did memory run out? Run the snapshot again: what was stored is reused.",
            ) from error


_inherited: tuple[Vault, SnapshotPlan] | None = None
"""What a process that begins as a copy of this one finds in its memory."""


def _inherit(vault: Vault | None, plan: SnapshotPlan | None) -> None:
    global _inherited
    _inherited = (vault, plan) if vault is not None and plan is not None else None


def _write_inherited(number: int, snapshot: str) -> ShardResult:
    assert _inherited is not None
    vault, plan = _inherited
    return write_shard_apart(vault, plan, plan.shards[number], snapshot)


def _nothing() -> None:
    """Begins the processes."""


def _end_with_parent() -> None:
    """End this process when its parent is gone (W1)."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="reopen-parent", daemon=True).start()
