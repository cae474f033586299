"""Owns which snapshots hold what must not serve: those that a site wrote without the role, after it, or in vain.

Invariants (docs/0011-failover-and-failback.md)
    F11  What a returning primary wrote after it had lost the role is diverged: kept, and chosen only by its id.
    F12  So is what an abandoned primary wrote.

The vault knows what its writer knew; the log knows what became of it. Both are needed, and here they meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reopen.control import tenure
from reopen.control.records import Record
from reopen.control.values import Instant, stored
from reopen.recover.points import PointSource
from reopen.vault.clean import Suspicion
from reopen.vault.record import Fact, SnapshotRecord


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Diverged:
    """A snapshot that is kept for review: who took it, and of which instant."""

    dataset: str
    snapshot: str
    site: str
    epoch: int
    consistent_at: Instant


class SeenByTheLog:
    """A vault whose diverged snapshots are unconfirmed, so that only their ids reach them.

    :param initial: the primary before the first epoch.
    """

    def __init__(self, vault: PointSource, records: Sequence[Record], *, initial: str) -> None:
        self._vault = vault
        self._records = records
        self._initial = initial

    @property
    def id(self) -> str:
        """The vault's id."""
        return self._vault.id

    def datasets(self) -> list[str]:
        """Names of the datasets that have a record."""
        return self._vault.datasets()

    def records(self, dataset: str | None = None) -> list[SnapshotRecord]:
        """Committed snapshots, by dataset and seq."""
        return self.records_and_newer(dataset)[0]

    def records_and_newer(self, dataset: str | None = None) -> tuple[list[SnapshotRecord], list[str]]:
        """The same, and the names of records that a newer Reopen made."""
        records, newer = self._vault.records_and_newer(dataset)
        marked = [
            replace(snapshot, confirmed=False) if self._is_diverged(snapshot) else snapshot for snapshot in records
        ]
        return marked, newer

    def unclean(self, dataset: str) -> Mapping[str, Suspicion]:
        """The suspicion that each snapshot stands under; what may have diverged counts too."""
        return self._vault.unclean(dataset)

    def facts(self, kind: str | None = None, dataset: str | None = None) -> list[Fact]:
        """Facts of the ledger, oldest first."""
        return self._vault.facts(kind, dataset)

    def diverged(self, *, site: str | None = None) -> tuple[Diverged, ...]:
        """Every diverged snapshot, of one site or of all; also those whose writer knew it already."""
        return tuple(
            Diverged(
                dataset=snapshot.dataset,
                snapshot=snapshot.id,
                site=snapshot.site,
                epoch=snapshot.epoch,
                consistent_at=snapshot.consistent_at,
            )
            for snapshot in self._vault.records()
            if site in (None, snapshot.site) and (not snapshot.confirmed or self._is_diverged(snapshot))
        )

    def _is_diverged(self, snapshot: SnapshotRecord) -> bool:
        return tenure.is_diverged(
            self._records,
            site=snapshot.site,
            epoch=snapshot.epoch,
            consistent_at=snapshot.consistent_at,
            initial=self._initial,
        )
