"""Owns the automations of a site, as code: what the server does by itself when an event comes, or stays away.

``reopen: fail over to <site>``    a site was lost (``reopen.site.lost``): the failover deployment is started. What
                                   needs approval waits for it; the rule is :mod:`reopen.recover.automatic`.
``reopen: go on at <site>``        a recovery to the site was left (``reopen.recovery.left``), and going on with it
                                   decides nothing: the failover deployment is started, and goes on by the log.
``reopen: silent watch at …``      the watch's sign of life stays away: people are told, by our channels and the server.
``reopen: start again at <site>``  a run crashed that may be done twice: the deployment ``again`` decides, and starts it
                                   once more a little later; the rule is :mod:`tasks.again`.
``reopen: crash silent runs at …`` a run of ours whose worker and process both died stays "Running" for ever; the server
                                   ends it when its heartbeats stay away, so that its next run is not held up by it.
``reopen: crash stuck runs at …``  a run that a worker took and did not begin before it was stopped says "Pending" for
                                   ever, and nobody does its work: the server ends it, and it may be started again.

Invariants
    N1  Automations that carry :data:`~deployments.wanted.MANAGED` and this site's tag are ours; no other is touched.
    N2  One automation acts on one event. Two that overlap would both fire.
    N3  Whether somebody switched one off stays as it is; everything else is as it is written here.
    N4  Running the sync again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from deployments.sync import Change
from deployments.wanted import HEARTBEAT_SECONDS, MANAGED, site_tag
from reopen.config import Settings
from reopen.recover.readiness.connectivity import SILENT_LOOKS
from tasks.again import again_tag
from tasks.events import RecoveryLeft, SiteLost, WatchLooked, full_name

SILENT_HEARTBEATS = 3
"""A heartbeat may be late, and one may be lost; after three a process is gone."""

BEGIN_WITHIN = timedelta(minutes=10)
"""A process that a worker starts begins its run after seconds; on a machine with ten times its work after minutes."""

WAIT_APPROVAL = "24h"
"""How long the failover waits for a person. After that, `reopen approve` and a new run go on with its plan."""

ALARM_BLOCK = "reopen-alarm"
"""The notification block of the server that is told when the watch is silent; people make it in the UI."""

_COMPARED = ("description", "trigger", "actions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An automation as it is wanted. ``deployment``: the one that it starts and belongs to; empty when none."""

    name: str
    description: str
    trigger: EventTrigger
    deployment: str = ""
    parameters: dict[str, Any] | None = None
    block: str = ""
    """A notification block of the server that it sends through as well, where there is one of this name."""
    why: str = ""
    """What a run says that it ends as crashed, where it starts none."""


def wanted_rules(settings: Settings) -> tuple[Rule, ...]:
    """The automations of the site that the settings name."""
    rules = [_silent_runs(settings.site), _stuck_runs(settings.site), _again(settings)]
    if settings.here.role != "primary":
        rules += [_failover(settings), _go_on(settings), _silent_watch(settings)]
    return tuple(sorted(rules, key=lambda rule: rule.name))


def sync_automations(
    client: SyncPrefectClient, rules: Sequence[Rule], *, site: str, prune: bool, dry_run: bool = False
) -> tuple[Change, ...]:
    """Create, change and (with ``prune``) remove automations of ``site`` until the server has these.

    The deployments that they start have to be there; with ``dry_run`` they may be missing.
    """
    tags = sorted(("reopen", MANAGED, site_tag(site)))
    existing: dict[str, list[Automation]] = {}
    for found in client.read_automations():
        if {MANAGED, site_tag(site)} <= set(found.tags):
            existing.setdefault(found.name, []).append(found)
    changes = []
    for rule in rules:
        standing = existing.pop(rule.name, [])
        changes.append(_bring(client, rule, standing[:1], tags, dry_run))
        # Two of one name would both act (N2): whoever made the second by copying it meant to change it, and did not.
        changes += [_remove(client, twin, dry_run) for twin in standing[1:]]
    for name, twins in sorted(existing.items()):
        for twin in twins:
            changes.append(_remove(client, twin, dry_run) if prune else _stale(name))
    return tuple(changes)


def _failover(settings: Settings) -> Rule:
    site = settings.site
    return Rule(
        name=f"reopen: fail over to {site}",
        description=f"Starts failover/{site} when the watch at {site} has lost the primary. It waits for approval "
        "unless every contract allows automatic failover and the lost site is fenced by a hook that enforces.",
        trigger=EventTrigger(
            expect={full_name(SiteLost)},
            match={"prefect.resource.id": "reopen.site.*", "reopen.target": site},
            posture=Posture.Reactive,
            threshold=1,
        ),
        deployment=f"failover/{site}",
        parameters={
            "request": {
                "config": str(settings.path),
                "source": "{{ event.payload.site }}",
                "to": site,
                "reason": "{{ event.payload.reason }}",
                "failed_at": "{{ event.payload.failed_at }}",
                "automatic": True,
                "wait_approval": WAIT_APPROVAL,
            }
        },
    )


def _go_on(settings: Settings) -> Rule:
    site = settings.site
    return Rule(
        name=f"reopen: go on at {site}",
        description=f"Starts failover/{site} again when the process of a recovery to {site} died and going on with it "
        "decides nothing: its role has moved, or its plan is approved. It goes on where the epoch log says it is.",
        trigger=EventTrigger(
            expect={full_name(RecoveryLeft)},
            match={"prefect.resource.id": "reopen.site.*", "reopen.target": site, "reopen.by-itself": "true"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        deployment=f"failover/{site}",
        parameters={
            "request": {
                "config": str(settings.path),
                "source": "{{ event.payload.source }}",
                "to": site,
                "automatic": True,
                "wait_approval": WAIT_APPROVAL,
            }
        },
    )


def _silent_runs(site: str) -> Rule:
    return Rule(
        name=f"reopen: crash silent runs at {site}",
        description="Ends runs of ours that no process carries on any more: their worker died with them.",
        trigger=_no_sign_of_life(
            site, {"prefect.flow-run.heartbeat"}, within=timedelta(seconds=SILENT_HEARTBEATS * HEARTBEAT_SECONDS)
        ),
        why="Its heartbeats stopped: the process and its worker died.",
    )


def _stuck_runs(site: str) -> Rule:
    return Rule(
        name=f"reopen: crash stuck runs at {site}",
        description="Ends runs of ours that a worker took and never began: it was stopped, or died, in between.",
        trigger=_no_sign_of_life(
            site, {"prefect.flow-run.Pending", "prefect.flow-run.Submitting"}, within=BEGIN_WITHIN
        ),
        why="A worker took it and never began it: the worker was stopped, or died.",
    )


def _no_sign_of_life(site: str, after: set[str], *, within: timedelta) -> EventTrigger:
    """When a run of the site said one of these, and then nothing for so long."""
    return EventTrigger(
        after=after,
        # Any event of the run is a sign of life: one that waits, pauses or is suspended has said so.
        expect={"prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={
            "prefect.resource.role": "tag",
            "prefect.resource.id": f"prefect.tag.{site_tag(site)}",
        },
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )


def _again(settings: Settings) -> Rule:
    site = settings.site
    return Rule(
        name=f"reopen: start again at {site}",
        description="Starts a run again that crashed (killed, out of memory, machine gone), a little later and a few "
        "times at most, where doing it twice harms nothing and its schedule would come too late.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.role": "tag",
                "prefect.resource.id": f"prefect.tag.{again_tag(site)}",
            },
            posture=Posture.Reactive,
            threshold=1,
        ),
        deployment=f"again/{site}",
        parameters={"request": {"config": str(settings.path), "run": "{{ flow_run.id|string }}"}},
    )


def _silent_watch(settings: Settings) -> Rule:
    """Its flow needs a worker, which may be what has died. So the server tells people itself where it has a block for
    it; an observer outside (``[heartbeat]``) and the other site (`reopen ready`) notice when the server is gone too."""
    site = settings.site
    return Rule(
        name=f"reopen: silent watch at {site}",
        description=f"Tells people when the watch at {site} has not looked for {SILENT_LOOKS} times its period. "
        f"A notification block named {ALARM_BLOCK} on this server is told too, which needs no worker.",
        trigger=EventTrigger(
            after={full_name(WatchLooked)},
            expect={full_name(WatchLooked)},
            match={"prefect.resource.id": "reopen.site.*", "reopen.target": site},
            posture=Posture.Proactive,
            threshold=1,
            # Its schedule is a cron, which knows nothing shorter than a minute.
            within=SILENT_LOOKS * max(settings.watch.every, timedelta(minutes=1)),
        ),
        deployment=f"silent/{site}",
        parameters={"request": {"config": str(settings.path)}},
        block=ALARM_BLOCK,
    )


def _block_id(client: SyncPrefectClient, name: str) -> UUID | None:
    """The id of the block of a name; names are unique for a type only, and people choose the type."""
    found = [block.id for block in client.read_block_documents() if block.name == name] if name else []
    return min(found, default=None)


def _bring(
    client: SyncPrefectClient, rule: Rule, standing: Sequence[Automation], tags: list[str], dry_run: bool
) -> Change:
    name = f"automation/{rule.name}"
    deployment_id = None
    if rule.deployment:
        try:
            deployment_id = client.read_deployment_by_name(rule.deployment).id
        except ObjectNotFound:
            if not dry_run:
                raise
            # It will be made by the same run; until then nothing says what the automation would start.
            return Change(action="created", full_name=name, detail=rule.deployment)
    action: RunDeployment | ChangeFlowRunState
    if rule.deployment:
        action = RunDeployment(
            source="selected", deployment_id=deployment_id, parameters=rule.parameters, job_variables=None
        )
    else:
        action = ChangeFlowRunState(
            state=StateType.CRASHED,
            name="Crashed",
            message=rule.why,
            force=False,
        )
    actions: list[Any] = [action]
    if (block_id := _block_id(client, rule.block)) is not None:
        actions.append(SendNotification(block_document_id=block_id, subject=rule.name, body=rule.description))
    core = AutomationCore(
        name=rule.name,
        description=rule.description,
        tags=tags,
        enabled=standing[0].enabled if standing else True,
        trigger=rule.trigger,
        actions=actions,
    )
    if not standing:
        if not dry_run:
            _create(client, core, deployment_id)
        return Change(action="created", full_name=name, detail=rule.deployment)
    if _same(core, standing[0]):
        return Change(action="unchanged", full_name=name, detail=rule.deployment)
    if not dry_run:
        if deployment_id is None or str(deployment_id) in standing[0].model_dump_json(include={"actions"}):
            client.update_automation(standing[0].id, core)
        else:
            # The deployment was made anew; the server lets nobody give an automation to another owner.
            client.delete_automation(standing[0].id)
            _create(client, core, deployment_id)
    return Change(action="changed", full_name=name, detail=rule.deployment)


def _create(client: SyncPrefectClient, core: AutomationCore, deployment_id: UUID | None) -> None:
    """Create it as the property of its deployment, so that it goes with it; the server takes an owner only now."""
    if deployment_id is not None:
        core = core.model_copy(update={"owner_resource": f"prefect.deployment.{deployment_id}"})
    client.create_automation(core)


def _same(core: AutomationCore, standing: Automation) -> bool:
    """Whether the server has what is wanted; what only the server knows (ids) is not compared."""
    ours, theirs = (_plain(item.model_dump(mode="json", include=set(_COMPARED))) for item in (core, standing))
    return bool(ours == theirs) and set(core.tags) <= set(standing.tags)


def _plain(value: Any) -> Any:
    """A dump in which sets, which JSON writes in any order, are sorted, and ids of triggers are left out."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key not in ("id",)}
    if isinstance(value, list):
        items = [_plain(item) for item in value]
        return sorted(items) if all(isinstance(item, str) for item in items) else items
    return value


def _remove(client: SyncPrefectClient, found: Automation, dry_run: bool) -> Change:
    if not dry_run:
        client.delete_automation(found.id)
    return Change(action="removed", full_name=f"automation/{found.name}")


def _stale(name: str) -> Change:
    return Change(action="stale", full_name=f"automation/{name}", detail="nothing asks for it")
