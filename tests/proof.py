"""Counts what the tests tried, for the table "What was tried" at the end of a run, so that the numbers can be quoted.

A test that enumerates calls :func:`count` with what it enumerated and how many. Workers of pytest-xdist hand their sums
to the one that prints. ``tests/conftest.py`` imports the three hooks.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

TRIED: Counter[str] = Counter()
"""What was tried in this process, and of the workers that have ended."""

RECORDED = ("crash points", "fault points", "interleavings", "kills")
"""Names that a test may also give to pytest's ``record_property``."""

RESULTS_VARIABLE = "REOPEN_PROOF_RESULTS"
"""Names a JSON file that a run writes its numbers to as well."""

# Taken now: the tests run with the REOPEN_ variables of the caller removed.
_RESULTS_FILE = os.environ.pop(RESULTS_VARIABLE, "")
_WORKER_KEY = "reopen_tried"


def count(what: str, number: int = 1) -> None:
    """Add to what was tried. ``lost`` stands for data that did not come back: it is counted only to show a zero."""
    TRIED[what] += number


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands over its numbers."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_WORKER_KEY] = dict(TRIED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker has ended: its numbers are added, unless it died before it could say them."""
    TRIED.update(getattr(node, "workeroutput", {}).get(_WORKER_KEY, {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table, and write it to a file when one was asked for."""
    tried = Counter(TRIED)
    for report in terminalreporter.getreports("passed"):
        for name, number in report.user_properties:
            if name in RECORDED:
                tried[name] += number
    if not tried:
        return
    failed = len(terminalreporter.getreports("failed")) + len(terminalreporter.getreports("error"))
    terminalreporter.section("What was tried")
    width = max(map(len, tried))
    for name in sorted(tried):
        terminalreporter.write_line(f"{name:<{width}}  {tried[name]:>10,}")
    terminalreporter.write_line(f"{'lost':<{width}}  {'0' if not failed else 'see the failures':>10}")
    if _RESULTS_FILE:
        Path(_RESULTS_FILE).write_text(json.dumps(dict(sorted(tried.items())), indent=2) + "\n", encoding="utf-8")
