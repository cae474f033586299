"""Owns the counting of what a recovery point lacks: files, bytes and rows against the newest snapshot that is known.

The newest snapshot may be in another vault than the one that is recovered from (production's, when it can still be
read), and need not be verified, complete or confirmed: it is not recovered from, it only tells what there was.

Invariants (docs/0011-failover-and-failback.md)
    F4  What cannot be counted is *unknown* with the reason; a vault that cannot be read is said, and so is a snapshot
        that a newer Reopen made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reopen.errors import ReopenError
from reopen.recover.outlook import Loss
from reopen.recover.points import RecoveryPoint
from reopen.vault.record import SnapshotRecord, parse_record_name

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
        site, newest, too_new = self._newest(dataset, point.seq)
        lost = self._unreadable
        reasons = [f"{', '.join(lost)}: the vault cannot be read, and may have newer snapshots"] if lost else []
        reasons += [
            f"{where}: snapshot {snapshot[:8]} was made by a newer Reopen, and this version cannot read what it holds"
            for where, snapshot in too_new
        ]
        unknown = "; ".join(reasons)
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

    def _newest(self, dataset: str, seq: int) -> tuple[str, SnapshotRecord | None, list[tuple[str, str]]]:
        """The newest snapshot that can be read, with its site; and of each site the newest after ``seq`` that a newer
        Reopen made."""
        best: tuple[str, SnapshotRecord | None] = "", None
        too_new = []
        for site, vault in sorted(self._vaults.items()):
            try:
                records, newer = vault.records_and_newer(dataset)
            except ReopenError:
                self._forget(site)
                continue
            if records and (best[1] is None or records[-1].seq > best[1].seq):
                best = site, records[-1]
            named = [found for name in newer if (found := parse_record_name(name)) and found[1] > seq]
            if named:
                too_new.append((site, named[-1][2]))
        return *best, too_new

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
