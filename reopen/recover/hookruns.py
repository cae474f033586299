"""Owns the processes of hooks: their groups, their end when the driver is told to stop, and the finding of one that a
driver which was killed left behind on this machine.

A hook runs in a session of its own, so that a Ctrl-C at the terminal does not cut a fence in two by itself, and a
time-out ends all that it started. A driver that is killed cannot end it, and it should not be ended for that: half a
fence is worse than a whole one. So a note of it is kept below the home of this site while it runs, and whoever is about
to run the same hook finds it, and waits.

Invariants (docs/0011-failover-and-failback.md)
    F1  No hook is begun while the same one is known to run here: it is waited for, up to its own time-out.
    H1  A process is the one of the note only if it began when the note says; a number that is used again is another.

What cannot be known: a hook that runs on another machine, or what it did before it ended. That is its check's to say.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from reopen.control.values import digest, from_json, stored, to_json
from reopen.errors import Corrupt, NotFound, ReopenError
from reopen.storage.canonical import decode, encode
from reopen.storage.local import LocalStore

FOLDER = "hooks"
GRACE_SECONDS = 5.0
"""How long a hook that is told to end may take to undo what is half done."""
LOOK_SECONDS = 0.2
SAME_SECONDS = 2.0
"""The system tells the start of a process by a clock that is set now and then."""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A hook that runs on this machine: its process, which leads its group, and when it began, seconds since 1970."""

    hook: str
    process: int
    began_seconds: float
    step: str
    plan: str


@dataclass(eq=False)
class Running:
    """A hook's process under this driver. ``told`` is set when it was told to end."""

    process: Popen[bytes]
    told: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds_max: float) -> int | None:
        """Its exit code; None when it was ended because its time was over. One that was told to end gets some grace."""
        waited = 0.0
        grace = GRACE_SECONDS
        while waited < seconds_max and grace > 0:
            try:
                return self.process.wait(min(LOOK_SECONDS, seconds_max - waited))
            except TimeoutExpired:
                waited += LOOK_SECONDS
                grace -= LOOK_SECONDS if self.told.is_set() else 0
        return None

    def kill(self) -> None:
        """End it and all that it started, now."""
        if self.process.poll() is None:
            _signal_group(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def tell(self) -> None:
        """Tell it, and all that it started, to end."""
        self.told.set()
        if self.process.poll() is None:
            _signal_group(self.process.pid, signal.SIGTERM)


class HookRuns:
    """The hooks that run under this driver, and what others left. Threads share one.

    :param home: of this site; without it nothing is noted, and nothing found.
    """

    def __init__(self, home: Path | None) -> None:
        self._store = None if home is None else LocalStore(home / FOLDER)
        self._running: set[Running] = set()
        self._lock = threading.Lock()

    @contextmanager
    def watched(self, process: Popen[bytes], *, hook: str, step: str, plan: str) -> Iterator[Running]:
        """Note a process while the block runs; it has ended when the block has."""
        running = Running(process)
        with self._lock:
            self._running.add(running)
        self._note(process.pid, hook=hook, step=step, plan=plan)
        try:
            yield running
        finally:
            running.kill()
            with self._lock:
                self._running.discard(running)
            if self._store is not None:
                # A note that stays names a process that is none: nobody waits for it.
                with suppress(ReopenError):
                    self._store.delete(_name(hook))

    def tell_all(self) -> None:
        """Tell every hook that runs now to end; it may be called by a handler of signals."""
        for running in tuple(self._running):
            running.tell()

    def left(self, hook: str) -> Note | None:
        """The hook that another driver began here and that still runs; None where there is none."""
        if self._store is None:
            return None
        try:
            name = _name(hook)
            note = from_json(Note, decode(self._store.get(name), name), name)
        except (NotFound, Corrupt):
            return None
        return note if _lives(note) else None

    def outlast(self, note: Note, *, seconds_max: float, wait: Callable[[float], object]) -> bool:
        """Wait until a hook that was left has ended; one that takes longer than its time is ended with its group.

        :returns: whether it ended by itself.
        """
        waited = 0.0
        while _lives(note):
            if waited >= seconds_max:
                _signal_group(note.process, signal.SIGKILL)
                return False
            wait(LOOK_SECONDS)
            waited += LOOK_SECONDS
        return True

    def _note(self, process: int, *, hook: str, step: str, plan: str) -> None:
        began = _began(process)
        if self._store is None or began is None:
            return
        note = Note(hook=hook, process=process, began_seconds=began, step=step, plan=plan)
        # A home that takes nothing must not keep anybody from fencing a site; only a death would make it matter.
        with suppress(ReopenError):
            self._store.put(_name(hook), [encode(to_json(note))])


@contextmanager
def ended_with_us(tell_all: Callable[[], None]) -> Iterator[None]:
    """Tell hooks to end when this process is told to (SIGTERM, SIGINT), before whoever handles the signal does.

    Where nobody handles SIGTERM it ends the work like a Ctrl-C, as :class:`Stopped`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: object) -> None:
        tell_all()
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)  # type: ignore[arg-type]
        elif handler == signal.SIG_DFL:
            raise Stopped

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stopped(KeyboardInterrupt):
    """The process was told to end by a signal that nobody typed."""


def _signal_group(leader: int, number: signal.Signals) -> None:
    # Between the look and the signal it may have ended: then there is nobody to tell.
    with suppress(ProcessLookupError):
        os.killpg(leader, number)


def _name(hook: str) -> str:
    return f"{digest(hook.encode())[:32]}.json"


def _began(process: int) -> float | None:
    """When a process began; None when there is none of that number."""
    import psutil

    try:
        found = psutil.Process(process)
        return None if found.status() == psutil.STATUS_ZOMBIE else float(found.create_time())
    except psutil.Error:
        return None


def _lives(note: Note) -> bool:
    began = _began(note.process)
    return began is not None and abs(began - note.began_seconds) <= SAME_SECONDS
