"""Owns the data that is measured on, made from seeds and the public TPC-H generator, and the change between two
snapshots.

Invariants
    I1  The same numbers give the same bytes, on every machine and in every run.
    I2  A change can be taken back exactly, so that every repetition begins with the same tree.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SMALL_FILES_A_FOLDER = 500
PARQUET_PARTS = 8
CHANGED_SHARE = 0.01
CHANGED_RUNS = 10
"""The changed hundredth of a table's rows lies in this many runs of neighbouring rows: what a day's work on recent
orders looks like. A hundredth of the rows that is strewn over a file changes every chunk of it, with any tool."""

SETTLED_NS = 1_700_000_000 * 10**9
"""Time of every file: older than any tool's caution about files that were just written."""


class Workload(ABC):
    """A tree to copy. ``table`` is a folder in it that is restored alone, or empty."""

    name = ""
    title = ""
    table = ""

    def make(self, folder: Path) -> None:
        """Fill a folder that does not exist yet."""
        folder.mkdir(parents=True)
        self._fill(folder)
        for path in folder.rglob("*"):
            os.utime(path, ns=(SETTLED_NS, SETTLED_NS))

    def change(self, folder: Path, kept: Path) -> int:
        """Alter about a hundredth; the old files go to ``kept``. Returns the bytes of the files that were rewritten."""
        changed_bytes = 0
        for path in self._chosen(folder):
            old = kept / path.relative_to(folder)
            old.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, old)
            self._rewrite(path)
            # A minute later than before: every tool sees it by the time alone.
            os.utime(path, ns=(SETTLED_NS + 60 * 10**9,) * 2)
            changed_bytes += path.stat().st_size
        return changed_bytes

    def take_back(self, folder: Path, kept: Path) -> None:
        """Undo :meth:`change` (I2)."""
        for old in [path for path in kept.rglob("*") if path.is_file()]:
            shutil.copy2(old, folder / old.relative_to(kept))
        shutil.rmtree(kept, ignore_errors=True)

    @abstractmethod
    def _fill(self, folder: Path) -> None:
        """Write the files."""

    @abstractmethod
    def _chosen(self, folder: Path) -> Iterator[Path]:
        """The files that change."""

    @abstractmethod
    def _rewrite(self, path: Path) -> None:
        """Write one of them anew."""


class Tpch(Workload):
    """TPC-H at a scale as Parquet in parts, and at half the scale as CSV: columns that are compressed, and text."""

    name = "tpch"
    table = "parquet/orders"

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.title = f"TPC-H SF {scale:g} Parquet + SF {scale / 2:g} CSV"

    def _fill(self, folder: Path) -> None:
        _generate("parquet", self.scale, folder / "parquet", "--parts", str(PARQUET_PARTS))
        _generate("csv", self.scale / 2, folder / "csv")
        # The Parquet file that will change is rewritten by pyarrow from the start: another program's Parquet differs in
        # every byte, and what is measured is a change of rows, not of programs.
        for path in self._chosen(folder):
            if path.suffix == ".parquet":
                _write_parquet(path, _read_parquet(path))

    def _chosen(self, folder: Path) -> Iterator[Path]:
        # One in about a hundred files: one of the 8 parts of the largest table, and one of the CSV files.
        yield min((folder / "parquet" / "lineitem").glob("*.parquet"))
        yield folder / "csv" / "orders.csv"

    def _rewrite(self, path: Path) -> None:
        if path.suffix == ".parquet":
            _write_parquet(path, _with_changed_rows(_read_parquet(path)))
            return
        lines = path.read_bytes().splitlines(keepends=True)
        for row in changed_rows(len(lines) - 1):
            # The last field is a comment: the row keeps its keys, as an updated row does.
            lines[row + 1] = lines[row + 1].rstrip(b"\r\n") + b" changed\n"
        path.write_bytes(b"".join(lines))


class SmallFiles(Workload):
    """Many small files, every other one text and noise, in folders of 500."""

    name = "files"

    def __init__(self, count: int) -> None:
        self.count = count
        self.title = f"{count:,} small files"

    def _fill(self, folder: Path) -> None:
        draw = random.Random(2)
        for number in range(self.count):
            if number % SMALL_FILES_A_FOLDER == 0:
                place = folder / f"{number // SMALL_FILES_A_FOLDER:05d}"
                place.mkdir(parents=True)
            size = draw.randrange(100, 4000)
            data = draw.randbytes(size) if number % 2 else (f"line {number}\n".encode() * size)[:size]
            (place / f"file-{number:07d}").write_bytes(data)

    def _chosen(self, folder: Path) -> Iterator[Path]:
        step = round(1 / CHANGED_SHARE)
        for number in range(0, self.count, step):
            yield folder / f"{number // SMALL_FILES_A_FOLDER:05d}" / f"file-{number:07d}"

    def _rewrite(self, path: Path) -> None:
        path.write_bytes(path.read_bytes() + b"changed\n")


def changed_rows(rows: int) -> list[int]:
    """Numbers of a hundredth of ``rows`` rows (one at least), in runs at places drawn from a seed, ascending."""
    length = max(1, round(rows * CHANGED_SHARE / CHANGED_RUNS))
    draw = random.Random(1)
    every = range(0, max(1, rows - length), length)
    starts = sorted(draw.sample(every, min(CHANGED_RUNS, len(every))))
    return [row for start in starts for row in range(start, min(start + length, rows))]


def _read_parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read()


def _write_parquet(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="snappy")


def _with_changed_rows(table: Any) -> Any:
    """The table with another comment in a hundredth of its rows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    chosen = np.zeros(table.num_rows, dtype=np.bool_)
    chosen[changed_rows(table.num_rows)] = True
    at = table.schema.get_field_index("l_comment")
    comments = pc.cast(table.column(at), pa.string())
    changed = pc.if_else(pa.array(chosen), pc.binary_join_element_wise(comments, "changed", " "), comments)
    field = table.schema.field(at)
    return table.set_column(at, field, pc.cast(changed, field.type))


def _generate(form: str, scale: float, folder: Path, *more: str) -> None:
    folder.mkdir(parents=True)
    program = shutil.which("tpchgen-cli", path=str(Path(sys.executable).parent)) or "tpchgen-cli"
    subprocess.run(
        [program, form, "-s", str(scale), "--output-dir", str(folder), *more], check=True, capture_output=True
    )
