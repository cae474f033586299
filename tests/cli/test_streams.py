"""A stream that is closed, full, or whose reader has gone is nobody's failure but its own (O1 to O3)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cli.place import Place

FULL = Path("/dev/full")


def reopen(place: Place, *args: str, closed: int | None = None, **streams: int | IO[Any]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a process of its own, one of its descriptors closed."""
    shell = 'exec "$@"' if closed is None else f'exec "$@" {closed}>&-'
    environment: Mapping[str, str] = {key: value for key, value in os.environ.items() if not key.startswith("REOPEN_")}
    done = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-m", "reopen.cli", *args],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **streams},  # type: ignore[call-overload]
        cwd=place.folder,
        env=environment,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout or "", done.stderr or ""


def gone() -> int:
    """The end of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_a_reader_of_notes_that_has_gone_does_not_break_off_the_work(place: Place) -> None:
    """O2: `reopen snapshot 2>&1 | head -1` takes every snapshot that it was asked for."""
    place.contract("more")
    place.write("more", one="1")
    pipe = gone()
    code, _, _ = reopen(place, "snapshot", stdout=pipe, stderr=pipe)
    os.close(pipe)
    assert code == 0
    assert {row["dataset"] for row in place.json("snapshots")["snapshots"]} == {"papers", "more"}


def test_a_log_that_is_full_does_not_break_off_the_work(place: Place) -> None:
    """O2"""
    with FULL.open("w") as full:
        code, out, _ = reopen(place, "snapshot", "--json", stderr=full)
        assert code == 0
        assert "papers" in out
        assert reopen(place, "snapshot", "nobody", stderr=full)[0] == 4


@pytest.mark.parametrize("args", [("contracts", "lint", "--json"), ("--help",), ("--version",)])
def test_an_answer_that_is_lost_is_an_error(place: Place, args: tuple[str, ...]) -> None:
    """O3: `reopen metrics > file` on a full disk must not look as if it had worked."""
    with FULL.open("w") as full:
        code, _, err = reopen(place, *args, stdout=full)
    assert code == 7
    assert err.splitlines() == [
        "error: the answer cannot be written to standard output: No space left on device.",
        "hint: What was asked for was done; only what there is to say of it is lost.",
    ]


def test_a_reader_of_the_answer_that_has_gone_has_seen_enough(place: Place) -> None:
    """O3: the exit code stays what it was."""
    pipe = gone()
    for args, expected in ((("--help",), 0), (("--version",), 0), (("status",), 3)):
        code, _, err = reopen(place, *args, stdout=pipe)
        assert (code, err) == (expected, ""), args
    os.close(pipe)


def test_a_stream_that_is_closed_gives_its_number_to_no_file(place: Place) -> None:
    """O1: a snapshot is taken, and checks."""
    assert reopen(place, "snapshot", closed=1)[0] == 0
    assert place.json("verify", "--level", "content")["ok"]
