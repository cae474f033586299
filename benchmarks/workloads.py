"""Owns the data that is measured on, made from seeds and the public TPC-H generator, and the change between two
runs."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SMALL_FILES_A_FOLDER = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A tree to copy: ``make`` fills an empty folder, ``change`` alters about a hundredth of it."""

    name: str
    make: Callable[[Path], None]
    change: Callable[[Path], None]


def tpch(scale: float) -> Workload:
    """TPC-H as Parquet in parts, and the orders as CSV: columns that compress, and text that does."""

    def make(folder: Path) -> None:
        _generate("parquet", scale, folder / "parquet", "--parts", "8")
        _generate("csv", scale / 2, folder / "csv", "--tables", "orders,lineitem")

    def change(folder: Path) -> None:
        for path in sorted(folder.rglob("*.csv")):
            lines = path.read_bytes().splitlines(keepends=True)
            draw = random.Random(1)
            for row in range(1, len(lines)):
                if draw.random() < 0.01:
                    lines[row] = lines[row].replace(b"the", b"THE")
            path.write_bytes(b"".join(lines))

    return Workload(name=f"TPC-H SF {scale:g}", make=make, change=change)


def small_files(count: int) -> Workload:
    """Many small files of half text, half noise."""

    def make(folder: Path) -> None:
        draw = random.Random(2)
        for number in range(count):
            if number % SMALL_FILES_A_FOLDER == 0:
                place = folder / f"{number // SMALL_FILES_A_FOLDER:05d}"
                place.mkdir(parents=True)
            size = draw.randrange(100, 4000)
            data = draw.randbytes(size) if number % 2 else (f"line {number}\n".encode() * size)[:size]
            (place / f"file-{number:07d}").write_bytes(data)

    def change(folder: Path) -> None:
        for number, path in enumerate(sorted(folder.rglob("file-*"))):
            if number % 100 == 0:
                path.write_bytes(path.read_bytes() + b"changed\n")

    return Workload(name=f"{count:,} small files", make=make, change=change)


def _generate(form: str, scale: float, folder: Path, *more: str) -> None:
    folder.mkdir(parents=True)
    program = shutil.which("tpchgen-cli", path=str(Path(sys.executable).parent)) or "tpchgen-cli"
    subprocess.run(
        [program, form, "-s", str(scale), "--output-dir", str(folder), *more], check=True, capture_output=True
    )
