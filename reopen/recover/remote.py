"""Owns the restore to a target that is no local folder: bytes and names, no modes, times or links.

What differs there is restored into a local folder, a bounded part at a time, and put from there; so it needs local room
for :data:`PART_BYTES_MAX`, or for the largest file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reopen.errors import Corrupt, Refused, TargetUnwritable
from reopen.progress import Progress
from reopen.recover.check import RemoteReader
from reopen.recover.entries import Layout
from reopen.recover.run import RestoreResult, damage_error
from reopen.storage import open_filesystem
from reopen.vault.content import ChunkHasher

if TYPE_CHECKING:
    from reopen.recover.restore import RestorePlan

PART_BYTES_MAX = 1 << 30
PART_FILES_MAX = 10_000


def restore_remote(plan: RestorePlan, *, workers: int, progress: Progress) -> RestoreResult:
    """Carry out a restore to a remote target.

    :raises Refused: two names that are one there. :raises TargetUnwritable: it refuses writes.
    :raises Corrupt: some files are damaged in the vault; all the others were restored.
    """
    started = plan.vault.clock.elapsed_seconds()
    filesystem, root = open_filesystem(plan.target_url)
    shown = _shown_names(plan)
    layout, reader = Layout(plan.manifest), RemoteReader(plan.target_url)
    hasher = ChunkHasher(plan.vault.roots.chunk_id_key())
    names = plan.entries.names
    differing = [
        row for row in plan.entries.files.tolist() if reader.check_file(names[row], layout, row, hasher)[0] != "ok"
    ]
    written_bytes = 0
    damaged: dict[str, Corrupt] = {}
    for rows in _parts(differing, layout):
        with tempfile.TemporaryDirectory(prefix="reopen-restore-") as folder:
            written_bytes += _restore_part(plan, rows, folder, workers, progress, damaged)
            for row in rows:
                made = Path(folder) / os.fsdecode(names[row])
                if made.is_file():  # Else damaged in the vault.
                    _put(filesystem, made, f"{root}/{shown[row]}", plan.target_url)
    deleted = _delete_others(filesystem, root, reader, set(shown.values()), plan.target_url) if plan.delete else 0
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
    )


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


def _put(filesystem: Any, made: Path, target: str, url: str) -> None:
    try:
        filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
        filesystem.put_file(str(made), target)
    except OSError as error:
        raise _unwritable(url, error) from error


def _delete_others(filesystem: Any, root: str, reader: RemoteReader, keep: set[str], url: str) -> int:
    others = [name for name in (found.decode() for found in reader.names()) if name not in keep]
    try:
        for name in others:
            filesystem.rm_file(f"{root}/{name}")
    except OSError as error:
        raise _unwritable(url, error) from error
    return len(others)


def _unwritable(url: str, error: OSError) -> TargetUnwritable:
    return TargetUnwritable(
        f"{url} cannot be written: {error}.", hint="Run the same command again: it goes on where it stopped."
    )
