"""Owns what a catalog is made from: vaults, the epoch log and its store, contracts; and what of it a question needs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from reopen.contracts import Contracts
from reopen.control.log import EpochLog
from reopen.errors import ReopenError
from reopen.review.catalog.macros import MACROS
from reopen.review.catalog.views import CONTROL_VIEWS, COVERAGE_VIEWS, ENTRY_VIEWS, PROFILE_VIEWS, SITE_VIEWS
from reopen.vault import Vault


@dataclass(frozen=True, kw_only=True)
class Place:
    """A site whose vault a catalog holds. The vault is opened when it is asked first: a question about this site waits
    for no other."""

    site: str
    role: str
    url: str
    opens: Callable[[], Vault]

    @cached_property
    def found(self) -> Vault | ReopenError:
        """The vault, or the error that opening it gave."""
        try:
            return self.opens()
        except ReopenError as error:
            return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a catalog comes from. ``places`` are in the order in which they are preferred: of equal records the first
    one's count. ``datasets`` is the choice; empty stands for all."""

    places: tuple[Place, ...]
    log: EpochLog | None = None
    contracts: Contracts = field(default_factory=lambda: Contracts(datasets={}))
    initial_primary: str = ""
    datasets: frozenset[str] = frozenset()
    everywhere: bool = False
    """Whether every place is asked whatever the question is; else the first, and others where sites are compared."""

    def takes(self, name: str) -> bool:
        """Whether an object of a vault belongs to a dataset of the choice."""
        if not self.datasets:
            return True
        found = re.search(r"/dataset=([^/]*)/", name)
        return found is not None and found[1] in self.datasets


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Which sources a question stands on. ``everywhere``: all sites' vaults, and not the first place only."""

    entries: bool = True
    profiles: bool = True
    control: bool = True
    everywhere: bool = True
    coverage: bool = True
    invalid: bool = True
    """Whether objects that could not be believed are read again; a repair may have mended them."""

    @classmethod
    def of(cls, sql: str) -> Needs:
        """What a statement needs, by the names in its text: one too many costs time, none is missed."""
        words = set(re.findall(r"[a-z_]+", sql.lower()))
        return cls(
            entries=not words.isdisjoint({*ENTRY_VIEWS, *MACROS}),
            profiles=not words.isdisjoint(PROFILE_VIEWS),
            control=not words.isdisjoint({*CONTROL_VIEWS, *SITE_VIEWS}),
            everywhere=not words.isdisjoint({*SITE_VIEWS, *COVERAGE_VIEWS}),
            coverage=not words.isdisjoint(COVERAGE_VIEWS),
            invalid=False,
        )


ALL = Needs()
"""Everything: what ``reopen catalog`` brings up to date."""
