"""Progress in a pipe is a line now and then; it may come from many threads."""

from __future__ import annotations

import io
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from reopen.cli.progress import LINE_SECONDS, BarProgress, LineProgress, make_progress
from reopen.clock import FixedClock
from reopen.progress import SILENT


def test_a_pipe_gets_a_line_at_the_interval_and_one_at_the_end() -> None:
    stream, clock = io.StringIO(), FixedClock()
    progress = LineProgress(stream, clock=clock)
    progress.start("orders", 100_000_000, "bytes")
    for _ in range(50):
        clock.advance(timedelta(seconds=LINE_SECONDS / 10))
        progress.advance(1_000_000)
    progress.finish()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "orders: 10% of 100.0 MB, 1.0 MB/s, 1m30s left"
    assert lines[-1] == "orders: 50.0 MB in 50s"
    assert len(lines) == 6


def test_a_stage_that_did_nothing_says_nothing() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream)
    progress.start("orders", 0, "bytes")
    progress.finish()
    assert stream.getvalue() == ""


def test_an_unknown_total_is_counted() -> None:
    stream, clock = io.StringIO(), FixedClock()
    progress = LineProgress(stream, clock=clock)
    progress.start("packs", None, "packs")
    clock.advance(timedelta(seconds=LINE_SECONDS))
    progress.advance(20)
    assert stream.getvalue() == "packs: 20 packs, 2 packs/s\n"


def test_many_threads_lose_nothing() -> None:
    stream, clock = io.StringIO(), FixedClock()
    progress = LineProgress(stream, clock=clock)
    progress.start("files", 8000, "files")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: progress.advance(1), range(8000)))
    progress.finish()
    assert stream.getvalue() == "files: 8,000 files in 0.0s\n"


def test_a_bar_survives_stages_and_calls_in_any_order() -> None:
    bar = BarProgress()
    bar.advance(1)
    bar.start("[odd] name", 10, "bytes")
    bar.advance(10)
    bar.start("next", None, "files")
    bar.finish()
    bar.finish()


@pytest.mark.parametrize(("unit", "told"), [("bytes", "1.0/4.0 kB"), ("packs", "packs/s")])
def test_a_bar_shows_how_much_how_fast_and_how_long_still(
    unit: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    bar = BarProgress()
    bar.start("orders", 4000, unit)
    bar.advance(500)
    bar.advance(500)
    bar.finish()
    shown = capsys.readouterr().err
    assert "orders" in shown
    assert told in shown
    assert "25%" in shown
    assert "/s" in shown
    assert re.search(r"\d:\d\d", shown), "the time that is left"


def test_quiet_is_silent() -> None:
    assert make_progress(quiet=True) is SILENT
