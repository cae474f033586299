"""Owns the choice of recovery points by chance: a verified snapshot of each dataset, as of a moment that a seed picks.

Drills that always take the newest snapshot never prove the older ones. Here a moment within a window is drawn, and each
dataset gets its newest verified snapshot of that moment, as if the site had failed then; so datasets that depend on
each other fit together, and the RPA is what it would have been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reopen.clock import to_text
from reopen.durations import to_text as duration_text
from reopen.errors import NotFound
from reopen.recover.points import PointSource, proofs_of
from reopen.recover.scenarios.model import pick
from reopen.vault.record import SnapshotRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The moment that was drawn, the snapshot of each dataset at it by name, and how that came about, for evidence."""

    at: datetime
    points: Mapping[str, str]
    selection: Mapping[str, Any]


def draw(vault: PointSource, datasets: Sequence[str], *, within: timedelta, now: datetime, seed: int) -> Drawn:
    """Draw a moment in the last ``within``, at which every dataset that has a verified snapshot has one.

    :raises NotFound: no dataset has a verified snapshot in the window.
    """
    verified = {name: found for name in datasets if (found := _verified(vault, name))}
    opens_at = now - within
    # Before the first snapshot of some dataset there is nothing to recover it from.
    floor = max((min(record.consistent_at for record in found) for found in verified.values()), default=now)
    moments = sorted(
        {
            record.consistent_at
            for found in verified.values()
            for record in found
            if record.consistent_at >= max(opens_at, floor)
        }
    )
    if not moments:
        raise NotFound(
            f"no snapshot of the last {duration_text(within)} was verified.",
            hint="`reopen verify --level stored` proves snapshots; a longer --random-within looks further back.",
        )
    at = moments[pick(seed, "moment", len(moments))]
    points = {
        name: max((record for record in found if record.consistent_at <= at), key=lambda record: record.seq).id
        for name, found in verified.items()
    }
    return Drawn(
        at=at,
        points=points,
        selection={
            "how": "random-within",
            "seed": seed,
            "within_seconds": within.total_seconds(),
            "moments": len(moments),
            "at": to_text(at),
            "points": points,
            "without_verified_snapshot": sorted(set(datasets) - set(verified)),
        },
    )


def _verified(vault: PointSource, dataset: str) -> list[SnapshotRecord]:
    proofs = proofs_of(vault.facts("verified", dataset))
    return [
        record
        for record in vault.records(dataset)
        if record.state == "complete" and record.confirmed and record.id in proofs
    ]
