"""Owns the entries of a manifest as a recovery sees them: which are chosen, their names, and where their chunks lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reopen.sources.files import Selection
from reopen.vault.tables import chunk_layout


def select(manifest: pa.Table, patterns: Sequence[str]) -> pa.Table:
    """The entries of a manifest that patterns choose, with the folders that lead to them."""
    if not patterns:
        return manifest
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


def with_folders(names: Iterable[bytes]) -> set[bytes]:
    """Names, and every folder that leads to one of them."""
    found = set(names)
    return found | {name[:at] for name in found for at in range(len(name)) if name[at : at + 1] == b"/"}


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
        self.file_sizes = manifest.column("size_bytes").to_numpy()

    def chunks_of(self, row: int) -> range:
        """Numbers of the chunks of a row, in file order."""
        return range(int(self.first[row]), int(self.first[row + 1]))
