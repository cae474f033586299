"""Owns imports that are put off until somebody uses what they bring.

Great Expectations imports SciPy's statistics and Altair for one expectation (the divergence of distributions) and its
picture, whether a contract has it or not: a third of the seconds and of the memory that the import of all of it takes.

Invariants
    I1  A module that is put off is imported whole by the first look at anything in it; no caller can tell but by time.
    I2  Outside the ``with`` block imports go their usual way.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Finder:
    """Finds the named modules as everybody else does, and gives them a loader that waits."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = importlib.util.LazyLoader(spec.loader)
                return spec
        return None


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Put off the import of these modules when they are imported inside the block."""
    finder = _Finder(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
