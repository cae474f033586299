"""Owns how a server or worker of ours logs: plain lines that say the day, into a file that stays bounded while it runs.

Prefect's own handler draws each line for a terminal. A server whose database was locked on a busy machine spent most of
its time drawing tracebacks, answered nobody meanwhile, and had more of them to draw.

Invariants
    K1  Only the file that `reopen up` opened for this process is cut; a terminal, a pipe and a journal never are.
    K2  What is cut stands beside it until the next cut, so the end of the log is always there.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from reopen.desk.orchestrator import LOG, LOG_BYTES_MAX, put_aside

HANDLER: Mapping[str, str] = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS": "tasks.logs.ServiceHandler",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_DATEFMT": "%Y-%m-%d %H:%M:%S",
}
"""Prefect's documented way to replace a part of its logging: a variable for each place in its ``logging.yml``."""


class ServiceHandler(logging.StreamHandler[TextIO]):
    """Takes the place of Prefect's console handler, with its parameters. ``styles`` are colours: there are none."""

    def __init__(self, stream: TextIO | None = None, styles: object = None) -> None:
        super().__init__(stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, and cut the file when it has grown too long."""
        super().emit(record)
        if path := os.environ.get(LOG):
            try:
                cut(self.stream, Path(path))
            except OSError:
                # Nobody could be told: this is where it would be told. The line itself is written.
                self.handleError(record)


def cut(stream: TextIO, path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Put the file at ``path`` aside and begin it anew, if ``stream`` writes to it and it is too long (K1).

    It is copied and emptied, not renamed: whoever else has it open, as the runtime itself, goes on in it.
    """
    status = os.fstat(stream.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size <= bytes_max:
        return
    if os.path.samestat(status, path.stat()):
        shutil.copyfile(path, put_aside(path))
        os.truncate(path, 0)
