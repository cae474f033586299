"""Owns what a flow run may take: slots that it shares with other runs, and the time until it is ended.

``reopen deploy`` makes the limits (:mod:`deployments.limits`). They save work and bandwidth, they do not keep data
whole: that two writers of a dataset harm nothing is the vault's matter, and the same without Prefect.

Invariants
    L1  A slot is a lease: a run that was killed gives it back when the lease has run out.
    L2  A limit that is not there, or a lease that cannot be renewed, holds no run up.
    L3  A run that a deployment gave a time is ended after it, whatever it waits for.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from reopen.durations import to_text as duration_text
from reopen.errors import Transient

SECONDS_MAX = "FLOW_RUN_SECONDS_MAX"
"""The variable of a deployment's runs that says how long one may take. It is no setting, so it has no REOPEN_."""
GRACE_SECONDS = 60
"""What a run gets to end by itself when its time is up: a thread that hangs in the system cannot be interrupted."""
LEASE_SECONDS = 60
"""The least that Prefect takes; it is renewed while the run lives."""
WAIT_SECONDS_MAX = 600
"""How long a run waits for a slot: a snapshot takes minutes, and its next run finds what this one left."""


def seconds_max() -> float | None:
    """How long a run of this process's flow may take; None is without limit."""
    given = os.environ.get(SECONDS_MAX, "")
    return float(given) if given else None


def end_in_time() -> None:
    """End this process when its flow run has not ended by itself some time after its time was up (L3): with the
    stack of each thread in its log, and as a crash that the worker reports."""
    given = seconds_max()
    if given is not None:
        faulthandler.dump_traceback_later(given + GRACE_SECONDS, exit=True)


def writer_limit(site: str, dataset: str) -> str:
    """The limit that lets one run write a dataset at a time."""
    return f"{limits_of(site)}writer:{dataset}"


def link_limit(site: str) -> str:
    """The limit of runs that copy between sites at a time: each is as fast as ``[limits] replicate_rate`` lets it
    be, so with one the rate is the budget."""
    return f"{limits_of(site)}link"


def limits_of(site: str) -> str:
    """What the names of a site's limits begin with."""
    return f"reopen:{site}:"


@contextmanager
def slot(name: str, *, seconds: float = WAIT_SECONDS_MAX) -> Iterator[None]:
    """Hold a slot of a limit for the time of the block. Without a server that stays there is nobody to share with.

    :raises Transient: other runs held all of them for too long.
    """
    from prefect.concurrency.sync import concurrency
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        yield
        return
    held = concurrency(
        name,
        timeout_seconds=seconds,
        lease_duration=LEASE_SECONDS,
        strict=False,
        raise_on_lease_renewal_failure=False,
    )
    try:
        held.__enter__()
    except TimeoutError as error:
        raise Transient(
            f"other runs held {name!r} for {duration_text(timedelta(seconds=seconds))}.",
            hint="Their runs are in the UI; the next run of this one goes on.",
        ) from error
    try:
        yield
    finally:
        held.__exit__(None, None, None)
