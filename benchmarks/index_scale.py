"""``python -m benchmarks.index_scale --chunks 100000000``: a simulated index, to see what a very large vault costs.

Chunks of a mebibyte, 64 to a pack, 16 packs to an index part: a hundred million of them are 100 TB in 1.6 million packs
and 98,000 parts. Ids are noise from a seed, as keyed hashes are. What would be fetched from a store and decoded is made
here; from the Arrow rows of a part on, everything is what a snapshot runs: runs, files, merges, opening, lookups. Each
phase is a process of its own, so that its memory is its own. Needs about 60 bytes of disk a chunk for what stays, and
twice that while files are merged.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.process import Command, run, settle
from benchmarks.report import RESULTS

CHUNKS_A_PACK = 64
PACKS_A_PART = 16
CHUNKS_A_PART = CHUNKS_A_PACK * PACKS_A_PART
PARTS_A_RUN = 512
VAULT = "00" * 16
LOOKUPS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, open, look up; print and save."""
    options = _options(arguments)
    console = Console(highlight=False)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="reopen-index-", dir=options.folder) as name:
        folder = Path(name)
        for phase in ("build", "query"):
            settle(cold=options.cold)
            log = folder / f"{phase}.json"
            command = (
                sys.executable,
                "-m",
                "benchmarks.index_scale",
                "--phase",
                phase,
                "--chunks",
                str(options.chunks),
            )
            usage = run(
                Command(arguments=(*command, "--folder", name), folder=Path(__file__).parent.parent), os.environ, log
            )
            figures += [Figure(**item) for item in json.loads(log.read_text(encoding="utf-8"))]
            figures.append(
                Figure(name=f"{phase}: peak with mapped pages (PSS)", value=usage.peak_bytes / 1e6, unit="MB")
            )
    table = Table(title=f"An index of {options.chunks:,} chunks ({'cold' if options.cold else 'warm'} page cache)")
    for column in ("", "figure", "unit"):
        table.add_column(column, justify="right" if column == "figure" else "left")
    for figure in figures:
        table.add_row(
            figure.name, f"{figure.value:,.2f}" if figure.value < 100 else f"{figure.value:,.0f}", figure.unit
        )
    console.print(table)
    options.results.mkdir(parents=True, exist_ok=True)
    saved = {"chunks": options.chunks, "cold": options.cold, "figures": [asdict(figure) for figure in figures]}
    (options.results / "index.json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")


def build(folder: Path, chunks: int) -> list[Figure]:
    """Read every part (made up) into a cache, as the first snapshot of a new writer does."""
    from reopen.vault.indexcache import IndexCache
    from reopen.vault.indexrun import make_run

    cache = IndexCache(folder / "cache")
    parts = -(-chunks // CHUNKS_A_PART)
    making = adding = 0.0
    for first in range(0, parts, PARTS_A_RUN):
        tables = list(_parts(first, min(first + PARTS_A_RUN, parts)))
        started = time.perf_counter()
        made = make_run(tables)
        making += time.perf_counter() - started
        del tables
        started = time.perf_counter()
        cache.add(VAULT, made)
        adding += time.perf_counter() - started
    started = time.perf_counter()
    cache.settle(VAULT, {_part_name(number) for number in range(parts)})
    merging = time.perf_counter() - started
    stored = sum(path.stat().st_size for path in (folder / "cache").rglob("*.run"))
    assert not cache.problem, cache.problem
    return [
        _figure("parts", parts, ""),
        _figure("packs", parts * PACKS_A_PART, ""),
        _figure("build: sorting rows into runs", making, "s"),
        _figure("build: writing runs", adding, "s"),
        _figure("build: merging them", merging, "s"),
        _figure("build: own memory afterwards", _memory_bytes() / 1e6, "MB"),
        _figure("files", len(list((folder / "cache").rglob("*.run"))), ""),
        _figure("bytes in files", stored / 1e9, "GB"),
        _figure("bytes a chunk", stored / (parts * CHUNKS_A_PART), "B"),
    ]


def query(folder: Path, chunks: int) -> list[Figure]:
    """Open the cache as the next snapshot does, and look up."""
    from reopen.vault.index import NOT_FOUND, ChunkIndex, worth_of
    from reopen.vault.indexcache import IndexCache

    parts = -(-chunks // CHUNKS_A_PART)
    present = {pack for part in range(parts) for pack in _packs(part)}
    live = {_part_name(number) for number in range(parts)}
    before = _memory_bytes()
    started = time.perf_counter()
    runs = IndexCache(folder / "cache").runs(VAULT)
    mapped = time.perf_counter()
    pairs = [(item, worth_of(item, present, counts=lambda part: part.name in live)) for item in runs]
    index = ChunkIndex.of_runs(pairs)
    opened = time.perf_counter()
    figures = [
        _figure("open: map files, check tables", mapped - started, "s"),
        _figure("open: trust and presence of each pack", opened - mapped, "s"),
        _figure("open: own memory", (_memory_bytes() - before) / 1e6, "MB"),
    ]
    draw = np.random.default_rng(3)
    known = _some_ids(draw, parts)
    unknown = draw.integers(0, 256, size=(LOOKUPS, 32), dtype=np.uint8)

    def timed(name: str, count: int, look: Callable[[], Any]) -> Any:
        started, busy = time.perf_counter(), time.process_time()
        result = look()
        figures.append(_figure(name, count / (time.perf_counter() - started), "a second"))
        figures.append(_figure("  by the time on a core", count / (time.process_time() - busy), "a second"))
        return result

    positions = timed("lookups: 1,000,000 that are stored, first time", LOOKUPS, lambda: index.find(known))
    assert (positions != NOT_FOUND).all()
    timed("lookups: the same again", LOOKUPS, lambda: index.find(known))
    positions = timed("lookups: 1,000,000 that are not stored", LOOKUPS, lambda: index.find(unknown))
    assert (positions == NOT_FOUND).all()
    timed("locations: 1,000,000", LOOKUPS, lambda: index.locate(index.find(known)))
    small = [known[at : at + 64] for at in range(0, 64_000, 64)]
    timed("lookups: 1,000 times 64", 64_000, lambda: [index.find(ids) for ids in small])
    with ThreadPoolExecutor(2) as pool:
        halves = [known[::2], known[1::2]]
        timed("lookups: 1,000,000 by two threads", LOOKUPS, lambda: list(pool.map(index.find, halves)))
    figures.append(_figure("lookups: own memory afterwards, ids included", (_memory_bytes() - before) / 1e6, "MB"))
    started = time.perf_counter()
    sent = pickle.dumps(index)
    again = pickle.loads(sent)
    figures.append(_figure("to another process: time", time.perf_counter() - started, "s"))
    figures.append(_figure("to another process: bytes", len(sent) / 1e6, "MB"))
    assert (again.find(known[:1000]) != NOT_FOUND).all()
    started = time.perf_counter()
    for mapped_run in runs:
        mapped_run.check_all()
    figures.append(_figure("check of every row", time.perf_counter() - started, "s"))
    return figures


def _figure(name: str, value: float, unit: str) -> Figure:
    return Figure(name=name, value=float(value), unit=unit)


def _part_name(number: int) -> str:
    return f"index/{number:016x}-0000.json"


def _ids(part: int) -> NDArray[np.uint8]:
    return np.random.default_rng(part).integers(0, 256, size=(CHUNKS_A_PART, 32), dtype=np.uint8)


def _packs(part: int) -> list[bytes]:
    return [number.to_bytes(32, "little") for number in range(part * PACKS_A_PART, (part + 1) * PACKS_A_PART)]


def _some_ids(draw: np.random.Generator, parts: int) -> NDArray[np.uint8]:
    """Ids that are stored: a few hundred parts' worth, in the order in which files would ask for them."""
    wanted = -(-LOOKUPS // CHUNKS_A_PART)
    chosen = draw.choice(parts, size=wanted, replace=wanted > parts)
    return np.concatenate([_ids(int(part)) for part in chosen])[:LOOKUPS]


def _parts(first: int, last: int) -> list[tuple[Any, Any]]:
    """Parts as they are when they have been decoded."""
    import pyarrow as pa

    from reopen.vault.indexrun import RunPart
    from reopen.vault.tables import INDEX

    def fixed(values: bytes, width: int) -> pa.Array:
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), CHUNKS_A_PART, [None, pa.py_buffer(values)])

    frame = np.tile(np.arange(CHUNKS_A_PACK, dtype=np.int64), PACKS_A_PART)
    size = np.full(CHUNKS_A_PART, 1 << 20, dtype=np.int32)
    made = []
    for number in range(first, last):
        columns = [
            fixed(_ids(number).tobytes(), 32),
            fixed(b"".join(pack * CHUNKS_A_PACK for pack in _packs(number)), 32),
            fixed(number.to_bytes(16, "little") * CHUNKS_A_PART, 16),
            pa.array(frame << 20),
            pa.array(size),
            pa.array(size),
            pa.array(np.arange(CHUNKS_A_PART, dtype=np.int64)),
            pa.array(np.ones(CHUNKS_A_PART, dtype=np.int8)),
            pa.array(np.zeros(CHUNKS_A_PART, dtype=np.int32)),
            pa.array(size),
        ]
        part = RunPart(name=_part_name(number), digest="00" * 32, writer="00" * 8)
        made.append((part, pa.Table.from_arrays(columns, schema=INDEX)))
    return made


def _memory_bytes() -> int:
    """Memory that is this process's own; pages of mapped files are the page cache's."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell a process's own memory")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index_scale", description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000_000, help="how many (rounded up to whole parts)")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; else the system's temporary folder")
    parser.add_argument("--cold", action="store_true", help="empty the page cache before each phase (needs root)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--phase", choices=("build", "query"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    options = _options(None)
    if options.phase:
        phase = build if options.phase == "build" else query
        print(json.dumps([asdict(figure) for figure in phase(options.folder, options.chunks)]))
    else:
        main()
