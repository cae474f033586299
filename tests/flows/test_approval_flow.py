"""Waiting for approval in a flow: by the form in the UI, and by command while the run is paused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from reopen.control.log import EpochLog
from reopen.control.records import Approval
from reopen.control.rules import values
from reopen.desk.session import open_session
from reopen.recover.approvals import give_approval
from reopen.recover.failover import unfinished_plan
from tests.flows.observed import eventually, newest_flow_run
from tests.flows.scene import Scene
from tests.flows.test_failover_flow import standby
from tests.recover.business import NOON, FakeVerbs, TickingClock, context_of, plan_of
from tests.stores import MemoryStore

__all__ = ["standby"]


@pytest.fixture
def asking(standby: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The standby of a business whose ledger is moved by nobody without approval; what moves is faked."""
    contract = standby.folder / "contracts/ledger.odcs.yaml"
    contract.write_text(contract.read_text() + "  - {property: approval, value: required, vendor: reopen}\n")
    context = context_of(FakeVerbs())
    monkeypatch.setattr("reopen.desk.moves.open_desk", lambda session, **_: nullcontext(context))
    monkeypatch.setattr("tasks.approval.POLL_SECONDS", 0.5)
    return standby


def is_paused() -> bool:
    """Whether the newest failover waits for somebody."""
    try:
        state = newest_flow_run("tier-1").state
    except ValueError:
        return False  # There is no run yet.
    return state is not None and state.is_paused()


def fail_over_beside(scene: Scene, speak: Callable[[EpochLog], None]) -> Any:
    """Run the flow, and let somebody speak when it waits."""
    from flows.failover import failover
    from flows.requests import FailoverRequest

    log = open_session(scene.standby).log
    assert log is not None
    trouble: list[BaseException] = []

    def person() -> None:
        try:
            eventually(is_paused, bool)
            speak(log)
        except BaseException as error:  # noqa: BLE001 - a thread's error is raised below.
            trouble.append(error)

    thread = threading.Thread(target=person)
    thread.start()
    try:
        request = FailoverRequest(
            config=scene.standby, reason="fire", assert_fenced="ashes", wait_approval="60s",
            failed_at=datetime.now(UTC) - timedelta(seconds=5),
        )  # fmt: skip
        return failover(request)
    finally:
        thread.join()
        assert not trouble, trouble


def approvals(scene: Scene) -> list[Approval]:
    log = open_session(scene.standby).log
    assert log is not None
    return list(values(log.records(), Approval))


@pytest.mark.slow
def test_the_form_s_answer_is_the_record_that_the_command_would_append(asking: Scene) -> None:
    from prefect.flow_runs import resume_flow_run

    def fill_in(log: EpochLog) -> None:
        answer = {"decision": "approve", "by": "anna", "reason": "agreed"}
        resume_flow_run(newest_flow_run("tier-1").id, run_input=answer)

    result = fail_over_beside(asking, fill_in)

    assert (result.verdict, result.primary) == ("met", "standby")
    assert [(given.by, given.why, given.granted) for given in approvals(asking)] == [("anna", "agreed", True)]


@pytest.mark.slow
def test_a_run_that_waits_is_not_disturbed_by_another_and_goes_on_when_approved_by_command(asking: Scene) -> None:
    def by_command(log: EpochLog) -> None:
        from flows.failover import failover
        from flows.requests import FailoverRequest

        plan = unfinished_plan(log)
        assert plan is not None
        waits, before = newest_flow_run("tier-1"), log.records()
        # The watch says once more that production is lost.
        assert failover(FailoverRequest(config=asking.standby, reason="lost", automatic=True)) is None
        second = newest_flow_run("reopen")
        assert second.name == f"failover to standby: left to {waits.name}"
        assert second.state is not None
        assert waits.name in str(second.state.message)
        assert log.records() == before, "the run that waits holds its term"
        give_approval(log, plan, by="bob", why="by phone", identifier="elsewhere")

    result = fail_over_beside(asking, by_command)

    assert (result.verdict, result.primary) == ("met", "standby")
    assert [given.by for given in approvals(asking)] == ["bob"], "it is said once"


def test_of_two_automatic_runs_that_find_the_same_log_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """They plan apart, so neither finds the other by its plan: the claim in the control store tells them apart."""
    from flows import failover
    from reopen.control.records import Takeover

    log, plan = EpochLog(MemoryStore(), clock=TickingClock(NOON)), plan_of()
    alive = {"1": True, "2": True}

    def ask_as(run: str) -> str:
        monkeypatch.setattr(failover, "flow_run", SimpleNamespace(get_id=lambda: run, get_name=lambda: f"run {run}"))
        return failover.other_run(log, plan, begun=False)

    monkeypatch.setattr(failover, "is_alive", alive.__getitem__)
    assert ask_as("1") == ""
    assert ask_as("2") == "run 1"
    alive["1"] = False
    assert ask_as("2") == "", "who died before it wrote anything holds nobody up"
    log.append(Takeover(epoch=0, term=1, reason="lost"), by="o")
    assert ask_as("3") == "", "and another log is another claim"
