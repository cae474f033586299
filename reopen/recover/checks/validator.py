"""Owns the parent's side of validation: the child's start, its requests, its time limit and its death.

Importing Great Expectations takes 1.5 to 13 s. So one child serves a whole tier, and :meth:`Validator.start` returns at
once: the import runs while bytes are still being restored.

Invariants
    I1  Every request gets a result. A child that dies, hangs or speaks nonsense yields status ``error`` with its last
        words and a hint; the next request gets a new child.
    I2  A child never outlives its time limit nor :meth:`Validator.close`; it is killed with the processes it made.
    I3  Requests are answered one at a time: two datasets at once would share one memory limit unfairly.

A crash of the parent leaves files in ``work`` and no process: the child sees the end of its pipe.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.contracts.model import Dataset
from reopen.errors import InvalidInput
from reopen.recover.checks.model import (
    CheckKind,
    CheckResult,
    CheckStatus,
    Severity,
    Subject,
    ValidationRequest,
    ValidationResult,
)

if TYPE_CHECKING:
    import pyarrow as pa

START_SECONDS_MAX = 180.0
"""Time for the import, also on a busy machine with a cold disk: 13 s was the slowest seen on an idle one."""

VALIDATE_SECONDS_MAX = 1800.0
"""Default time for one dataset. It ends a hang; it is no objective."""

CLOSE_SECONDS_MAX = 5.0
"""Time for a child to end by itself after its pipe was closed; an idle one needs milliseconds."""

_HINT_AGAIN = (
    "validate again; a child that is killed each time has too little memory beside `limits.validation_memory`."
)
_HINT_MEMORY = "raise `limits.validation_memory`."
_LAST_WORDS_CHARACTERS_MAX = 2000
_MEMORY_LIMIT = re.compile(r"\d+(\.\d+)?\s*([KMGT]i?)?B", re.IGNORECASE)
_COMMAND = (sys.executable, "-P", "-m", "reopen.recover.checks.child")


class Validator:
    """A child process that validates datasets, and its guard. Threads may share one; they take turns.

    :param work: folder for the child's scratch, its standard error and the engine's raw results.
    :param memory_limit: what DuckDB may hold, for example ``1GB``. The child needs about 300 MB beside it.
    :param threads: DuckDB's threads; ``None`` is one a core.
    :param command: what is started instead of the child; for tests of a child that misbehaves.
    :raises InvalidInput: the memory limit is not a size.
    """

    def __init__(
        self,
        *,
        work: Path,
        memory_limit: str = "1GB",
        threads: int | None = None,
        timeout_seconds: float = VALIDATE_SECONDS_MAX,
        start_timeout_seconds: float = START_SECONDS_MAX,
        clock: Clock = SYSTEM_CLOCK,
        command: tuple[str, ...] = _COMMAND,
    ) -> None:
        if not _MEMORY_LIMIT.fullmatch(memory_limit.strip()):
            raise InvalidInput(
                f"{memory_limit!r} is not a memory limit.", hint="Write a number with a unit, for example `512MB`."
            )
        self._work = work
        self._memory_limit = memory_limit.strip()
        self._threads = threads
        self._timeout_seconds = timeout_seconds
        self._start_timeout_seconds = start_timeout_seconds
        self._clock = clock
        self._command = command
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._requests = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        child = self._child
        return None if child is None else child.process.pid

    def start(self) -> None:
        """Start the child and return at once; without this, the first request starts it."""
        with self._lock:
            self._ensure()

    def validate(self, request: ValidationRequest, *, timeout_seconds: float | None = None) -> ValidationResult:
        """Validate one dataset; waits for its turn. Never raises for what the child does (I1)."""
        subject = Subject.of(request.dataset)
        if subject is None:
            return _no_table(request.dataset)
        limit_seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        with self._lock:
            started = self._clock.elapsed_seconds()
            child = self._ensure()
            try:
                child.await_ready(self._start_timeout_seconds)
                started = self._clock.elapsed_seconds()
                return self._ask(child, request, subject, limit_seconds)
            except _ChildFailureError as failure:
                self._drop()
                # Read only now: the last words of a child that was killed are complete when it is gone.
                seconds = round(self._clock.elapsed_seconds() - started, 3)
                return _failed(request.dataset, failure.message, child.last_words(), seconds, child.versions)

    def close(self) -> None:
        """End the child. The validator may be used again: the next request starts a new one."""
        with self._lock:
            if self._child is not None:
                self._child.close()
                self._child = None

    def _ensure(self) -> _Child:
        if self._child is not None and self._child.process.poll() is not None:
            # It died while it was idle: nobody lost an answer, so nobody needs to hear of it.
            self._drop()
        if self._child is None:
            self._work.mkdir(parents=True, exist_ok=True)
            self._child = _Child(self._command, _fresh(self._work, "validator") / "stderr")
        return self._child

    def _drop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _ask(
        self, child: _Child, request: ValidationRequest, subject: Subject, timeout_seconds: float
    ) -> ValidationResult:
        self._requests += 1
        work = _fresh(self._work, subject.dataset)
        profile = work / "profile.arrow"
        related = {}
        for name, (dataset, folder) in request.related.items():
            # A dataset that is not a table has no keys to point to.
            if (other := Subject.of(dataset)) is not None:
                related[name] = {"subject": other.as_dict(), "folder": folder}
        message = {
            "id": self._requests,
            "subject": subject.as_dict(),
            "folder": request.folder,
            "profile": None if request.profile is None else str(_write(request.profile, profile)),
            "related": related,
            "memory_limit": self._memory_limit,
            "threads": self._threads,
            "work": str(work),
            "spill": str(work / "spill"),
        }
        try:
            answer = child.ask(message, timeout_seconds)
        except BaseException:
            # Also for Ctrl-C here: the child would answer this request when the next one is asked.
            self._drop()
            raise
        finally:
            # A child that was killed could not remove what it had spilled, which may be many times its memory.
            profile.unlink(missing_ok=True)
            shutil.rmtree(work / "spill", ignore_errors=True)
        if error := answer.get("error"):
            words = f"the checks could not be run: {error['type']}: {error['message']}"
            short_of_memory = error["type"] == "OutOfMemoryException"
            return _failed(
                request.dataset, words, "", 0.0, child.versions, hint=_HINT_MEMORY if short_of_memory else _HINT_AGAIN
            )
        return ValidationResult.from_dict(answer["result"])


class _ChildFailureError(Exception):
    """The child did not answer. Never leaves this module: it becomes a result."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class _Child:
    """One child process."""

    def __init__(self, command: tuple[str, ...], errors: Path) -> None:
        self.versions: Mapping[str, str] = {}
        self._errors = errors
        self._ready = False
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with errors.open("wb") as sink:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=_environment(),
                text=True,
                encoding="utf-8",
                # A process group of its own, so that a kill takes what it started as well, and Ctrl-C at the terminal
                # reaches the parent alone, which then closes the child in order.
                start_new_session=True,
            )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), name="validator", daemon=True)
        self._reader.start()

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            self._lines.put(line)
        self._lines.put(None)

    def await_ready(self, timeout_seconds: float) -> None:
        """Wait until the engine is imported."""
        if not self._ready:
            message = self._next(timeout_seconds, "start")
            self.versions = dict(message.get("ready") or {})
            self._ready = True

    def ask(self, request: Mapping[str, Any], timeout_seconds: float) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self.process.stdin is not None
        # A child that has died closes the pipe; its end is then read below, with the signal that ended it.
        with contextlib.suppress(BrokenPipeError):
            # Contracts may hold dates where YAML had no quotes; they are compared as the text that was meant.
            self.process.stdin.write(json.dumps(request, default=str) + "\n")
            self.process.stdin.flush()
        answer = self._next(timeout_seconds, "answer")
        if answer.get("id") != request["id"]:
            raise _ChildFailureError("the validator answered another question")
        return answer

    def _next(self, timeout_seconds: float, what: str) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=timeout_seconds)
        except queue.Empty:
            raise _ChildFailureError(f"the validator did not {what} within {timeout_seconds:g} s") from None
        if line is None:
            raise _ChildFailureError(f"the validator ended before it could {what}: {self._end()}")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise _ChildFailureError(f"the validator's {what} is not JSON: {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise _ChildFailureError(f"the validator's {what} is not an object")
        return message

    def _end(self) -> str:
        code = self.process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def last_words(self) -> str:
        """The end of its standard error."""
        return self._errors.read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS_CHARACTERS_MAX:].strip()

    def close(self) -> None:
        """Ask it to end by closing the pipe; kill it if it does not."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(CLOSE_SECONDS_MAX)
        self.kill()

    def kill(self) -> None:
        """End it and what it started, now; release its pipes."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # The group may be gone already; on macOS a group of zombies gives a permission error.
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _environment() -> dict[str, str]:
    """The child's environment: the parent's, quiet, without statistics, and able to find this package."""
    source = str(Path(__file__).resolve().parents[3])
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "GX_ANALYTICS_ENABLED": "false",
        "PYTHONPATH": os.pathsep.join([source, path]) if path else source,
        # Warnings are about the engine's own use of Python; its errors come as results.
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",
    }


def _fresh(folder: Path, stem: str) -> Path:
    """A new folder ``<stem>-<n>``: validators may share a work folder, and kept results are not written over."""
    for number in itertools.count(1):
        path = folder / f"{stem}-{number}"
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError("counting never ends")


def _write(profile: pa.Table, path: Path) -> Path:
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, profile.schema) as writer:
        writer.write_table(profile)
    return path


def _no_table(dataset: Dataset) -> ValidationResult:
    check = CheckResult(
        rule="schema",
        kind=CheckKind.CONTRACT,
        type="schema",
        severity=Severity.INFO,
        status=CheckStatus.SKIPPED,
        message="The contract describes no table: the digests of the files are all there is to check.",
    )
    return ValidationResult(dataset=dataset.name, status=CheckStatus.PASS, checks=(check,), seconds=0.0)


def _failed(
    dataset: Dataset,
    message: str,
    last_words: str,
    seconds: float,
    versions: Mapping[str, str],
    *,
    hint: str = "",
) -> ValidationResult:
    check = CheckResult(
        rule="validator",
        kind=CheckKind.INTEGRITY,
        type="validator",
        severity=Severity.ERROR,
        status=CheckStatus.ERROR,
        observed=message,
        expected="an answer",
        sample=last_words,
        message=f"{message[:1].upper()}{message[1:].rstrip('.')}. Hint: {hint or _HINT_AGAIN}",
    )
    return ValidationResult(
        dataset=dataset.name, status=CheckStatus.ERROR, checks=(check,), seconds=seconds, versions=versions
    )


def validate(
    dataset: Dataset,
    folder: str,
    *,
    profile: pa.Table | None,
    related: Mapping[str, tuple[Dataset, str]],
    memory_limit: str,
    work: Path,
    timeout_seconds: float = VALIDATE_SECONDS_MAX,
) -> ValidationResult:
    """Validate one restored dataset in a child of its own. For several, share a :class:`Validator`.

    :param folder: the restored dataset's folder.
    :param profile: the snapshot's profile, or ``None``.
    :param related: other restored datasets by name, for foreign keys.
    """
    request = ValidationRequest(dataset=dataset, folder=folder, profile=profile, related=related)
    (result,) = validate_many([request], memory_limit=memory_limit, work=work, timeout_seconds=timeout_seconds)
    return result


def validate_many(
    requests: Iterable[ValidationRequest],
    *,
    memory_limit: str,
    work: Path,
    timeout_seconds: float = VALIDATE_SECONDS_MAX,
) -> list[ValidationResult]:
    """Validate several datasets, in order, in one child. ``timeout_seconds`` is for each."""
    validator = Validator(work=work, memory_limit=memory_limit, timeout_seconds=timeout_seconds)
    try:
        return [validator.validate(request) for request in requests]
    finally:
        validator.close()
