"""Owns the entries of a manifest as a recovery sees them: which are chosen, their names and attributes, and where their
chunks lie.

Everything is a column: there is no Python object for an entry but its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reopen.vault.tables import chunk_layout

COLUMNS = (
    "path",
    "path_raw",
    "type",
    "size_bytes",
    "mode",
    "uid",
    "gid",
    "mtime_s",
    "mtime_ns",
    "link_target",
    "link_target_raw",
    "link_group",
    "chunks",
    "chunk_sizes",
    "read_state",
)
"""What of a manifest a restore uses; of a million entries the rest takes a hundred megabytes."""
_ID_MAX = (1 << 32) - 2
"""The greatest user or group id; the next means "leave it" to the kernel."""


class Attributes(NamedTuple):
    """What an entry gets besides its bytes; ``None`` means the source did not know. ``mode`` is the permission bits
    with set-id and sticky, never a type."""

    mode: int | None
    uid: int | None
    gid: int | None
    mtime_ns: int | None


def select(manifest: pa.Table, patterns: Sequence[str]) -> pa.Table:
    """The entries of a manifest that patterns choose, with the folders that lead to them."""
    if not patterns:
        return manifest
    from reopen.sources.files import Selection

    selection = Selection(include=patterns)
    paths, kinds = manifest.column("path").to_pylist(), manifest.column("type").to_pylist()
    chosen = {
        path for path, kind in zip(paths, kinds, strict=True) if selection.takes(path + "/" if kind == "dir" else path)
    }
    folders = {path[:at] for path in chosen for at in range(len(path)) if path[at] == "/"}
    return manifest.filter(pa.array([path in chosen or path in folders for path in paths], pa.bool_()))


def raw_names(manifest: pa.Table) -> list[bytes]:
    """The raw names of a manifest's rows."""
    names: list[bytes] = pc.coalesce(
        manifest.column("path_raw"), pc.cast(manifest.column("path"), pa.binary())
    ).to_pylist()
    return names


class Entries:
    """The rows of a manifest by kind, and their attributes. ``files``, ``folders`` and ``symlinks`` are row numbers,
    less what the snapshot could not read (a folder that could not be listed is a folder all the same)."""

    def __init__(self, manifest: pa.Table) -> None:
        kinds = manifest.column("type")
        read = pc.not_equal(manifest.column("read_state"), "unreadable")
        self.names = raw_names(manifest)
        self.is_folder = _mask(pc.equal(kinds, "dir"))
        self.files = np.flatnonzero(_mask(pc.and_(pc.equal(kinds, "file"), read)))
        self.folders = np.flatnonzero(self.is_folder)
        self.symlinks = np.flatnonzero(_mask(pc.and_(pc.equal(kinds, "symlink"), read)))
        self.left_out = int(_mask(pc.or_(pc.equal(kinds, "special"), pc.invert(read))).sum())
        self._mode = _integers(manifest, "mode")
        self._uid, self._gid = _integers(manifest, "uid"), _integers(manifest, "gid")
        self._mtime_s, self._mtime_ns = _integers(manifest, "mtime_s"), _integers(manifest, "mtime_ns")
        self._has_time = _mask(manifest.column("mtime_s").is_valid())

    def attributes(self, rows: NDArray[np.int64]) -> list[Attributes]:
        """Attributes of rows, in their order; ids that no system has are left out."""
        return [
            Attributes(
                None if mode == -1 else mode & 0o7777,
                uid if 0 <= uid <= _ID_MAX else None,
                gid if 0 <= gid <= _ID_MAX else None,
                seconds * 1_000_000_000 + max(nanoseconds, 0) if timed else None,
            )
            for mode, uid, gid, seconds, nanoseconds, timed in zip(
                self._mode[rows].tolist(),
                self._uid[rows].tolist(),
                self._gid[rows].tolist(),
                self._mtime_s[rows].tolist(),
                self._mtime_ns[rows].tolist(),
                self._has_time[rows].tolist(),
                strict=True,
            )
        ]


class Layout:
    """The chunks of a manifest by row: ``ids`` ``(n, 32)``, and for each its ``rows`` number, ``sizes`` and
    ``offsets`` in the file, in bytes. ``file_sizes`` is by row of the manifest."""

    def __init__(self, manifest: pa.Table) -> None:
        self.ids, self.rows, self.sizes = chunk_layout(manifest)
        counts = np.bincount(self.rows, minlength=manifest.num_rows)
        self.first: NDArray[np.int64] = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        ends = np.cumsum(self.sizes)
        starts = ends - self.sizes
        base = starts[self.first[:-1][counts > 0]]
        self.offsets: NDArray[np.int64] = starts - np.repeat(base, counts[counts > 0])
        self.file_sizes: NDArray[np.int64] = manifest.column("size_bytes").to_numpy()

    def chunks_of(self, row: int) -> range:
        """Numbers of the chunks of a row, in file order."""
        return range(int(self.first[row]), int(self.first[row + 1]))

    def chunks_of_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the chunks of many rows, in their order."""
        starts, counts = self.first[rows], self.first[rows + 1] - self.first[rows]
        before = np.cumsum(counts) - counts
        chunks: NDArray[np.int64] = np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(starts - before, counts)
        return chunks


def _mask(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy(), dtype=np.bool_)


def _integers(manifest: pa.Table, name: str) -> NDArray[np.int64]:
    """A column of numbers, -1 where there is none."""
    column = pc.fill_null(pc.cast(manifest.column(name), pa.int64()), -1)
    values: NDArray[np.int64] = np.asarray(column.to_numpy(), dtype=np.int64)
    return values
