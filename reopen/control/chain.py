"""Owns append-only chains in an object store: numbered, hash-linked, one exclusive create for each link.

The epoch log and the evidence are such chains. A link is canonical JSON
``{"body": …, "format": 1, "nonce": …, "number": n, "prev": <BLAKE3 of link n-1's bytes> | null}`` at
``<prefix>/<n as ten digits>.json``.

Invariants
    C1  Numbers begin with 1 and have no gap; link n quotes the digest of link n-1. Nothing is changed or deleted.
    C2  A number has one winner. The body is composed again after every lost race, from the links as they then are.
    C3  A lost acknowledgement is settled by reading back: the nonce says whose link it is.

A crash leaves the link or does not; there is no third state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reopen.control.values import digest
from reopen.errors import Conflict, Corrupt, MadeByNewer, NotFound, Refused, Transient
from reopen.ids import RandomBytes, new_id, system_random
from reopen.storage.base import ObjectStore, proven
from reopen.storage.canonical import decode, encode

CHANGED_HINT = (
    "It was changed after it was written. Keep it aside and look who could write there; then put it back, under its "
    "name, as a copy of the control store has it."
)
FORMAT = 1
LOST_RACES_MAX = 64
"""A writer that lost this often meets more writers than a failover ever has; it says so instead of trying for ever."""
UNANSWERED_MAX = 3
"""Creates of one link without an answer. The store retries by itself first; this is only for the settling (C3)."""

Body = Mapping[str, Any]
Compose = Callable[[tuple["Link", ...]], Body]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link as it is stored; ``digest`` is the BLAKE3 of its bytes."""

    name: str
    number: int
    prev: str | None
    nonce: str
    digest: str
    body: Body


class Defect(StrEnum):
    """What can be wrong with a chain."""

    UNDECODABLE = "undecodable"
    MISSING = "missing"
    MISPLACED = "misplaced"
    BROKEN_LINK = "broken link"
    REPLACED = "replaced"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainProblem:
    """One defect: in which object, and what was found."""

    name: str
    defect: Defect
    detail: str


class Chain:
    """A chain below ``prefix`` in ``store``. Threads may share one; processes meet in the store."""

    def __init__(self, store: ObjectStore, prefix: str, *, random_bytes: RandomBytes = system_random) -> None:
        self._store = store
        self._prefix = prefix
        self._random_bytes = random_bytes
        self._lock = threading.RLock()
        self._links: tuple[Link, ...] = ()

    @property
    def store(self) -> ObjectStore:
        """Where the chain is."""
        return self._store

    def name(self, number: int) -> str:
        """The object's name of a link; ten digits, so that the order of names is the order of numbers."""
        return f"{self._prefix}/{number:010d}.json"

    def links(self) -> tuple[Link, ...]:
        """All links, also those that others appended since the last call.

        :raises Corrupt: the chain has a gap, a broken link or an unreadable one.
        """
        with self._lock:
            links = list(self._links)
            names = {info.name for info in self._store.list(f"{self._prefix}/")}
            # A listing may lag behind at some stores, so the name after the last is asked for by itself.
            while (name := self.name(len(links) + 1)) in names or self._exists(name):
                links.append(self._read(name, links))
            for name in sorted(names - {link.name for link in links}):
                raise Corrupt(
                    f"{name} stands in {self._store.url} and {self.name(len(links) + 1)} before it is missing.",
                    hint="A record was removed, so nothing is appended. Put the object back from a copy of the control "
                    "store, under its name; and look who could remove it.",
                    object=name,
                )
            self._links = tuple(links)
            return self._links

    def append(self, compose: Compose) -> Link:
        """Add one link. ``compose`` gets all links before it and returns the body, or raises to give up.

        Somebody may append between the reading and the create: then the number is taken, the create is lost and
        ``compose`` is asked again (C2). So the number is the compare-and-swap.

        :raises Transient: the store gave no answer that settles who won; reading the chain again will tell.
        """
        if not proven(self._store).exclusive_create:
            raise Refused(
                f"{self._store.url} has no exclusive create, so two writers could both own a record.",
                hint="Put the control store in a local folder or an object store with conditional writes.",
            )
        nonce = new_id(self._random_bytes)
        with self._lock:
            for _ in range(LOST_RACES_MAX):
                links = self._newest()
                number = len(links) + 1
                link = _link(
                    self.name(number),
                    number=number,
                    prev=links[-1].digest if links else None,
                    nonce=nonce,
                    body=compose(links),
                )
                if self._create(link):
                    self._links = (*links, link)
                    return link
        raise Transient(f"{LOST_RACES_MAX} writers in a row were faster at {self._store.url}/{self._prefix}.")

    def _newest(self) -> tuple[Link, ...]:
        """All links, by asking only for the names after those known: an append need not list the whole chain."""
        if not self._links:
            return self.links()
        links = list(self._links)
        while self._exists(name := self.name(len(links) + 1)):
            links.append(self._read(name, links))
        self._links = tuple(links)
        return self._links

    def _create(self, link: Link) -> bool:
        """Whether the link is ours now; False when the number belongs to somebody else."""
        data = _bytes_of(link)
        for attempt in range(1, UNANSWERED_MAX + 1):
            try:
                self._store.create(link.name, [data])
            except (Conflict, Transient) as error:
                # After either error our own bytes may stand there: a create that was carried out and not acknowledged
                # answers Conflict when the store's own retry meets it (C3).
                try:
                    stored = self._store.get(link.name)
                except NotFound:
                    if attempt == UNANSWERED_MAX:
                        raise Transient(
                            f"{self._store.url} does not say whether {link.name} was written.",
                            hint="Run the same command again: it reads the log and goes on.",
                        ) from error
                    continue
                return decode(stored, link.name).get("nonce") == link.nonce
            return True
        raise AssertionError("the loop returns or raises")

    def _exists(self, name: str) -> bool:
        try:
            self._store.head(name)
        except NotFound:
            return False
        return True

    def _read(self, name: str, before: Sequence[Link]) -> Link:
        link = parse_link(self._store.get(name), name)
        problem = judge_link(link, number=len(before) + 1, prev=before[-1].digest if before else None)
        if problem is not None:
            raise Corrupt(
                f"{name} in {self._store.url}: {problem.defect}: {problem.detail}.",
                hint=CHANGED_HINT,
                object=name,
            )
        return link


def inspect_chain(store: ObjectStore, prefix: str) -> tuple[tuple[Link, ...], tuple[ChainProblem, ...]]:
    """Every readable link of a chain, in order of names, and everything that is wrong with it; raises for nothing that
    is stored. A gap is reported once, and the link after it is not blamed for it."""
    links: list[Link] = []
    problems: list[ChainProblem] = []
    expected, prev, prev_known = 1, None, True
    for info in store.list(f"{prefix}/"):
        try:
            link = parse_link(store.get(info.name), info.name)
        except (Corrupt, Refused) as error:
            problems.append(ChainProblem(name=info.name, defect=Defect.UNDECODABLE, detail=error.message))
            expected, prev_known = expected + 1, False
            continue
        position = _number_in(info.name, prefix)
        if position != expected:
            gone = f"{expected} is gone" if position - 1 == expected else f"{expected} to {position - 1} are gone"
            detail = gone if position > expected else "its name is not its number's"
            problems.append(ChainProblem(name=f"{prefix}/{expected:010d}.json", defect=Defect.MISSING, detail=detail))
            expected, prev_known = max(position, expected), False
        problem = judge_link(link, number=expected, prev=prev if prev_known else link.prev)
        if problem is not None:
            problems.append(problem)
        links.append(link)
        expected, prev, prev_known = expected + 1, link.digest, True
    return tuple(links), tuple(problems)


def _number_in(name: str, prefix: str) -> int:
    digits = name.removeprefix(f"{prefix}/").removesuffix(".json")
    return int(digits) if digits.isdecimal() else 0


def parse_link(data: bytes, name: str) -> Link:
    """The link in stored bytes.

    :raises Corrupt: not a link.
    :raises MadeByNewer: of a format that this version does not know.
    """
    try:
        value = decode(data, name)
    except Corrupt as error:
        # What reads bytes does not know whose they are: no vault holds these, and no replica gives them back.
        raise Corrupt(error.message, hint=CHANGED_HINT, **error.context) from error
    if value.get("format", FORMAT) != FORMAT:
        raise MadeByNewer(f"{name} has format {value['format']!r}; this version reads {FORMAT}.", object=name)
    number, prev, nonce, body = (value.get(key) for key in ("number", "prev", "nonce", "body"))
    if (
        set(value) != {"format", "number", "prev", "nonce", "body"}
        or not isinstance(number, int)
        or not isinstance(prev, str | None)
        or not isinstance(nonce, str)
        or not isinstance(body, dict)
    ):
        raise Corrupt(f"{name} is not a link of a chain.", hint=CHANGED_HINT, object=name)
    return Link(name=name, number=number, prev=prev, nonce=nonce, digest=digest(data), body=body)


def judge_link(link: Link, *, number: int, prev: str | None) -> ChainProblem | None:
    """What is wrong with a link that stands at ``number`` after one with digest ``prev``; None when nothing is."""
    if link.number != number:
        detail = f"it says number {link.number} and stands at {number}"
        return ChainProblem(name=link.name, defect=Defect.MISPLACED, detail=detail)
    if link.prev != prev:
        detail = "it quotes another record before it than the one that is there"
        return ChainProblem(name=link.name, defect=Defect.BROKEN_LINK, detail=detail)
    return None


def _link(name: str, *, number: int, prev: str | None, nonce: str, body: Body) -> Link:
    draft = Link(name=name, number=number, prev=prev, nonce=nonce, digest="", body=body)
    return Link(name=name, number=number, prev=prev, nonce=nonce, digest=digest(_bytes_of(draft)), body=body)


def _bytes_of(link: Link) -> bytes:
    return encode(
        {
            "format": FORMAT,
            "number": link.number,
            "prev": link.prev,
            "nonce": link.nonce,
            "body": dict(link.body),
        }
    )
