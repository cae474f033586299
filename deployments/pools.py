"""Owns where runs wait for a worker: a work pool for each site, and in it a queue for each tier, tier 1 first.

A site's worker takes runs of its own pool only, because only it has the site's keys and disks. It takes so many at a
time (``[prefect] runs``), of the first queues first. The queue ``recovery`` has a worker of its own beside it: a
failover, a decision and the watch never wait until a snapshot is through.

Invariants
    P1  Queues that are not ours stay, behind ours. Whether one is paused, and its limit, are people's to decide.
    P2  A second run changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

from deployments.sync import Change
from deployments.wanted import QUEUE_TEXTS, Wanted, pool_of


def sync_pool(client: SyncPrefectClient, wanted: Sequence[Wanted], *, site: str, dry_run: bool) -> tuple[Change, ...]:
    """Make the pool of a site and the queues that its deployments name, in their order (P1)."""
    pool = pool_of(site)
    changes = []
    try:
        client.read_work_pool(pool)
        standing = {queue.name: queue for queue in client.read_work_queues(work_pool_name=pool)}
    except ObjectNotFound:
        standing = {}
        changes.append(Change(action="created", full_name=f"work-pool/{pool}"))
        if not dry_run:
            description = f"Runs of the site {site}. Only its own worker takes them."
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", description=description))
    else:
        changes.append(Change(action="unchanged", full_name=f"work-pool/{pool}"))
    names = sorted({item.queue for item in wanted}, key=_place)
    for name in names:
        is_new = name not in standing
        changes.append(Change(action="created" if is_new else "unchanged", full_name=f"work-queue/{pool}/{name}"))
        if is_new and not dry_run:
            client.create_work_queue(name=name, description=_text(name), work_pool_name=pool)
    if not dry_run:
        _put_in_order(client, pool, names)
    return tuple(changes)


def _put_in_order(client: SyncPrefectClient, pool: str, names: Sequence[str]) -> None:
    """Give our queues the first places, in their order, and those behind them a place each: the server moves no queue
    out of a place that another is given, and of two in one place it takes from any first."""
    standing = {queue.name: queue for queue in client.read_work_queues(work_pool_name=pool)}
    others = sorted(standing.keys() - set(names), key=lambda name: (standing[name].priority or 0, name))
    taken = 0
    for name in (*names, *others):
        queue = standing[name]
        taken = taken + 1 if name in names else max(taken + 1, queue.priority or 0)
        if queue.priority != taken:
            client.update_work_queue(queue.id, priority=taken)


def _place(queue: str) -> tuple[int, str]:
    order = ("recovery", "tier", "upkeep")
    return order.index(queue.partition("-")[0]), queue


def _text(queue: str) -> str:
    return QUEUE_TEXTS[queue.partition("-")[0]]
