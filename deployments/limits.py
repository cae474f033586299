"""Owns the limits that runs of a site share: one writer for each dataset, and so many copies between sites at a time.

Invariants
    M1  Limits whose names begin as the site's do are ours; no other is touched.
    M2  A writer's limit is one. How many copy between sites at a time, people may change.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse

from deployments.sync import Change
from tasks.limits import limits_of, link_limit, writer_limit

PAGE = 200


def wanted_limits(site: str, datasets: Sequence[str]) -> tuple[str, ...]:
    """The limits of a site, by name."""
    return (link_limit(site), *(writer_limit(site, name) for name in sorted(datasets)))


def sync_limits(
    client: SyncPrefectClient, names: Sequence[str], *, site: str, prune: bool, dry_run: bool
) -> tuple[Change, ...]:
    """Make the limits, and (with ``prune``) remove those of datasets that are gone."""
    standing: dict[str, GlobalConcurrencyLimitResponse] = {}
    offset = 0
    while page := client.read_global_concurrency_limits(limit=PAGE, offset=offset):
        standing |= {found.name: found for found in page if found.name.startswith(limits_of(site))}
        offset += len(page)
    changes = []
    for name in names:
        found = standing.pop(name, None)
        if found is None:
            if not dry_run:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
            changes.append(Change(action="created", full_name=f"limit/{name}", detail="1 at a time"))
        elif found.limit != 1 and name != link_limit(site):
            if not dry_run:
                client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=1))
            changes.append(Change(action="changed", full_name=f"limit/{name}", detail="1 at a time"))
        else:
            changes.append(Change(action="unchanged", full_name=f"limit/{name}"))
    for name in sorted(standing):
        if prune and not dry_run:
            client.delete_global_concurrency_limit_by_name(name)
        changes.append(Change(action="removed" if prune else "stale", full_name=f"limit/{name}"))
    return tuple(changes)
