"""Owns the choice of recovery points: which snapshot of each dataset a recovery begins from, and why those.

What a selector allows is the vault's matter (:mod:`reopen.vault.selector`). Here one of these is chosen for each
dataset, so that datasets that depend on each other or switch together stand for one time where that can be had.

Datasets that belong together
    The one whose newest point is the oldest is the anchor. Each other takes, of its points, the one that was taken in
    one run with the anchor's, else the newest that is not after it. It is given an older point than its newest only
    if that costs no more than its RPO. Two points are of one run when each writer saw the other's snapshot, or the one
    before it, as the newest, and no other snapshot of the two datasets is nearer in time: nothing was taken between
    them.

Invariants
    P1  Where all points of the datasets that belong together are of one run, the plan says so; where not, it says how
        far apart they are.
    P2  Alignment never costs a dataset more than its RPO, and never changes a point that was asked for by its dataset.

Pure over what the vault lists.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from reopen.control.values import Duration, Instant, stored
from reopen.vault.clean import Suspicion
from reopen.vault.record import Fact, SnapshotRecord
from reopen.vault.selector import (
    AT_PREFIX,
    CLEAN_MEANS,
    LAST_CLEAN,
    LAST_VERIFIED,
    LATEST,
    NoSnapshot,
    candidates,
    check_selector,
    proofs_of,
)

__all__ = [
    "AT_PREFIX",
    "CLEAN_MEANS",
    "LAST_CLEAN",
    "LAST_VERIFIED",
    "LATEST",
    "NoPoint",
    "PointSource",
    "RecoveryPoint",
    "check_selector",
    "choose_point",
    "choose_together",
    "proofs_of",
    "too_new_for",
]

NoPoint = NoSnapshot


class PointSource(Protocol):
    """What planning asks of a vault."""

    @property
    def id(self) -> str:
        """The vault's id."""
        ...

    def datasets(self) -> list[str]:
        """Names of the datasets that have a record."""
        ...

    def records(self, dataset: str | None = None) -> list[SnapshotRecord]:
        """Committed snapshots, by dataset and seq."""
        ...

    def records_and_newer(self, dataset: str | None = None) -> tuple[list[SnapshotRecord], list[str]]:
        """The same, and the names of records that a newer Reopen made."""
        ...

    def facts(self, kind: str | None = None, dataset: str | None = None) -> list[Fact]:
        """Facts of the ledger, oldest first."""
        ...

    def unclean(self, dataset: str) -> Mapping[str, Suspicion]:
        """The suspicion that each snapshot of a dataset stands under, by its id."""
        ...


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPoint:
    """The chosen snapshot. ``record_digest`` pins its record, and so its manifest and every byte of it."""

    snapshot: str
    seq: int
    consistent_at: Instant
    record_digest: str
    state: str
    files: int
    size_bytes: int
    selector: str
    verified_at: Instant | None = None
    verified_level: str = ""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Datasets that depend on each other or switch together, and how their recovery points stand to each other.

    ``one_run``: nothing was taken between them. ``apart`` is the time between the oldest and the newest. ``older`` says
    for whose point a newer one was passed over, and how much older it is.
    """

    datasets: tuple[str, ...]
    one_run: bool
    apart: Duration
    older: Mapping[str, Duration]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for one dataset, and what there is. ``rpo`` is what alignment may cost; ``near`` are the datasets
    that it depends on or switches with; ``unclean`` are ids of suspect snapshots, wanted for ``last-clean``."""

    selector: str
    snapshots: Sequence[SnapshotRecord]
    verified: Sequence[Fact]
    rpo: timedelta
    near: tuple[str, ...] = ()
    unclean: Collection[str] | None = None
    is_fixed: bool = False
    """Whether the selector was given for this dataset by itself: then others follow it, and it follows nobody."""


def choose_point(
    dataset: str, selector: str, snapshots: Sequence[SnapshotRecord], verified: Sequence[Fact]
) -> RecoveryPoint | NoPoint:
    """The recovery point that a selector means for one dataset by itself: the newest that it allows.

    :param snapshots: the dataset's committed snapshots, in the order of ``seq``.
    :param verified: ``verified`` facts about them.
    """
    found = candidates(dataset, selector, snapshots, verified)
    return found if isinstance(found, NoSnapshot) else _point(found[-1], selector, verified)


def choose_together(
    wanted: Mapping[str, Wanted],
) -> tuple[Mapping[str, RecoveryPoint | NoPoint], tuple[Together, ...]]:
    """The recovery point of each dataset, and how those of datasets that belong together stand to each other (P1)."""
    allowed = {
        name: candidates(name, item.selector, item.snapshots, item.verified, item.unclean)
        for name, item in wanted.items()
    }
    chosen: dict[str, SnapshotRecord] = {}
    together: list[Together] = []
    for component in _components(wanted):
        choices = {
            name: found[-1:] if wanted[name].is_fixed else found
            for name in component
            if not isinstance(found := allowed[name], NoSnapshot)
        }
        picked = _align(choices, wanted)
        chosen |= picked
        if len(picked) > 1:
            together.append(_together(picked, choices, wanted))
    points: dict[str, RecoveryPoint | NoPoint] = {}
    for name, item in wanted.items():
        record, nothing = chosen.get(name), allowed[name]
        if record is not None:
            points[name] = _point(record, item.selector, item.verified)
        elif isinstance(nothing, NoSnapshot):
            points[name] = nothing
    return points, tuple(together)


def too_new_for(name: str, record: str) -> NoPoint:
    """Why a dataset with a record that a newer Reopen made has no point but one that is named by its id: an older one
    that was taken unasked would lose, without a word, what the newer one holds."""
    return NoPoint(
        problem=f"{record} was made by a newer Reopen, and this version cannot read it",
        hint=f"Upgrade Reopen at this site. Where that cannot be, `reopen snapshots {name}` lists the older ones, and "
        f"`reopen restore {name} --at ID --to PLACE` takes one by its whole id.",
    )


def _align(choices: Mapping[str, Sequence[SnapshotRecord]], wanted: Mapping[str, Wanted]) -> dict[str, SnapshotRecord]:
    newest = {name: points[-1] for name, points in choices.items()}
    if len(newest) < 2 or _is_one_run(list(newest.values()), wanted):
        return newest
    anchor = min(newest.values(), key=lambda record: (record.consistent_at, record.dataset))
    picked = {}
    for name, points in choices.items():
        with_anchor = [point for point in points if point is anchor or _are_of_one_run(point, anchor, wanted)]
        not_after = [point for point in points if point.consistent_at <= anchor.consistent_at]
        aligned = next((found[-1] for found in (with_anchor, not_after) if found), newest[name])
        cost = newest[name].consistent_at - aligned.consistent_at
        picked[name] = aligned if cost <= wanted[name].rpo else newest[name]
    return picked


def _together(
    picked: Mapping[str, SnapshotRecord],
    choices: Mapping[str, Sequence[SnapshotRecord]],
    wanted: Mapping[str, Wanted],
) -> Together:
    times = [record.consistent_at for record in picked.values()]
    return Together(
        datasets=tuple(sorted(picked)),
        one_run=_is_one_run(list(picked.values()), wanted),
        apart=max(times) - min(times),
        older={
            name: choices[name][-1].consistent_at - record.consistent_at
            for name, record in sorted(picked.items())
            if record is not choices[name][-1]
        },
    )


def _is_one_run(records: Sequence[SnapshotRecord], wanted: Mapping[str, Wanted]) -> bool:
    return all(_are_of_one_run(one, other, wanted) for at, one in enumerate(records) for other in records[at + 1 :])


def _are_of_one_run(one: SnapshotRecord, other: SnapshotRecord, wanted: Mapping[str, Wanted]) -> bool:
    if one.site != other.site or not (_saw_or_is_next(one, other) and _saw_or_is_next(other, one)):
        return False
    apart = abs(one.consistent_at - other.consistent_at)
    nearest = (
        min(abs(rival.consistent_at - fixed.consistent_at) for rival in wanted[moving.dataset].snapshots)
        for moving, fixed in ((one, other), (other, one))
    )
    return all(apart <= gap for gap in nearest)


def _saw_or_is_next(writer: SnapshotRecord, other: SnapshotRecord) -> bool:
    head = writer.heads.get(other.dataset, "0")
    seen = int(head.partition("-")[0])
    return seen in (other.seq, other.seq - 1)


def _components(wanted: Mapping[str, Wanted]) -> list[tuple[str, ...]]:
    """The datasets that belong together, directly or through others; those whose point is named by its id too, because
    the others may follow them."""
    neighbours: dict[str, set[str]] = {name: set() for name in wanted}
    for name, item in wanted.items():
        for other in item.near:
            if other in wanted:
                neighbours[name].add(other)
                neighbours[other].add(name)
    seen: set[str] = set()
    components = []
    for name in wanted:
        if name in seen:
            continue
        component, todo = {name}, [name]
        while todo:
            for other in neighbours[todo.pop()] - component:
                component.add(other)
                todo.append(other)
        seen |= component
        components.append(tuple(sorted(component)))
    return components


def _point(record: SnapshotRecord, selector: str, verified: Sequence[Fact]) -> RecoveryPoint:
    proof = proofs_of(verified).get(record.id)
    return RecoveryPoint(
        snapshot=record.id,
        seq=record.seq,
        consistent_at=record.consistent_at,
        record_digest=record.digest,
        state=record.state,
        files=record.totals.files,
        size_bytes=record.totals.size_bytes,
        selector=selector,
        verified_at=proof.at if proof else None,
        verified_level=str(proof.body["level"]) if proof else "",
    )
