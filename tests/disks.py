"""A file system with little room, for tests of full disks: a real one where one may be mounted."""

from __future__ import annotations

import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk_at(folder: Path, *, size: str, file_bytes_max: int) -> Iterator[Path]:
    """A folder on a disk of ``size`` (as ``mount`` takes it). Where none may be mounted, a limit of the kernel on the
    size of files, which refuses a write in the same way."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode == 0:
        try:
            yield folder
        finally:
            # Also after a failed test: a disk that stays mounted is in the way of every later run.
            subprocess.run(["umount", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, before[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def give_room(folder: Path) -> None:
    """Make the disk of :func:`small_disk_at` large enough for any test."""
    subprocess.run(["mount", "-o", "remount,size=16m", str(folder)], capture_output=True, check=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
