"""Owns restoring a few named files of a recovery point, and choosing them by a seed, beside the plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from reopen.recover.index import index_for_restore
from reopen.recover.plan import PlannedDataset
from reopen.recover.restore import RestoreResult, execute_restore, plan_entries
from reopen.recover.scenarios.model import pick
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.tables import chunk_layout


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of a snapshot: its path and how large it is."""

    path: str
    size_bytes: int


def record_of(vault: Vault, dataset: PlannedDataset) -> SnapshotRecord | None:
    """The record of a planned dataset's recovery point; None where it has none."""
    return None if dataset.point is None else vault.find(dataset.name, dataset.point.snapshot)


def files_of(manifest: pa.Table) -> list[StoredFile]:
    """Files with content whose names are text, by path. A name that is not UTF-8 is left alone by scenarios."""
    rows = manifest.select(["path", "type", "size_bytes", "path_raw", "read_state", "link_group"]).to_pylist()
    return sorted(
        (
            StoredFile(path=row["path"], size_bytes=row["size_bytes"])
            for row in rows
            if row["type"] == "file"
            and row["size_bytes"]
            and row["path_raw"] is None
            # Another name of the same file would keep its content alive, or change along with it.
            and row["link_group"] is None
            and row["read_state"] != "unreadable"
        ),
        key=lambda file: file.path,
    )


def in_drawn_order(files: Sequence[StoredFile], *, seed: int, purpose: str) -> list[StoredFile]:
    """The files in an order that a seed decides."""
    return sorted(files, key=lambda file: (pick(seed, f"{purpose}\0{file.path}", 1 << 62), file.path))


def restore_files(
    vault: Vault, record: SnapshotRecord, paths: Iterable[str], target: str | Path, *, workers: int = 1
) -> RestoreResult:
    """Restore exactly these files, and the folders that lead to them; whatever else is at the target stays."""
    chosen = set(paths)
    needed = chosen | {path[:at] for path in chosen for at in range(len(path)) if path[at] == "/"}
    manifest = vault.manifest(record)
    manifest = manifest.filter(pa.array([path in needed for path in manifest.column("path").to_pylist()], pa.bool_()))
    index = index_for_restore(vault, chunk_layout(manifest)[0])
    return execute_restore(plan_entries(vault, record, str(target), manifest, index), workers=workers)
