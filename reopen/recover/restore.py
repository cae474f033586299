"""Owns the restore of a dataset: from a snapshot to files that are byte for byte what was captured.

Into an empty target everything is written; into an existing one only what differs (:mod:`reopen.recover.compare`). A
restore is planned, divided into shards by pack (:mod:`reopen.recover.shards`), written by as many processes or threads
as there are workers (:mod:`reopen.pool`) or by whoever is given the shards, and ended by who began it::

    plan = plan_restore(vault, record, "/srv/orders")
    with begin_restore(plan) as run:
        results = [restore_shard(vault, run.shard(number)) for number in range(run.shard_count)]
        result = run.finish(results)

Invariants
    I1  Only chunks whose id was derived again are written (:mod:`reopen.recover.fetch`).
    I2  All names are checked before the first write (:mod:`reopen.recover.names`).
    I3  A second run after any interruption finishes the work and writes only what is missing.
    I4  Nothing is deleted unless asked; then only what the snapshot does not have.
    I5  Damage in the vault costs the files it touches and no other, and so does an entry that the target does not take
        (a name too long for it, a folder in the way): everything else is restored before it is told.

A remote target is filled by :mod:`reopen.recover.remote`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from reopen.errors import InvalidInput, NotFound
from reopen.pool import give_back_memory
from reopen.progress import SILENT, Progress
from reopen.recover.check import REMOTE_THREADS
from reopen.recover.entries import COLUMNS, Entries, select
from reopen.recover.index import index_for_restore
from reopen.recover.names import check_names
from reopen.recover.run import RestoreResult, RestoreRun
from reopen.recover.shards import restore_shard
from reopen.recover.standby.seed import Seed
from reopen.recover.target import Target
from reopen.storage import local_path
from reopen.storage.local import LocalStore
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.index import ChunkIndex
from reopen.vault.tables import chunk_layout

__all__ = [
    "RestorePlan",
    "RestoreResult",
    "RestoreRun",
    "begin_restore",
    "execute_restore",
    "plan_entries",
    "plan_restore",
    "restore_shard",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """What a restore will do. ``manifest`` holds the chosen entries, ``folders`` all folders that they need;
    ``left_out`` counts files that the snapshot itself could not read, and special files."""

    vault: Vault
    record: SnapshotRecord
    target_url: str
    patterns: tuple[str, ...]
    delete: bool
    manifest: pa.Table
    entries: Entries
    folders: frozenset[bytes]
    index: ChunkIndex
    files: int
    size_bytes: int
    left_out: int


def plan_restore(
    vault: Vault, record: SnapshotRecord, target_url: str, *, patterns: Sequence[str] = (), delete: bool = False
) -> RestorePlan:
    """Choose the entries of a snapshot, check their names and find their chunks; writes nothing.

    :param patterns: gitignore-style patterns of what to restore; none means everything.
    :param delete: remove from the target what the snapshot does not have.
    :raises InvalidInput: patterns together with ``delete``; or patterns that match nothing.
    :raises Refused: an unsafe name, or no recovery key.
    :raises Corrupt: manifest or index damaged.
    """
    if patterns and delete:
        raise InvalidInput(
            "deleting what the snapshot does not have cannot be limited to patterns.",
            hint="Leave out --path, or leave out --delete.",
        )
    manifest = select(vault.manifest(record), patterns)
    if patterns and manifest.num_rows == 0:
        raise NotFound(
            f"nothing in snapshot {record.id} of {record.dataset} matches {', '.join(map(repr, patterns))}.",
            hint=f"`reopen ls {record.dataset} --at {record.id}` lists what is there.",
        )
    index = index_for_restore(vault, chunk_layout(manifest)[0])
    give_back_memory()
    return plan_entries(vault, record, target_url, manifest, index, patterns=patterns, delete=delete)


def plan_entries(
    vault: Vault,
    record: SnapshotRecord,
    target_url: str,
    manifest: pa.Table,
    index: ChunkIndex,
    *,
    patterns: Sequence[str] = (),
    delete: bool = False,
) -> RestorePlan:
    """The plan for entries that were chosen already; writes nothing.

    :raises Refused: an unsafe name.
    """
    manifest = manifest.select(COLUMNS)
    entries = Entries(manifest)
    folders = check_names(entries.names, entries.is_folder.tolist())
    return RestorePlan(
        vault=vault,
        record=record,
        target_url=target_url,
        patterns=tuple(patterns),
        delete=delete,
        manifest=manifest,
        entries=entries,
        folders=frozenset(folders),
        index=index,
        files=len(entries.files),
        size_bytes=int(manifest.column("size_bytes").to_numpy()[entries.files].sum()),
        left_out=entries.left_out,
    )


def execute_restore(
    plan: RestorePlan,
    *,
    workers: int = 0,
    progress: Progress = SILENT,
    seeds: Sequence[Seed] = (),
    still: Callable[[], None] = lambda: None,
) -> RestoreResult:
    """Carry out a restore.

    :param workers: processes, or where those are not safe threads; 0 stands for the number of cores.
    :param seeds: folders of this site to copy from what is there already.
    :param still: asked now and then, where no lock holds the target still; raises when it must not be written any more.
    :raises TargetUnwritable: the target is full or refuses writes; run again to finish.
    :raises Conflict: something is in the way in the target, or another restore writes to it.
    :raises Corrupt: some files are damaged in the vault; all the others were restored (I5).
    """
    if local_path(plan.target_url) is None:
        from reopen.recover.remote import restore_remote

        return restore_remote(plan, workers=workers, progress=progress, seeds=seeds, still=still)
    with begin_restore(plan, workers=workers, progress=progress, seeds=seeds) as run:
        return run.finish(run.write(progress))


def begin_restore(
    plan: RestorePlan, *, workers: int = 0, progress: Progress = SILENT, seeds: Sequence[Seed] = ()
) -> RestoreRun:
    """Make the target, its folders and what is right in it already, and divide the rest into shards.

    :param workers: as for :func:`execute_restore`; shards are made for so many at a time.
    :raises Refused: the target's file system takes two names for one.
    """
    path = local_path(plan.target_url)
    if path is None:
        raise InvalidInput(f"{plan.target_url} is not a local folder; it is restored by execute_restore.")
    run = RestoreRun(plan, Target(path, plan.entries.names), _at_once(plan.vault, workers), seeds)
    try:
        run.begin(progress)
    except BaseException:
        run.__exit__(None, None, None)
        raise
    return run


def _at_once(vault: Vault, workers: int) -> int:
    cores = os.cpu_count() or 1
    return workers or (cores if isinstance(vault.store, LocalStore) else max(cores, REMOTE_THREADS))
