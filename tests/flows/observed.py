"""Reads what flows left on the Prefect server, as the UI would show it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun

T = TypeVar("T")

DEADLINE_SECONDS = 20
POLL_SECONDS = 0.1


def newest_flow_run(tag: str) -> FlowRun:
    """The flow run that was started last of those with a tag."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])))
    return max(runs, key=lambda run: (run.start_time is not None, run.start_time))


def forget_waiting_runs() -> None:
    """Remove every run that waits for a worker: the server is shared, and the next worker would take them."""
    from prefect.client.schemas.filters import FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    waiting = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])))
    with get_client(sync_client=True) as client:
        while found := client.read_flow_runs(flow_run_filter=waiting):
            for run in found:
                client.delete_flow_run(run.id)


def forget_deployments() -> None:
    """Remove every deployment, with what waits for a worker: the server is shared, and other tests begin with none."""
    forget_waiting_runs()
    with get_client(sync_client=True) as client:
        while found := client.read_deployments():
            for deployment in found:
                client.delete_resource_owned_automations(f"prefect.deployment.{deployment.id}")
                client.delete_deployment(deployment.id)


def task_runs_of(run: FlowRun, count: int) -> dict[str, TaskRun]:
    """Task runs by name, once the server has ``count`` ended ones: it hears of them by events, a moment later."""

    def ended() -> dict[str, TaskRun]:
        from prefect.client.schemas.filters import FlowRunFilterId

        with get_client(sync_client=True) as client:
            found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
        return {task.name: task for task in found if task.state is not None and task.state.is_final()}

    return eventually(ended, lambda found: len(found) >= count)


def artifact(key: str) -> Artifact | None:
    """The newest artifact under a key."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    with get_client(sync_client=True) as client:
        found: Sequence[Artifact] = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        )
    return max(found, key=lambda item: (item.created is not None, item.created), default=None)


def emitted(name: str, site: str) -> list[dict[str, Any]]:
    """Payloads of the events of a name and site that the server has, oldest first."""
    from prefect.client.orchestration import get_client
    from prefect.events.filters import EventFilter, EventNameFilter

    with get_client(sync_client=True) as client:
        found = client.request(
            "POST",
            "/events/filter",
            json={"filter": EventFilter(event=EventNameFilter(name=[name])).model_dump(mode="json")},
        ).json()["events"]
    return [event["payload"] for event in reversed(found) if event["resource"].get("reopen.site") == site]


def eventually(look: Callable[[], T], holds: Callable[[T], bool]) -> T:
    """What ``look`` sees once it ``holds``."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds(seen := look()):
        assert time.monotonic() < deadline, f"after {DEADLINE_SECONDS} s there is still only {seen!r}"
        time.sleep(POLL_SECONDS)
    return seen
