"""Owns writing runs: several into one file, in pieces of bounded size.

Invariants
    I1  What is written was checked: a damaged row of an old file never gets a new check.
    I2  A file appears under its name whole and on the disk, or not at all.
    I3  Memory is bounded by :data:`ROWS_A_STEP`, however many rows there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from reopen.errors import Internal
from reopen.ids import RandomBytes, system_random
from reopen.vault.indexrun import (
    ROW,
    SOURCE,
    U64,
    Layout,
    Run,
    RunPart,
    RunTables,
    check_rows,
    encode_tables,
    factors,
    open_run,
)

ROWS_A_STEP = 1 << 18


class _Input:
    """A run with what stays of it, and the new numbers of its sources."""

    def __init__(self, run: Run, keep: NDArray[np.bool_], first_source: int) -> None:
        self.run = run
        self.keep = keep
        self.keeps_all = bool(keep.all())
        self.new_source = (np.cumsum(keep) - 1 + first_source).astype(np.uint32)
        # Only parts that still have a source are named again; all of them, when nothing is left out.
        self.part_kept = np.full(len(run.tables.parts), self.keeps_all)
        self.part_kept[run.tables.sources["part"][keep]] = True
        self.rows = int(run.tables.sources["rows"][keep].sum())


def write_run(
    runs: Sequence[tuple[Run, NDArray[np.bool_]]], path: Path, *, random_bytes: RandomBytes = system_random
) -> Run:
    """Merge runs into a file and map it.

    :param runs: each with which of its sources stay. :param path: the new file; its folder exists.
    :raises Corrupt: one of them is damaged; its file was removed, nothing was written (I1).
    """
    inputs: list[_Input] = []
    for run, keep in runs:
        inputs.append(_Input(run, keep, sum(int(item.keep.sum()) for item in inputs)))
    key = random_bytes(16)
    begin, places = encode_tables(key, _merged_tables(inputs), sum(item.rows for item in inputs))
    temporary = path.with_suffix(".new")
    try:
        with temporary.open("wb") as file:
            file.write(begin)
            file.truncate(places.end)
            _write_rows(file, inputs, places, factors(key))
            file.flush()
            # Else a power cut could leave a file of zeros under the name: it would hide chunks, run after run (I2).
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return open_run(path)


def _merged_tables(inputs: Sequence[_Input]) -> RunTables:
    parts: list[RunPart] = []
    sources = [np.zeros(0, dtype=SOURCE)]
    for item in inputs:
        tables = item.run.tables
        new_part = np.cumsum(item.part_kept) - 1 + len(parts)
        parts += [part for part, kept in zip(tables.parts, item.part_kept, strict=True) if kept]
        stay = tables.sources[item.keep]
        stay["part"] = new_part[stay["part"]]
        sources.append(stay)
    return RunTables(parts=tuple(parts), sources=np.concatenate(sources))


def _write_rows(file: BinaryIO, inputs: Sequence[_Input], places: Layout, by: U64) -> None:
    written, last = 0, 0
    for pieces in _pieces([item.run for item in inputs]):
        taken = [_taken(item, start, end) for item, (start, end) in zip(inputs, pieces, strict=True)]
        prefixes = np.concatenate([some for some, _ in taken])
        if len(prefixes) == 0:
            continue
        order = np.argsort(prefixes, kind="stable")
        prefixes = prefixes[order]
        if int(prefixes[0]) < last:
            break
        last = int(prefixes[-1])
        rows = np.concatenate([some for _, some in taken])[order]
        rows["check"] = check_rows(rows, prefixes, by)
        file.seek(places.prefixes + written * 8)
        file.write(prefixes.astype("<u8", copy=False).data)
        file.seek(places.rows + written * ROW.itemsize)
        file.write(rows.data)
        written += len(prefixes)
    if written != sum(item.rows for item in inputs):
        # Rows were not between the borders where they belong: a file is out of order, and checking it whole says which.
        for item in inputs:
            item.run.check_all()
        raise Internal("the rows of several runs do not add up when they are merged.")


def _taken(item: _Input, start: int, end: int) -> tuple[U64, NDArray[Any]]:
    """The rows of one input between two positions that stay, with their new sources."""
    prefixes, rows = np.array(item.run.prefixes[start:end], dtype=np.uint64), item.run.rows[start:end].copy()
    # Order is part of what a lookup relies on, and no row's check covers its neighbours.
    in_order = bool((prefixes[:-1] <= prefixes[1:]).all())
    if not in_order or not item.run.good_rows(np.arange(start, end), rows).all():
        raise item.run.distrust()
    if not item.keeps_all:
        stay = item.keep[rows["source"]]
        prefixes, rows = prefixes[stay], rows[stay]
    rows["source"] = item.new_source[rows["source"]]
    item.run.forget(end - start)
    return prefixes, rows


def _pieces(runs: Sequence[Run]) -> Iterator[list[tuple[int, int]]]:
    """Ranges of positions in every run, piece by piece: a piece holds all rows between two prefixes, about
    :data:`ROWS_A_STEP` of them."""
    count = max(1, -(-sum(map(len, runs)) // ROWS_A_STEP))
    largest = max(runs, key=len)
    # Ids are even, so the quantiles of one run part them all alike.
    borders = largest.prefixes[[len(largest) * number // count for number in range(1, count)]]
    ends = [[*np.searchsorted(run.prefixes, borders).tolist(), len(run)] for run in runs]
    for piece in range(count):
        yield [(end[piece - 1] if piece else 0, end[piece]) for end in ends]
