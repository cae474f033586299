"""Owns the pulse of a driver: what tells one that has worked for an hour on one step from one that is dead.

While a process drives a recovery it writes ``drivers/<orchestrator>.json`` in the control store every
:data:`BEAT_SECONDS`. One that ends says so there; one that was killed says nothing more. The object says nothing about
the recovery, which the log alone does: it can be lost, and nobody acts by it but who looks whether somebody is there.

Invariants
    B1  The first beat is written before the first step, so that a driver that was never heard of did not act.
    B2  A beat that cannot be written stops nothing. Who is taken for dead while it lives is taken over by the log, and
        stops at its next record.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from reopen.clock import Clock
from reopen.control.values import Instant, from_json, stored, to_json
from reopen.errors import Corrupt, NotFound, ReopenError, Transient
from reopen.recover.hookruns import Stopped
from reopen.storage.base import ObjectStore
from reopen.storage.canonical import decode, encode

FOLDER = "drivers"
BEAT_SECONDS = 20.0
"""How often a driver says that it lives: a hundred small objects in half an hour."""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What a driver says of itself. ``beat`` counts, so that two looks need not agree on the time; ``ended`` is empty
    while it works, else how it came to its end."""

    orchestrator: str
    plan: str
    beat: int
    at: Instant
    ended: str = ""


@contextmanager
def beating(store: ObjectStore, *, orchestrator: str, plan: str, clock: Clock) -> Iterator[None]:
    """Beat while the block runs, and say at its end that it ended.

    An end by something else than a result, an error of ours or a Ctrl-C is a death: the process is being ended, and
    nobody decided that the recovery should be. So is a store or a network that does not answer: the next driver may
    find it better.
    """
    over = threading.Event()
    last = Pulse(orchestrator=orchestrator, plan=plan, beat=1, at=clock.now())
    lock = threading.Lock()

    def beat(ended: str = "") -> None:
        nonlocal last
        with lock:
            try:
                store.put(_name(orchestrator), [encode(to_json(replace(last, ended=ended)))])
            except ReopenError:
                # B2. The journal needs the same store more, and tells.
                return
            finally:
                last = replace(last, beat=last.beat + 1, at=clock.now())

    def go_on() -> None:
        while not over.wait(BEAT_SECONDS):
            beat()

    beat()
    thread = threading.Thread(target=go_on, name="pulse", daemon=True)
    thread.start()
    ended = ""
    try:
        yield
        ended = "done"
    except Transient:
        raise
    except ReopenError as error:
        ended = error.message
        raise
    except KeyboardInterrupt as interrupt:
        ended = "" if isinstance(interrupt, Stopped) else "interrupted by hand"
        raise
    finally:
        over.set()
        thread.join()
        if ended:
            beat(ended)


def read_pulse(store: ObjectStore, orchestrator: str) -> Pulse | None:
    """What a driver said of itself last; None where it was never heard of, or what it said cannot be read.

    :raises Transient: the store does not answer.
    """
    name = _name(orchestrator)
    try:
        return from_json(Pulse, decode(store.get(name), name), name)
    except (NotFound, Corrupt):
        return None


def _name(orchestrator: str) -> str:
    return f"{FOLDER}/{orchestrator}.json"
