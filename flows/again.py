"""Owns starting again what crashed: look at the run, decide, and have its deployment run once more, a little later.

An automation starts it for each run of ours that crashed (:mod:`deployments.automations`); which ones are started
again, and when not, is the rule of :mod:`tasks.again`. The new run is one of the same deployment with the same
parameters; the one that crashed stays as it is, for people to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from flows.arguments import run_as_command
from flows.outcome import concluded, describe_run, not_needed
from flows.requests import AgainRequest
from reopen.clock import to_text
from reopen.desk.session import Session
from reopen.errors import NotFound
from tasks.again import CRASHES_MAX, CRASHES_WITHIN, TAG, Crashed, Decision, again_tag, attempts_of, decide
from tasks.events import RunCrashed, emit
from tasks.orphan import end_as_cancelled
from tasks.secrets import open_session


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What was decided about the run ``name`` of ``deployment``; ``started`` is the new one's name, or empty."""

    name: str
    deployment: str
    decision: Decision
    started: str = ""

    @property
    def problem(self) -> str:
        """What people should look at; empty when nothing."""
        return f"{self.name} crashed and is left: {self.decision.why}" if self.decision.given_up else ""


@flow(name="again", persist_result=False, on_crashed=[end_as_cancelled])
def again(request: AgainRequest) -> Again:
    """Start a run again that crashed, where that is safe and worth it."""
    session = open_session(request.config)
    with get_client(sync_client=True) as client:
        run = _run(client, request.run)
        if run.deployment_id is None or run.state is None or not run.state.is_crashed():
            describe_run(f"again {run.name}: not needed")
            return not_needed(f"{run.name} is {run.state_name}, not crashed")  # type: ignore[return-value]  # Prefect's way
        deployment = _deployment(client, run.deployment_id)
        if deployment is None:
            describe_run(f"again {run.name}: not needed")
            return not_needed(f"the deployment of {run.name} is gone")  # type: ignore[return-value]  # Prefect's way
        flow_name = client.read_flow(run.flow_id).name
        crashed = _crashed(client, session, run, flow_name)
        decision = decide(crashed, session.clock.now())
        started = _start(client, run, decision, crashed.attempts + 1)
    made = Again(
        name=run.name, deployment=f"{flow_name}/{deployment.name}", decision=decision,
        started=started.name if started is not None else "",
    )  # fmt: skip
    word = "left" if decision.at is None else f"at {to_text(decision.at)}"
    describe_run(f"again {run.name}: {word}")
    emit(
        RunCrashed(
            site=session.settings.site,
            deployment=made.deployment,
            run=str(run.id),
            message=(run.state.message or "")[:500],
            attempts=crashed.attempts,
            again_at=decision.at,
            given_up=decision.given_up,
            why=decision.why,
        )
    )
    if decision.at is None and not decision.given_up:
        return not_needed(decision.why)  # type: ignore[return-value]  # Prefect's way to say so
    return concluded(made, made.problem)


def _run(client: SyncPrefectClient, identifier: str) -> FlowRun:
    try:
        return client.read_flow_run(UUID(identifier))
    except ObjectNotFound as error:
        raise NotFound(f"there is no flow run {identifier} on this server.", hint="Its page shows its id.") from error


def _deployment(client: SyncPrefectClient, identifier: UUID) -> DeploymentResponse | None:
    """The deployment of a run; None where no contract asks for it any more."""
    try:
        return client.read_deployment(identifier)
    except ObjectNotFound:
        return None


def _crashed(client: SyncPrefectClient, session: Session, run: FlowRun, flow_name: str) -> Crashed:
    """The run, and what surrounds it on the server."""
    now = session.clock.now()
    assert run.deployment_id is not None
    ours = FlowRunFilterDeploymentId(any_=[run.deployment_id])
    coming = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=ours,
            state=_in(StateType.SCHEDULED),
            expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"after_": now}),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=1,
    )
    done = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id=ours, state=_in(StateType.COMPLETED)),
        sort=FlowRunSort.START_TIME_DESC,
        limit=1,
    )
    crashes = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[again_tag(session.settings.site)]),
            state=_in(StateType.CRASHED),
            end_time=FlowRunFilterEndTime.model_validate({"after_": now - CRASHES_WITHIN}),
        ),
        limit=CRASHES_MAX + 1,
    )
    return Crashed(
        flow=flow_name,
        at=run.end_time or now,
        attempts=attempts_of(run.tags),
        crashes=len(crashes),
        next_at=coming[0].expected_start_time if coming else None,
        newest=_began(done),
        rpo=_objective(session, flow_name, run),
    )


def _in(kind: StateType) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=[kind]))


def _began(runs: Sequence[FlowRun]) -> datetime | None:
    return runs[0].start_time if runs else None


def _objective(session: Session, flow_name: str, run: FlowRun) -> timedelta | None:
    """The tightest RPO that a run of the flow serves."""
    if flow_name not in ("snapshot", "replicate", "stage"):
        return None
    datasets = session.contracts.datasets
    asked = run.parameters.get("request", {}).get("datasets") or datasets
    return min((datasets[name].objective.rpo for name in asked if name in datasets), default=None)


def _start(client: SyncPrefectClient, run: FlowRun, decision: Decision, attempt: int) -> FlowRun | None:
    if decision.at is None or run.deployment_id is None:
        return None
    return client.create_flow_run_from_deployment(
        run.deployment_id,
        parameters=run.parameters,
        state=Scheduled(scheduled_time=decision.at),
        name=f"{run.name} again ({attempt})",
        tags=[*(tag for tag in run.tags if not tag.startswith(TAG)), f"{TAG}{attempt}"],
        # Whoever asks twice about one crash, an event that came twice for example, starts one run.
        idempotency_key=f"{TAG}{run.id}",
    )


def lines(made: Again | None) -> list[str]:
    """The result as ``python -m flows.again`` prints it."""
    if made is None:
        return ["it is not started again: it is not needed"]
    word = "is left" if made.decision.at is None else "is started again"
    return [f"{made.name} ({made.deployment}) {word}: {made.decision.why}"]


if __name__ == "__main__":
    run_as_command(again, AgainRequest, lines)
