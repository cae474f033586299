"""Owns writing runs: several into one file, in pieces of bounded size.

Invariants
    I1  What is written was checked: a damaged row of an old file never gets a new check.
    I2  A file appears under its name whole and on the disk, or not at all.
    I3  Memory is bounded by :data:`ROWS_A_STEP`, however many rows there are (besides four bytes a frame of the inputs
        where rows are left out).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from reopen.errors import Internal
from reopen.ids import RandomBytes, system_random
from reopen.vault.indexrun import (
    FRAME,
    ROW,
    SALT,
    SOURCE,
    U64,
    Layout,
    Run,
    RunPart,
    RunTables,
    check_frames,
    check_rows,
    encode_tables,
    factors,
    open_run,
)

ROWS_A_STEP = 1 << 20


class _Input:
    """A run with what stays of it, and how its numbers change on the way into the output."""

    def __init__(self, run: Run, keep: NDArray[np.bool_]) -> None:
        self.run = run
        self.keeps_all = bool(keep.all())
        self.keep_source = keep
        # Only parts that still have a source are named again; all of them, when nothing is left out.
        named = np.zeros(len(run.tables.parts), dtype=np.bool_)
        named[run.tables.sources["part"][keep]] = True
        self.part_kept = named | self.keeps_all
        self.rows = int(run.tables.sources["rows"][keep].sum())
        self.new_frame: NDArray[np.uint32] | None = None
        self.frames = len(run.frames)
        if not self.keeps_all:
            # A damaged number is clipped here and refused when the frame is checked.
            kept = keep.take(run.frames["source"], mode="clip")
            self.frames = int(kept.sum())
            # The number of each frame that stays, among those that stay.
            self.new_frame = np.cumsum(kept, dtype=np.uint32)
            self.new_frame -= np.uint32(1)
            self.new_frame[~kept] = _DROPPED


_DROPPED = np.uint32(0xFFFFFFFF)


def write_run(
    runs: Sequence[tuple[Run, NDArray[np.bool_]]], path: Path, *, random_bytes: RandomBytes = system_random
) -> Run:
    """Merge runs into a file and map it.

    :param runs: each with which of its sources stay. :param path: the new file; its folder exists.
    :raises Corrupt: one of them is damaged; its file was removed, nothing was written (I1).
    """
    inputs = [_Input(run, keep) for run, keep in runs]
    key = random_bytes(16)
    tables = _merged_tables(inputs)
    begin, places = encode_tables(key, tables, sum(item.rows for item in inputs), sum(item.frames for item in inputs))
    temporary = path.with_suffix(".new")
    try:
        with temporary.open("wb") as file:
            file.write(begin)
            file.truncate(places.end)
            _write_frames(file, inputs, places, factors(key))
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
    sources, salts = [np.zeros(0, dtype=SOURCE)], [np.zeros(0, dtype=SALT)]
    for item in inputs:
        tables = item.run.tables
        new_part = np.cumsum(item.part_kept) - 1 + len(parts)
        parts += [part for part, kept in zip(tables.parts, item.part_kept, strict=True) if kept]
        stay = tables.sources[item.keep_source]
        stay["part"] = new_part[stay["part"]]
        sources.append(stay)
        salts.append(tables.salts)
    return RunTables(parts=tuple(parts), sources=np.concatenate(sources), salts=np.concatenate(salts))


def _write_frames(file: BinaryIO, inputs: Sequence[_Input], places: Layout, by: U64) -> None:
    file.seek(places.frames)
    number, first_source, first_salt = 0, 0, 0
    for item in inputs:
        new_source = np.cumsum(item.keep_source) - 1 + first_source
        for start in range(0, len(item.run.frames), ROWS_A_STEP):
            at = np.arange(start, min(start + ROWS_A_STEP, len(item.run.frames)))
            frames = item.run.frames[at]
            if not item.run.good_frames(at, frames).all():
                raise item.run.distrust()
            frames = frames[item.keep_source[frames["source"]]]
            frames["source"] = new_source[frames["source"]]
            frames["salt"] += np.uint32(first_salt)
            frames["check"] = check_frames(frames, np.arange(number, number + len(frames)), by)
            file.write(frames.astype(FRAME, copy=False).data)
            number += len(frames)
            item.run.forget()
        first_source += int(item.keep_source.sum())
        first_salt += len(item.run.tables.salts)


def _write_rows(file: BinaryIO, inputs: Sequence[_Input], places: Layout, by: U64) -> None:
    first_frame = np.cumsum([0, *(item.frames for item in inputs)])
    written, last = 0, 0
    for slices in _slices([item.run for item in inputs]):
        prefixes, rows = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=ROW)]
        for item, (start, end), first in zip(inputs, slices, first_frame, strict=False):
            some_prefixes, some_rows = _taken(item, start, end, int(first))
            prefixes.append(some_prefixes)
            rows.append(some_rows)
        every = np.concatenate(prefixes)
        order = np.argsort(every, kind="stable")
        every = every[order]
        if len(every) and int(every[0]) < last:
            break
        last = int(every[-1]) if len(every) else last
        merged = np.concatenate(rows)[order]
        merged["check"] = check_rows(merged, every, by)
        file.seek(places.prefixes + written * 8)
        file.write(every.astype("<u8", copy=False).data)
        file.seek(places.rows + written * ROW.itemsize)
        file.write(merged.data)
        written += len(every)
    if written != sum(item.rows for item in inputs):
        # Rows were not where the borders said: a file is out of order, and checking it whole says which.
        for item in inputs:
            item.run.check_all()
        raise Internal("the rows of several runs do not add up when they are merged.")


def _taken(item: _Input, start: int, end: int, first_frame: int) -> tuple[U64, NDArray[Any]]:
    """The rows of one input between two positions that stay, with their new frames."""
    prefixes, rows = np.array(item.run.prefixes[start:end], dtype=np.uint64), item.run.rows[start:end].copy()
    # Order is part of what a lookup relies on, and no row's check covers its neighbours.
    sorted_here = bool((prefixes[:-1] <= prefixes[1:]).all())
    if not sorted_here or not item.run.good_rows(np.arange(start, end), rows).all():
        raise item.run.distrust()
    if item.new_frame is not None:
        frame = item.new_frame[rows["frame"]]
        stay = frame != _DROPPED
        prefixes, rows = prefixes[stay], rows[stay]
        rows["frame"] = frame[stay]
    rows["frame"] += np.uint32(first_frame)
    item.run.forget()
    return prefixes, rows


def _slices(runs: Sequence[Run]) -> list[list[tuple[int, int]]]:
    """Ranges of positions in every run, piece by piece: a piece holds all rows between two prefixes, about
    :data:`ROWS_A_STEP` of them."""
    total = sum(map(len, runs))
    pieces = max(1, -(-total // ROWS_A_STEP))
    largest = max(runs, key=len)
    # Ids are even, so the largest run's quantiles part them all alike.
    at = [len(largest) * number // pieces for number in range(1, pieces)]
    borders = [0, *(int(largest.prefixes[position]) for position in at)]
    firsts = [np.searchsorted(run.prefixes, np.array(borders, dtype=np.uint64)) for run in runs]
    starts = [[int(value) for value in first] for first in firsts]
    for begin in starts:
        begin[0] = 0
    ends = [[*begin[1:], len(run)] for begin, run in zip(starts, runs, strict=True)]
    return [
        [(start[piece], end[piece]) for start, end in zip(starts, ends, strict=True)] for piece in range(len(borders))
    ]
