"""Owns the canary: reading a few bytes at a place, in a process of its own, within a time that really ends (W1).

A read of a network file system whose server is gone hangs in the kernel, where neither a thread nor a signal ends it.
So the reader is a child process: it is told what to read on its standard input, and says what came of it on its
standard output, each as one line of JSON. ``python -m reopen.recover.watch.canary`` is that child.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from reopen.errors import Transient

BYTES = 4096
"""What is read: one page, so that a disk or a server has answered and not only a cache of names."""
AT_ONCE_MAX = 8
REAP_SECONDS = 1.0
"""How long a killed child is waited for. One that the kernel holds dies when its read ends, if ever."""
_COMMAND = (sys.executable, "-P", "-m", "reopen.recover.watch.canary")

_left_behind: list[subprocess.Popen[bytes]] = []
"""Children that could not be killed: kept, so that nobody waits for them when they are let go."""


class Sung(StrEnum):
    """What came of a canary."""

    ANSWERED = "answered"
    EMPTY = "empty"
    """The folder answers, and holds no file."""
    ABSENT = "absent"
    """There is no such folder or object."""
    FAILED = "failed"
    SILENT = "silent"
    """No answer in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Perch:
    """What a canary reads: the named ``file`` of a folder or prefix, or some file below it whose name matches
    ``pattern`` when none is named."""

    name: str
    url: str
    pattern: str = "**"
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Song:
    """What came of one canary; ``detail`` names what was read, or says what went wrong."""

    status: Sung
    detail: str
    seconds: float = 0.0


def send_canaries(
    perches: Sequence[Perch], *, seconds_max: float, command: Sequence[str] = _COMMAND
) -> dict[str, Song]:
    """Read at every place at the same time; what came of it, by the name of the place."""
    if not perches:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE_MAX, len(perches)), thread_name_prefix="reopen-canary") as pool:
        songs = pool.map(lambda perch: send_canary(perch, seconds_max=seconds_max, command=command), perches)
        return dict(zip((perch.name for perch in perches), songs, strict=True))


def send_canary(perch: Perch, *, seconds_max: float, command: Sequence[str] = _COMMAND) -> Song:
    """Read at one place. :raises Transient: no reader can be started here, which says nothing of the place."""
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            # A group of its own, so that whatever it started dies with it.
            start_new_session=True,
        )
    except OSError as error:
        raise Transient(
            f"{command[0]} cannot be started to read at {perch.name}: {error.strerror}.",
            hint="This machine may be out of processes or memory.",
        ) from error
    try:
        output, _ = child.communicate(json.dumps(asdict(perch)).encode(), timeout=seconds_max)
    except subprocess.TimeoutExpired:
        _end(child)
        return Song(status=Sung.SILENT, detail=f"no answer within {seconds_max:g} s", seconds=seconds_max)
    try:
        found = json.loads(output)
        return Song(status=Sung(found["status"]), detail=str(found["detail"]), seconds=float(found["seconds"]))
    except (ValueError, KeyError, TypeError):
        return Song(status=Sung.FAILED, detail=f"the reader ended with code {child.returncode} and said nothing")


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
    try:
        child.wait(timeout=REAP_SECONDS)
    except subprocess.TimeoutExpired:
        _left_behind.append(child)


def _environment() -> dict[str, str]:
    """The child's environment: the parent's, and where the parent found this package."""
    found = dict(os.environ)
    found["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return found


def sing(request: Mapping[str, Any]) -> Song:
    """What the child does: read, and say what came of it."""
    from reopen.clock import SYSTEM_CLOCK

    perch = Perch(**request)
    began = SYSTEM_CLOCK.elapsed_seconds()
    status, detail = _read(perch)
    return Song(status=status, detail=detail, seconds=round(SYSTEM_CLOCK.elapsed_seconds() - began, 3))


def _read(perch: Perch) -> tuple[Sung, str]:
    if "://" not in perch.url:
        return _read_local(perch)
    # Loading the clients of object stores takes longer than most reads.
    from reopen.errors import NotFound, ReopenError

    try:
        return _read_remote(perch)
    except NotFound as error:
        return Sung.ABSENT, error.message
    except ReopenError as error:
        return Sung.FAILED, error.message
    except Exception as error:  # noqa: BLE001 - a library's surprise is an answer too; the parent needs one line of it.
        return Sung.FAILED, f"{type(error).__name__}: {error}"


def _read_local(perch: Perch) -> tuple[Sung, str]:
    try:
        if perch.file:
            return _read_file(str(Path(perch.url, perch.file)))
        found = next(_local_files(perch.url, perch.pattern), None)
        if found is None:
            return Sung.EMPTY, f"no file in {perch.url}"
        return _read_file(found)
    except FileNotFoundError as error:
        return Sung.ABSENT, f"there is no {error.filename}"
    except OSError as error:
        return Sung.FAILED, f"{error.filename or perch.url}: {error.strerror}"


def _local_files(folder: str, pattern: str) -> Iterator[str]:
    """Regular files below a folder whose names match, one at a time: a tree of a million is not listed for one."""
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and matches(entry.name, pattern):
                    yield entry.path


def matches(name: str, pattern: str) -> bool:
    """Whether a file's own name fits the last part of a glob."""
    last = pattern.rpartition("/")[2]
    return last in ("", "**") or fnmatch.fnmatchcase(name, last)


def _read_file(path: str) -> tuple[Sung, str]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # What the page cache holds was read before the disk died.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, BYTES, os.POSIX_FADV_DONTNEED)
        read = len(os.pread(descriptor, BYTES, 0))
    finally:
        os.close(descriptor)
    return Sung.ANSWERED, f"{read} bytes of {path}"


def _read_remote(perch: Perch) -> tuple[Sung, str]:
    from reopen.storage import open_store

    store = open_store(perch.url)
    if perch.file:
        return Sung.ANSWERED, f"{len(store.get(perch.file))} bytes of {perch.file} in {perch.url}"
    for info in store.list():
        if matches(info.name.rpartition("/")[2], perch.pattern):
            read = len(store.get_range(info.name, 0, min(BYTES, info.size_bytes))) if info.size_bytes else 0
            return Sung.ANSWERED, f"{read} bytes of {info.name} in {perch.url}"
    return Sung.EMPTY, f"no file in {perch.url}"


if __name__ == "__main__":
    song = sing(json.load(sys.stdin))
    sys.stdout.write(json.dumps(asdict(song)) + "\n")
