"""Owns the making of random ids, keys' raw material and salts. Nothing else in the engine draws random bytes.

An id carries no time and no order: order is a snapshot's ``seq``, time is written beside it. Tests pass their own
``RandomBytes`` (a seeded generator) to get the same ids twice.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

RandomBytes = Callable[[int], bytes]
"""``n -> n random bytes``; :func:`os.urandom` outside tests."""

ID_BYTES = 8
"""64 random bits: with one snapshot a minute for a century the chance that two share an id is below 1e-4."""


def system_random(size: int) -> bytes:
    """``size`` bytes from the operating system's generator."""
    return os.urandom(size)


def seeded_random(seed: int) -> RandomBytes:
    """A repeatable generator for tests and seeded drills. Never for keys."""
    return random.Random(seed).randbytes


def new_id(random_bytes: RandomBytes = system_random) -> str:
    """A fresh id: 16 lower-case hex digits."""
    return random_bytes(ID_BYTES).hex()
