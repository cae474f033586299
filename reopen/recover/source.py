"""Owns what a planned move asks of the site that hands over: its last snapshot, and whether it wrote after it.

The site's data and its vault are read from here, with the writer's key that is at hand. Where that is not so, the site
has a ``final_sync`` hook, and only :meth:`SiteSource.arrived` is asked.

Invariants
    F5  What came is read back at the target and hashed before the final sync is done. The comparison after the fence is
        with exactly the snapshot that the plan takes.

Called by the steps ``final-sync`` and ``confirm``; each may be called again after it was interrupted or done.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import datetime

import pyarrow.compute as pc

from reopen.clock import to_text
from reopen.contracts.load import Contracts
from reopen.contracts.model import Dataset
from reopen.errors import Conflict, NotFound, Refused
from reopen.progress import SILENT, Progress
from reopen.protect.manifest import is_unchanged
from reopen.protect.plan import SnapshotPlan, plan_snapshot
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.snapshot import SnapshotResult, execute_snapshot
from reopen.protect.standing import Standing
from reopen.recover.check import check_tree
from reopen.recover.context import Synced
from reopen.recover.plan import PlannedDataset, contract_of
from reopen.storage.base import ObjectStore
from reopen.storage.entries import ENTRY_FIELDS
from reopen.storage.throttle import throttled
from reopen.vault import SnapshotRecord, Vault

COMPARED_FILES_MAX = 10_000
"""Files of which the bytes are read to tell that nothing was written after the final sync. More would hold up the end
of a move; what cannot be told is said to be unproven."""
_SPECIAL = re.compile(r"([\\*?\[\]!#])")

ATTEMPTS_MAX = 3
"""A scheduled snapshot that was under way when the writers were held may commit first; then ours is planned again."""


class SiteSource:
    """A site whose data and vault are reached from here. Threads share it.

    :param site: its name. :param source, target: open the vaults; asked when they are needed, not before.
    :param standing: what a snapshot taken there is worth, by the epoch log.
    """

    def __init__(
        self,
        site: str,
        contracts: Contracts,
        *,
        source: Callable[[], Vault],
        target: Callable[[], Vault],
        standing: Callable[[], Standing],
        workers: int = 0,
        rate: str = "",
        progress: Progress = SILENT,
    ) -> None:
        self._site = site
        self._contracts = contracts
        self._source = source
        self._target = target
        self._standing = standing
        self._workers = workers
        self._rate = rate
        self._progress = progress
        # Replication copies whatever the target lacks, so that two at once would copy the same.
        self._lock = threading.Lock()

    def final_sync(self, dataset: PlannedDataset) -> Synced:
        contract = contract_of(self._contracts, dataset)
        with self._lock:
            source, target = self._source(), self._target()
        taken = self._snapshot(source, contract)
        if taken.record.state != "complete":
            raise Refused(
                f"the final snapshot of {dataset.name} is incomplete: {taken.record.totals.unreadable} files could "
                "not be read.",
                hint="Make them readable, then run the same command again; the writers are given back meanwhile.",
                dataset=dataset.name,
            )
        if source.store.url != target.store.url:
            store: ObjectStore = throttled(target.store, self._rate)
            with self._lock:
                plan = plan_replicate(source, store)
                execute_replicate(plan, workers=self._workers, verify_arrival=True, progress=self._progress)
                # The snapshot may be signed by a key that was made here and came there with it.
                target.read_keys_anew()
        return _synced(target.find(dataset.name, taken.record.id))

    def arrived(self, dataset: PlannedDataset, *, since: datetime) -> Synced:
        found = [
            record
            for record in self._target().records(dataset.name)
            if record.site == self._site and record.consistent_at >= since and record.state == "complete"
        ]
        if not found:
            raise NotFound(
                f"no complete snapshot of {dataset.name} that {self._site} took after {to_text(since)} has come.",
                hint="The final_sync hook has to take one and to replicate it to this site's vault; look at the clocks "
                "of both sites too.",
                dataset=dataset.name,
            )
        return _synced(max(found, key=lambda record: record.seq))

    def confirm(self, dataset: PlannedDataset) -> str:
        plan = plan_snapshot(self._source(), contract_of(self._contracts, dataset), self._site)
        point = dataset.point
        if point is None or plan.parent is None or plan.parent.id != point.snapshot:
            return "another snapshot than the final one is the newest there"
        if is_unchanged(plan):
            return ""
        names = [field.name for field in ENTRY_FIELDS]
        if plan.removed or not plan.scan.select(names).equals(plan.base_manifest.select(names)):
            return f"{plan.read_files:,} files may have been written and {plan.removed:,} removed after the final sync"
        return self._compare(plan, self._source().find(dataset.name, point.snapshot))

    def _compare(self, plan: SnapshotPlan, record: SnapshotRecord) -> str:
        """What differs in the files that were written so shortly before the final sync that only their bytes tell."""
        rows = [row for shard in plan.shards for row in shard.rows]
        if len(rows) > COMPARED_FILES_MAX:
            return f"{len(rows):,} files were written shortly before the final sync, too many to compare their bytes"
        paths = plan.scan.column("path")
        patterns = [exactly(paths[int(row)].as_py()) for row in rows]
        found = check_tree(self._source(), record, plan.source.url, patterns=patterns, workers=self._workers)
        good = pc.sum(pc.equal(found.column("status"), "ok")).as_py() or 0
        if good == found.num_rows >= len(rows):
            return ""
        return f"{found.num_rows - good:,} of {len(rows):,} files that were read again differ from the final sync"

    def _snapshot(self, vault: Vault, contract: Dataset) -> SnapshotResult:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return execute_snapshot(
                    vault,
                    plan_snapshot(vault, contract, self._site),
                    standing=self._standing(),
                    workers=self._workers,
                    progress=self._progress,
                )
            except Conflict:
                if attempt == ATTEMPTS_MAX:
                    raise
        raise AssertionError("the loop returns or raises")


def _synced(record: SnapshotRecord) -> Synced:
    return Synced(
        snapshot=record.id,
        seq=record.seq,
        consistent_at=record.consistent_at,
        files=record.totals.files,
        size_bytes=record.totals.size_bytes,
        read_bytes=record.totals.read_bytes,
    )


def exactly(path: str) -> str:
    """The gitignore-style pattern that means one path and no other."""
    return "/" + _SPECIAL.sub(r"\\\1", path)
