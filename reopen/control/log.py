"""Owns the epoch log in its store: reading all records, appending one that the rules allow.

Invariants (docs/0003-epochs-and-recovery.md)
    L1-L3 are those of the chain (:mod:`reopen.control.chain`, C1-C3).
    L2  A record is checked (:func:`reopen.control.rules.check_append`) against exactly the records that it follows on.

Plans are stored beside the log by their digest, because a new orchestrator must be able to read what the old one did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from reopen.clock import Clock
from reopen.control.chain import Chain, Link
from reopen.control.values import digest
from reopen.errors import Conflict, Corrupt
from reopen.ids import RandomBytes, system_random
from reopen.storage.base import ObjectStore

if TYPE_CHECKING:
    from reopen.control.records import Record, Value

LOG_PREFIX = "log"
PLAN_PREFIX = "plans"


class EpochLog:
    """The log in a control store. Threads may share one."""

    def __init__(self, store: ObjectStore, *, clock: Clock, random_bytes: RandomBytes = system_random) -> None:
        self._chain = Chain(store, LOG_PREFIX, random_bytes=random_bytes)
        self._clock = clock
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

        :raises Corrupt: the chain is broken.
        :raises Refused: a required kind that this version does not know.
        """
        return self._records(self._chain.links())

    def append(self, value: Value | Callable[[tuple[Record, ...]], Value], *, by: str) -> Record:
        """Append one record for orchestrator ``by``. A callable gets the records that the new one will follow on, and
        is asked again when somebody else was faster: for values that carry the next number.

        :raises ReopenError: what :func:`check_append` refuses, or the store's errors.
        """
        from reopen.control.records import body_of, record_of
        from reopen.control.rules import check_append

        def compose(links: tuple[Link, ...]) -> dict[str, object]:
            records = self._records(links)
            candidate = value(records) if callable(value) else value
            check_append(records, candidate, by=by)
            return body_of(candidate, at=self._clock.now(), by=by)

        return record_of(self._chain.append(compose))

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
        # Links are immutable and the chain only grows, so what was parsed stays parsed.
        known = self._parsed
        if len(known) < len(links):
            # Imported here, because most logs are empty: a snapshot asks, and its site was never failed over.
            from reopen.control.records import record_of

            known = [*known, *(record_of(link) for link in links[len(known) :])]
            self._parsed = known
        return tuple(known[: len(links)])
