"""Owns the counting of what a recovery point lacks: files, bytes and rows against the newest snapshot that is known.

The newest snapshot may be in another vault than the one that is recovered from (production's, when it can still be
read), and need not be verified, complete or confirmed: it is not recovered from, it only tells what there was.

Invariants (docs/0011-failover-and-failback.md)
    F4  What cannot be counted is *unknown* with the reason; a vault that cannot be read is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reopen.errors import ReopenError
from reopen.recover.outlook import Loss
from reopen.recover.points import RecoveryPoint
from reopen.vault.record import SnapshotRecord

if TYPE_CHECKING:
    from reopen.vault import Vault

_SQL = """
WITH p AS (SELECT *, coalesce(path_raw, encode(path)) AS name FROM point WHERE type <> 'dir'),
     n AS (SELECT *, coalesce(path_raw, encode(path)) AS name FROM newest WHERE type <> 'dir')
SELECT
    coalesce(n.path, p.path) AS path,
    n.name IS NULL AS removed,
    coalesce(n.size_bytes, 0) AS size_bytes
FROM p FULL OUTER JOIN n USING (name)
WHERE n.name IS NULL OR p.name IS NULL
    OR (n.type, n.size_bytes, n.chunks, n.link_target, n.link_target_raw)
        IS DISTINCT FROM (p.type, p.size_bytes, p.chunks, p.link_target, p.link_target_raw)
"""


class LossCounter:
    """Counts losses against every vault that can be read.

    :param home: the vault that is recovered from.
    :param vaults: all that could be opened, by site; ``unreadable`` are the sites of the others.
    """

    def __init__(self, home: Vault, vaults: Mapping[str, Vault], *, unreadable: Sequence[str] = ()) -> None:
        self._home = home
        self._vaults = dict(vaults)
        self._unreadable = list(unreadable)

    def __call__(self, dataset: str, point: RecoveryPoint) -> Loss:
        """What a recovery from ``point`` loses of a dataset."""
        site, newest = self._newest(dataset)
        lost = self._unreadable
        unknown = f"{', '.join(lost)}: the vault cannot be read, and may have newer snapshots" if lost else ""
        if newest is None:
            return Loss(unknown=unknown or "no snapshot is known")
        if newest.seq <= point.seq:
            known = Loss(against=newest.id, site=site, at=newest.consistent_at, unknown=unknown)
            # Where every vault was read, nothing newer was ever stored; else that is not known.
            return known if unknown else _counted(known, files=0, removed=0, size_bytes=0, rows=0)
        try:
            return self._compare(dataset, point, site, newest, unknown)
        except ReopenError as error:
            reason = f"snapshot {newest.id} at {site} cannot be compared: {error.message}"
            return Loss(against=newest.id, site=site, at=newest.consistent_at, unknown=reason)

    def _newest(self, dataset: str) -> tuple[str, SnapshotRecord | None]:
        best: tuple[str, SnapshotRecord | None] = "", None
        for site, vault in sorted(self._vaults.items()):
            try:
                records = vault.records(dataset)
            except ReopenError:
                self._forget(site)
                continue
            if records and (best[1] is None or records[-1].seq > best[1].seq):
                best = site, records[-1]
        return best

    def _forget(self, site: str) -> None:
        del self._vaults[site]
        self._unreadable.append(site)

    def _compare(self, dataset: str, point: RecoveryPoint, site: str, newest: SnapshotRecord, unknown: str) -> Loss:
        import duckdb

        record = self._home.find(dataset, point.snapshot)
        there = self._vaults[site]
        with duckdb.connect() as connection:
            connection.register("point", self._home.manifest(record))
            connection.register("newest", there.manifest(newest))
            found = connection.sql(_SQL).fetchall()
        lost = {path: size for path, removed, size in found if not removed}
        rows = None
        if record.profile is not None and newest.profile is not None:
            before, after = _rows_by_path(self._home, record), _rows_by_path(there, newest)
            rows = sum(after.get(path, 0) - before.get(path, 0) for path, _, _ in found)
        return Loss(
            against=newest.id,
            site=site,
            at=newest.consistent_at,
            files=len(lost),
            removed=len(found) - len(lost),
            size_bytes=sum(lost.values()),
            rows=rows,
            unknown=unknown,
        )


def _counted(known: Loss, *, files: int, removed: int, size_bytes: int, rows: int) -> Loss:
    return Loss(
        against=known.against, site=known.site, at=known.at, files=files, removed=removed, size_bytes=size_bytes,
        rows=rows,
    )  # fmt: skip


def _rows_by_path(vault: Vault, record: SnapshotRecord) -> dict[str, int]:
    """Rows of each file of a table: every column's statistics say the file's."""
    profile = vault.profile(record)
    return dict(zip(profile.column("path").to_pylist(), profile.column("rows").to_pylist(), strict=True))
