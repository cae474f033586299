"""Owns a restore between its beginning and its end: what is right already, the shards of what is not, and what comes
after the last shard.

Invariants
    I1  Links are made when all files are there, deletions follow, folders get their attributes last.
    I2  A file is damaged when no copy of a chunk of it in the vault is good; one bad copy is not enough.
    I3  What could not be restored is told when everything else was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from reopen.errors import Conflict, Corrupt, NotFound, ReopenError, TargetUnwritable
from reopen.pool import Advance, Part, Stopped, can_fork, give_back_memory, run_parts
from reopen.progress import SILENT, Progress
from reopen.recover.compare import Compared, Comparer, cut_rows
from reopen.recover.entries import Layout
from reopen.recover.fetch import Fetcher, Pieces, plan_fetch
from reopen.recover.names import check_folding
from reopen.recover.shards import RestoreShard, ShardResult, cut_shards, restore_shard
from reopen.recover.standby.seed import Copier, Seed, Seeded
from reopen.recover.target import Target
from reopen.recover.tree import TREE_ERRORS, TreeWriter, stops_all, target_error
from reopen.storage import local_path
from reopen.storage.throttle import is_throttled
from reopen.vault.content import ChunkHasher
from reopen.vault.index import ChunkIndex
from reopen.vault.indexparts import load_index

if TYPE_CHECKING:
    from reopen.recover.restore import RestorePlan

NAMED_MAX = 3
"""Damaged files, or entries not taken, that an error names; `reopen verify` names more."""


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
    copied_files: int = 0
    copied_bytes: int = 0
    """What was taken from folders of the same site, before it was compared."""


class RestoreRun:
    """A restore between its beginning and its end. Made by :func:`reopen.recover.restore.begin_restore`."""

    def __init__(self, plan: RestorePlan, target: Target, at_once: int, seeds: Sequence[Seed] = ()) -> None:
        self._seeds = seeds
        self._seeded = Seeded()
        self._plan = plan
        self._target = target
        self._at_once = at_once
        self._entries = plan.entries
        self._layout = Layout(plan.manifest)
        self._started = plan.vault.clock.elapsed_seconds()
        self._written_files = 0
        self._written_bytes = 0
        self._unchanged_files = 0
        self._damaged: dict[int, Corrupt] = {}
        self._failed: dict[int, ReopenError] = {}
        self._bad_packs: set[bytes] = set()
        self._links: list[tuple[int, int]] = []
        self._shared: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._target.__exit__(kind, error, trace)

    @property
    def damaged(self) -> Mapping[str, Corrupt]:
        """Paths of files that could not be had from the vault, with the reason; all of them once it is finished."""
        paths = self._plan.manifest.column("path")
        return {paths[row].as_py(): self._damaged[row] for row in sorted(self._damaged)}

    @property
    def shard_count(self) -> int:
        """How many shards there are; none when everything is right already."""
        return len(self._cuts)

    def begin(self, progress: Progress) -> None:
        """Everything before the first shard."""
        plan, entries, target = self._plan, self._entries, self._target
        target.begin()
        check_folding((*plan.folders, *entries.names) if target.folding else (), target.folding)
        unmade = target.make_folders(plan.folders)
        for row in entries.folders.tolist() if unmade else ():
            if entries.names[row] in unmade:
                self._failed[row] = self._told(unmade[entries.names[row]], row)
        files, self._links = self._split_links()
        seeded = self._seed(files, progress) if self._seeds else Seeded()
        if target.was_empty and not seeded.files:
            compared = Compared()
            missing = self._layout.chunks_of_rows(files)
            compared.empty = files[self._layout.first[files] == self._layout.first[files + 1]].tolist()
        else:
            compared = self._compare(files, progress)
            missing = np.array(compared.missing, dtype=np.int64)
        self._divide(missing, compared, plan.index)
        give_back_memory()

    def write(self, progress: Progress) -> Iterator[ShardResult]:
        """Write every shard with this machine's workers; results as they come."""
        plan = self._plan
        fetcher: list[Fetcher] = []

        def prepare() -> Part:
            if not fetcher:
                fetcher.append(Fetcher(plan.vault))

            def write(number: int, advance: Advance, stopped: Stopped) -> ShardResult:
                shard = self.shard(number)
                return restore_shard(plan.vault, shard, fetcher=fetcher[0], advance=advance, stopped=stopped)

            return write

        yield from self._run(prepare, self.shard_count, progress, plan.record.dataset, int(self._size.sum()))

    def shard(self, number: int) -> RestoreShard:
        """One shard, to be written by whoever has the vault's keys and sees the target."""
        first, last = self._cuts[number]
        rows, file, counts = np.unique(self._row[first:last], return_inverse=True, return_counts=True)
        empty = self._empty[number]
        size = self._size[first:last]
        whole = np.zeros(len(rows), dtype=np.bool_)
        single = counts[file] == 1
        begins = single & (size == self._layout.file_sizes[self._row[first:last]])
        whole[file[begins]] = True
        ends_here = ~np.isin(rows, self._shared)
        return RestoreShard(
            number=number,
            root=self._target.root,
            work=self._target.work,
            rows=np.concatenate((rows, empty)),
            names=[self._entries.names[row] for row in (*rows.tolist(), *empty.tolist())],
            attributes=self._entries.attributes(np.concatenate((rows, empty))),
            counts=np.concatenate((counts, np.zeros(len(empty), dtype=np.int64))),
            is_whole=np.concatenate((whole, np.ones(len(empty), dtype=np.bool_))),
            ends_here=np.concatenate((ends_here, np.ones(len(empty), dtype=np.bool_))),
            pieces=self._pieces.slice(first, last),
            file=file,
            offset=self._offset[first:last],
            size=size,
        )

    def finish(self, results: Iterable[ShardResult]) -> RestoreResult:
        """End the restore: files that several shards wrote, links, deletions, folders' attributes.

        :raises TargetUnwritable, Conflict: entries that the target did not take. :raises Corrupt: damaged files.
        """
        self._take(results)
        plan, entries = self._plan, self._entries
        with self._target.writer(b"finish") as writer:
            self._finish_shared(writer)
            if self._damaged:
                self._take_other_copies(writer)
            self._make_links(writer)
            deleted = self._target.delete_others((*entries.names, *plan.folders)) if plan.delete else 0
            names = [entries.names[row] for row in entries.folders.tolist()]
            unfinished = self._target.finish_folders(names, entries.attributes(entries.folders), writer)
            for row, name in zip(entries.folders.tolist(), names, strict=True):
                if name in unfinished:
                    self._failed.setdefault(row, self._told(unfinished[name], row))
        self._target.finish()
        self._refuse_what_is_missing()
        return RestoreResult(
            dataset=plan.record.dataset,
            snapshot=plan.record.id,
            target_url=plan.target_url,
            files=plan.files,
            size_bytes=plan.size_bytes,
            written_files=self._written_files,
            written_bytes=self._written_bytes,
            unchanged_files=self._unchanged_files,
            deleted=deleted,
            left_out=plan.left_out,
            seconds=plan.vault.clock.elapsed_seconds() - self._started,
            copied_files=self._seeded.files,
            copied_bytes=self._seeded.size_bytes,
        )

    def _take(self, results: Iterable[ShardResult]) -> None:
        for result in results:
            self._written_files += result.written_files
            self._written_bytes += result.written_bytes
            self._damaged |= {row: error for row, error in result.damaged.items() if row not in self._damaged}
            self._failed |= {row: error for row, error in result.failed.items() if row not in self._failed}
            self._bad_packs |= result.bad_packs

    def _take_other_copies(self, writer: TreeWriter) -> None:
        """Try damaged files again, from whatever other packs hold their chunks, until no pack is newly found bad: a
        chunk may be stored twice, and one that prune has moved since the plan is found in the index of now."""
        told = dict(self._damaged)
        try:
            index = load_index(self._plan.vault)
        except (Corrupt, NotFound):
            return  # What is damaged is told as it is.
        known_bad = None
        while self._damaged and self._bad_packs != known_bad:
            known_bad = set(self._bad_packs)
            missing = self._layout.chunks_of_rows(np.array(sorted(self._damaged), dtype=np.int64))
            self._damaged.clear()
            self._divide(missing, Compared(), index, avoid=frozenset(known_bad))
            self._take(self.write(SILENT))
            self._finish_shared(writer)
        self._damaged = {row: told.get(row, error) for row, error in self._damaged.items()}

    def _split_links(self) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
        """Files to write, and hard links as (row, row of the file it links to)."""
        files = self._entries.files
        groups = self._plan.manifest.column("link_group")
        if groups.null_count == len(groups):
            return files, []
        in_group = np.asarray(groups.is_valid().to_numpy(), dtype=np.bool_)[files]
        first: dict[tuple[str, bytes], int] = {}
        links = []
        for row in files[in_group].tolist():
            # The scan saw one file under both names; what was read later under each may differ.
            chunks = self._layout.chunks_of(row)
            same = (groups[row].as_py(), self._layout.ids[chunks.start : chunks.stop].tobytes())
            if first.setdefault(same, row) != row:
                links.append((row, first[same]))
        return np.setdiff1d(files, np.array([row for row, _ in links], dtype=np.int64), assume_unique=True), links

    def _compare(self, files: NDArray[np.int64], progress: Progress) -> Compared:
        plan = self._plan
        hasher = ChunkHasher(plan.vault.roots.chunk_id_key())
        comparer = Comparer(self._target, self._entries, self._layout, hasher)
        parts = cut_rows(files, self._layout)

        def prepare() -> Part:
            return lambda number, advance, stopped: comparer.compare(number, parts[number], advance, stopped)

        total = Compared()
        label = f"{plan.record.dataset}: compare"
        for found in self._run(prepare, len(parts), progress, label, plan.size_bytes):
            total.missing += found.missing
            total.begun += found.begun
            total.empty += found.empty
            self._unchanged_files += found.unchanged_files
            self._written_files += found.written_files
            self._failed |= found.failed
        return total

    def _seed(self, files: NDArray[np.int64], progress: Progress) -> Seeded:
        """Copy what this site has already; the comparison that follows believes none of it."""
        copier = Copier(self._seeds, self._entries, self._layout, files)
        parts = cut_rows(files, self._layout)
        target = self._target

        def prepare() -> Part:
            return lambda number, advance, stopped: copier.copy(target, number, parts[number], advance, stopped)

        label = f"{self._plan.record.dataset}: copy"
        for done in self._run(prepare, len(parts), progress, label, self._plan.size_bytes):
            self._seeded.files += done.files
            self._seeded.size_bytes += done.size_bytes
        return self._seeded

    def _divide(
        self,
        missing: NDArray[np.int64],
        compared: Compared,
        index: ChunkIndex,
        *,
        avoid: frozenset[bytes] = frozenset(),
    ) -> None:
        """Cut what must be fetched into shards."""
        layout = self._layout
        pieces, numbers, lost = plan_fetch(index, layout.ids[missing], avoid=avoid)
        for row in layout.rows[missing[lost]].tolist():
            self._damaged.setdefault(row, Corrupt("no pack in the vault holds it"))
        chunks = missing[numbers]
        self._pieces: Pieces = pieces
        self._row, self._offset, self._size = layout.rows[chunks], layout.offsets[chunks], layout.sizes[chunks]
        empty = np.array(compared.empty, dtype=np.int64)
        cuts = cut_shards(pieces, at_once=self._at_once) or ([(0, 0)] if len(empty) else [])
        self._cuts = cuts
        self._empty = np.array_split(empty, len(cuts)) if cuts else []
        # A file that two shards write is ended by neither; one with a chunk that is not to be had never.
        shard = np.repeat(np.arange(len(cuts)), [last - first for first, last in cuts])
        lowest = np.full(self._plan.manifest.num_rows, len(cuts), dtype=np.int64)
        highest = np.full(self._plan.manifest.num_rows, -1, dtype=np.int64)
        np.minimum.at(lowest, self._row, shard)
        np.maximum.at(highest, self._row, shard)
        shared = lowest < highest
        shared[list(self._damaged)] = True
        self._shared = np.flatnonzero(shared)

    def _run(
        self, prepare: Callable[[], Part], count: int, progress: Progress, label: str, total: int
    ) -> Iterator[Any]:
        """Run parts as one stage of progress. The stage begins with the first news, when processes were forked: a bar
        has a thread."""
        begun = False

        def advance(amount: int) -> None:
            nonlocal begun
            if not begun:
                progress.start(label, total, "bytes")
                begun = True
            progress.advance(amount)

        store = self._plan.vault.store
        fork = local_path(store.url) is not None and can_fork() and not is_throttled(store)
        yield from run_parts(prepare, count, at_once=self._at_once, fork=fork, advance=advance, purpose="the restore")
        if begun:
            progress.finish()

    def _finish_shared(self, writer: TreeWriter) -> None:
        rows = [row for row in self._shared.tolist() if row not in self._damaged and row not in self._failed]
        for row, attributes in zip(rows, self._entries.attributes(np.array(rows, dtype=np.int64)), strict=True):
            try:
                writer.finish_file(row, self._entries.names[row], attributes)
                self._written_files += 1
            except TREE_ERRORS as error:
                self._failed[row] = self._told(error, row)

    def _make_links(self, writer: TreeWriter) -> None:
        """Hard links and symlinks, when all files are there."""
        names = self._entries.names
        for row, first in self._links:
            if first in self._damaged:
                self._damaged[row] = self._damaged[first]
                continue
            try:
                self._written_files += writer.write_hard_link(names[row], names[first])
            except TREE_ERRORS as error:
                self._failed[row] = self._failed.get(first) or self._told(error, row)
        rows = self._entries.symlinks
        targets, raw = self._plan.manifest.column("link_target"), self._plan.manifest.column("link_target_raw")
        for row, attributes in zip(rows.tolist(), self._entries.attributes(rows), strict=True):
            target = raw[row].as_py() or (targets[row].as_py() or "").encode()
            try:
                writer.write_symlink(names[row], target, attributes)
            except TREE_ERRORS as error:
                self._failed[row] = self._told(error, row)

    def _told(self, error: Exception, row: int) -> ReopenError:
        """An entry's error for people; raised when it is not of one entry only."""
        told = target_error(error, self._target.tree.shown(self._entries.names[row]))
        if stops_all(error):
            raise told from error
        return told

    def _refuse_what_is_missing(self) -> None:
        """Say what could not be restored, after everything else was (I3)."""
        plan = self._plan
        paths, damaged = plan.manifest.column("path"), self.damaged
        failed = {paths[row].as_py(): self._failed[row] for row in sorted(self._failed)}
        if damaged:
            raise damage_error(plan, damaged, untaken=len(failed))
        if len(failed) == 1:
            raise next(iter(failed.values()))
        if failed:
            first = next(iter(failed.values()))
            # What kind of error it is decides what a caller does: what is in the way is for people to clear.
            kind = Conflict if all(isinstance(error, Conflict) for error in failed.values()) else TargetUnwritable
            raise kind(
                f"{len(failed)} entries could not be restored: {_examples(failed)} ({first.message.rstrip('.')}). "
                f"The others are in {plan.target_url}.",
                hint=first.hint,
                dataset=plan.record.dataset,
                entries=len(failed),
            )


def damage_error(plan: RestorePlan, damaged: Mapping[str, Corrupt], *, untaken: int = 0) -> Corrupt:
    """What to raise when files could not be had from the vault, by their paths; all the others were restored."""
    others = f" {untaken} more were not taken by the target." if untaken else ""
    return Corrupt(
        f"{len(damaged)} of {plan.files} files of snapshot {plan.record.id} of {plan.record.dataset} "
        f"{'is' if len(damaged) == 1 else 'are'} damaged in "
        f"{plan.vault.store.url}: {_examples(damaged)} ({next(iter(damaged.values())).message.rstrip('.')}). "
        f"The others are in {plan.target_url}.{others}",
        hint="Restore into the same target from the replica (--vault SITE), only these are read; `reopen repair` helps "
        "when it is the index that is lost.",
        dataset=plan.record.dataset,
        files=len(damaged),
    )


def _examples(paths: Iterable[str]) -> str:
    named = list(islice(paths, NAMED_MAX + 1))
    return ", ".join(named[:NAMED_MAX]) + (" …" if len(named) > NAMED_MAX else "")
