"""Owns the memory of what was read again: which packs of which store, when, how deep. It lives in the ledger, as signed
``read`` facts, so that "every byte was re-read within 30 days" is a figure and not a feeling.

Invariants
    I1  A fact speaks for the store that it names and for no other. Ledgers travel to replicas; nobody has read a byte
        there by that.
    I2  A pack counts from when its reading began, and only if it was found whole; a damaged one stays the least
        recently verified and is read first the next time.
    I3  A time is the word of whoever read: one that lies ahead of now counts as now.
    I4  Reading this memory costs what is recent, not what is old: facts are taken newest first until every pack that is
        there has been met. Old facts stay, and are not opened again.

A run writes a fact every :data:`NOTE_SECONDS`, so one that is interrupted has read nothing for naught.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from reopen.clock import from_text, to_text
from reopen.errors import Corrupt, InvalidInput, NotFound
from reopen.ids import new_id
from reopen.protect.verify.packs import Level
from reopen.vault import Vault

READ = "read"
PREFIX = f"ledger/{READ}/dataset=/"

PACKS_PER_FACT_MAX = 16_000
"""43 bytes a pack in base64: 700 kB, below the cap of a stored document. 100,000 packs are 7 facts."""

NOTE_SECONDS = 600.0
"""How much reading an interruption may cost at most, in time."""

WINDOWS_DAYS = (7, 30, 90)
"""The windows that a status shows."""

CLAIM_WINDOW = timedelta(days=30)
"""How long ago a pack may have been read for a snapshot to count as read whole. A check of everything at once that is
30 days old is believed as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How much to read again; the least recently verified packs first. What is given bounds the rest.

    :param share: of the stored bytes, above 0 and at most 1.
    :param bytes_max: at most so many bytes; a pack that is larger alone is read all the same.
    :param older_than: only packs that were not read for so long.
    """

    share: float | None = None
    bytes_max: int | None = None
    older_than: timedelta | None = None

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share <= 1:
            raise InvalidInput("a sample is more than 0% and at most 100%.", hint="Write it like 5%.")
        if self.bytes_max is not None and self.bytes_max <= 0:
            raise InvalidInput("a sample needs more than 0 bytes.", hint="Write it like 10GB.")

    def choose(self, packs: Mapping[bytes, int], read_at: Mapping[bytes, datetime], now: datetime) -> dict[bytes, int]:
        """Of packs with their sizes, those to read, in the order of reading: never read first, then the longest ago.

        The chosen bytes reach the share; they do not pass ``bytes_max``.
        """
        due = [
            pack
            for pack in packs
            if self.older_than is None or pack not in read_at or now - read_at[pack] >= self.older_than
        ]
        # Ids are digests: among equals the order is as good as random, and the same for everybody.
        due.sort(key=lambda pack: (pack in read_at, read_at.get(pack, now), pack))
        wanted = sum(packs.values()) * self.share if self.share is not None else None
        chosen: dict[bytes, int] = {}
        taken = 0
        for pack in due:
            if wanted is not None and taken >= wanted:
                break
            if self.bytes_max is not None and chosen and taken + packs[pack] > self.bytes_max:
                break
            chosen[pack] = packs[pack]
            taken += packs[pack]
        return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of a store was re-read. ``read_bytes`` by window in days; ``oldest_read_at`` is None while a pack was
    never read, or longer ago than the windows reach."""

    stored_bytes: int
    stored_packs: int
    read_bytes: Mapping[int, int]
    oldest_read_at: datetime | None

    def share(self, days: int) -> float:
        """The part of the stored bytes that was re-read within so many days; 1 for a store without a pack."""
        return self.read_bytes[days] / self.stored_bytes if self.stored_bytes else 1.0


class ReadNotes:
    """Writes down what was read, from time to time while it is being read."""

    def __init__(self, vault: Vault, level: Level) -> None:
        self._vault = vault
        self._level = level
        self._packs: list[bytes] = []
        self._since: datetime | None = None
        self._noted_at_seconds = vault.clock.elapsed_seconds()
        self.facts = 0

    def add(self, pack: bytes, began_at: datetime) -> None:
        """A pack was read and found whole (I2)."""
        self._packs.append(pack)
        self._since = began_at if self._since is None else min(began_at, self._since)
        full = len(self._packs) >= PACKS_PER_FACT_MAX
        if full or self._vault.clock.elapsed_seconds() - self._noted_at_seconds >= NOTE_SECONDS:
            self.write()

    def write(self) -> None:
        """Sign what was not written down yet."""
        self._noted_at_seconds = self._vault.clock.elapsed_seconds()
        began_at, self._since = self._since, None
        packs, self._packs = sorted(self._packs), []
        if began_at is None:
            return
        body = {
            "store": self._vault.store.url,
            "level": str(self._level),
            "since": to_text(began_at),
            "packs": base64.b64encode(b"".join(packs)).decode(),
        }
        milliseconds = int(self._vault.clock.now().timestamp() * 1000)
        fact_id = f"{milliseconds:012x}"[-12:] + new_id(self._vault.random_bytes)[:4]
        self._vault.record_fact(READ, dataset="", snapshot="", body=body, fact_id=fact_id)
        self.facts += 1


def read_times(
    vault: Vault,
    packs: Collection[bytes],
    *,
    now: datetime,
    level: Level = Level.STORED,
    not_before: datetime | None = None,
) -> dict[bytes, datetime]:
    """When packs of this store were last read and found whole, as far as the ledger knows (I1 to I4).

    :param packs: 32-byte ids of the packs that are there.
    :param level: how deep at least.
    :param not_before: readings before it are of no interest.
    """
    found: dict[bytes, datetime] = {}
    wanted = set(packs)
    names = sorted((info.name for info in vault.store.list(PREFIX)), key=_fact_id, reverse=True)
    for name in names:
        if len(found) == len(wanted):
            break
        try:
            body = vault.parse_fact(name, vault.store.get(name)).body
            deep = Level(body["level"]) is Level.CONTENT or level is not Level.CONTENT
            since, ids = min(from_text(body["since"]), now), list(_ids(body["packs"]))
        except (Corrupt, NotFound, KeyError, TypeError, ValueError):
            continue  # It proves nothing; a structure check names it.
        if not_before is not None and since < not_before:
            break
        if body.get("store") != vault.store.url or not deep:
            continue
        for pack in wanted.intersection(ids):
            found[pack] = max(since, found.get(pack, since))
    return found


def coverage_of(vault: Vault, packs: Mapping[bytes, int], now: datetime) -> Coverage:
    """How much of these packs (32-byte ids with sizes) was re-read within each of :data:`WINDOWS_DAYS`."""
    times = read_times(vault, packs.keys(), now=now, not_before=now - timedelta(days=max(WINDOWS_DAYS)))
    return Coverage(
        stored_bytes=sum(packs.values()),
        stored_packs=len(packs),
        read_bytes={
            days: sum(packs[pack] for pack, at in times.items() if now - at <= timedelta(days=days))
            for days in WINDOWS_DAYS
        },
        oldest_read_at=min(times.values(), default=None) if len(times) == len(packs) else None,
    )


def _fact_id(name: str) -> str:
    return name.rpartition("-")[2]


def _ids(text: str) -> Iterator[bytes]:
    data = base64.b64decode(text, validate=True)
    if len(data) % 32:
        raise ValueError("the list of packs is cut short")
    return (data[at : at + 32] for at in range(0, len(data), 32))
