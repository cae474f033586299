"""Owns the work that another process does for a run of this one: what it is told, and what it opens by itself.

A task runner sends a function of this module and its arguments to a worker, which may be on another host. The worker
gets the settings and opens the vault with the keys that it finds there; no key and no content travels. It has to reach
the vault, the data and the keys under the paths that the settings name.

Invariants
    E1  Notification URLs, which may hold tokens, are not sent.
    E2  A worker opens a vault once for all the shards of a run, and reads its index once for a snapshot.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from reopen.config import Notify, Settings
from reopen.contracts import Dataset
from reopen.desk.session import Session

if TYPE_CHECKING:
    from reopen.protect.captured import ShardResult
    from reopen.protect.plan import Shard
    from reopen.protect.verify.packs import PackFindings, PackGroup
    from reopen.recover.shards import RestoreShard
    from reopen.recover.shards import ShardResult as RestoredShard
    from reopen.sources.files import FileSource
    from reopen.vault import Vault
    from reopen.vault.index import ChunkIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where a worker finds what it works on: the settings, and the site whose vault is used (None: the settings')."""

    settings: Settings
    vault: str | None

    @classmethod
    def of(cls, settings: Settings, vault: str | None) -> Workplace:
        """The workplace of a run, fit to be sent (E1)."""
        return cls(settings=replace(settings, notify=Notify()), vault=vault)


class _Reading:
    """What a worker needs to read the shards of one snapshot (:class:`reopen.protect.plan.Reading`)."""

    def __init__(self, vault: Vault, session: Session, dataset: Dataset, site: str) -> None:
        self._vault = vault
        self._session = session
        self.dataset = dataset
        self.site = site

    @cached_property
    def source(self) -> FileSource:
        from reopen.sources.files import open_source

        dataset = self.dataset
        return open_source(dataset.location(self.site).url, include=dataset.include, exclude=dataset.exclude)

    @cached_property
    def index(self) -> ChunkIndex:
        from reopen.protect.plan import load_trusted_index

        return load_trusted_index(self._vault, self._session.index_cache)


class _Desk:
    """What this process has opened. Two threads of a worker may ask at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workplace: Workplace | None = None
        self._session: Session | None = None
        self._readings: dict[str, _Reading] = {}

    def vault(self, workplace: Workplace) -> tuple[Session, Vault]:
        """The vault of a workplace, opened when another was asked for before (E2)."""
        with self._lock:
            if self._session is None or workplace != self._workplace:
                self._workplace, self._session, self._readings = workplace, Session(workplace.settings), {}
            return self._session, self._session.vault(workplace.vault)

    def reading(self, workplace: Workplace, dataset: Dataset, site: str, snapshot: str) -> tuple[Vault, _Reading]:
        """What the shards of a snapshot need; that of the snapshot before is let go."""
        session, vault = self.vault(workplace)
        with self._lock:
            if snapshot not in self._readings:
                self._readings = {snapshot: _Reading(vault, session, dataset, site)}
            return vault, self._readings[snapshot]


_desk = _Desk()


def write_shard(workplace: Workplace, dataset: Dataset, snapshot: str, shard: Shard) -> ShardResult:
    """Write one shard of a snapshot under way (:func:`reopen.protect.apart.write_shard_apart`)."""
    from reopen.protect.apart import write_shard_apart

    vault, reading = _desk.reading(workplace, dataset, workplace.settings.site, snapshot)
    return write_shard_apart(vault, reading, shard, snapshot, workers=workplace.settings.limits.workers or 1)


def check_group(workplace: Workplace, group: PackGroup) -> PackFindings:
    """Read one group of packs (:func:`reopen.protect.verify.packs.check_packs`)."""
    from reopen.protect.verify.packs import check_packs

    _, vault = _desk.vault(workplace)
    return check_packs(vault, group)


def restore_part(workplace: Workplace, shard: RestoreShard) -> RestoredShard:
    """Write one shard of a restore (:func:`reopen.recover.shards.restore_shard`)."""
    from reopen.recover.shards import restore_shard

    _, vault = _desk.vault(workplace)
    return restore_shard(vault, shard)
