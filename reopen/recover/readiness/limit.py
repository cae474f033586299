"""Owns the time that a look may take (Y3): a call that does not answer is left behind, and said to be silent.

A read of a network file system whose server is gone cannot be interrupted, so the calls run in daemon threads: such a
thread keeps neither the look nor, at its end, the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from queue import Empty, SimpleQueue
from typing import TypeVar

from reopen.clock import SYSTEM_CLOCK
from reopen.errors import Internal, ReopenError, Transient

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

AT_ONCE_MAX = 16
"""Places that are asked at the same time."""


def within(seconds: float, what: str, call: Callable[[], T]) -> T | ReopenError:
    """What a call returns, or the error that it raised; ``Transient`` when it does not end in time."""
    return side_by_side(seconds, {what: call})[what]


def side_by_side(seconds: float, calls: Mapping[K, Callable[[], T]]) -> dict[K, T | ReopenError]:
    """What each call returns, or the error that it raised, all within the same time.

    An error that nobody foresaw is one of these too: readiness tells of a fault, it does not die of it.
    """
    answers: SimpleQueue[tuple[K, T | ReopenError]] = SimpleQueue()
    room = threading.Semaphore(AT_ONCE_MAX)

    def run(key: K, call: Callable[[], T]) -> None:
        with room:
            try:
                answers.put((key, call()))
            except ReopenError as error:
                answers.put((key, error))
            except Exception as error:  # noqa: BLE001 - whatever a library raises is a finding about this place.
                answers.put((key, Internal(f"unexpected: {type(error).__name__}: {error}")))

    for key, call in calls.items():
        threading.Thread(target=run, args=(key, call), name="reopen-look", daemon=True).start()
    found: dict[K, T | ReopenError] = {}
    deadline = SYSTEM_CLOCK.elapsed_seconds() + seconds
    while len(found) < len(calls):
        try:
            key, answer = answers.get(timeout=max(0.0, deadline - SYSTEM_CLOCK.elapsed_seconds()))
        except Empty:
            break
        found[key] = answer
    silent = Transient(f"no answer within {seconds:g} s.", hint="Look at the network and the service behind it.")
    return {key: found.get(key, silent) for key in calls}
