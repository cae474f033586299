"""Owns what a plan says of what is to come: what is lost, and how long it will take. Values only; they are counted in
:mod:`reopen.recover.loss` and fitted in :mod:`reopen.recover.predict`.

Invariants (docs/0011-failover-and-failback.md)
    F4  What cannot be counted is *unknown*, which is not nothing.
    U1  Without history there is no prediction, and no prediction is never good news.
"""

from __future__ import annotations

from dataclasses import dataclass

from reopen.control.values import Duration, Instant, stored


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What the newest known snapshot has and the recovery point has not. How old the point is says the plan's ``rpa``.

    ``against`` is that snapshot, empty where none is known; ``site`` whose vault has it. ``files`` were added or
    changed since the point, and take ``size_bytes``; ``removed`` come back. ``rows`` are those that the newest
    snapshot has more over these files (fewer, when negative). None is unknown, and ``unknown`` says why.

    What was written after the newest known snapshot is in none of these.
    """

    against: str = ""
    site: str = ""
    at: Instant | None = None
    files: int | None = None
    removed: int | None = None
    size_bytes: int | None = None
    rows: int | None = None
    unknown: str = ""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What the final sync of a planned move has to bring to the target, as the source was seen ``at``. Nothing of it is
    lost, because the move goes on only when it has come.

    ``files`` are to be copied or may have been written, and take ``size_bytes``; ``removed`` are gone since. ``rows``
    are those that the target's copy lacks. None is unknown; where all is, ``unknown`` says why. A file that was copied
    at the source, not replicated, and written again counts twice.
    """

    files: int | None = None
    removed: int | None = None
    size_bytes: int | None = None
    rows: int | None = None
    at: Instant | None = None
    unknown: str = ""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """When a dataset is expected to serve, counted from the failure: in half of all cases within ``p50``, in 19 of 20
    within ``p95``. A plan that prepares a move counts from the end of its final sync, and that of the second half from
    when writers were held. ``restore`` and ``validate`` are the medians of its own steps.

    ``runs`` is how many recoveries this was fitted on, ``own_runs`` how many of them had this dataset. ``error`` is how
    far its steps' last times were from what the runs before had predicted: 0.2 is a fifth longer. ``machine`` is where
    the runs were.
    """

    p50: Duration
    p95: Duration
    restore: Duration
    validate: Duration
    runs: int
    own_runs: int
    error: float | None
    machine: str
    grows_bytes_per_day: float = 0.0
    breaks_at: Instant | None = None
    """About when its growth makes ``p50`` longer than its RTO; None where it does not within two years."""
