"""Owns making a Prefect server agree with the wanted deployments, and nothing that people did there by hand.

Invariants
    D1  A schedule whose slug is not ours is never touched, nor a tag that is not ours.
    D2  A schedule of ours that somebody paused stays paused; its cron is the contract's.
    D3  A second run changes nothing.
    D4  Only deployments with our tag and this site's tag are ever removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule

from deployments.forms import Choices, form_of
from deployments.wanted import HEARTBEAT_SECONDS, MANAGED, Wanted, pool_of, site_tag
from reopen import __version__
from tasks.limits import SECONDS_MAX

ROOT = Path(__file__).resolve().parent.parent
"""Where the packages are; a worker makes it its working folder, so that they need no installation."""
SLUG = "contract"
PAGE = 100

OUR_TAGS = ("reopen", "tier-")
"""What our tags begin with; every other tag is somebody's own."""

Action = Literal["created", "changed", "unchanged", "removed", "stale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done to one deployment, or would be. ``stale``: no contract asks for it, and it was left."""

    action: Action
    full_name: str
    detail: str = ""


def sync(
    client: SyncPrefectClient, wanted: Sequence[Wanted], *, site: str, prune: bool, dry_run: bool = False
) -> tuple[Change, ...]:
    """Create, change and (with ``prune``) remove deployments of ``site`` until the server has the ``wanted`` ones.

    Its work pool and queues have to be there (:mod:`deployments.pools`).
    """
    flows = _Flows(client)
    existing = {f"{flows.name_of(found.flow_id)}/{found.name}": found for found in _managed(client, site)}
    changes = [_bring(client, flows, item, existing.get(item.full_name), dry_run) for item in wanted]
    names = {item.full_name for item in wanted}
    for full_name, found in sorted(existing.items()):
        if full_name not in names:
            changes.append(_remove(client, found, full_name, dry_run) if prune else _stale(full_name))
    return tuple(changes)


class _Flows:
    """The server's flows: a dozen, however many deployments there are, so each is asked for once."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client
        self._names: dict[UUID, str] = {}

    def name_of(self, flow_id: UUID) -> str:
        """The name of a flow that is there."""
        if flow_id not in self._names:
            self._names[flow_id] = self._client.read_flow(flow_id).name
        return self._names[flow_id]

    def id_of(self, name: str) -> UUID:
        """The id of a flow, which is made where it is missing."""
        for flow_id, known in self._names.items():
            if known == name:
                return flow_id
        made = self._client.create_flow_from_name(name)
        self._names[made] = name
        return made


def _bring(
    client: SyncPrefectClient, flows: _Flows, item: Wanted, found: DeploymentResponse | None, dry_run: bool
) -> Change:
    crons = ", ".join(item.crons) or "no schedule"
    if found is None:
        if not dry_run:
            _create(client, flows, item)
        return Change(action="created", full_name=item.full_name, detail=crons)
    update = _update(item, found)
    schedules = list(_schedule_changes(item, found))
    if not dry_run:
        if update is not None:
            client.update_deployment(found.id, update)
        _apply_schedules(client, found, schedules)
    action: Action = "changed" if update is not None or schedules else "unchanged"
    return Change(action=action, full_name=item.full_name, detail=crons)


def _create(client: SyncPrefectClient, flows: _Flows, item: Wanted) -> None:
    client.create_deployment(
        flow_id=flows.id_of(item.flow),
        name=item.name,
        schedules=[_schedule(slug, cron) for slug, cron in _slugs(item)],
        tags=list(item.tags),
        # One run of a deployment at a time: the next one finds what this one left undone.
        concurrency_limit=item.runs_max,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
        if item.runs_max is not None
        else None,
        work_pool_name=pool_of(item.site),
        work_queue_name=item.queue,
        enforce_parameter_schema=True,
        parameter_openapi_schema=form_of(item.flow, _choices(item)),
        **_fields(item),
    )


def _fields(item: Wanted) -> dict[str, Any]:
    """What creating and changing have in common."""
    return {
        "version": f"{__version__}+{item.version}" if item.version else __version__,
        "description": item.description,
        "parameters": {"request": dict(item.request)},
        # A run whose heartbeats stop is ended by an automation (deployments/automations.py).
        # The site is said again, because REOPEN_SITE may have named it where the settings name another.
        "job_variables": {
            "env": {
                "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
                "REOPEN_SITE": item.site,
                **({SECONDS_MAX: f"{item.seconds_max:.0f}"} if item.seconds_max is not None else {}),
            }
        },
        "entrypoint": f"flows/{item.flow}.py:{item.flow}",
        "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}],
    }


def _update(item: Wanted, found: DeploymentResponse) -> DeploymentUpdate | None:
    """What differs, schedules apart; None when nothing does."""
    fields = _fields(item)
    tags = sorted({*item.tags, *(tag for tag in found.tags if not tag.startswith(OUR_TAGS))})
    schema = form_of(item.flow, _choices(item))
    same = (
        all(getattr(found, name) == value for name, value in fields.items())
        and sorted(found.tags) == tags
        and (found.work_pool_name, found.work_queue_name) == (pool_of(item.site), item.queue)
        and found.parameter_openapi_schema == schema
    )
    if same:
        return None
    return DeploymentUpdate(
        tags=tags,
        work_pool_name=pool_of(item.site),
        work_queue_name=item.queue,
        parameter_openapi_schema=schema,
        **fields,
    )


def _schedule_changes(
    item: Wanted, found: DeploymentResponse
) -> Iterator[tuple[str, str | None, DeploymentSchedule | None]]:
    """Slug, cron and standing schedule of each of ours that has to be made, changed, or (cron None) removed (D1)."""
    ours = {schedule.slug or "": schedule for schedule in found.schedules if _is_ours(schedule)}
    asked = dict(_slugs(item))
    for slug, cron in asked.items():
        standing = ours.get(slug)
        if standing is None or getattr(standing.schedule, "cron", None) != cron:
            yield slug, cron, standing
    for old, schedule in ours.items():
        if old not in asked:
            yield old, None, schedule


def _apply_schedules(
    client: SyncPrefectClient,
    found: DeploymentResponse,
    changes: Sequence[tuple[str, str | None, DeploymentSchedule | None]],
) -> None:
    for slug, cron, standing in changes:
        if standing is not None and cron is not None:
            # Whether it is active is not given, so a paused schedule stays paused (D2).
            client.update_deployment_schedule(found.id, standing.id, schedule=_cron(cron))
        elif standing is not None:
            client.delete_deployment_schedule(found.id, standing.id)
        elif cron is not None:
            client.create_deployment_schedules(found.id, [_schedule(slug, cron)])


def _remove(client: SyncPrefectClient, found: DeploymentResponse, full_name: str, dry_run: bool) -> Change:
    if not dry_run:
        # Automations that belong to a deployment outlive it otherwise, and fire into nothing.
        client.delete_resource_owned_automations(f"prefect.deployment.{found.id}")
        client.delete_deployment(found.id)
    return Change(action="removed", full_name=full_name)


def _stale(full_name: str) -> Change:
    return Change(action="stale", full_name=full_name, detail="no contract asks for it")


def _managed(client: SyncPrefectClient, site: str) -> Iterator[DeploymentResponse]:
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[MANAGED, site_tag(site)]))
    offset = 0
    while page := client.read_deployments(deployment_filter=tagged, limit=PAGE, offset=offset):
        yield from page
        offset += len(page)


def _choices(item: Wanted) -> Choices:
    return Choices(datasets=item.datasets, tiers=item.tiers, sites=item.sites)


def _slugs(item: Wanted) -> Iterator[tuple[str, str]]:
    for number, cron in enumerate(item.crons, start=1):
        yield (SLUG if number == 1 else f"{SLUG}-{number}"), cron


def _is_ours(schedule: DeploymentSchedule) -> bool:
    return schedule.slug is not None and (schedule.slug == SLUG or schedule.slug.startswith(f"{SLUG}-"))


def _schedule(slug: str, cron: str) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(schedule=_cron(cron), slug=slug, active=True)


def _cron(cron: str) -> CronSchedule:
    return CronSchedule(cron=cron, timezone="UTC")
