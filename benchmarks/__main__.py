"""``python -m benchmarks``: measure ours and every peer over every workload, in turn, and print one table.

``docs/benchmarks.md`` says how to read it. The results go to ``benchmarks/results/`` as JSON and as a chart. Nothing
here asserts a time: the table says which goals were met on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks.goals import goals_for, judge, summarise
from benchmarks.kernels import PIPELINE, Kernel
from benchmarks.measure import Failure, Sample, measure
from benchmarks.on_s3 import measure_on_s3, named_for_s3
from benchmarks.peers import MissingPeer, Peer, default_cache, find_peer
from benchmarks.process import Command, run, settle
from benchmarks.report import RESULTS, Report, save_chart, save_json, tables
from benchmarks.requests import Requests, count_requests
from benchmarks.tools import make_tools
from benchmarks.workloads import SmallFiles, Tpch, Workload
from reopen import __version__

PEER_NAMES = ("restic", "borg")
WORKLOADS = ("tpch", "files", "s3")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, save; or simulate a large index."""
    options = _options(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    with tempfile.TemporaryDirectory(prefix="reopen-bench-", dir=options.folder) as folder:
        report = _measure(options, Path(folder), console)
    console.print(tables(report))
    save_json(report, options.results / "latest.json")
    save_chart(report, options.results / "latest.svg")
    console.print(f"saved to {options.results / 'latest.json'} and {options.results / 'latest.svg'}")


def _measure(options: argparse.Namespace, folder: Path, console: Console) -> Report:
    found = {name: find_peer(name, options.peers) for name in PEER_NAMES}
    peers = {name: peer for name, peer in found.items() if isinstance(peer, Peer)}
    chosen: dict[str, Workload] = {"tpch": Tpch(options.scale), "files": SmallFiles(options.files)}
    workloads = [chosen[name] for name in options.workloads if name in chosen]
    samples: list[Sample] = []
    failures: list[Failure] = []
    kernels: dict[str, list[Kernel]] = {}
    for workload in workloads:
        more, failed = measure(
            workload, peers, folder / "work", repeats=options.repeat, cold=options.cold, say=console.print
        )
        samples += more
        failures += failed
        if options.kernels:
            console.print(f"{workload.title}: bare kernels")
            kernels[workload.name] = measure_kernels_apart(workload, folder / "kernels", options.repeat, options.cold)
    requests: list[Requests] = []
    if options.requests:
        console.print("requests to S3")
        requests = count_requests(Tpch(min(options.scale, 0.2)), peers, folder / "requests")
        requests += count_requests(SmallFiles(min(options.files, 2000)), peers, folder / "requests-files")
    titles = {workload.name: workload.title for workload in workloads}
    if "s3" in options.workloads:
        on_s3 = named_for_s3(Tpch(options.scale))
        titles[on_s3.name] = on_s3.title
        more, failed, asked = measure_on_s3(
            on_s3, peers, folder / "s3", repeats=options.repeat, cold=options.cold, say=console.print
        )
        samples += more
        failures += failed
        requests += asked
    summaries = summarise(samples)
    limits = {
        name: kernel.wall_seconds for name, every in kernels.items() for kernel in every if kernel.name == PIPELINE
    }
    return Report(
        machine=_machine(),
        options={
            "scale": options.scale,
            "files": options.files,
            "repeat": options.repeat,
            "cache": "cold" if options.cold else "warm",
        },
        tools=_about(found, folder),
        workloads=titles,
        samples=samples,
        failures=failures,
        summaries=summaries,
        verdicts=judge(goals_for(options.files), summaries, limits),
        kernels=kernels,
        requests=requests,
    )


def measure_kernels_apart(workload: Workload, place: Path, repeats: int, cold: bool) -> list[Kernel]:
    """The bare kernels over a workload, in a process of their own; of each the repetition with the fastest pipeline,
    since a limit is what is possible."""
    source = place / "source"
    workload.make(source)
    best: list[Kernel] = []
    for _ in range(repeats):
        settle(cold=cold)
        log = place / "kernels.json"
        arguments = (sys.executable, "-m", "benchmarks.kernels", str(source), str(place / "scratch"))
        run(Command(arguments=arguments, folder=Path(__file__).parent.parent), os.environ, log)
        found = [Kernel(**item) for item in json.loads(log.read_text(encoding="utf-8"))]
        if not best or found[-1].wall_seconds < best[-1].wall_seconds:
            best = found
    shutil.rmtree(place)
    return best


def _about(found: Mapping[str, Peer | MissingPeer], folder: Path) -> dict[str, str]:
    about = {"reopen": f"version {__version__}"}
    for name, peer in found.items():
        if isinstance(peer, MissingPeer):
            about[name] = f"not to be had: {'; '.join(peer.reasons)}"
        else:
            about[name] = f"{peer.version} (from {peer.origin})"
    peers = {name: peer for name, peer in found.items() if isinstance(peer, Peer)}
    for tool in make_tools(folder / "about", Path(folder), peers):
        about[tool.name] = ", ".join(filter(None, (about.get(tool.name), tool.settings)))
    return about


def _machine() -> dict[str, str | int]:
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scale", type=float, default=2.0, help="TPC-H scale of the Parquet files; the CSV has half")
    parser.add_argument("--files", type=int, default=200_000, help="number of small files (1000000 is a goal as well)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; the median is shown")
    parser.add_argument("--cold", action="store_true", help="empty the page cache before each run (needs root)")
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=WORKLOADS, help="which to measure (s3: tpch on S3)"
    )
    parser.add_argument("--no-kernels", dest="kernels", action="store_false", help="leave out the bare kernels")
    parser.add_argument("--no-requests", dest="requests", action="store_false", help="leave out counting requests")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; else the system's temporary folder")
    parser.add_argument("--peers", type=Path, default=default_cache(), help="where peers that are fetched are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results go")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
