"""Owns finding what of a snapshot is in a target already: every file that is there is read and compared chunk by chunk;
size and time alone are not believed.

Of a file that is partly right the chunks that are right are copied to where it grows, so that only the others need to
be fetched; a file that is right gets its attributes, in place.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reopen.errors import ReopenError
from reopen.pool import Advance, Stopped
from reopen.recover.entries import Entries, Layout
from reopen.recover.target import Target
from reopen.recover.tree import TREE_ERRORS, TreeWriter, stops_all, target_error
from reopen.vault.content import ChunkHasher

COMPARED_ROWS_MAX = 4096
COMPARED_BYTES_MAX = 256 << 20


@dataclass(slots=True, kw_only=True)
class Compared:
    """What of some files is there. ``missing``: numbers of chunks to fetch; ``begun``: rows of files that grow in the
    work folder already; ``empty``: rows of files without a byte that are to be made; ``failed``: rows that the target
    did not take, with the reason."""

    missing: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    unchanged_files: int = 0
    written_files: int = 0
    failed: dict[int, ReopenError] = field(default_factory=dict)


def cut_rows(rows: NDArray[np.int64], layout: Layout) -> list[NDArray[np.int64]]:
    """Rows in parts of bounded bytes and number."""
    total = np.cumsum(layout.file_sizes[rows])
    parts, first = [], 0
    while first < len(rows):
        before = int(total[first - 1]) if first else 0
        within = int(np.searchsorted(total, before + COMPARED_BYTES_MAX, side="right"))
        last = min(len(rows), first + COMPARED_ROWS_MAX, max(within, first + 1))
        parts.append(rows[first:last])
        first = last
    return parts


class Comparer:
    """Compares parts of a snapshot's files with a target."""

    def __init__(self, target: Target, entries: Entries, layout: Layout, hasher: ChunkHasher) -> None:
        self._target = target
        self._entries = entries
        self._layout = layout
        self._hasher = hasher

    def compare(self, number: int, rows: NDArray[np.int64], advance: Advance, stopped: Stopped) -> Compared:
        """Settle every file that is right already, and find what the others lack."""
        found = Compared()
        attributes = self._entries.attributes(rows)
        with self._target.writer(b"compare-%d" % number) as writer:
            for row, wanted in zip(rows.tolist(), attributes, strict=True):
                if stopped():
                    break
                name = self._entries.names[row]
                descriptor = writer.open_existing(name)
                try:
                    if descriptor is None:
                        self._take_all(found, row)
                    elif self._compare_file(found, writer, descriptor, row):
                        changed = writer.set_attributes(descriptor, wanted)
                        found.written_files += changed
                        found.unchanged_files += not changed
                        advance(int(self._layout.file_sizes[row]))
                    elif found.begun[-1:] == [row] and not self._lacks_any(found, row):
                        writer.finish_file(row, name, wanted)
                        found.begun.pop()
                        found.written_files += 1
                except TREE_ERRORS as error:
                    told = target_error(error, writer.shown(name))
                    if stops_all(error):
                        raise told from error
                    found.failed[row] = told
                finally:
                    if descriptor is not None:
                        os.close(descriptor)
        return found

    def _compare_file(self, found: Compared, writer: TreeWriter, descriptor: int, row: int) -> bool:
        """Whether a file is right; if not, what it lacks is noted and what is right of it is copied."""
        layout = self._layout
        chunks = layout.chunks_of(row)
        matching = [at for at in chunks if self._matches(descriptor, at)]
        if len(matching) == len(chunks) and os.fstat(descriptor).st_size == layout.file_sizes[row]:
            return True
        if not chunks:
            found.empty.append(row)
            return False
        for at in matching:
            offset = int(layout.offsets[at])
            writer.write_piece(row, offset, memoryview(os.pread(descriptor, int(layout.sizes[at]), offset)))
        kept = set(matching)
        found.missing.extend(at for at in chunks if at not in kept)
        if matching:
            found.begun.append(row)
        return False

    def _lacks_any(self, found: Compared, row: int) -> bool:
        return bool(found.missing) and found.missing[-1] in self._layout.chunks_of(row)

    def _take_all(self, found: Compared, row: int) -> None:
        chunks = self._layout.chunks_of(row)
        found.missing.extend(chunks)
        if not chunks:
            found.empty.append(row)

    def _matches(self, descriptor: int, at: int) -> bool:
        size = int(self._layout.sizes[at])
        data = os.pread(descriptor, size, int(self._layout.offsets[at]))
        return len(data) == size and self._hasher(data) == self._layout.ids[at].tobytes()
