"""Owns the parts of the evidence: a chain, and a new chain for each time that the one before it could not be believed.

``evidence/<n>.json`` is the first part, ``evidence-2/<n>.json`` the second, and so on. The first link of a later part
says what it follows (:func:`what_broke`), under its signature.

Invariants (docs/0013-drills-and-evidence.md)
    E7  Nothing is appended to a part in which something is wrong, and nothing in it is mended or removed: what comes
        after begins a new one.
    P1  Numbers go on counting over the parts: a record's number is its place in its part and :attr:`Part.before`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import PurePosixPath
from typing import Any

from reopen.control.chain import Chain, ChainProblem, Link, inspect_chain, judge_link
from reopen.errors import Corrupt, Refused
from reopen.ids import RandomBytes, system_random
from reopen.storage.base import ObjectStore

EVIDENCE_PREFIX = "evidence"
AFTER = "after"
"""The member of a part's first link that says what it follows."""
NAMED_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One chain of the evidence. ``links`` are all that can be read, ``problems`` all that is wrong with them."""

    prefix: str
    links: tuple[Link, ...]
    problems: tuple[ChainProblem, ...]
    before: int
    """How many records stood in the parts before it."""

    @property
    def believed(self) -> tuple[Link, ...]:
        """All links of a part in which nothing is wrong; else those before the first defect that the next one quotes:
        where a link does not fit the one before it, either may have been changed."""
        if not self.problems:
            return self.links
        found: list[Link] = []
        for link in self.links:
            if judge_link(link, number=len(found) + 1, prev=found[-1].digest if found else None) is not None:
                break
            found.append(link)
        return tuple(found[:-1])

    @property
    def records(self) -> int:
        """How many records stood in it and before it, by the highest of their names."""
        names = [link.name for link in self.links] + [problem.name for problem in self.problems]
        numbers = [PurePosixPath(name).stem for name in names]
        return self.before + max((int(number) for number in numbers if number.isdecimal()), default=0)

    @property
    def follows(self) -> Mapping[str, Any]:
        """What its first link says of the part before it; empty for the first part."""
        after = self.links[0].body.get(AFTER) if self.links else None
        return after if isinstance(after, dict) else {}


def prefix_of(number: int) -> str:
    """Where a part is stored, counted from 1."""
    return EVIDENCE_PREFIX if number == 1 else f"{EVIDENCE_PREFIX}-{number}"


def evidence_parts(store: ObjectStore) -> tuple[Part, ...]:
    """All parts with everything that is wrong with them, oldest first; at least one, which may be empty."""
    parts: list[Part] = []
    for number in count(1):
        links, problems = inspect_chain(store, prefix_of(number))
        if number > 1 and not links and not problems:
            break
        part = Part(prefix=prefix_of(number), links=links, problems=problems, before=0)
        said = part.follows.get("records")
        before = said if isinstance(said, int) else parts[-1].records if parts else 0
        parts.append(Part(prefix=part.prefix, links=links, problems=problems, before=before))
    return tuple(parts)


def evidence_break(store: ObjectStore) -> str:
    """What is wrong with the chain of the evidence, for people; empty when nothing is."""
    problems = [problem for part in evidence_parts(store) for problem in part.problems]
    named = "; ".join(f"{problem.name}: {problem.defect}: {problem.detail}" for problem in problems[:NAMED_MAX])
    return named + ("; …" if len(problems) > NAMED_MAX else "")


def newest_part(
    store: ObjectStore, *, random_bytes: RandomBytes = system_random
) -> tuple[Chain, int, Mapping[str, Any]]:
    """The chain that the next record belongs to, the number of records before that chain, and what its first link has
    to say; nothing where it is not the first of a part that follows a broken one."""
    number = 1
    while next(store.list(f"{prefix_of(number + 1)}/"), None) is not None:
        number += 1
    chain = Chain(store, prefix_of(number), random_bytes=random_bytes)
    try:
        links = chain.links()
    except (Corrupt, Refused) as error:
        broken = evidence_parts(store)[-1]
        return Chain(store, prefix_of(number + 1), random_bytes=random_bytes), broken.records, what_broke(broken, error)
    # The first part is where nothing is before it, and needs not be looked at again.
    before = 0 if number == 1 or not links else int(links[0].body.get(AFTER, {}).get("records", 0))
    return chain, before, {}


def what_broke(part: Part, error: Corrupt | Refused) -> Mapping[str, Any]:
    """What the first link of the next part says: which part it follows, and why."""
    believed = part.believed
    head = {"name": believed[-1].name, "digest": believed[-1].digest} if believed else None
    return {"part": part.prefix, "records": part.records, "head": head, "problem": error.message}
