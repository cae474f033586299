"""Failures of single calls of the operating system, for the parts that write files themselves: the n-th fails, or the
process dies there."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from tests.stores import SimulatedCrash

TREE_CALLS = ("open", "mkdir", "pwrite", "replace", "link", "symlink", "unlink", "rmdir", "utime", "chmod", "lchown")
"""What changes a tree of files. An ``open`` counts when it is for writing."""


@dataclass
class Failure:
    """Whether the failure happened."""

    happened: bool = False


@contextmanager
def failing_at(number: int, error: BaseException) -> Iterator[Failure]:
    """Let the n-th call that changes files fail, from zero. After a :class:`SimulatedCrash` every further one dies too:
    no handler and no ``finally`` of a dead process changes anything."""
    failure, left, lock = Failure(), number, threading.Lock()
    held: dict[int, tuple[int, int]] = {}
    close = os.close

    def guarded(name: str) -> Any:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            flags = arguments[1] if name == "open" and len(arguments) > 1 else os.O_CREAT
            if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                with lock:
                    left -= 1
                    due = left == -1 or (failure.happened and isinstance(error, SimulatedCrash))
                    failure.happened |= due
                if due:
                    raise error
            result = real(*arguments, **options)
            if name == "open":
                held[result] = _file_of(result)
            return result

        return call

    def closed(descriptor: int) -> None:
        held.pop(descriptor, None)
        close(descriptor)

    try:
        with patch.multiple(os, close=closed, **{name: guarded(name) for name in TREE_CALLS}):
            yield failure
    finally:
        if isinstance(error, SimulatedCrash):
            # What the kernel does for a dead process: its files are closed, and its locks with them.
            for descriptor, file in held.items():
                # A file object closes without being seen here, and its number may be another's by now.
                with suppress(OSError):
                    if _file_of(descriptor) == file:
                        close(descriptor)


def _file_of(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
