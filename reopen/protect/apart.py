"""Owns the writing of shards outside the process that commits: in processes of this host, or wherever a task runner has
workers.

What is shared is the vault. Each worker makes a slot of its own (a content key never leaves its process), stores its
own packs, and hands back what it found; the process that holds the lease writes the index parts and commits. Chunks
that two workers meet at the same time are stored twice, which an index allows.

Processes of this host are forked (:mod:`reopen.pool`), so they need no start-up and no copy of the plan: for local
folders, from the command line, before the lease is taken, since renewing that is a thread.

Invariants
    W1  An index part lists packs that are durable, whoever writes it.
    W2  A worker that dies ends the snapshot; nothing of it is committed, and what was indexed is found by the next.
"""

from __future__ import annotations

import os
from dataclasses import replace

from reopen.pool import Advance, Children, Part, Stopped, can_fork
from reopen.progress import SILENT, Progress
from reopen.protect.capture import Capture
from reopen.protect.captured import ShardResult
from reopen.protect.plan import Reading, Shard, SnapshotPlan
from reopen.storage import local_path
from reopen.vault import Vault
from reopen.vault.content import Sealer
from reopen.vault.indexparts import write_index_part
from reopen.vault.packwriter import PACKS_PER_INDEX_PART, PackWriter, StoredPack
from reopen.vault.record import Part as TablePart

FILES_WORTH_PROCESSES = 20_000
"""Below this, reading small files takes less than the second that processes cost to begin and to end."""

_LARGE_FILE_BYTES = 1 << 20
"""What is spent on larger files releases the interpreter's lock, so threads keep every core busy with them."""


def write_shard_apart(
    vault: Vault,
    reading: Reading,
    shard: Shard,
    snapshot: str,
    *,
    workers: int = 1,
    writes_index: bool = True,
    progress: Progress = SILENT,
) -> ShardResult:
    """Write one shard into packs of its own.

    :param snapshot: id of the snapshot under way; names the index parts that are written here.
    :param writes_index: write an index part for every so many packs, as a committing process does.
    :returns: everything durable; the packs that are in no index part yet are in the result.
    """
    sealer = Sealer(vault.id, vault.recipients, vault.random_bytes)
    signer = vault.keyring.signer("writer")
    parts: list[TablePart] = []
    left: list[StoredPack] = []

    def flush(packs: list[StoredPack]) -> None:
        if not writes_index or len(packs) < PACKS_PER_INDEX_PART:
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
    capture = Capture(vault, reading, packs, sealer, workers=workers, progress=progress)
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
    """How many processes of this host shall read: ``wanted``, or for 0 one a core where many small files are read. One
    where it cannot be forked: a store or a source that is no local folder, or other threads here."""
    is_local = local_path(vault.store.url) is not None and local_path(plan.source.url) is not None
    if wanted == 1 or not is_local or not can_fork():
        return 1
    if wanted:
        return min(wanted, len(plan.shards))
    small = sum(int((shard.sizes <= _LARGE_FILE_BYTES).sum()) for shard in plan.shards)
    large_bytes = sum(int(shard.sizes[shard.sizes > _LARGE_FILE_BYTES].sum()) for shard in plan.shards)
    pays = small >= FILES_WORTH_PROCESSES and large_bytes * 2 <= plan.read_bytes
    return min(os.cpu_count() or 1, len(plan.shards)) if pays else 1


def shard_children(vault: Vault, plan: SnapshotPlan, snapshot: str, count: int) -> Children:
    """Forked processes that write the shards of a plan; their results are :class:`ShardResult`."""

    def prepare() -> Part:
        def write(number: int, advance: Advance, stopped: Stopped) -> ShardResult:
            # Parquet is left to the parent: writing it may use Arrow's threads, which a forked process lacks.
            shard, told = plan.shards[number], _Told(advance)
            return write_shard_apart(vault, plan, shard, snapshot, writes_index=False, progress=told)

        return write

    return Children(prepare, len(plan.shards), at_once=count, purpose="the snapshot")


class _Told:
    """Progress that is told to the parent."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def start(self, label: str, total: int | None, unit: str) -> None:
        """The parent has begun the stage."""

    def advance(self, amount: int) -> None:
        """So much more was read."""
        self._advance(amount)

    def finish(self) -> None:
        """The parent ends the stage."""
