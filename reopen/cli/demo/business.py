"""Owns the demo's business: TPC-H from the public generator as eight datasets, and a folder of mixed documents.

Everything is made from seeds, so two runs make the same business. A day of business changes one row in a hundred of the
orders and customers, and a few documents.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from reopen.errors import Internal, NotFound

TABLES = ("region", "nation", "customer", "orders", "part", "supplier", "partsupp", "lineitem")
PARTED = {"orders": 4, "lineitem": 4, "partsupp": 2, "customer": 2, "part": 2}
"""Tables that are written in several files, as a real lake has them."""
DOCUMENTS = 400
SEED = 20261122


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a business is."""

    files: int
    size_bytes: int


def make_business(data: Path, scale: float) -> Size:
    """Make all nine datasets below ``data``, each in a folder of its own.

    :param scale: TPC-H scale factor; 0.1 is about 35 MB of Parquet.
    :raises NotFound: the generator is not installed.
    """
    made = data.parent / ".making"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    for parts in sorted({PARTED.get(table, 1) for table in TABLES}):
        tables = ",".join(table for table in TABLES if PARTED.get(table, 1) == parts)
        _generate(["-s", str(scale), "--output-dir", str(made), "--parts", str(parts), "--tables", tables])
    for table in TABLES:
        folder = data / table
        folder.mkdir(parents=True)
        for number, path in enumerate(_generated(made, table)):
            path.rename(folder / f"part-{number:02d}.parquet")
    shutil.rmtree(made)
    make_documents(data / "documents")
    return measure(data)


def make_documents(folder: Path) -> None:
    """A folder as people keep them: names with spaces and accents, empty files and folders, links, modes."""
    draw = random.Random(SEED)
    for number in range(DOCUMENTS):
        month = folder / f"{2025 + number % 2}" / f"{1 + number % 12:02d} Rechnungen & Verträge"
        month.mkdir(parents=True, exist_ok=True)
        if number % 4 == 0:
            # Bytes that no compressor shrinks, like a scan.
            (month / f"scan {number:04d}.bin").write_bytes(draw.randbytes(draw.randrange(200, 40_000)))
        else:
            line = f"invoice {number} over {draw.randrange(100, 99_999) / 100:.2f}\n"
            (month / f"invoice-{number:04d}.txt").write_text(line * draw.randrange(1, 200), encoding="utf-8")
    (folder / "read me first.md").write_text("# Where things are\n\nInvoices by year and month.\n", encoding="utf-8")
    (folder / "empty.txt").touch()
    (folder / "inbox").mkdir()
    (folder / "newest").symlink_to("2026")
    script = folder / "close-month.sh"
    script.write_text("#!/bin/sh\necho closing\n", encoding="utf-8")
    script.chmod(0o750)


def change_business(data: Path) -> dict[str, int]:
    """A day of business: one order and one customer in a hundred change, some documents are written, one is deleted.

    :returns: how many rows or files changed, by dataset.
    """
    import duckdb

    changed: dict[str, int] = {}
    rules = {
        "orders": ("o_orderkey", "o_totalprice", "o_totalprice + 1.00"),
        "customer": ("c_custkey", "c_acctbal", "greatest(c_acctbal - 10.00, -999.99)"),
    }
    with duckdb.connect() as connection:
        for table, (key, column, value) in rules.items():
            changed[table] = 0
            for path in sorted((data / table).glob("*.parquet")):
                hit = f"hash({key}) % 100 = 0"
                name = str(path).replace("'", "''")
                rows = connection.execute(f"SELECT count(*) FROM read_parquet('{name}') WHERE {hit}").fetchall()
                new = path.with_suffix(".new")
                kind = f"(SELECT typeof({column}) FROM read_parquet('{name}') LIMIT 1)"
                decimal = str(connection.execute(kind).fetchall()[0][0])
                replaced = f"CASE WHEN {hit} THEN CAST({value} AS {decimal}) ELSE {column} END AS {column}"
                connection.execute(
                    f"COPY (SELECT * REPLACE ({replaced}) FROM read_parquet('{name}')) "
                    f"TO '{str(new).replace(chr(39), chr(39) * 2)}' (FORMAT parquet, COMPRESSION snappy)"
                )
                new.replace(path)
                changed[table] += int(rows[0][0])
    folder = data / "documents"
    for number in range(4):
        (folder / "inbox" / f"new letter {number}.txt").write_text(f"Dear all, letter {number}.\n", encoding="utf-8")
    (folder / "empty.txt").unlink()
    changed["documents"] = 5
    return changed


def measure(data: Path) -> Size:
    """Files and bytes below a folder."""
    sizes = [(Path(folder) / name).lstat().st_size for folder, _, names in os.walk(data) for name in names]
    return Size(files=len(sizes), size_bytes=sum(sizes))


def _generate(arguments: list[str]) -> None:
    program = shutil.which("tpchgen-cli", path=str(Path(sys.executable).parent)) or shutil.which("tpchgen-cli")
    if program is None:
        raise NotFound(
            "the demo's generator, tpchgen-cli, is not installed.", hint="Install it with `pip install reopen[demo]`."
        )
    run = subprocess.run([program, "parquet", *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise Internal(f"tpchgen-cli failed: {run.stderr.strip()[-500:]}")


def _generated(made: Path, table: str) -> list[Path]:
    """One part is written as ``<table>.parquet``, several as a folder of numbered ones."""
    found = sorted(made.glob(f"{table}/*.parquet"), key=lambda path: (len(path.name), path.name))
    return found or [made / f"{table}.parquet"]
