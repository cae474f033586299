"""Owns the move of the epoch log to another home.

Invariants (docs/0003-epochs-and-recovery.md, docs/0011-failover-and-failback.md)
    H1  There is one open home: ``closed`` is one append, by the holder of the term, and nothing follows on it there.
    H2  The new home holds everything of those before it (records, plans, evidence): it is enough by itself when they
        are lost. Its first own record quotes the digest of the ``closed`` record.

Order: everything but the log is copied -> ``closed`` -> what came meanwhile and the old records are copied -> the first
record of the new home. A crash between two of these leaves the old home open, or none; moving again goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from reopen.clock import Clock
from reopen.control import rules
from reopen.control.log import BEFORE_PREFIX, LOG_PREFIX, EpochLog
from reopen.control.memory import LogMemory
from reopen.control.records import Closed, Epoch, Fence, FenceLevel, Record, Scenario
from reopen.errors import Internal, NotFound, Refused
from reopen.storage.base import ObjectStore

OpenStore = Callable[[str], ObjectStore]


def move_log(
    store: ObjectStore, next_url: str, *, open_store: OpenStore, clock: Clock, by: str, reason: str
) -> EpochLog:
    """Move the log in ``store`` to ``next_url``, or go on with that move, and return it in its new home.

    :param by: the orchestrator that holds the term.
    :raises Refused: it was closed towards another home.
    :raises Superseded: another orchestrator holds the term.
    """
    # Without the way to follow: this is about the one home, also when it is closed by now.
    old, target = EpochLog(store, clock=clock), open_store(next_url)
    new = EpochLog(target, clock=clock, open_store=open_store)
    _copy(store, target)
    records = old.records()
    closed = _closed(records) or old.append(_closing(next_url, by), by=by)
    assert isinstance(closed.value, Closed)
    if closed.value.next_url != next_url:
        raise Refused(
            f"the epoch log was closed towards {closed.value.next_url}, not {next_url}.",
            hint="Put the settings back as they were when the move began, and run it again.",
        )
    _copy(store, target)
    _copy_log(store, target)
    before = new.records()
    if not before or before[-1].digest != closed.digest:
        return new  # The first record of the new home stands.
    epoch = rules.epoch_record(before)
    if epoch is None:
        raise Internal("a log without an epoch was moved.")
    first = Epoch(
        epoch=epoch.epoch + 1,
        primary=epoch.primary,
        previous_primary=epoch.previous_primary,
        scenario=Scenario.MOVED,
        reason=reason,
        failed_at=None,
        declared_at=clock.now(),
        # The role stays, so that nobody is fenced by this.
        fence=Fence(level=FenceLevel.ASSERTED, by=by, why="the log moves, the role stays"),
        continues=closed.digest,
    )
    new.append(first, by=by)
    return new


def finish_move(url: str, *, open_store: OpenStore, clock: Clock, by: str, memory: LogMemory | None = None) -> bool:
    """Go on with a move whose orchestrator died after it had closed a home; whether there was one.

    :param url: the home that the settings name.
    :param memory: what this site saw of the log before.
    :raises Refused: the next home is empty and was not so before: it is out of reach, and no move is under way.
    """
    store = open_store(url)
    seen = None if memory is None else memory.seen()
    while True:
        records = EpochLog(store, clock=clock).records()
        closed = _closed(records)
        if closed is None or not isinstance(closed.value, Closed):
            return False
        target = open_store(closed.value.next_url)
        if not any(True for _ in target.list(f"{LOG_PREFIX}/")):
            if memory is not None:
                memory.check(seen, records, target.url)
            move_log(store, closed.value.next_url, open_store=open_store, clock=clock, by=by, reason="the move goes on")
            return True
        store = target


def _closed(records: tuple[Record, ...]) -> Record | None:
    return records[-1] if records and isinstance(records[-1].value, Closed) else None


def _closing(next_url: str, by: str) -> Callable[[tuple[Record, ...]], Closed]:
    def closed(records: tuple[Record, ...]) -> Closed:
        now = rules.require_holder(records, by)
        return Closed(epoch=now.epoch, term=now.term, next_url=next_url)

    return closed


def _copy(source: ObjectStore, target: ObjectStore) -> None:
    """Bring everything that lies beside the log: plans, evidence, history, the logs of earlier homes."""
    for info in source.list(""):
        if not info.name.startswith(f"{LOG_PREFIX}/"):
            _put(target, info.name, source.get(info.name))


def _copy_log(source: ObjectStore, target: ObjectStore) -> None:
    homes = {info.name.split("/")[1] for info in source.list(f"{BEFORE_PREFIX}/")}
    folder = f"{BEFORE_PREFIX}/{len(homes) + 1:04d}"
    for info in source.list(f"{LOG_PREFIX}/"):
        _put(target, f"{folder}/{info.name.removeprefix(f'{LOG_PREFIX}/')}", source.get(info.name))


def _put(store: ObjectStore, name: str, data: bytes) -> None:
    try:
        if store.get(name) == data:
            return
    except NotFound:
        pass
    store.put(name, [data])
