"""Owns giving space back: what no record needs is marked, and removed a grace later, while others go on writing.

``docs/0005-prune.md`` has the failing sequences, the invariants P1 to P8 and the protocol. In short

    plan      one survey: what records need; which packs to mark, to repack, to leave
    execute   sweep what earlier runs marked, if nobody who might rely on it is under way; repack; mark

Nothing that a plan says is acted on without the protocol, so a plan that became stale is safe to carry out.

A crash anywhere leaves what the next run finds and finishes; a second run at the same time does no harm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from reopen.errors import InvalidInput, NotFound, Refused, Transient
from reopen.progress import SILENT, Progress
from reopen.protect.lease import LEASE_SECONDS, void_dead_leases
from reopen.protect.needs import require
from reopen.protect.prune.choice import MAX_UNUSED_SHARE, PackChoice, PackToDo, choose
from reopen.protect.prune.repack import Repacked, repack
from reopen.protect.prune.survey import Lease, ManifestMemory, Survey, list_leases, old_enough, survey
from reopen.protect.prune.sweep import MovedFrames, Swept, sweep
from reopen.protect.witness import Witness
from reopen.vault import Vault
from reopen.vault.packreader import OpenPack
from reopen.vault.tombstones import NAMES_PER_TOMBSTONE_MAX, read_tombstones, write_tombstone

GRACE_SECONDS = 24 * 3600
"""From mark to removal: longer than any restore, verification or replication that may have planned to read what is
marked, and than any cache of listings known to us. Also how old a pack must be to be marked: what is younger may belong
to a snapshot that is under way, or to one that died and whose packs the next one adopts."""

GRACE_SECONDS_MIN = LEASE_SECONDS
"""With less, the packs of a snapshot that just died would be marked before the next one could adopt them."""

POLL_SECONDS = 30
"""How often a waiting prune looks whether the snapshots that it waits for are over."""

SURVEYS_MAX = 5
"""How often a sweep looks again because another prune removed what it was about to read."""

Pause = Callable[[float], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """What a prune would do. ``packs`` has a choice for every pack; ``tables``: names of table parts to be marked;
    ``due``: names of tombstones that are older than the grace; ``due_at``: when the next of the others will be."""

    vault: Vault
    packs: tuple[PackChoice, ...]
    tables: tuple[str, ...]
    due: tuple[str, ...]
    due_at: datetime | None
    due_bytes: int
    under_way: tuple[str, ...]
    """Names of leases that hold a sweep up now."""
    grace_seconds: float
    found: Survey = field(repr=False)
    memory: ManifestMemory = field(repr=False)
    witness: Witness | None = field(repr=False)

    def chosen(self, todo: PackToDo) -> tuple[PackChoice, ...]:
        """The packs with this choice; those to repack with the most wasteful first."""
        found = (choice for choice in self.packs if choice.todo is todo)
        return tuple(sorted(found, key=lambda choice: (-choice.waste, choice.id)))

    @property
    def total_bytes(self) -> int:
        """What all packs take."""
        return sum(choice.size_bytes for choice in self.packs)

    @property
    def unused_bytes(self) -> int:
        """What of it nobody needs, marked or not."""
        return sum(choice.size_bytes - choice.needed_bytes for choice in self.packs if not choice.needed_bytes) + sum(
            choice.unused_bytes for choice in self.packs if choice.needed_bytes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """What a prune did.

    ``freed_bytes`` are gone from the store; ``marked_bytes`` were marked now and go when the grace is over, not before
    ``due_at``. ``waiting_for``: leases of snapshots because of which nothing marked was removed. ``held_packs`` turned
    out to be needed. ``locked_objects`` are due, and kept by the bucket's object lock. ``unreadable``: packs that
    should have been moved and could not be read, with the reason; they stay.
    """

    freed_bytes: int
    removed_packs: int
    removed_objects: int
    marked_bytes: int
    marked_packs: int
    marked_tables: int
    repacked_packs: int
    repacked_bytes: int
    new_packs: int
    held_packs: int
    locked_objects: int
    unreadable: tuple[tuple[str, str], ...]
    waiting_for: tuple[str, ...]
    due_at: datetime | None
    seconds: float


def plan_prune(
    vault: Vault,
    *,
    witness: Witness | None = None,
    grace_seconds: float = GRACE_SECONDS,
    max_unused_share: float = MAX_UNUSED_SHARE,
    repack_max_bytes: int | None = None,
    progress: Progress = SILENT,
) -> PrunePlan:
    """Find out what nobody needs. Changes nothing.

    :param witness: what this reader saw of the vault before; a record that is gone since stops prune.
    :param max_unused_share: so much may stay unused, as a share of what is needed.
    :param repack_max_bytes: at most so many bytes of packs are read to be repacked.
    :raises Refused: a record, a table or a needed chunk is damaged or gone: nobody can tell what is needed.
    :raises Corrupt: an index part or a tombstone cannot be believed.
    """
    if grace_seconds < GRACE_SECONDS_MIN:
        raise InvalidInput(
            f"a grace of {grace_seconds:.0f} s is too short.",
            hint=f"Name {GRACE_SECONDS_MIN} s or more; a day is usual.",
        )
    if max_unused_share < 0:
        raise InvalidInput("what may stay unused cannot be negative.", hint="Name a share such as 5%.")
    memory = ManifestMemory()
    found = survey(vault, witness=witness, memory=memory, progress=progress)
    due, due_at = _due(found, grace_seconds)
    due_packs = {pack for tombstone in found.tombstones if tombstone.name in due for pack in tombstone.packs}
    due_bytes = sum(int(size) for pack, size in zip(found.packs, found.sizes, strict=True) if pack in due_packs)
    marked_tables = {name for tombstone in found.tombstones for name in tombstone.tables}
    live = {lease.snapshot for lease in found.leases if not lease.over}
    tables = tuple(
        info.name
        for info in found.unreferenced
        if info.name not in marked_tables
        and old_enough(info.modified_at, found.now, grace_seconds)
        and not any(f"/snapshot={snapshot}/" in info.name for snapshot in live)
    )
    choices = choose(
        found,
        grace_seconds=grace_seconds,
        pack_bytes=vault.parameters.pack_bytes,
        max_unused_share=max_unused_share,
        repack_max_bytes=repack_max_bytes,
    )
    return PrunePlan(
        vault=vault,
        packs=choices,
        tables=tables,
        due=due,
        due_at=due_at,
        due_bytes=due_bytes,
        under_way=tuple(lease.name for lease in found.leases if not lease.over),
        grace_seconds=grace_seconds,
        found=found,
        memory=memory,
        witness=witness,
    )


def execute_prune(
    plan: PrunePlan,
    *,
    wait_seconds: float = 0,
    pause: Pause | None = None,
    progress: Progress = SILENT,
) -> PruneResult:
    """Sweep what is due, then repack and mark what the plan chose.

    :param wait_seconds: how long to wait for snapshots that are under way, and for what is marked to become due.
    :param pause: waits so many seconds.
    :raises Refused: no retention key here; the store has no exclusive create; the vault does not allow a survey now.
    :raises VaultUnwritable: the store refuses bytes; what was done stays done, and the next run goes on.
    """
    vault = plan.vault
    vault.keyring.signer("retention")
    require(vault.store, "prune")
    return _Run(plan, wait_seconds, pause or threading.Event().wait, progress).run()


class _Run:
    def __init__(self, plan: PrunePlan, wait_seconds: float, pause: Pause, progress: Progress) -> None:
        self._plan = plan
        self._vault = plan.vault
        self._pause = pause
        self._progress = progress
        self._started_seconds = plan.vault.clock.elapsed_seconds()
        self._wait_seconds = wait_seconds
        self._swept = Swept()
        self._swept_names: set[str] = set()
        self._waiting: tuple[str, ...] = ()

    def run(self) -> PruneResult:
        plan = self._plan
        if plan.due or plan.found.loose_rows or self._has_leftovers():
            self._sweep(plan.due)
        moved = self._repack()
        delete = [choice.id for choice in plan.chosen(PackToDo.DELETE)]
        marked = [*delete, *moved.sources]
        self._mark(marked, plan.tables)
        due_at = self._wait_and_sweep()
        size_of = {choice.id: choice.size_bytes for choice in plan.packs}
        swept = self._swept
        unreadable = {**dict(moved.unreadable), **swept.unreadable}
        return PruneResult(
            freed_bytes=swept.freed_bytes,
            removed_packs=swept.packs,
            removed_objects=swept.objects,
            marked_bytes=sum(size_of[pack] for pack in marked),
            marked_packs=len(marked),
            marked_tables=len(plan.tables),
            repacked_packs=len(moved.sources) + sum(len(item.sources) for item in swept.rescued),
            repacked_bytes=sum(item.moved_bytes for item in (moved, *swept.rescued)),
            new_packs=sum(item.new_packs for item in (moved, *swept.rescued)),
            held_packs=swept.held,
            locked_objects=swept.locked,
            unreadable=tuple((pack.hex(), reason) for pack, reason in unreadable.items()),
            waiting_for=self._waiting,
            due_at=due_at,
            seconds=self._vault.clock.elapsed_seconds() - self._started_seconds,
        )

    def _has_leftovers(self) -> bool:
        present = {pack.hex() for pack in self._plan.found.packs}
        return any(not set(item.packs) <= present for item in self._plan.found.statements)

    def _repack(self) -> Repacked:
        chosen = self._plan.chosen(PackToDo.REPACK)
        if not chosen:
            return Repacked()
        found = self._plan.found
        # A copy in a pack that is to go as well is none.
        going = {choice.id for choice in (*chosen, *self._plan.chosen(PackToDo.DELETE))}
        moved = MovedFrames(self._vault, found, grace_seconds=0, leave_out=going)

        def wanted(pack: OpenPack) -> NDArray[np.bool_]:
            return moved.of(pack).missing

        origins = dict(zip(found.packs, found.origins, strict=True))
        return repack(self._vault, [choice.id for choice in chosen], wanted, origins=origins, progress=self._progress)

    def _mark(self, packs: list[bytes], tables: tuple[str, ...]) -> None:
        names: list[bytes | str] = [*packs, *tables]
        for start in range(0, len(names), NAMES_PER_TOMBSTONE_MAX):
            part = names[start : start + NAMES_PER_TOMBSTONE_MAX]
            write_tombstone(
                self._vault,
                packs=[name for name in part if isinstance(name, bytes)],
                tables=[name for name in part if isinstance(name, str)],
            )

    def _wait_and_sweep(self) -> datetime | None:
        """Sweep what becomes due while there is time to wait; returns when the next of what is left is due."""
        grace = timedelta(seconds=self._plan.grace_seconds)
        while True:
            # What was swept and is still there is held by a snapshot that needs it; a later run goes on with that.
            left = [item for item in read_tombstones(self._vault) if item.name not in self._swept_names]
            due_at = min((item.marked_at + grace for item in left), default=None)
            if due_at is None or self._left_seconds() <= 0:
                return due_at
            now = self._vault.store.now()
            if (due_at - now).total_seconds() > self._left_seconds():
                return due_at  # Not today.
            if due_at <= now:
                self._sweep(tuple(item.name for item in left if item.marked_at + grace <= now))
            else:
                self._pause(min(POLL_SECONDS, self._left_seconds()))

    def _left_seconds(self) -> float:
        return self._wait_seconds - (self._vault.clock.elapsed_seconds() - self._started_seconds)

    def _sweep(self, due: tuple[str, ...]) -> None:
        """Remove what these tombstones name, if every snapshot that might not have seen them is over."""
        if due:
            self._waiting = self._wait_for_leases()
            if self._waiting:
                due = ()
            self._swept_names |= set(due)
        for _ in range(SURVEYS_MAX):
            found = survey(self._vault, witness=self._plan.witness, memory=self._plan.memory, progress=self._progress)
            try:
                sweep(
                    self._vault,
                    found,
                    due,
                    self._swept,
                    grace_seconds=self._plan.grace_seconds,
                    progress=self._progress,
                )
                return
            except NotFound:
                continue  # Another prune is at work: what is left to do is seen afresh.
        raise Transient(
            f"another prune of {self._vault.store.url} removes what this one is about to.",
            hint="Let it end; what is left is done by the next run.",
        )

    def _wait_for_leases(self) -> tuple[str, ...]:
        """Void dead writers, then wait until every lease that is there now is over; those that are not in time."""
        for dataset in sorted({lease.dataset for lease in list_leases(self._vault) if lease.dataset}):
            void_dead_leases(self._vault, dataset)
        # Taken after the marks, so it holds everybody who may not have seen them (P3).
        before = {_identity(lease) for lease in list_leases(self._vault) if not lease.over}
        while before:
            self._refuse_unbelievable()
            if self._left_seconds() <= 0:
                break
            self._pause(min(POLL_SECONDS, self._left_seconds()))
            for dataset in sorted({dataset for _, dataset, _ in before if dataset}):
                void_dead_leases(self._vault, dataset)
            before &= {_identity(lease) for lease in list_leases(self._vault) if not lease.over}
        return tuple(sorted(name for name, _, _ in before))

    def _refuse_unbelievable(self) -> None:
        now = self._vault.store.now()
        for lease in list_leases(self._vault):
            if not lease.over and not lease.snapshot and old_enough(lease.renewed_at, now, LEASE_SECONDS):
                raise Refused(
                    f"{lease.name} cannot be believed, so its writer can neither be waited for nor voided. "
                    "Nothing that is marked was removed.",
                    hint="Make sure that no snapshot of that dataset is running, then remove the object.",
                    object=lease.name,
                )


def _identity(lease: Lease) -> tuple[str, str, str]:
    return lease.name, lease.dataset, lease.snapshot


def _due(found: Survey, grace_seconds: float) -> tuple[tuple[str, ...], datetime | None]:
    due = tuple(item.name for item in found.tombstones if old_enough(item.marked_at, found.now, grace_seconds))
    later = [item.marked_at for item in found.tombstones if item.name not in due]
    return due, min(later) + timedelta(seconds=grace_seconds) if later else None
