"""The failover flow: a real recovery of two tiers, its order as the server and the epoch log saw it."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.clock import SYSTEM_CLOCK
from reopen.control.records import Choice, Intent, Promotion, Record
from reopen.desk.session import Session, open_session
from reopen.errors import Conflict
from reopen.protect.plan import plan_snapshot
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.snapshot import execute_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.recover.context import Patience
from reopen.storage import open_store
from tests.flows.observed import artifact, newest_flow_run, task_runs_of
from tests.flows.scene import Scene, make_scene
from tests.recover.business import FakeVerbs, context_of
from tests.recover.test_decisions import broken


@pytest.fixture
def standby(tmp_path: Path, prefect_harness: None) -> Scene:
    """The business after the loss of production: a verified replica and the standby's keys are left."""
    scene = make_scene(tmp_path)
    production = open_session(scene.production)
    for dataset in production.chosen(()):
        execute_snapshot(production.vault(), plan_snapshot(production.vault(), dataset, "production"))
    execute_replicate(plan_replicate(production.vault(), open_store(production.settings.standby.vault)))
    verify_vault(open_session(scene.standby).vault(), level=Level.STORED)
    shutil.rmtree(tmp_path / "production")
    return scene


@pytest.mark.slow
def test_tier_one_is_promoted_before_tier_two_begins_to_restore(standby: Scene) -> None:
    from flows.failover import failover
    from flows.requests import FailoverRequest

    request = FailoverRequest(config=standby.standby, reason="the site burnt down", assert_fenced="it is ashes")
    result = failover(request)

    assert (result.verdict, result.primary, result.epoch) == ("met", "standby", 1)
    for name in ("ledger", "papers"):
        restored = sorted(path.name for path in (standby.folder / "standby/data" / name).iterdir())
        assert restored == ["0.txt", "1.txt", "2.txt"]

    session = open_session(standby.standby)
    records = log_records(session)
    promoted = at(records, lambda value: isinstance(value, Promotion) and value.group == "ledger")
    begun = at(records, lambda value: isinstance(value, Intent) and value.step == "restore:papers")
    assert promoted < begun

    run = newest_flow_run("tier-1")
    assert run.name == "failover to standby (epoch 1)"
    steps = task_runs_of(run, 11)
    assert set(steps) == {
        "preflight", "fence", "finish", "tier 1 is settled", "tier 2 is settled",
        *(f"{verb} {name}" for verb in ("restore", "validate", "promote") for name in ("ledger", "papers")),
    }  # fmt: skip
    ended, started = steps["promote ledger"].end_time, steps["restore papers"].start_time
    assert ended is not None
    assert started is not None
    assert ended <= started

    table = artifact("failover-objectives")
    assert table is not None
    rows = json.loads(str(table.data))
    assert [(row["dataset"], row["tier"], row["verdict"], row["RTO"]) for row in rows] == [
        ("ledger", 1, "met", "1h"),
        ("papers", 2, "met", "1h"),
    ]

    with pytest.raises(Conflict, match="there is nothing to recover at standby"):
        failover(request)


def test_a_step_that_fails_stops_its_own_dataset_and_shows_as_a_failed_task_run(
    standby: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks are faked: what they find is not this test's matter."""
    from contextlib import nullcontext

    from flows.failover import failover
    from flows.outcome import BadFinding
    from flows.requests import FailoverRequest

    verbs = FakeVerbs()
    verbs.failing_checks.add("ledger")
    context = context_of(verbs)
    monkeypatch.setattr("reopen.desk.moves.open_desk", lambda session, **_: nullcontext(context))

    with pytest.raises(BadFinding, match="failed its objectives") as caught:
        failover(FailoverRequest(config=standby.standby, reason="fire", assert_fenced="ashes"))

    results = {result.name: result.verdict for result in caught.value.result.measured.datasets}
    assert results == {"ledger": "failed", "papers": "met"}
    steps = task_runs_of(newest_flow_run("tier-1"), 10)
    state = steps["validate ledger"].state
    assert state is not None
    assert state.is_failed()
    assert "key has 3 duplicates" in (state.message or "")
    assert "promote ledger" not in steps


def test_a_step_that_fails_waits_in_the_flow_too_and_the_form_s_decision_is_acted_on(
    standby: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision is taken by the flow behind the form, while the failover looks at the log."""
    from contextlib import nullcontext

    from flows.decide import decide
    from flows.failover import failover
    from flows.requests import DecideRequest, FailoverRequest

    verbs = FakeVerbs(broken("restore:ledger"))

    def wait(seconds: float) -> None:
        decide(DecideRequest(config=standby.standby, step="ledger", choice=Choice.RETRY, by="anna"))

    patience = Patience(decide_within=timedelta(hours=1), wait=wait)
    context = context_of(verbs, clock=SYSTEM_CLOCK, patience=patience)
    monkeypatch.setattr("reopen.desk.moves.open_desk", lambda session, **_: nullcontext(context))

    result = failover(FailoverRequest(config=standby.standby, reason="fire", assert_fenced="ashes"))

    assert [call for call in verbs.calls if call[0] == "restore"] == [
        ("restore", "ledger"), ("restore", "ledger"), ("restore", "papers")
    ]  # fmt: skip
    assert result.outcomes["restore:ledger"].attempt == 2


def log_records(session: Session) -> tuple[Record, ...]:
    assert session.log is not None
    return session.log.records()


def at(records: tuple[Record, ...], holds: object) -> int:
    assert callable(holds)
    return next(number for number, record in enumerate(records) if holds(record.value))
