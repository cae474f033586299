"""``python -m benchmarks``: run every installed tool over every workload in turn, and print one table.

The results go to ``benchmarks/results/latest.json`` as well. Read them with the machine in mind: it is named in the
file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.tools import Measurement, Tool, available
from benchmarks.workloads import Workload, small_files, tpch

RESULTS = Path(__file__).parent / "results" / "latest.json"
VERBS = ("first", "unchanged", "changed", "verify", "restore")


def main() -> None:
    """Measure, print, save."""
    options = _options()
    console = Console()
    found: list[tuple[str, Measurement]] = []
    with tempfile.TemporaryDirectory(prefix="reopen-bench-", dir=options.folder) as folder:
        for workload in (tpch(options.scale), small_files(options.files)):
            for tool in available():
                console.print(f"{workload.name}: {tool.name}", highlight=False)
                place = Path(folder) / "work"
                found += [(workload.name, item) for item in measure(workload, tool, place)]
                shutil.rmtree(place)
    console.print(table(found))
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
    results = [{"workload": workload, **asdict(item)} for workload, item in found]
    RESULTS.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n", encoding="utf-8")
    console.print(f"saved to {RESULTS}", highlight=False)


def measure(workload: Workload, kind: type[Tool], place: Path) -> list[Measurement]:
    """One tool over one workload: first, unchanged, changed, verify, restore."""
    source = place / "source"
    source.mkdir(parents=True)
    workload.make(source)
    # Older than any tool's caution about files that were just written.
    for path in source.rglob("*"):
        os.utime(path, ns=(1_700_000_000 * 10**9,) * 2)
    tool = kind(place / "tool", source)
    tool.prepare()
    done = [tool.run("first", tool.backup()), tool.run("unchanged", tool.backup())]
    workload.change(source)
    done.append(tool.run("changed", tool.backup()))
    verify = tool.verify()
    if verify is not None:
        done.append(tool.run("verify", verify))
    done.append(tool.run("restore", tool.restore(place / "restored")))
    return done


def table(found: list[tuple[str, Measurement]]) -> Table:
    """All measurements, one row a workload and verb and tool."""
    result = Table(title=f"{os.cpu_count()} cores, one run each")
    for name in ("workload", "verb", "tool"):
        result.add_column(name, no_wrap=True)
    for name in ("wall s", "CPU s", "peak MB", "stored MB"):
        result.add_column(name, justify="right", no_wrap=True)
    order = {verb: number for number, verb in enumerate(VERBS)}
    for workload, item in sorted(found, key=lambda pair: (pair[0], order.get(pair[1].verb, 9), pair[1].tool)):
        result.add_row(
            workload,
            item.verb,
            item.tool,
            f"{item.wall_seconds:.2f}",
            f"{item.cpu_seconds:.2f}",
            f"{item.peak_bytes / 1e6:.0f}",
            f"{item.stored_bytes / 1e6:.1f}",
        )
    return result


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="TPC-H scale factor (default 1)")
    parser.add_argument("--files", type=int, default=50_000, help="number of small files (default 50000)")
    parser.add_argument("--folder", default=None, help="where to work (default: the system's temporary folder)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
