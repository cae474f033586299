"""Owns running one command and measuring it from outside: wall time, CPU and memory of all its processes.

Invariants
    I1  Everything the command started counts: children of children, and those that outlive their parent.
    I2  Memory is the sum of the processes' proportional set sizes (PSS) at one moment: a page that two processes
        share counts once, and so does a page of a file that both have mapped.
    I3  The clock stops when the command itself ends. What it left running is waited for, and its CPU time counts.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

POLL_SECONDS = 0.02
"""Between two looks at the memory. One look at a process of 300 MB takes about a millisecond of a core."""

LEFT_BEHIND_SECONDS_MAX = 30
"""How long processes that the command left behind may go on before they are stopped and the run is refused."""

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line, the folder it runs in (``None``: this one) and the codes with which it may end."""

    arguments: tuple[str, ...]
    folder: Path | None = None
    exit_codes: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one run took: seconds of the clock and of all cores together, and the peak of memory in bytes (I1, I2)."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


class CommandFailed(Exception):
    """A measured command ended with an error: there is no figure to show for it."""


def run(command: Command, environment: Mapping[str, str], log: Path) -> Usage:
    """Run a command to its end; its output goes to ``log``.

    :raises CommandFailed: it ended with another code than expected, or left processes that would not end.
    """
    # Children whose parents have gone come to this process, so that none is overlooked (I1).
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = {child.pid for child in psutil.Process().children()}
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command.arguments,
            cwd=command.folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        peak_bytes = 0
        while True:
            peak_bytes = max(peak_bytes, _tree_bytes(before))
            finished, status, usage = os.wait4(process.pid, os.WNOHANG)
            if finished:
                break
            time.sleep(POLL_SECONDS)
        wall_seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu_seconds = _cpu_seconds(usage) + _wait_for_the_rest(before, command)
    if process.returncode not in command.exit_codes:
        # The log goes with its folder, so what it says last is told here.
        said = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
        raise CommandFailed(f"{' '.join(command.arguments)} ended with {process.returncode}:\n{said}")
    return Usage(wall_seconds=wall_seconds, cpu_seconds=cpu_seconds, peak_bytes=peak_bytes)


def _tree_bytes(before: set[int]) -> int:
    """The memory of all descendants but those that were there before, now."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        if child.pid in before:
            continue
        try:
            total += int(child.memory_full_info().pss)
        except psutil.Error:
            continue  # It ended since it was listed.
    return total


def _wait_for_the_rest(before: set[int], command: Command) -> float:
    """Wait for what the command left behind; returns its CPU seconds."""
    seconds, started = 0.0, time.perf_counter()
    while left := [child.pid for child in psutil.Process().children() if child.pid not in before]:
        for pid in left:
            finished, _, usage = os.wait4(pid, os.WNOHANG)
            if finished:
                seconds += _cpu_seconds(usage)
        if time.perf_counter() - started > LEFT_BEHIND_SECONDS_MAX:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            raise CommandFailed(f"a command left {len(left)} processes that did not end: {command}")
        time.sleep(POLL_SECONDS)
    return seconds


def _cpu_seconds(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def settle(*, cold: bool) -> None:
    """Write everything to the disk, so that no run pays for the one before; ``cold``: forget it in memory too.

    :raises PermissionError: only root may make the system forget.
    """
    os.sync()
    if cold:
        Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
