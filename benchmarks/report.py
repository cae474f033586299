"""Owns how the figures are shown: one table for people, JSON for programs, a chart for a page.

A figure is never shown without its neighbours: the range of the repetitions beside the median, the ratio beside the
goal, and what could not be measured by its name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from benchmarks.goals import LIMIT, OURS, PEERS, Goal, Summary, Verdict
from benchmarks.kernels import PIPELINE, Kernel
from benchmarks.measure import VERBS, Failure, Sample
from benchmarks.requests import Requests

RESULTS = Path(__file__).parent / "results"

FIGURES = {
    "wall_seconds": "time",
    "stored_bytes": "bytes stored",
    "added_bytes": "bytes added",
    "peak_bytes": "peak memory",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that one run of the benchmark found."""

    machine: Mapping[str, Any]
    options: Mapping[str, Any]
    tools: Mapping[str, str]
    """Each tool's version and settings, or why it is missing, by name."""
    workloads: Mapping[str, str]
    """What each workload is, by name."""
    samples: Sequence[Sample]
    failures: Sequence[Failure]
    summaries: Sequence[Summary]
    verdicts: Sequence[Verdict]
    kernels: Mapping[str, Sequence[Kernel]] = field(default_factory=dict)
    requests: Sequence[Requests] = ()


def tables(report: Report) -> RenderableType:
    """The report as text."""
    parts: list[RenderableType] = [_figures_table(report), _goals_table(report)]
    if report.kernels:
        parts.append(_kernels_table(report))
    if report.requests:
        parts.append(_requests_table(report))
    machine, options = report.machine, report.options
    parts.append(
        f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['platform']}; {options['cache']} page cache; "
        f"median of {options['repeat']}, range behind it"
    )
    parts.append("MB are 10^6 bytes; memory is the peak of all processes' proportional shares (PSS) together")
    parts += [f"failed: {item.workload} {item.verb}, {item.tool}: {item.reason}" for item in report.failures]
    parts += [f"{name}: {about}" for name, about in report.tools.items()]
    return Group(*parts)


def save_json(report: Report, path: Path) -> None:
    """Write everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = {
        "machine": dict(report.machine),
        "options": dict(report.options),
        "tools": dict(report.tools),
        "workloads": dict(report.workloads),
        "goals": [asdict(verdict) for verdict in report.verdicts],
        "summaries": [asdict(summary) for summary in report.summaries],
        "kernels": {name: [asdict(kernel) for kernel in found] for name, found in report.kernels.items()},
        "requests": [{**asdict(item), "total": item.total} for item in report.requests],
        "failures": [asdict(failure) for failure in report.failures],
        "samples": [asdict(sample) for sample in report.samples],
    }
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def save_chart(report: Report, path: Path) -> None:
    """Draw the medians of all tools as bars, one group a verb, as SVG."""
    import pygal
    from pygal.style import CleanStyle

    # For its plugins it adds a finder of a kind that Python has given up, and every later import would warn of it.
    sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

    # The page's own script would be fetched from the net: a chart in a document must not ask for anything.
    chart = pygal.HorizontalBar(
        style=CleanStyle,
        js=[],
        disable_xml_declaration=True,
        truncate_label=-1,
        legend_at_bottom=True,
        height=1400,
        value_formatter=lambda value: f"{value:.2f} s",
        title="Seconds, less is better (median)",
    )
    groups = [(item, verb) for item in report.workloads for verb in VERBS if _of(report, item, verb)]
    chart.x_labels = [f"{workload}: {verb}" for workload, verb in reversed(groups)]
    for tool in dict.fromkeys(summary.tool for summary in report.summaries):
        bars = []
        for workload, verb in reversed(groups):
            found = [item for item in _of(report, workload, verb) if item.tool == tool]
            bars.append(found[0].wall_seconds if found else None)
        chart.add(tool, bars)
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.render_to_file(str(path))


def _of(report: Report, workload: str, verb: str) -> list[Summary]:
    return [item for item in report.summaries if (item.workload, item.verb) == (workload, verb)]


def _figures_table(report: Report) -> Table:
    columns = (">wall s", ">range", ">CPU s", ">peak MB", ">stored MB", ">added MB", ">theirs/ours")
    result = _table("Side by side", ("workload", "verb", "tool", *columns))
    for workload in report.workloads:
        for verb in VERBS:
            found = _of(report, workload, verb)
            ours = next((item.wall_seconds for item in found if item.tool == OURS), None)
            for item in found:
                ratio = f"{item.wall_seconds / ours:.2f}×" if ours and item.tool != OURS else ""
                result.add_row(
                    workload, verb, item.tool, f"{item.wall_seconds:.2f}",
                    f"{item.wall_seconds_min:.2f}–{item.wall_seconds_max:.2f}", f"{item.cpu_seconds:.2f}",
                    f"{item.peak_bytes / 1e6:.0f}", _megabytes(item.stored_bytes), _megabytes(item.added_bytes), ratio,
                    end_section=item is found[-1],
                )  # fmt: skip
    return result


def _goals_table(report: Report) -> Table:
    result = _table("Goals", ("workload", "verb", "figure", ">ours", ">theirs", "against", ">ratio", ">goal", "state"))
    for verdict in report.verdicts:
        goal = verdict.goal
        result.add_row(
            goal.workload,
            goal.verb,
            FIGURES[goal.figure],
            _figure(goal, verdict.ours),
            _figure(goal, verdict.theirs),
            verdict.against or " or ".join(goal.against),
            f"{verdict.ratio:.2f}" if verdict.ratio is not None else "",
            _bound(goal),
            verdict.state,
        )
    return result


def _kernels_table(report: Report) -> Table:
    result = _table(
        "The limit: bare kernels over the same bytes, all cores", ("workload", "kernel", ">wall s", ">MB out")
    )
    for workload, kernels in report.kernels.items():
        for kernel in kernels:
            result.add_row(workload, kernel.name, f"{kernel.wall_seconds:.2f}", f"{kernel.bytes_out / 1e6:.1f}")
        pipeline = [kernel.wall_seconds for kernel in kernels if kernel.name == PIPELINE]
        for item in _of(report, workload, "first"):
            if pipeline and item.tool in (OURS, *PEERS):
                share = pipeline[0] / item.wall_seconds
                result.add_row(
                    workload, f"{item.tool}'s first snapshot", f"{item.wall_seconds:.2f}", f"{share:.0%} of the limit"
                )
    return result


def _requests_table(report: Report) -> Table:
    kinds = ("put", "get", "head", "list", "delete", "other")
    result = _table("Requests to S3", ("workload", "verb", "tool", *(f">{kind}" for kind in kinds), ">all"))
    for item in sorted(report.requests, key=lambda item: VERBS.index(item.verb)):
        counts = (str(item.counts.get(kind, 0)) for kind in kinds)
        result.add_row(item.workload, item.verb, item.tool, *counts, str(item.total))
    return result


def _table(title: str, columns: Sequence[str]) -> Table:
    result = Table(title=title, title_justify="left")
    for name in columns:
        result.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
    return result


def _figure(goal: Goal, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if goal.figure == "wall_seconds" else f"{value / 1e6:.1f} MB"


def _bound(goal: Goal) -> str:
    if not goal.against:
        return f"≤ {goal.bound / 1e6:.0f} MB"
    if LIMIT in goal.against:
        return f"≥ {goal.bound:g} of it"
    return f"≥ {goal.bound:g}×" if goal.at_least else f"≤ {goal.bound:g}×"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}" if count else ""
