"""Owns the restore of a dataset: from a snapshot to files that are byte for byte what was captured.

Into an empty target everything is written; into an existing one only what differs: each file that is there is read
and compared chunk by chunk with the manifest (size and time alone are not believed), and chunks that match are kept.

Invariants
    I1  Only chunks whose id was derived again are written (:mod:`reopen.recover.fetch`).
    I2  All names are checked before the first write (:mod:`reopen.recover.names`).
    I3  A second run after any interruption finishes the work and writes only what is missing.
    I4  Nothing is deleted unless asked; then only what the snapshot does not have.
    I5  Damage in the vault costs the files it touches and no other: everything else is restored before it is told.

A remote target is filled through a local folder, file by file; it keeps bytes and names, no modes, times or links.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reopen.errors import Corrupt, InvalidInput, NotFound, TargetUnwritable
from reopen.progress import SILENT, Progress
from reopen.recover.check import RemoteReader
from reopen.recover.entries import Layout, raw_names, select, with_folders
from reopen.recover.fetch import execute_fetch, plan_fetch
from reopen.recover.names import check_names
from reopen.recover.tree import Attributes, LocalTree
from reopen.storage import local_path, open_filesystem
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.content import ChunkHasher
from reopen.vault.index import ChunkIndex
from reopen.vault.indexparts import load_index

DAMAGED_NAMED_MAX = 3
"""Damaged files that an error names; `reopen verify` names more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """What a restore will do. ``manifest`` holds the chosen entries; ``left_out`` counts files that the snapshot
    itself could not read, and special files."""

    vault: Vault
    record: SnapshotRecord
    target_url: str
    patterns: tuple[str, ...]
    delete: bool
    manifest: pa.Table
    index: ChunkIndex
    files: int
    size_bytes: int
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """What a restore did. ``unchanged_files`` were right already; ``written_bytes`` counts bytes that came from the
    vault."""

    dataset: str
    snapshot: str
    target_url: str
    files: int
    size_bytes: int
    written_files: int
    written_bytes: int
    unchanged_files: int
    deleted: int
    left_out: int
    seconds: float


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
            f"nothing in snapshot {record.id} of {record.dataset} matches {', '.join(patterns)}.",
            hint=f"`reopen ls {record.dataset} --at {record.id}` lists what is there.",
        )
    check_names(zip(raw_names(manifest), manifest.column("type").to_pylist(), strict=True))
    readable = pc.and_(
        pc.equal(manifest.column("type"), "file"), pc.not_equal(manifest.column("read_state"), "unreadable")
    )
    files = manifest.filter(readable)
    return RestorePlan(
        vault=vault,
        record=record,
        target_url=target_url,
        patterns=tuple(patterns),
        delete=delete,
        manifest=manifest,
        index=load_index(vault),
        files=files.num_rows,
        size_bytes=pc.sum(files.column("size_bytes")).as_py() or 0,
        left_out=int(
            pc.sum(
                pc.or_(
                    pc.equal(manifest.column("type"), "special"), pc.equal(manifest.column("read_state"), "unreadable")
                )
            ).as_py()
            or 0
        ),
    )


def execute_restore(plan: RestorePlan, *, workers: int = 0, progress: Progress = SILENT) -> RestoreResult:
    """Carry out a restore.

    :raises TargetUnwritable: the target is full or refuses writes; run again to finish.
    :raises Corrupt: some files are damaged in the vault; all the others were restored (I5).
    """
    path = local_path(plan.target_url)
    workers = workers or os.cpu_count() or 1
    if path is None:
        return _restore_remote(plan, workers, progress)
    return _LocalRestore(plan, LocalTree(path, raw_names(plan.manifest)), workers, progress).run()


class _LocalRestore:
    def __init__(self, plan: RestorePlan, tree: LocalTree, workers: int, progress: Progress) -> None:
        self._plan = plan
        self._tree = tree
        self._workers = workers
        self._progress = progress
        self._vault = plan.vault
        self._hasher = ChunkHasher(plan.vault.roots.chunk_id_key())
        self._names = raw_names(plan.manifest)
        self._layout = Layout(plan.manifest)
        self._columns = {
            name: plan.manifest.column(name).to_pylist()
            for name in (
                "type",
                "mode",
                "uid",
                "gid",
                "mtime_s",
                "mtime_ns",
                "link_target",
                "link_target_raw",
                "link_group",
                "read_state",
            )
        }
        self._remaining: dict[int, int] = {}
        self._damaged: dict[int, Corrupt] = {}
        self._lock = threading.Lock()
        self._written_bytes = 0
        self._written_files = 0
        self._unchanged_files = 0

    def run(self) -> RestoreResult:
        started = self._vault.clock.elapsed_seconds()
        self._progress.start(self._plan.record.dataset, self._plan.size_bytes, "bytes")
        self._tree.begin()
        folders = self._rows("dir")
        for row in folders:
            self._tree.make_folder(self._names[row])
        first_of_group, links = self._split_links()
        wanted = self._compare(first_of_group)
        self._fetch(wanted)
        for row, first in links:
            if first in self._damaged:
                self._damaged[row] = self._damaged[first]
                continue
            self._written_files += self._tree.write_hard_link(self._names[row], self._names[first])
        for row in self._rows("symlink"):
            self._tree.make_folder(self._names[row].rpartition(b"/")[0])
            target = self._columns["link_target_raw"][row] or self._columns["link_target"][row].encode()
            self._tree.write_symlink(self._names[row], target, self._attributes(row))
        deleted = self._delete_others() if self._plan.delete else 0
        self._tree.finish_folders((self._names[row], self._attributes(row)) for row in folders)
        self._tree.end()
        self._progress.finish()
        self._refuse_damage()
        return RestoreResult(
            dataset=self._plan.record.dataset,
            snapshot=self._plan.record.id,
            target_url=self._plan.target_url,
            files=self._plan.files,
            size_bytes=self._plan.size_bytes,
            written_files=self._written_files,
            written_bytes=self._written_bytes,
            unchanged_files=self._unchanged_files,
            deleted=deleted,
            left_out=self._plan.left_out,
            seconds=self._vault.clock.elapsed_seconds() - started,
        )

    def _rows(self, kind: str) -> list[int]:
        """Rows of a kind, less what the snapshot could not read (a folder that could not be listed is a folder)."""
        states = self._columns["read_state"]
        return [
            row
            for row, found in enumerate(self._columns["type"])
            if found == kind and (kind == "dir" or states[row] != "unreadable")
        ]

    def _split_links(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Files to write, and hard links as (row, row of the file it links to)."""
        first: dict[tuple[str, bytes], int] = {}
        write, links = [], []
        chunks = self._plan.manifest.column("chunks")
        for row in self._rows("file"):
            group = self._columns["link_group"][row]
            if group is None:
                write.append(row)
                continue
            # The scan saw one file under both names; what was read later under each may differ.
            same = (group, chunks[row].as_py())
            if same in first:
                links.append((row, first[same]))
            else:
                first[same] = row
                write.append(row)
        return write, links

    def _compare(self, rows: list[int]) -> NDArray[np.int64]:
        """Settle every file that is right already; returns the numbers of the chunks that must be fetched."""
        wanted: list[int] = []
        if self._tree.was_empty:
            for row in rows:
                chunks = self._all_chunks(row)
                wanted.extend(chunks)
                self._remaining[row] = len(chunks)
            return np.array(wanted, dtype=np.int64)
        with ThreadPoolExecutor(self._workers, thread_name_prefix="reopen-compare") as pool:
            for row, missing in zip(rows, pool.map(self._missing_chunks, rows), strict=True):
                if missing is not None:
                    wanted.extend(missing)
                    self._remaining[row] = len(missing)
        return np.array(wanted, dtype=np.int64)

    def _all_chunks(self, row: int) -> list[int]:
        """The chunks of a file that is not there yet; one without any is made at once."""
        name = self._names[row]
        self._tree.make_folder(name.rpartition(b"/")[0])
        chunks = list(self._layout.chunks_of(row))
        if not chunks:
            self._tree.write_empty(name, row, self._attributes(row))
            self._count(row, unchanged=False)
        return chunks

    def _missing_chunks(self, row: int) -> list[int] | None:
        """Chunks of a file that its present version lacks; ``None`` when nothing needs to be fetched for it."""
        name, layout = self._names[row], self._layout
        self._tree.make_folder(name.rpartition(b"/")[0])
        descriptor = self._tree.open_existing(name)
        if descriptor is None:
            return self._all_chunks(row) or None
        chunks = layout.chunks_of(row)
        try:
            matching = [at for at in chunks if self._matches(descriptor, at)]
            right_size = os.fstat(descriptor).st_size == layout.file_sizes[row]
            if len(matching) == len(chunks) and right_size:
                changed = self._tree.apply(name, self._attributes(row))
                self._count(row, unchanged=not changed)
                return None
            for at in matching:
                data = os.pread(descriptor, int(layout.sizes[at]), int(layout.offsets[at]))
                self._tree.write_at(name, row, int(layout.offsets[at]), memoryview(data))
        finally:
            os.close(descriptor)
        if not chunks:
            return self._all_chunks(row) or None
        if len(matching) == len(chunks):
            self._tree.finish_file(name, row, self._attributes(row))
            self._count(row, unchanged=False)
            return None
        kept = set(matching)
        return [at for at in chunks if at not in kept]

    def _matches(self, descriptor: int, at: int) -> bool:
        size = int(self._layout.sizes[at])
        data = os.pread(descriptor, size, int(self._layout.offsets[at]))
        return len(data) == size and self._hasher(data) == self._layout.ids[at].tobytes()

    def _count(self, row: int, *, unchanged: bool) -> None:
        with self._lock:
            self._unchanged_files += unchanged
            self._written_files += not unchanged
        if unchanged:
            self._progress.advance(int(self._layout.file_sizes[row]))

    def _fetch(self, wanted: NDArray[np.int64]) -> None:
        fetch = plan_fetch(self._plan.index, self._layout.ids[wanted])

        def receive(position: int, data: memoryview) -> None:
            at = int(wanted[position])
            row = int(self._layout.rows[at])
            self._tree.write_at(self._names[row], row, int(self._layout.offsets[at]), data)
            with self._lock:
                self._written_bytes += len(data)
                self._remaining[row] -= 1
                complete = self._remaining[row] == 0
            if complete:
                self._tree.finish_file(self._names[row], row, self._attributes(row))
                self._count(row, unchanged=False)
            self._progress.advance(len(data))

        damaged = execute_fetch(self._vault, fetch, receive, workers=self._workers)
        for position, error in sorted(damaged.items()):
            self._damaged.setdefault(int(self._layout.rows[int(wanted[position])]), error)

    def _refuse_damage(self) -> None:
        """Say what could not be restored, after everything else was (I5)."""
        if not self._damaged:
            return
        plan, rows = self._plan, sorted(self._damaged)
        examples = ", ".join(plan.manifest.column("path")[row].as_py() for row in rows[:DAMAGED_NAMED_MAX])
        more = " …" if len(rows) > DAMAGED_NAMED_MAX else ""
        raise Corrupt(
            f"{len(rows)} of {plan.files} files of snapshot {plan.record.id} of {plan.record.dataset} are damaged in "
            f"{plan.vault.store.url}: {examples}{more} ({self._damaged[rows[0]].message.rstrip('.')}). "
            f"The others are in {plan.target_url}.",
            hint="Restore into the same target from the replica (--vault SITE), only these are read; `reopen repair` "
            "helps when it is the index that is lost.",
            dataset=plan.record.dataset,
            files=len(rows),
        )

    def _delete_others(self) -> int:
        keep = with_folders(self._names)
        return sum(self._tree.remove(name, folder=folder) for name, folder in self._tree.names() if name not in keep)

    def _attributes(self, row: int) -> Attributes:
        seconds, nanoseconds = self._columns["mtime_s"][row], self._columns["mtime_ns"][row]
        return Attributes(
            mode=self._columns["mode"][row],
            uid=self._columns["uid"][row],
            gid=self._columns["gid"][row],
            mtime_ns=None if seconds is None else seconds * 1_000_000_000 + (nanoseconds or 0),
        )


def _restore_remote(plan: RestorePlan, workers: int, progress: Progress) -> RestoreResult:
    started = plan.vault.clock.elapsed_seconds()
    filesystem, root = open_filesystem(plan.target_url)
    layout, reader = Layout(plan.manifest), RemoteReader(plan.target_url)
    hasher = ChunkHasher(plan.vault.roots.chunk_id_key())
    names = raw_names(plan.manifest)
    is_file = pc.and_(
        pc.equal(plan.manifest.column("type"), "file"), pc.not_equal(plan.manifest.column("read_state"), "unreadable")
    ).to_numpy()
    differing = [
        row for row in np.flatnonzero(is_file).tolist() if reader.check_file(names[row], layout, row, hasher)[0] != "ok"
    ]
    with tempfile.TemporaryDirectory(prefix="reopen-restore-") as folder:
        chosen = plan.manifest.take(pa.array(differing, pa.int64()))
        # Told under the target's own name: the folder is only on the way.
        local = replace(
            plan,
            patterns=(),
            delete=False,
            manifest=chosen,
            files=chosen.num_rows,
            size_bytes=pc.sum(chosen.column("size_bytes")).as_py() or 0,
        )
        damage: Corrupt | None = None
        written_bytes = 0
        try:
            written_bytes = (
                _LocalRestore(local, LocalTree(folder, raw_names(chosen)), workers, progress).run().written_bytes
            )
        except Corrupt as error:
            damage = error
        try:
            for name in raw_names(chosen):
                made = Path(folder) / os.fsdecode(name)
                if not made.is_file():
                    continue  # Damaged in the vault.
                target = f"{root}/{name.decode('utf-8', 'backslashreplace')}"
                filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
                filesystem.put_file(str(made), target)
            keep = {name.decode("utf-8", "backslashreplace") for name in names}
            others = (
                [path for path in filesystem.find(root) if path[len(root) :].lstrip("/") not in keep]
                if plan.delete
                else []
            )
            for path in others:
                filesystem.rm_file(path)
        except OSError as error:
            raise TargetUnwritable(
                f"{plan.target_url} cannot be written: {error}.",
                hint="Run the same command again: it goes on where it stopped.",
            ) from error
        if damage is not None:
            raise damage
    return RestoreResult(
        dataset=plan.record.dataset,
        snapshot=plan.record.id,
        target_url=plan.target_url,
        files=plan.files,
        size_bytes=plan.size_bytes,
        written_files=len(differing),
        written_bytes=written_bytes,
        unchanged_files=plan.files - len(differing),
        deleted=len(others),
        left_out=plan.left_out,
        seconds=plan.vault.clock.elapsed_seconds() - started,
    )
