"""Owns what a watch remembers between two looks: how often in a row the site failed, what was ever reached, what was
told. One file below the home of the site that watches; losing it costs a few looks, and a message twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reopen.control.values import Instant, from_json, stored, to_json
from reopen.errors import Corrupt, NotFound
from reopen.storage.canonical import decode, encode
from reopen.storage.local import LocalStore

FOLDER = "watch"


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was said last of one thing, and when."""

    level: str
    at: Instant


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of one watched site.

    ``failures`` counts looks that failed in a row, ``failing_since`` is the first of them, ``counted_at`` the last that
    was counted. ``reached`` are the places that ever answered, ``told`` what was said last, by its
    key; ``looked_at`` is the last look of all.
    """

    failures: int = 0
    failing_since: Instant | None = None
    counted_at: Instant | None = None
    answered_at: Instant | None = None
    reached: tuple[str, ...] = ()
    told: Mapping[str, Told] = field(default_factory=dict)
    looked_at: Instant | None = None


def recall(home: Path, site: str) -> Memory:
    """What was remembered of a site; nothing, when nobody looked before, or when the file cannot be read any more."""
    try:
        return from_json(Memory, decode(LocalStore(home / FOLDER).get(_name(site)), _name(site)), _name(site))
    except (NotFound, Corrupt):
        # A watch that stopped because of its own notes would miss the disaster; it counts anew.
        return Memory()


def remember(home: Path, site: str, memory: Memory) -> None:
    """Keep it, whole or not at all.

    :raises VaultUnwritable: the home cannot be written.
    """
    LocalStore(home / FOLDER).put(_name(site), [encode(to_json(memory))])


def _name(site: str) -> str:
    return f"{site}.json"
