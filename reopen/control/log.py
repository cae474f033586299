"""Owns the epoch log in its store: reading all records, appending one that the rules allow.

Invariants (docs/0003-epochs-and-recovery.md)
    L1-L3 are those of the chain (:mod:`reopen.control.chain`, C1-C3).
    L2  A record is checked (:func:`reopen.control.rules.check_append`) against exactly the records that it follows on.

The log has one home at a time (:mod:`reopen.control.homes`). One that is closed names the next, and is followed; a home
keeps the records of those before it, so that it reads as one log from the beginning. A log that lost its end, or is not
there at all, is known by what the site remembers of it (:mod:`reopen.control.memory`).

Plans are stored beside the log by their digest, because a new orchestrator must be able to read what the old one did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from reopen.clock import Clock
from reopen.control.chain import Chain, Link
from reopen.control.values import digest
from reopen.errors import Conflict, Corrupt, Transient
from reopen.ids import RandomBytes, system_random
from reopen.storage.base import ObjectStore

if TYPE_CHECKING:
    from reopen.control.memory import LogMemory, Seen
    from reopen.control.records import Record, Value

LOG_PREFIX = "log"
BEFORE_PREFIX = "before"
"""Below it the logs of earlier homes, whole, each in a folder with its number: a home is enough by itself."""
PLAN_PREFIX = "plans"


class EpochLog:
    """The log in a control store. Threads may share one."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        clock: Clock,
        random_bytes: RandomBytes = system_random,
        open_store: Callable[[str], ObjectStore] | None = None,
        memory: LogMemory | None = None,
    ) -> None:
        """
        :param open_store: opens the next home of a log that is closed; without it a closed log is only read.
        :param memory: what this site saw of the log before; without it whatever stands there is believed.
        """
        self._memory = memory
        self._random_bytes = random_bytes
        self._clock = clock
        self._open_store = open_store
        self._settle_at(store)

    def _settle_at(self, store: ObjectStore) -> None:
        self._chain = Chain(store, LOG_PREFIX, random_bytes=self._random_bytes)
        self._before: tuple[Record, ...] | None = None
        self._parsed: list[Record] = []

    @property
    def store(self) -> ObjectStore:
        """The control store; evidence lives beside the log."""
        return self._chain.store

    @property
    def clock(self) -> Clock:
        """By which records are dated."""
        return self._clock

    def records(self) -> tuple[Record, ...]:
        """All records, in order, also those that others appended since the last call.

        :raises Corrupt: the chain is broken, or is another one than this site saw before.
        :raises Refused: a required kind that this version does not know, or records that were seen are gone.
        """
        # Before the log, so that what is appended meanwhile is not missed.
        seen = self._seen()
        while True:
            records = self._records(self._chain.links())
            if not self._follow(records, seen):
                self._check(records, seen)
                self._remember(records)
                return records

    def append(self, value: Value | Callable[[tuple[Record, ...]], Value], *, by: str) -> Record:
        """Append one record for orchestrator ``by``. A callable gets the records that the new one will follow on, and
        is asked again when somebody else was faster: for values that carry the next number.

        :raises ReopenError: what :func:`check_append` refuses, or the store's errors.
        """
        from reopen.control.records import body_of, record_of
        from reopen.control.rules import check_append

        seen = self._seen()
        records: tuple[Record, ...] = ()

        def compose(links: tuple[Link, ...]) -> dict[str, object]:
            nonlocal records
            records = self._records(links)
            if self._is_followed(records):
                raise _Moved
            self._check(records, seen)
            candidate = value(records) if callable(value) else value
            check_append(records, candidate, by=by)
            return body_of(candidate, at=self._clock.now(), by=by)

        while True:
            try:
                link = self._chain.append(compose)
            except _Moved:
                self.records()
                continue
            record = self._numbered(record_of(link))
            self._remember((*records, record))
            return record

    def store_plan(self, data: bytes) -> str:
        """Keep a plan's canonical bytes and return their digest. Storing the same plan again changes nothing."""
        name = digest(data)
        try:
            self.store.create(f"{PLAN_PREFIX}/{name}.json", [data])
        except Conflict:
            # The name is the digest, so what stands there is this plan or was damaged; reading tells.
            self.load_plan(name)
        return name

    def plans(self) -> tuple[str, ...]:
        """Digests of the plans that are kept here, by name."""
        names = (info.name for info in self.store.list(f"{PLAN_PREFIX}/"))
        return tuple(name.removeprefix(f"{PLAN_PREFIX}/").removesuffix(".json") for name in names)

    def load_plan(self, name: str) -> bytes:
        """The bytes of a stored plan.

        :raises Corrupt: they do not match the digest they are stored under.
        """
        data = self.store.get(f"{PLAN_PREFIX}/{name}.json")
        if digest(data) != name:
            raise Corrupt(f"plan {name} in {self.store.url} was changed.", hint="Plan the failover anew.", plan=name)
        return data

    def _records(self, links: tuple[Link, ...]) -> tuple[Record, ...]:
        if self._before is None or not links:
            # Read again while nothing of this home's own stands there: what was before it may still be on its way.
            self._before = read_before(self.store)
        # Links are immutable and the chain only grows, so what was parsed stays parsed.
        known = self._parsed
        if len(known) < len(links):
            from reopen.control.records import record_of

            known = [*known, *(self._numbered(record_of(link)) for link in links[len(known) :])]
            self._parsed = known
        own = tuple(known[: len(links)])
        if self._before and own:
            check_continues(self._before[-1], own[0], self.store)
        return (*self._before, *own)

    def _numbered(self, record: Record) -> Record:
        # As one log from the beginning: what compares numbers must not see them begin again.
        return replace(record, number=record.number + len(self._before or ()))

    def _is_followed(self, records: tuple[Record, ...]) -> bool:
        """Whether the log goes on elsewhere, and this one can go there."""
        if not records:
            return False
        from reopen.control.records import Closed

        ended = isinstance(records[-1].value, Closed)
        # In a new home the closing record of the one before is the last one until the move is done.
        return ended and self._open_store is not None and len(records) > len(self._before or ())

    def _seen(self) -> Seen | None:
        return None if self._memory is None else self._memory.seen()

    def _check(self, records: tuple[Record, ...], seen: Seen | None) -> None:
        if self._memory is not None:
            self._memory.check(seen, records, self.store.url)

    def _remember(self, records: tuple[Record, ...]) -> None:
        if self._memory is not None:
            self._memory.remember(records, self.store.url)

    def _follow(self, records: tuple[Record, ...], seen: Seen | None) -> bool:
        if not self._is_followed(records) or self._open_store is None:
            return False
        from reopen.control.records import Closed

        closed = records[-1].value
        assert isinstance(closed, Closed)
        here = self._chain, self._before, self._parsed
        self._settle_at(self._open_store(closed.next_url))
        try:
            if not self._records(self._chain.links())[len(self._before or ()) :]:
                # Moved before, and empty now: no move that is under way.
                self._check(records, seen)
                raise Transient(
                    f"the epoch log is being moved to {closed.next_url}, and nothing stands there yet.",
                    hint="`reopen reprotect` goes on with the move.",
                )
        except BaseException:
            # Back to the home that says where the next one is: a process that lives on asks it again, and takes nothing
            # of a home for granted that it has not read whole.
            self._chain, self._before, self._parsed = here
            raise
        return True


class _Moved(Exception):
    """The log goes on in another home."""


def read_before(store: ObjectStore) -> tuple[Record, ...]:
    """The records of the homes before the one in a store, numbered as one log; none for the first home.

    :raises Corrupt: a chain among them is broken, or one does not go on from the one before.
    """
    folders = sorted({info.name.split("/")[1] for info in store.list(f"{BEFORE_PREFIX}/")})
    if not folders:
        return ()
    from reopen.control.records import record_of

    found: list[Record] = []
    for folder in folders:
        links = Chain(store, f"{BEFORE_PREFIX}/{folder}").links()
        records = [replace(record_of(link), number=link.number + len(found)) for link in links]
        if found and records:
            check_continues(found[-1], records[0], store)
        found += records
    return tuple(found)


def check_continues(last: Record, first: Record, store: ObjectStore) -> None:
    """Refuse a home whose first record does not quote the one that closed the home before it (H2)."""
    from reopen.control.records import Closed, Epoch

    moved = first.value
    if not isinstance(last.value, Closed) or not isinstance(moved, Epoch) or moved.continues != last.digest:
        raise Corrupt(
            f"the epoch log in {store.url} does not go on from the one before it.",
            hint="It may be a fork that a lost site came back with. Keep it as it is, and look who wrote there.",
        )
