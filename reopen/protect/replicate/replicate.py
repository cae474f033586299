"""Owns copying a vault to another site. Needs no content key, and with pins alone no key at all; changes nothing that
is already there. What is to be copied is :mod:`reopen.protect.replicate.plan`.

Order: the list of records is fixed first; then what the root key signed and ``vault.json`` (an empty replica), packs,
index parts, profiles and manifests, why records are gone, records, the rest of the ledger. So the replica never has a
record that refers to something it lacks, wherever it stops. Records go one after the other, each after those that it
names as seen.

Invariants
    I1  Every object is checked against what its name, its signature or a signed pin says before it is created at the
        target, from the very bytes that are written; what nobody believes is left out, since what is there is never
        replaced.
    I2  Nothing is deleted or replaced at the target. Deletions, leases and tombstones stay where they are, and so does
        what lets go: expiry and releases (the replica has its own retention and credentials). A hold is copied.
    I3  A run that was interrupted is continued by the next: what is present is not copied again, nor what the target
        let go.
    I4  One damaged object must not keep tonight's snapshots from their replica: it is left out, everything else is
        copied, and the run ends with an error that names it. A record whose part was left out is as broken there as at
        the source, and a check of the replica says so; once the source is mended, the next run fills the gap.
    I5  What has arrived has the size that was sent, by the target's own word; asked to, the run reads it back and
        hashes it again. Records are created after that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from blake3 import blake3

from reopen.errors import Conflict, Corrupt, Internal, NotFound, Transient
from reopen.progress import SILENT, Progress
from reopen.protect.locks import keep_replica_locked
from reopen.protect.replicate.plan import ROWS_SUFFIX, STATEMENT_SUFFIX, Copy, ReplicatePlan, plan_replicate
from reopen.protect.stored import Budget, CheckedPieces, digest_of
from reopen.vault import SnapshotRecord

__all__ = ["Copy", "ReplicatePlan", "ReplicateResult", "execute_replicate", "plan_replicate"]

THREADS_MIN = 8
"""Copying is waiting for two stores: more threads than cores, bounded by the bytes that they hold."""

BYTES_IN_FLIGHT_MAX = 160 << 20
"""Two packs and what small objects are under way. An object store's client copies what it is given once more."""

RECORDS = "records"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicateResult:
    """What a replication did. ``lag_seconds``: the longest time from a snapshot's commit at the source to its arrival.
    ``left_out``, ``differing`` and ``let_go`` are those of the plan."""

    copied_objects: int
    copied_bytes: int
    present_objects: int
    snapshots: int
    lag_seconds: float | None
    seconds: float
    left_out: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    let_go: tuple[str, ...] = ()


def execute_replicate(
    plan: ReplicatePlan, *, workers: int = 0, verify_arrival: bool = False, progress: Progress = SILENT
) -> ReplicateResult:
    """Copy what the target lacks, every object checked on the way.

    :param workers: threads; 0 for as many as two stores can be kept busy with.
    :param verify_arrival: read every object back from the target and hash it again (I5).
    :raises Corrupt: objects at the source are damaged; everything else was copied (I4). Or an object did not arrive as
        it was sent.
    :raises Transient: an object left the source while the run went on; the next run sees what took its place.
    :raises VaultUnwritable: the target is full or refuses writes.
    """
    clock = plan.source.clock
    started = clock.elapsed_seconds()
    progress.start("replicate", plan.size_bytes, "bytes")
    copying = _Copying(plan, verify_arrival, progress)
    committed = {record.name: record for record in plan.records}
    threads = workers or max(THREADS_MIN, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="reopen-replicate") as pool:
        for stage, copies in plan.stages:
            # A stage is complete before the next begins: what refers comes after what is referred to. Records refer to
            # each other.
            if stage == RECORDS:
                for item in copies:
                    copying.take([item], map)
                    copying.note_arrival(committed.get(item.name), clock.now())
            else:
                copying.take(copies, pool.map)
    progress.finish()
    keep_replica_locked(plan.source, plan.target)
    copying.raise_damaged()
    return ReplicateResult(
        copied_objects=plan.objects,
        copied_bytes=plan.size_bytes,
        present_objects=plan.present_objects,
        snapshots=plan.snapshots,
        lag_seconds=copying.lag_seconds,
        seconds=clock.elapsed_seconds() - started,
        left_out=plan.left_out,
        differing=plan.differing,
        let_go=plan.let_go,
    )


@dataclass(slots=True)
class _Copying:
    """One run: what was found damaged, and what must not follow it."""

    plan: ReplicatePlan
    verify_arrival: bool
    progress: Progress
    budget: Budget = field(default_factory=lambda: Budget(BYTES_IN_FLIGHT_MAX))
    damaged: list[Corrupt] = field(default_factory=list)
    withheld: set[str] = field(default_factory=set)
    lag_seconds: float | None = None

    def take(
        self, copies: Iterable[Copy], run: Callable[[Callable[[Copy], Corrupt | None], list[Copy]], Iterable[object]]
    ) -> None:
        """Copy objects that may go at the same time."""
        wanted = [item for item in copies if item.name not in self.withheld]
        for item, error in zip(wanted, run(self._copy, wanted), strict=True):
            if isinstance(error, Corrupt):
                self.damaged.append(error)
                # A statement without its rows would stop every reader; without both, repair covers the packs anew.
                self.withheld.add(item.name.removesuffix(ROWS_SUFFIX) + STATEMENT_SUFFIX)

    def note_arrival(self, record: SnapshotRecord | None, now: datetime) -> None:
        """How long a snapshot took from its commit to its replica."""
        if record is not None:
            waited = max(0.0, (now - record.committed_at).total_seconds())
            self.lag_seconds = max(waited, self.lag_seconds or 0.0)

    def raise_damaged(self) -> None:
        """Tell of what was left out."""
        if self.damaged:
            plan, first = self.plan, self.damaged[0]
            raise Corrupt(
                f"{len(self.damaged)} objects in {plan.source.store.url} are damaged and were not copied, the first: "
                f"{first.message} The other {plan.objects - len(self.damaged)} are in {plan.target.url}.",
                hint="`reopen verify` names the files that they hurt; `reopen repair --from` takes a good copy.",
                objects=len(self.damaged),
            )

    def _copy(self, item: Copy) -> Corrupt | None:
        """Copy one object; what is wrong with it at the source is returned."""
        with self.budget.hold(item.size_bytes):
            try:
                digest = self._write(item)
            except Corrupt as error:
                return error
            except NotFound as error:
                # Its listing is older than its removal: prune put what is still needed into another object.
                raise Transient(
                    f"{item.name} left {self.plan.source.store.url} while it was being copied.",
                    hint="Run `reopen replicate` again: it sees what took its place. No record was copied.",
                    object=item.name,
                ) from error
        self._check_arrival(item, digest)
        return None

    def _write(self, item: Copy) -> str:
        """Create one object from bytes that are checked on the way; returns their digest (I1)."""
        plan = self.plan
        if item.data is not None:
            self.progress.advance(len(item.data))
            self._create(item, [item.data], lambda: blake3(item.data or b"").hexdigest())
            return blake3(item.data).hexdigest()
        source = CheckedPieces(plan.source.store, item.name, item.size_bytes, item.pin, self.progress.advance)
        self._create(item, source, lambda: source.digest or item.pin)
        if not source.digest:
            raise Internal(f"{plan.target.url} took {item.name} without taking all of it.", object=item.name)
        return source.digest

    def _create(self, item: Copy, parts: Sequence[bytes], digest: Callable[[], str]) -> None:
        plan = self.plan
        try:
            plan.target.create(item.name, parts)
        except Conflict:
            # Somebody else is copying too. Equal bytes are what was wanted.
            for _ in parts:
                pass  # Ours are read to their end, which checks them.
            if blake3(plan.target.get(item.name)).hexdigest() != digest():
                raise Conflict(
                    f"{item.name} in {plan.target.url} differs from the one in {plan.source.store.url}.",
                    hint="One of the two was changed; `reopen verify` on each tells which.",
                ) from None

    def _check_arrival(self, item: Copy, digest: str) -> None:
        """I5: the size by the target's own word, and the bytes if that is asked for."""
        arrived = self.plan.target.head(item.name).size_bytes
        if arrived != item.size_bytes:
            raise self._not_arrived(item, f"{arrived} bytes arrived, {item.size_bytes} were sent")
        if self.verify_arrival:
            self._read_back(item, digest)

    def _read_back(self, item: Copy, digest: str) -> None:
        if digest_of(self.plan.target, item.name, item.size_bytes) != digest:
            raise self._not_arrived(item, "it was read back and is not what was sent")

    def _not_arrived(self, item: Copy, what: str) -> Corrupt:
        return Corrupt(
            f"{item.name} in {self.plan.target.url} is damaged: {what}.",
            hint="Check that store and the way to it; `reopen repair --from` puts a good copy in its place.",
            object=item.name,
        )
