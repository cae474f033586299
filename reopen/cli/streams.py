"""Owns the standard streams of the process: they are there, they take any text, and their end is not the work's end.

Invariants
    O1  Descriptors 0 to 2 are open before anything else is opened. Else a file of a vault would get the number of a
        stream that was closed, and whatever prints there would print into the file.
    O2  What standard error does not take (a full disk, a reader that has gone) is dropped, and the work goes on: notes
        and progress are beside it.
    O3  What standard output does not take is an error, because the answer is lost; but for a pipe whose reader has gone
        (`| head`), who has seen enough. Either comes after the work is done, and changes nothing of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from reopen.errors import TargetUnwritable


def open_streams() -> None:
    """Make the streams of this process usable, whatever it was started with (O1, O2)."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is given, which is this one.
            os.open(os.devnull, os.O_RDWR)
    # Python gives none for what was closed when it started.
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    # A file name may hold what the locale cannot show. Where there is no such stream, or a test put one of its own
    # there, it stays as it is.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = _Unheard(sys.stderr)


@contextmanager
def heard_or_not() -> Iterator[None]:
    """Around what a command says that goes on and on: a log that takes nothing for a while (a full disk) ends it not.

    :raises BrokenPipeError: nobody will ever read it.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise


@contextmanager
def answering() -> Iterator[None]:
    """Around what writes an answer to standard output (O3). :raises TargetUnwritable: it does not take the answer."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        _let_go(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise TargetUnwritable(
                f"the answer cannot be written to standard output: {error.strerror}.",
                hint="What was asked for was done; only what there is to say of it is lost.",
            ) from error
    except SystemExit:
        # When the reader has gone, Rich leads the stream to nowhere and Typer wraps it; both then end the process.
        if not (hasattr(sys.stdout, "wrapped") or _leads_nowhere(sys.stdout)):
            raise


class _Unheard:
    """A stream that drops what cannot be written, and is the stream in all else (O2)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or drop it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each, or drop it."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush, or drop what waits."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        # A reader that is only slow (a descriptor that does not block) may take the next line.
        if not isinstance(error, BlockingIOError):
            _let_go(self._stream)


def _leads_nowhere(stream: TextIO) -> bool:
    with suppress(OSError, ValueError):
        return os.path.samestat(os.fstat(stream.fileno()), Path(os.devnull).stat())
    return False


def _let_go(stream: TextIO) -> None:
    """Lead a stream to nowhere: what waits in it would be tried once more as Python ends, and complained about."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
