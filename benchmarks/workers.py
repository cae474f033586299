"""``python -m benchmarks.workers``: what a snapshot costs when its shards are done by 1, 2, … processes.

Shards are sent to processes that start from nothing and open the vault by themselves, as a Prefect process pool or a
Dask worker does, but without Prefect or Dask, so that what is measured is ours. What each step costs gives the model
that is printed for more workers than this machine has: what is shared is done once, by whoever holds the lease.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.tools import Reopen
from benchmarks.workloads import Tpch
from reopen.config import load_settings
from reopen.desk.elsewhere import Workplace, write_shard
from reopen.desk.session import Session
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import SnapshotRun

MODELLED = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One snapshot. ``shared_seconds`` is what one process does alone: plan, lease, index, manifest, record.
    ``start_seconds`` is what a worker needs before its first shard, ``work_seconds`` what the shards took in all
    workers together, ``wall_seconds`` the whole, ``returned_bytes`` what the workers handed back."""

    workers: int
    shards: int
    read_bytes: int
    shared_seconds: float
    start_seconds: float
    work_seconds: float
    wall_seconds: float
    returned_bytes: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--scale", type=float, default=2.0, help="TPC-H scale factor (default 2)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="at most (default: the cores)")
    parser.add_argument("--folder", default=None, help="where to work (default: the system's temporary folder)")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "workers.json")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="reopen-workers-", dir=options.folder) as folder:
        source = Path(folder) / "source"
        Tpch(options.scale).make(source)
        costs = [measure(Path(folder) / str(count), source, count) for count in range(1, options.workers + 1)]
    Console(highlight=False).print(table(costs))
    options.results.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n", encoding="utf-8")


def measure(place: Path, source: Path, workers: int) -> Cost:
    """A first snapshot with its shards in so many processes."""
    tool = Reopen(place, source)
    tool.prepare()
    session = Session(load_settings(Path(tool.environment["REOPEN_CONFIG"])))
    vault, workplace = session.vault(), Workplace.of(session.settings, None)
    dataset = session.chosen(())[0]
    context = multiprocessing.get_context("spawn")
    began = time.perf_counter()
    plan = plan_snapshot(vault, dataset, session.settings.site, cache=session.index_cache)
    with SnapshotRun(vault, plan) as run, ProcessPoolExecutor(workers, mp_context=context) as pool:
        planned = time.perf_counter()
        list(pool.map(partial(_open, workplace), range(workers)))
        started = time.perf_counter()
        futures = [pool.submit(write_shard, workplace, dataset, run.id, shard) for shard in run.plan.shards]
        returned_bytes, work_seconds = 0, 0.0
        for future in as_completed(futures):
            result = future.result()
            returned_bytes += len(pickle.dumps(result))
            work_seconds += result.summary.seconds
            run.accept(result)
        written = time.perf_counter()
        run.commit()
        ended = time.perf_counter()
    return Cost(
        workers=workers,
        shards=len(futures),
        read_bytes=plan.read_bytes,
        shared_seconds=(planned - began) + (ended - written),
        start_seconds=started - planned,
        work_seconds=work_seconds,
        wall_seconds=ended - began,
        returned_bytes=returned_bytes,
    )


def table(costs: Sequence[Cost]) -> Table:
    """Measured rows, then the model: shared + start + work / workers, from the costs of one worker."""
    one = costs[0]
    result = Table(title=f"{one.shards} shards, {one.read_bytes / 1e9:.2f} GB, {os.cpu_count()} cores")
    for name in ("workers", "", "shared s", "start s", "work s", "wall s", "GB/s", "returned KB"):
        result.add_column(name, justify="right")
    for cost in costs:
        result.add_row(
            str(cost.workers),
            "measured",
            f"{cost.shared_seconds:.2f}",
            f"{cost.start_seconds:.2f}",
            f"{cost.work_seconds:.2f}",
            f"{cost.wall_seconds:.2f}",
            f"{cost.read_bytes / cost.wall_seconds / 1e9:.2f}",
            f"{cost.returned_bytes / 1e3:.0f}",
        )
    for workers in MODELLED:
        wall_seconds = one.shared_seconds + one.start_seconds + one.work_seconds / min(workers, one.shards)
        speed = one.read_bytes / wall_seconds / 1e9
        result.add_row(str(workers), "model", "", "", "", f"{wall_seconds:.2f}", f"{speed:.2f}", "")
    return result


def _open(workplace: Workplace, number: int) -> int:
    """Makes a worker import and open everything."""
    Session(workplace.settings).vault(workplace.vault).datasets()
    return number


if __name__ == "__main__":
    main()
