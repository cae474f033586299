"""Owns the restore to a target that is no local folder: bytes and names, no modes, times or links.

What is equal in another folder of the site is copied by the server itself where it can, whole files at a time (a store
of objects has no way to write a part of one), and then compared like everything else. What differs is restored into a
local folder, a bounded part at a time, and put from there; so it needs local room for :data:`PART_BYTES_MAX`, or for
the largest file.

Invariants
    M1  Nothing that is there, or that the server copied, is believed: it is read back and hashed, chunk by chunk.
    M2  Before each part, and before anything is deleted, the caller may object: there are no locks there, and a
        version that was promoted meanwhile is the business's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from reopen.errors import Corrupt, Refused, ReopenError
from reopen.progress import Progress
from reopen.recover.check import REMOTE_THREADS, RemoteReader
from reopen.recover.entries import Layout, raw_names
from reopen.recover.run import RestoreResult, damage_error
from reopen.recover.standby.seed import Seed
from reopen.storage.places import COPY_BYTES_MAX, Place, open_place
from reopen.vault.content import ChunkHasher

if TYPE_CHECKING:
    from reopen.recover.restore import RestorePlan

PART_BYTES_MAX = 1 << 30
PART_FILES_MAX = 10_000

Item = TypeVar("Item")
Result = TypeVar("Result")


def restore_remote(
    plan: RestorePlan,
    *,
    workers: int,
    progress: Progress,
    seeds: Sequence[Seed] = (),
    still: Callable[[], None] = lambda: None,
) -> RestoreResult:
    """Carry out a restore to a remote target.

    :param seeds: folders of the same site whose files the server may copy.
    :param still: raises when the target must not be written any more (M2).
    :raises Refused: two names that are one there. :raises TargetUnwritable: it refuses writes.
    :raises NotFound: its bucket is not there. :raises Transient: it does not answer.
    :raises Corrupt: some files are damaged in the vault; all the others were restored.
    """
    started = plan.vault.clock.elapsed_seconds()
    place, threads = open_place(plan.target_url), workers or REMOTE_THREADS
    shown, layout = _shown_names(plan), Layout(plan.manifest)
    rows, names = plan.entries.files.tolist(), plan.entries.names
    there = place.sizes()
    still()
    copied = _copy(plan, place, [row for row in rows if shown[row] not in there], shown, layout, seeds, threads)
    hasher = ChunkHasher(plan.vault.roots.chunk_id_key())
    reader = RemoteReader(place)
    found = _at_once(threads, lambda row: reader.check_file(names[row], layout, row, hasher)[0], rows)
    differing = [row for row, status in zip(rows, found, strict=True) if status != "ok"]
    written_bytes = 0
    damaged: dict[str, Corrupt] = {}
    for part in _parts(differing, layout):
        still()
        with tempfile.TemporaryDirectory(prefix="reopen-restore-") as folder:
            written_bytes += _restore_part(plan, part, folder, workers, progress, damaged)
            made = {row: Path(folder) / os.fsdecode(names[row]) for row in part}
            # What is not there is damaged in the vault.
            _at_once(threads, partial(_put, place, made, shown), _there(made))
    deleted = 0
    if plan.delete:
        still()
        others = [name for name in place.sizes() if name not in set(shown.values())]
        _at_once(threads, place.delete, others)
        deleted = len(others)
    if damaged:
        raise damage_error(plan, damaged)
    return RestoreResult(
        dataset=plan.record.dataset,
        snapshot=plan.record.id,
        target_url=plan.target_url,
        files=plan.files,
        size_bytes=plan.size_bytes,
        written_files=len(differing),
        written_bytes=written_bytes,
        unchanged_files=plan.files - len(differing),
        deleted=deleted,
        left_out=plan.left_out,
        seconds=plan.vault.clock.elapsed_seconds() - started,
        copied_files=len(copied),
        copied_bytes=sum(int(layout.file_sizes[row]) for row in copied),
    )


def _put(place: Place, made: dict[int, Path], shown: dict[int, str], row: int) -> None:
    place.put_file(made[row], shown[row])


def _copy_one(place: Place, source: str, shown: dict[int, str], row: int) -> bool:
    return place.copy_from(source, shown[row], shown[row])


def _there(made: dict[int, Path]) -> list[int]:
    return [row for row, path in made.items() if path.is_file()]


def _at_once(threads: int, call: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call for each of them, so many at a time; results in order. The first error ends it."""
    with ThreadPoolExecutor(threads, thread_name_prefix="reopen-remote") as pool:
        futures = [pool.submit(call, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _copy(
    plan: RestorePlan,
    place: Place,
    missing: Sequence[int],
    shown: dict[int, str],
    layout: Layout,
    seeds: Sequence[Seed],
    threads: int,
) -> list[int]:
    """Let the server copy files that are not there from folders that have the same; which rows it did."""
    copied: set[int] = set()
    for seed in seeds:
        try:
            theirs = open_place(seed.folder).sizes()
        except ReopenError:
            continue  # A folder that cannot be listed costs its copies; the vault has everything.
        same = _equal_rows(plan, layout, seed)
        wanted = [
            row
            for row in missing
            if row not in copied
            and 0 < theirs.get(shown[row], 0) == layout.file_sizes[row] <= COPY_BYTES_MAX
            and (same is None or row in same)
        ]
        done = _at_once(threads, partial(_copy_one, place, seed.folder, shown), wanted)
        copied |= {row for row, was_copied in zip(wanted, done, strict=True) if was_copied}
    return sorted(copied)


def _equal_rows(plan: RestorePlan, layout: Layout, seed: Seed) -> set[int] | None:
    """Rows whose file is the same, chunk by chunk, in the snapshot that a folder once held; None where that is not
    known, and equal size is all there is to go by."""
    if seed.manifest is None:
        return None
    theirs = Layout(seed.manifest)
    ids_of = {name: _ids(theirs, row) for row, name in enumerate(raw_names(seed.manifest))}
    names = plan.entries.names
    return {row for row in plan.entries.files.tolist() if ids_of.get(names[row]) == _ids(layout, row)}


def _ids(layout: Layout, row: int) -> bytes:
    chunks = layout.chunks_of(row)
    return layout.ids[chunks.start : chunks.stop].tobytes()


def _restore_part(
    plan: RestorePlan, rows: Sequence[int], folder: str, workers: int, progress: Progress, damaged: dict[str, Corrupt]
) -> int:
    """Restore some files into a local folder; returns the bytes from the vault."""
    from reopen.recover.restore import begin_restore, plan_entries

    chosen = plan.manifest.take(pa.array(rows, pa.int64()))
    part = plan_entries(plan.vault, plan.record, folder, chosen, plan.index)
    with begin_restore(part, workers=workers, progress=progress) as run:
        results = list(run.write(progress))
        try:
            run.finish(results)
        except Corrupt:
            damaged |= run.damaged  # Told at the end, for all parts together.
    return sum(result.written_bytes for result in results)


def _shown_names(plan: RestorePlan) -> dict[int, str]:
    """What each file is called there: text; bytes that are not UTF-8 are shown as ``\\xNN``."""
    names = plan.entries.names
    shown = {row: names[row].decode("utf-8", "backslashreplace") for row in plan.entries.files.tolist()}
    seen: dict[str, int] = {}
    for row, name in shown.items():
        if seen.setdefault(name, row) != row:
            raise Refused(
                f"two files of the snapshot would both be {name!r} in {plan.target_url}; nothing was restored.",
                hint="One of the names is not UTF-8: restore to a local folder, or one of the two with --path.",
            )
    return shown


def _parts(rows: Sequence[int], layout: Layout) -> Iterator[list[int]]:
    part: list[int] = []
    size = 0
    for row in rows:
        if part and (size + int(layout.file_sizes[row]) > PART_BYTES_MAX or len(part) >= PART_FILES_MAX):
            yield part
            part, size = [], 0
        part.append(row)
        size += int(layout.file_sizes[row])
    if part:
        yield part
