"""Runs that crash are started again where that is safe and worth it, a few times, and never what moves the role."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun

from reopen.desk.session import open_session
from tasks.again import CRASHES_MAX, DELAYS, REPEATABLE, Crashed, attempts_of, decide
from tests.flows.observed import emitted, eventually, forget_deployments
from tests.flows.scene import make_scene
from tests.flows.test_limits import deployed

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def crash(**changed: Any) -> Crashed:
    """A daily snapshot whose objective is a day, killed for the first time."""
    usual: dict[str, Any] = {
        "flow": "snapshot", "at": NOW, "attempts": 0, "crashes": 1, "next_at": NOW + 24 * HOUR,
        "newest": NOW - 24 * HOUR, "rpo": 24 * HOUR,
    }  # fmt: skip
    return Crashed(**{**usual, **changed})


def test_a_daily_snapshot_is_started_again_with_longer_and_longer_waits_and_then_left() -> None:
    """G2"""
    waits = [decide(crash(attempts=attempts), NOW).at for attempts in range(len(DELAYS))]
    assert waits == [NOW + delay for delay in DELAYS]
    assert sum(DELAYS, timedelta()) < HOUR
    left = decide(crash(attempts=len(DELAYS)), NOW)
    assert left.at is None
    assert left.given_up


@pytest.mark.parametrize("flow", ["failover", "decide", "silent", "restore", "again", "somebody's"])
def test_what_moves_the_role_is_never_started_again(flow: str) -> None:
    """G1"""
    decision = decide(crash(flow=flow), NOW)
    assert decision.at is None
    assert not decision.given_up


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({"next_at": None}, True),
        ({"next_at": NOW + timedelta(seconds=30)}, False),
        # Every five minutes for an objective of an hour: the next one is in time.
        ({"next_at": NOW + timedelta(minutes=5), "newest": NOW - timedelta(minutes=5), "rpo": HOUR}, False),
        # The same after it has not worked for an hour.
        ({"next_at": NOW + timedelta(minutes=5), "newest": NOW - HOUR, "rpo": HOUR}, True),
        # Not before three quarters of the objective are gone: where that one crashes too, it is missed.
        ({"next_at": NOW + timedelta(minutes=15), "newest": NOW - timedelta(minutes=30), "rpo": HOUR}, True),
        # Every hour for an objective of an hour: it would be two hours old.
        ({"next_at": NOW + HOUR, "newest": NOW - HOUR, "rpo": HOUR}, True),
        ({"next_at": NOW + timedelta(minutes=5), "newest": None, "rpo": HOUR}, True),
        ({"flow": "verify", "rpo": None}, True),
        ({"flow": "ready", "rpo": None, "next_at": NOW + timedelta(minutes=50)}, False),
    ],
)
def test_the_schedule_is_left_to_it_while_the_objective_is_not_in_danger(changed: dict[str, Any], again: bool) -> None:
    """G3"""
    decision = decide(crash(**changed), NOW)
    assert (decision.at is not None) is again
    assert not decision.given_up


def test_a_machine_on_which_everything_crashes_is_given_no_more_work() -> None:
    """G4"""
    assert decide(crash(crashes=CRASHES_MAX), NOW).at is not None
    ill = decide(crash(crashes=CRASHES_MAX + 1), NOW)
    assert ill.at is None
    assert ill.given_up
    assert "machine" in ill.why


def test_only_deployments_that_may_be_done_twice_are_watched_for_crashes(tmp_path: Path) -> None:
    from deployments.wanted import wanted_deployments

    scene = make_scene(tmp_path)
    for config in (scene.production, scene.standby):
        session = open_session(config)
        site = session.settings.site
        for item in wanted_deployments(session.settings, session.contracts, may_retain=True):
            assert (f"reopen:again:{site}" in item.tags) is (item.flow in REPEATABLE), item.full_name


def test_what_surrounds_a_crash_is_what_the_server_has_of_its_deployment_and_its_site(tmp_path: Path) -> None:
    from uuid import uuid4

    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import StateType

    from flows.again import _crashed

    scene = make_scene(tmp_path)
    settings = scene.production.read_text().replace('[tiers.2]\nrpo = "1h"', '[tiers.2]\nrpo = "5h"')
    scene.production.write_text(settings)
    session = open_session(scene.production)
    tight, loose = (session.contracts.datasets[name].objective.rpo for name in ("ledger", "papers"))
    assert (tight, loose) == (HOUR, 5 * HOUR)
    deployment, flow = uuid4(), uuid4()

    def a_run(**known: Any) -> FlowRun:
        return FlowRun.model_validate({"flow_id": flow, "deployment_id": deployment, **known})

    found = {
        StateType.SCHEDULED: [a_run(expected_start_time=NOW + HOUR)],
        StateType.COMPLETED: [a_run(start_time=NOW - 3 * HOUR)],
        StateType.CRASHED: [a_run(), a_run()],
    }

    class Server:
        def read_flow_runs(self, *, flow_run_filter: FlowRunFilter, **_: Any) -> list[FlowRun]:
            asked = flow_run_filter.state
            assert asked is not None
            assert asked.type is not None
            assert asked.type.any_ is not None
            [kind] = asked.type.any_
            own = flow_run_filter.deployment_id
            of_site = flow_run_filter.tags
            if kind is StateType.CRASHED:
                assert own is None
                assert of_site is not None
                assert of_site.all_ == ["reopen:again:production"]
            else:
                assert own is not None
                assert own.any_ == [deployment]
            return found[kind]

    run = a_run(end_time=NOW, tags=["papers", "again-2"])
    assert _crashed(Server(), session, run, "snapshot") == Crashed(  # type: ignore[arg-type]
        flow="snapshot", at=NOW, attempts=2, crashes=2, next_at=NOW + HOUR, newest=NOW - 3 * HOUR, rpo=tight
    )
    of_papers = a_run(end_time=NOW, parameters={"request": {"datasets": ["papers"]}})
    assert _crashed(Server(), session, of_papers, "snapshot").rpo == loose  # type: ignore[arg-type]
    assert _crashed(Server(), session, run, "verify").rpo is None  # type: ignore[arg-type]


@pytest.fixture
def server(prefect_harness: None) -> Iterator[None]:
    """The server that tests share, on which nothing is deployed afterwards."""
    yield
    forget_deployments()


def test_a_crash_starts_the_look_and_the_look_one_run_which_another_overtakes(tmp_path: Path, server: None) -> None:
    """The server's side: the automation fires, with the run's id; one retry comes of it, however often it is asked."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
    from prefect.states import Crashed as CrashedState

    from flows.again import again
    from flows.requests import AgainRequest
    from tasks.overdue import take_over_overdue

    scene = make_scene(tmp_path)
    # Once a day, so that the schedule would come too late.
    scene.write_contract("papers", tier=2, cron="0 0 * * *")
    deployed(scene.production)
    with get_client(sync_client=True) as client:
        papers, looker = (client.read_deployment_by_name(name) for name in ("snapshot/papers", "again/production"))
        run = client.create_flow_run_from_deployment(papers.id)
        client.set_flow_run_state(run.id, CrashedState(message="killed"), force=True)
        asked = {"request": {"config": str(scene.production), "run": str(run.id)}}
        of_looker = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[looker.id]))
        eventually(
            lambda: [found.parameters for found in client.read_flow_runs(flow_run_filter=of_looker)],
            lambda found: asked in found,
        )
        request = AgainRequest(config=scene.production, run=str(run.id))
        made = again(request)
        assert made.decision.at is not None
        assert made.started == f"{run.name} again (1)"
        assert again(request) is None, "an event that comes twice starts one run"
        lives = client.create_flow_run_from_deployment(papers.id)
        left = again(AgainRequest(config=scene.production, run=str(lives.id)), return_state=True)
        assert str(left.message).endswith("is Scheduled, not crashed")
        [retry] = [
            found
            for found in client.read_flow_runs(
                flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[papers.id]))
            )
            if attempts_of(found.tags)
        ]
        assert (attempts_of(retry.tags), retry.parameters) == (1, run.parameters)
        assert retry.idempotency_key == f"again-{run.id}", "also where both looks decide at once"
        assert retry.state is not None
        assert retry.state.is_scheduled()

        # Somebody does not wait for it. What began does its work, and that of what asks for something else not.
        begun = client.create_flow_run_from_deployment(papers.id)
        other = {"request": {"config": str(scene.production), "datasets": ["papers"], "workers": 1}}
        different = client.create_flow_run_from_deployment(papers.id, parameters=other, tags=["again-1"])
        take_over_overdue(None, client.read_flow_run(begun.id), CrashedState())
        states = [client.read_flow_run(found).state_name for found in (retry.id, different.id, begun.id)]
        assert states == ["Overtaken", "Scheduled", "Scheduled"]

        client.set_flow_run_state(retry.id, CrashedState(message="it cannot have run"), force=True)
        # The contract went while a run of it was on its way.
        ledger = client.read_deployment_by_name("snapshot/ledger")
        orphaned = client.create_flow_run_from_deployment(ledger.id)
        client.set_flow_run_state(orphaned.id, CrashedState(message="killed"), force=True)
        client.delete_deployment(ledger.id)
        gone = again(AgainRequest(config=scene.production, run=str(orphaned.id)), return_state=True)
        assert str(gone.message).endswith(f"the deployment of {orphaned.name} is gone")
    events = eventually(lambda: emitted("reopen.run.crashed", "production"), lambda found: len(found) >= 2)
    assert {(event["deployment"], event["attempts"], event["given_up"]) for event in events} == {
        ("snapshot/papers", 0, False)
    }
    assert {event["again_at"] is None for event in events} == {True, False}


def test_late_runs_of_missed_days_are_done_once(tmp_path: Path, server: None) -> None:
    """A worker that was away for five days finds five late runs; the first does the work of all."""
    from prefect.client.orchestration import get_client

    from tasks.overdue import overdue

    scene = make_scene(tmp_path)
    deployed(scene.production)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("snapshot/ledger")
        first = client.create_flow_run_from_deployment(deployment.id)
        parameters = deployment.parameters
        runs = [
            FlowRun.model_validate(
                {
                    "flow_id": deployment.flow_id, "deployment_id": deployment.id, "parameters": parameters,
                    "auto_scheduled": auto, "expected_start_time": NOW + days * 24 * HOUR,
                }
            )
            for days, auto in ((-5, True), (-4, True), (-3, True), (-2, False), (0, True), (1, True))
        ]  # fmt: skip
    found = overdue(Listing(runs), first, now=NOW)  # type: ignore[arg-type]
    assert found == [runs[0], runs[1], runs[2], runs[4]]


class Listing:
    """A server that has these runs waiting; the schedule's own cannot be made by hand on a real one."""

    def __init__(self, runs: list[FlowRun]) -> None:
        self._runs = runs

    def read_flow_runs(self, **_: Any) -> list[FlowRun]:
        return self._runs
