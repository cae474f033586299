"""Index rows made by hand, and what a lookup says of them, for the tests of runs, merges and the cache."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3

from reopen.vault.index import NOT_FOUND, ChunkIndex, ids_array, worth_of
from reopen.vault.indexmerge import write_run
from reopen.vault.indexrun import Run, RunPart, make_run
from reopen.vault.tables import INDEX

Row = tuple[bytes, bytes, int]
"""Chunk id, pack, and a number from which everything else of the row is made."""


def a_row(number: int, pack: int = 0) -> Row:
    """A row with an id like a keyed hash."""
    return blake3(number.to_bytes(8, "little")).digest(), bytes([pack]) * 32, number


def table(rows: Iterable[Row]) -> pa.Table:
    """Rows as an index part has them. Each column's value tells the row's number, and its column."""
    rows = list(rows)
    numbers = [number for _, _, number in rows]
    columns: dict[str, list[Any]] = {name: [number + at for number in numbers] for at, name in enumerate(INDEX.names)}
    columns |= {
        "chunk_id": [chunk for chunk, _, _ in rows],
        "pack": [pack for _, pack, _ in rows],
        "slot_salt": [(number % 3).to_bytes(16, "big") for number in numbers],
        "frame_codec": [number % 2 for number in numbers],
    }
    return pa.table({name: pa.array(columns[name], INDEX.field(name).type) for name in INDEX.names}, schema=INDEX)


def a_part(name: str, writer: str = "us") -> RunPart:
    """An index part by name."""
    return RunPart(name=name, digest=f"digest of {name}", writer=writer)


def a_run(parts: dict[str, list[Row]]) -> Run:
    """A run in memory."""
    return make_run([(a_part(name), table(rows)) for name, rows in parts.items()])


def written(run: Run, path: Path) -> Run:
    """The run in a file, mapped."""
    return write_run([(run, np.ones(len(run.tables.sources), dtype=np.bool_))], path)


def looked_up(
    runs: Iterable[Run], ids: list[bytes], present: Collection[bytes] | None = None
) -> list[tuple[bytes, int] | None]:
    """For each id the pack and number that a lookup tells, ``None`` where it finds nothing.

    Every column is compared with what the number says: a row that is partly another's fails here.
    """
    every = list(runs)
    if present is None:
        present = {pack for run in every for pack in run.tables.pack_ids()}
    index = ChunkIndex.of_runs([(run, worth_of(run, present)) for run in every])
    positions = index.find(ids_array(b"".join(ids)))
    located = index.locate(positions[positions != NOT_FOUND])
    found: list[tuple[bytes, int] | None] = [None] * len(ids)
    for at, which in enumerate(np.flatnonzero(positions != NOT_FOUND).tolist()):
        number = int(located.frame_counter[at]) - INDEX.names.index("frame_counter")
        for name in ("frame_offset", "frame_length", "frame_raw_length", "chunk_offset", "chunk_length"):
            assert getattr(located, name)[at] == number + INDEX.names.index(name), name
        assert located.frame_codec[at] == number % 2
        assert bytes(located.salt[at]) == (number % 3).to_bytes(16, "big")
        found[which] = (index.packs[int(located.pack[at])], number)
    return found
