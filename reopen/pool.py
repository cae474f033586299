"""Owns running the parts of large work at once: in processes where that is safe, else in threads, else one by one.

Processes, because opening frames and making files hold the interpreter's lock. They are forked, because what they work
on is in memory already and a new interpreter takes half a second to import what it needs. Forking is safe only while no
other thread may hold a lock that the child would wait for: it is done from a process with one Python thread, and where
the store is a local folder (a store's client has threads of its own). Children do nothing that Arrow gives to its own
threads, and leave by ``os._exit``. Everybody else gets threads.

Invariants
    I1  The number of each part is handed out once, by a pipe.
    I2  When :func:`run_parts` ends, in whatever way, no child is left: they notice that nobody listens.
    I3  A child that dies is an error; its part is not taken for done.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import pickle
import selectors
import struct
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self

from reopen.errors import Internal, ReopenError, Transient

Advance = Callable[[int], None]
Stopped = Callable[[], bool]
Part = Callable[[int, Advance, Stopped], Any]
"""Does the part of a number; reports progress, and asks now and then whether to stop."""
Prepare = Callable[[], Part]
"""Called once in each process or thread, before its first part."""

_NUMBER = struct.Struct("<I")
_MESSAGE = struct.Struct("<cQ")
_RESULT, _ERROR, _ADVANCED, _DONE = b"r", b"e", b"a", b"d"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of the C library's ``mallopt``."""
_BUFFER_BYTES_MAX = 32 << 20
_READ_BYTES = 1 << 20


def can_fork() -> bool:
    """Whether this process may be forked now: no other thread of Python's is there that could hold a lock.

    Whoever asks also has to know that nothing in use keeps threads outside of Python, as a store's client does.
    """
    return sys.platform == "linux" and threading.active_count() == 1


def give_back_memory() -> None:
    """Return what large tables took on the way, and nobody uses any more, to the system. The allocators would keep it:
    of a restore of a million files a third of the memory, which every process that is forked would then share."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Not every C library has it.
    if trim is not None:
        trim(0)


def run_parts(
    prepare: Prepare, count: int, *, at_once: int, fork: bool, advance: Advance, purpose: str = "the work"
) -> Iterator[Any]:
    """Do parts 0 to ``count`` - 1 and yield their results in the order in which they are done.

    :param advance: called in this thread, whoever did the work.
    :param purpose: what an error of a process calls the whole.
    :raises Exception: what a part raised; the others are stopped then.
    """
    at_once = min(at_once, count)
    if at_once <= 1:
        if count:
            part = prepare()
            yield from (part(number, advance, lambda: False) for number in range(count))
    elif fork:
        with Children(prepare, count, at_once=at_once, purpose=purpose) as children:
            yield from children.run(advance)
    else:
        yield from _run_threads(prepare, count, at_once, advance)


def _run_threads(prepare: Prepare, count: int, at_once: int, advance: Advance) -> Iterator[Any]:
    from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

    local, stop = threading.local(), threading.Event()
    done: list[int] = []  # Appending and popping are safe from any thread.

    def run(number: int) -> Any:
        if not hasattr(local, "part"):
            local.part = prepare()
        return local.part(number, done.append, stop.is_set)

    with ThreadPoolExecutor(at_once, thread_name_prefix="reopen-part") as pool:
        pending: set[Future[Any]] = {pool.submit(run, number) for number in range(count)}
        try:
            while pending:
                finished, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                while done:
                    advance(done.pop())
                for future in finished:
                    yield future.result()
        finally:
            stop.set()
            for future in pending:
                future.cancel()


class Children:
    """Forked processes and the pipes to them. They are there from ``with`` on, and begin to work when :meth:`run` is
    called: in between, their parent may do what must not be done before a fork, such as starting a thread."""

    def __init__(self, prepare: Prepare, count: int, *, at_once: int, purpose: str) -> None:
        self._prepare = prepare
        self._count = count
        self._at_once = at_once
        self._purpose = purpose
        self._pids: list[int] = []
        self._answers: list[int] = []
        self._hand_out: int | None = None
        self._handed_out = 0
        self._stop = mmap.mmap(-1, 1)

    def __enter__(self) -> Self:
        tasks, self._hand_out = os.pipe()
        try:
            self._start(tasks, self._hand_out)
        except BaseException:
            self._end()
            raise
        finally:
            os.close(tasks)
        # More numbers than a pipe holds are handed out while the first are worked on.
        os.set_blocking(self._hand_out, False)
        return self

    def __exit__(self, *details: object) -> None:
        self._end()

    def run(self, advance: Advance) -> Iterator[Any]:
        """Hand the parts out and yield their results; as :func:`run_parts`."""
        return self._listen(advance)

    def _start(self, tasks: int, hand_out: int) -> None:
        gc.freeze()  # So that collecting in a child does not copy the memory that it shares.
        try:
            for _ in range(self._at_once):
                answers, answer = os.pipe()
                with warnings.catch_warnings():
                    # Newer Pythons warn of any other thread; those that Arrow has are never used by a child.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    pid = os.fork()
                if pid == 0:
                    for mine in (hand_out, answers, *self._answers):
                        os.close(mine)
                    self._work(tasks, answer)
                os.close(answer)
                self._pids.append(pid)
                self._answers.append(answers)
        finally:
            gc.unfreeze()

    def _work(self, tasks: int, answer: int) -> None:
        """The life of a child; does not return."""
        code = 1
        try:
            _keep_freed_memory()
            part = self._prepare()
            while number := os.read(tasks, _NUMBER.size):
                if self._stopped():
                    break
                result = part(_NUMBER.unpack(number)[0], lambda amount: _send(answer, _ADVANCED, amount), self._stopped)
                _send(answer, _RESULT, result)
            _send(answer, _DONE, None)
            code = 0
        except (BrokenPipeError, KeyboardInterrupt):
            code = 1  # Nobody listens any more, or everybody was asked to stop.
        except ReopenError as error:
            _send(answer, _ERROR, error)
        except BaseException:
            _send(answer, _ERROR, Internal(f"a process of {self._purpose} failed:\n{traceback.format_exc()}"))
            raise
        finally:
            # Nothing of the parent's is to be flushed, collected or run here.
            os._exit(code)

    def _stopped(self) -> bool:
        return self._stop[0] != 0

    def _listen(self, advance: Advance) -> Iterator[Any]:
        buffers = {answers: bytearray() for answers in self._answers}
        done: set[int] = set()
        with selectors.DefaultSelector() as selector:
            for answers in self._answers:
                selector.register(answers, selectors.EVENT_READ)
            while len(done) < len(self._answers):
                self._hand_out_more()
                for key, _ in selector.select():
                    data = os.read(key.fd, _READ_BYTES)
                    if not data:
                        raise Transient(
                            f"a process of {self._purpose} ended before its work was done.",
                            hint="The system may have ended it for want of memory; run the same command again: nothing "
                            "is done twice. `limits.workers = 1` takes one process.",
                        )
                    buffers[key.fd] += data
                    for kind, value in _messages(buffers[key.fd]):
                        if kind == _ADVANCED:
                            advance(value)
                        elif kind == _RESULT:
                            yield value
                        elif kind == _ERROR:
                            raise value
                        else:
                            done.add(key.fd)
                            selector.unregister(key.fd)

    def _hand_out_more(self) -> None:
        """Write as many numbers as the pipe takes; children answer at each, so there is room again by the next time."""
        if self._hand_out is None:
            return
        with suppress(BlockingIOError):
            while self._handed_out < self._count:
                os.write(self._hand_out, _NUMBER.pack(self._handed_out))
                self._handed_out += 1
        if self._handed_out == self._count:
            self._close_hand_out()

    def _close_hand_out(self) -> None:
        if self._hand_out is not None:
            os.close(self._hand_out)
            self._hand_out = None

    def _end(self) -> None:
        self._stop[0] = 1
        self._close_hand_out()
        for answers in self._answers:
            os.close(answers)
        for pid in self._pids:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._stop.close()


def _send(answer: int, kind: bytes, value: object) -> None:
    data = pickle.dumps(value)
    view = memoryview(_MESSAGE.pack(kind, len(data)) + data)
    while view:
        view = view[os.write(answer, view) :]


def _messages(buffer: bytearray) -> Iterator[tuple[bytes, Any]]:
    """Take the messages that are whole from the front of a buffer; they come from our own children."""
    while len(buffer) >= _MESSAGE.size:
        kind, length = _MESSAGE.unpack_from(buffer)
        end = _MESSAGE.size + length
        if len(buffer) < end:
            return
        value = pickle.loads(bytes(buffer[_MESSAGE.size : end]))
        del buffer[:end]
        yield kind, value


def _keep_freed_memory() -> None:
    """Tell the C library to use the memory of buffers again rather than to give it back and fetch it page by page: of
    restoring large files that is a twentieth of the time. What a child keeps is what it had in use at a time."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # Not every C library has it.
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _BUFFER_BYTES_MAX)
        set_option(_M_TRIM_THRESHOLD, 4 * _BUFFER_BYTES_MAX)
