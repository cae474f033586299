"""Looks as flows: what they emit, what the UI shows, and what the server does by itself when a site is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reopen.clock import SYSTEM_CLOCK
from reopen.desk.relief import Relief
from reopen.desk.session import open_session
from reopen.errors import ReopenError
from reopen.recover.watch.memory import Memory, remember
from tests.flows.observed import artifact, emitted, eventually, newest_flow_run
from tests.flows.scene import Scene, make_scene
from tests.notify.receivers import Observer, Receiver, running
from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def bare_server(prefect_harness: None) -> Iterator[None]:
    """The server that all tests share has no deployment of ours and no automation, before and after."""

    def clear() -> None:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            for automation in client.read_automations():
                client.delete_automation(automation.id)
            for deployment in client.read_deployments():
                client.delete_deployment(deployment.id)

    clear()
    yield
    clear()


@pytest.fixture
def observer() -> Iterator[Observer]:
    """Somebody outside who waits for the watch."""
    server = Observer(200)
    with running(server):
        yield server


@pytest.fixture
def scene(tmp_path: Path, bare_server: None) -> Scene:
    """Two sites, and a verified replica at the standby."""
    made = make_scene(tmp_path)
    from reopen.protect.plan import plan_snapshot
    from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
    from reopen.protect.snapshot import execute_snapshot
    from reopen.protect.verify.verify import Level, verify_vault
    from reopen.storage import open_store

    session = open_session(made.production)
    vault = session.vault()
    for dataset in session.contracts.datasets.values():
        execute_snapshot(vault, plan_snapshot(vault, dataset, "production"))
    replica = open_store(str(tmp_path / "standby/vault"))
    execute_replicate(plan_replicate(vault, replica))
    verify_vault(open_session(made.standby).vault(), level=Level.STORED)
    return made


def test_a_look_at_readiness_is_a_table_and_an_event(scene: Scene) -> None:
    from flows.ready import lines, ready
    from flows.requests import ReadyRequest

    found = ready(ReadyRequest(config=scene.standby))

    assert found.ok, found.problem
    assert lines(found)[-1].startswith(f"standby: {len(found.checks)} checks, 0 failed, ")
    shown = artifact("ready-standby")
    assert shown is not None
    assert shown.description == "standby could take over now"
    assert newest_flow_run("reopen").name == f"ready standby: {found.verdict}"
    (event,) = eventually(lambda: emitted("reopen.ready.ok", "standby"), bool)
    assert event == {"site": "standby", "warned": len(found.warned)}


def test_a_report_that_is_not_a_yes_fails_the_run_and_is_laid_where_the_standby_has_it(scene: Scene) -> None:
    from flows.outcome import BadFinding
    from flows.report import lines, report
    from flows.requests import ReportRequest

    with pytest.raises(BadFinding, match="nothing was ever recovered") as bad:
        report(ReportRequest(config=scene.standby))

    assert lines(bad.value.result)[0].startswith("Not proven: nothing was ever recovered")
    assert newest_flow_run("reopen").name == "report standby: not proven"
    shown = artifact("report-standby")
    assert shown is not None
    assert str(shown.description).startswith("Not proven: ")
    assert "Are we able to reopen?" in (scene.folder / "standby/control/report.html").read_text()


def test_a_site_that_could_not_take_over_fails_the_run_and_names_the_checks(scene: Scene) -> None:
    from flows.outcome import BadFinding
    from flows.ready import ready
    from flows.requests import ReadyRequest

    shutil.rmtree(scene.folder / "standby/vault")
    with pytest.raises(BadFinding, match="there is no vault"):
        ready(ReadyRequest(config=scene.standby))

    (event,) = eventually(lambda: emitted("reopen.ready.failed", "standby"), bool)
    assert any(line.startswith("vault: there is no vault in ") for line in event["failed"])


def test_a_lost_site_starts_the_failover_that_the_automation_names(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, observer: Observer
) -> None:
    """With a real server: the watch emits, the automation matches, the deployment has a run of what the watch said."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.client.schemas.objects import FlowRun

    from deployments.automations import sync_automations, wanted_rules
    from deployments.pools import sync_pool
    from deployments.sync import sync
    from deployments.wanted import wanted_deployments
    from flows.requests import FailoverRequest, WatchRequest
    from flows.watch import watch

    monkeypatch.setenv("REOPEN_WATCH__FAILURES", "1")
    monkeypatch.setenv("REOPEN_HEARTBEAT__WATCH", observer.url)
    session = open_session(scene.standby)
    with get_client(sync_client=True) as client:
        sync_pool(client, wanted_deployments(session.settings, session.contracts), site="standby", dry_run=False)
        sync(client, wanted_deployments(session.settings, session.contracts), site="standby", prune=False)
        sync_automations(client, wanted_rules(session.settings), site="standby", prune=False)
        deployment = client.read_deployment_by_name("failover/standby")

    seen = watch(WatchRequest(config=scene.standby))
    assert seen is not None
    assert seen.judged.state == "alive"
    shutil.rmtree(scene.folder / "production")
    lost = watch(WatchRequest(config=scene.standby))
    assert lost is not None
    assert lost.judged.state == "lost"

    def started() -> list[FlowRun]:
        with get_client(sync_client=True) as client:
            chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
            return client.read_flow_runs(deployment_filter=chosen)

    (run,) = eventually(started, bool)
    asked = FailoverRequest(**run.parameters["request"])
    assert asked.automatic
    assert asked.source == "production"
    assert asked.to == "standby"
    assert asked.config == scene.standby
    assert asked.reason.startswith("production has not answered since ")
    assert asked.failed_at == lost.judged.memory.failing_since
    (event,) = eventually(lambda: emitted("reopen.site.lost", "production"), bool)
    assert event["by_itself"] is False
    # A watch that found the worst has looked: that is its sign of life, inside and outside.
    lives = eventually(lambda: emitted("reopen.watch.looked", "production"), lambda found: len(found) == 2)
    assert [(life["target"], life["state"]) for life in lives] == [("standby", "alive"), ("standby", "lost")]
    assert observer.calls == [("/ping/t0ken", "watch at standby: done")] * 2

    # One that was left is gone on with where that decides nothing, and only there.
    from reopen.desk.left import Left
    from tasks.looks import publish_left

    left = Left(
        source="production", target="standby", plan="c0ffee", scenario="unplanned", since=lost.at, by_itself=False,
        why="It waits for approval.",
    )  # fmt: skip
    publish_left(left)
    publish_left(replace(left, by_itself=True))
    both = eventually(started, lambda runs: len(runs) > 1)
    (again,) = (FailoverRequest(**other.parameters["request"]) for other in both if other.id != run.id)
    assert (again.automatic, again.to, again.reason) == (True, "standby", "")
    told = eventually(lambda: emitted("reopen.recovery.left", "standby"), lambda events: len(events) == 2)
    assert [event["by_itself"] for event in told] == [False, True]
    assert len(started()) == 2

    # What it starts does not go without a person: it waits, and nothing is fenced or moved before.
    from flows.failover import failover
    from flows.outcome import BadFinding
    from reopen.control.records import Epoch

    with pytest.raises((BadFinding, ReopenError)) as waits:
        failover(asked.model_copy(update={"wait_approval": "0s"}))
    assert "nobody has approved plan" in str(waits.value), waits.value
    assert session.log is not None
    assert not any(isinstance(record.value, Epoch) for record in session.log.records())


def test_a_watch_whose_voice_nobody_hears_tells_the_observer_outside(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, observer: Observer
) -> None:
    from flows.requests import WatchRequest
    from flows.watch import watch

    monkeypatch.setenv("REOPEN_HEARTBEAT__WATCH", observer.url)
    monkeypatch.setenv("REOPEN_NOTIFY__URLS", f"json://127.0.0.1:{free_port()}/")
    watch(WatchRequest(config=scene.standby))
    shutil.rmtree(scene.folder / "production")
    watch(WatchRequest(config=scene.standby))

    assert [path for path, _ in observer.calls] == ["/ping/t0ken", "/ping/t0ken/fail"]


def test_people_are_told_of_a_watch_that_is_silent_and_not_of_one_that_looked_meanwhile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.outcome import BadFinding
    from flows.requests import SilentRequest
    from flows.silent import lines, silent

    request, home = SilentRequest(config=scene.standby), open_session(scene.standby).settings.home
    receiver = Receiver(200)
    with running(receiver):
        monkeypatch.setenv("REOPEN_NOTIFY__URLS", receiver.apprise_url)
        remember(home, "production", Memory(looked_at=SYSTEM_CLOCK.now()))
        assert lines(silent(request)) == ["the watch has looked meanwhile: nobody is told"]
        remember(home, "production", Memory(looked_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC)))
        assert [delivery.status for delivery in silent(request)] == ["sent"]
        assert [message["title"] for message in receiver.received] == ["Nobody is watching at standby"]
        assert "last heard of: 2026-01-02" in receiver.received[0]["message"]
        receiver.script = [500]
        with pytest.raises(BadFinding, match="nobody was told"):
            silent(request)


def test_automations_are_made_kept_and_removed(scene: Scene) -> None:
    from prefect.client.orchestration import SyncPrefectClient, get_client
    from prefect.events.schemas.automations import AutomationCore

    from deployments.automations import sync_automations, wanted_rules
    from deployments.pools import sync_pool
    from deployments.sync import sync
    from deployments.wanted import wanted_deployments

    session = open_session(scene.standby)
    rules = wanted_rules(session.settings)
    fail_over, silent = "automation/reopen: fail over to standby", "automation/reopen: crash silent runs at standby"
    go_on, again = "automation/reopen: go on at standby", "automation/reopen: start again at standby"
    watch, stuck = "automation/reopen: silent watch at standby", "automation/reopen: crash stuck runs at standby"

    def synced(client: SyncPrefectClient, wanted: Any = rules, **options: Any) -> dict[str, str]:
        changes = sync_automations(client, wanted, site="standby", **{"prune": False, **options})
        return {change.full_name: change.action for change in changes}

    with get_client(sync_client=True) as client:
        # Before its deployment is there, a dry run says what would be made.
        assert synced(client, dry_run=True) == {
            fail_over: "created",
            go_on: "created",
            again: "created",
            silent: "created",
            stuck: "created",
            watch: "created",
        }
        assert client.read_automations() == []
        sync_pool(client, wanted_deployments(session.settings, session.contracts), site="standby", dry_run=False)
        sync(client, wanted_deployments(session.settings, session.contracts), site="standby", prune=False)
        assert synced(client) == dict.fromkeys((fail_over, go_on, again, silent, stuck, watch), "created")
        assert synced(client) == {
            fail_over: "unchanged",
            go_on: "unchanged",
            again: "unchanged",
            silent: "unchanged",
            stuck: "unchanged",
            watch: "unchanged",
        }

        # Somebody switches ours off, changes it, and makes one of his own.
        (ours,) = client.read_automations_by_name("reopen: fail over to standby")
        changed = ours.model_copy(update={"enabled": False, "description": "hm"})
        client.update_automation(
            ours.id, AutomationCore.model_validate(changed.model_dump(exclude={"id", "owner_resource"}))
        )
        own = AutomationCore.model_validate(
            ours.model_dump(exclude={"id", "owner_resource"}) | {"name": "mine", "tags": ["reopen"]}
        )
        client.create_automation(own)
        assert synced(client) == {
            fail_over: "changed",
            go_on: "unchanged",
            again: "unchanged",
            silent: "unchanged",
            stuck: "unchanged",
            watch: "unchanged",
        }
        (ours,) = client.read_automations_by_name("reopen: fail over to standby")
        assert not ours.enabled
        assert ours.description != "hm"

        assert synced(client, rules[:1]) == {
            silent: "unchanged",
            fail_over: "stale",
            go_on: "stale",
            again: "stale",
            stuck: "stale",
            watch: "stale",
        }
        removed = dict.fromkeys((fail_over, go_on, again, stuck, watch), "removed") | {silent: "unchanged"}
        assert synced(client, rules[:1], prune=True) == removed
        assert {found.name for found in client.read_automations()} == {"mine", "reopen: crash silent runs at standby"}


def test_writers_that_were_held_too_long_are_an_event_of_the_site_that_holds_them(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.requests import WatchRequest
    from flows.watch import watch
    from tasks import looks
    from tasks.events import Event, full_name, payload_of

    since = datetime(2026, 1, 1, tzinfo=UTC)
    relief = Relief(
        site="production", plan="ab12", since=since, limit=timedelta(hours=1), problem="no route", hint="go"
    )
    emitted: list[Event] = []
    monkeypatch.setattr("flows.watch.relieve", lambda session: relief)
    monkeypatch.setattr(looks, "emit", emitted.append)

    watch(WatchRequest(config=scene.standby))

    event = emitted[0]
    assert (full_name(type(event)), event.resource) == ("reopen.writers.held", "reopen.site.production")
    assert payload_of(event) == {
        "site": "production", "plan": "ab12", "since": "2026-01-01T00:00:00.000000Z", "limit_seconds": 3600.0,
        "given_back": False, "problem": "no route", "hint": "go",
    }  # fmt: skip


def test_the_page_of_events_is_what_the_code_says() -> None:
    from tasks.events import page

    assert (ROOT / "docs/events.md").read_text(encoding="utf-8") == page(), (
        "run: python -m tasks.events > docs/events.md"
    )


def test_every_sign_of_the_watch_is_an_event_with_the_fields_that_it_carries() -> None:
    from reopen.recover.watch.judge import Sign
    from tasks.events import EVENTS, event_of, payload_of

    assert {str(sign) for sign in Sign} <= set(EVENTS)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    event = event_of("site.returned", {"site": "production", "at": "2026-01-01T00:00:00.000000Z"})
    assert payload_of(event) == {"site": "production", "at": "2026-01-01T00:00:00.000000Z"}
    assert event.resource == "reopen.site.production"
    assert getattr(event, "at") == at  # noqa: B009
    with pytest.raises(ValueError, match="Extra inputs"):
        event_of("site.returned", {"site": "production", "at": at, "mood": "good"})
