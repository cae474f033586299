"""A flow process without its worker looks whether it was cancelled, and ends (for real: test_killed_workers.py)."""

from __future__ import annotations

import os
import signal
import threading
from uuid import UUID, uuid4

import httpx
import pytest

from tasks import orphan

RUN = uuid4()
WORKER, INIT = 77, 1


class Process:
    """What a process asked and did, whose worker lives for so many looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, looks: int) -> None:
        self.done: list[object] = []
        self.says = self._hears
        self._looks = looks
        monkeypatch.setattr(os, "getppid", self._parent)
        monkeypatch.setattr(os, "kill", lambda pid, number: self.done.append((pid, number)))
        monkeypatch.setattr(orphan, "LOOK_SECONDS", 0)
        monkeypatch.setattr(orphan, "GRACE_SECONDS", 0)
        monkeypatch.setattr(orphan, "_cancelled", threading.Event())
        monkeypatch.setattr(orphan, "is_cancelled", self._is_cancelled)
        monkeypatch.setattr(orphan, "_say_cancelled", lambda run: self.says(run))

    def _parent(self) -> int:
        lives = self.done.count("lives") < self._looks
        self.done.append("lives" if lives else "gone")
        return WORKER if lives else INIT

    def _is_cancelled(self, run: UUID) -> bool:
        self.done.append("asked")
        return self.done.count("asked") == 2

    def _hears(self, run: UUID) -> None:
        self.done.append("said")


def test_it_asks_nothing_while_its_worker_lives_and_ends_once_it_was_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """X1, X3"""
    process = Process(monkeypatch, looks=3)
    orphan._listen(RUN, WORKER)
    ends = [(os.getpid(), signal.SIGTERM), "said", (os.getpid(), signal.SIGKILL)]
    assert process.done == ["lives", "lives", "lives", "gone", "asked", "gone", "asked", *ends]

    orphan.end_as_cancelled(None, type("Run", (), {"id": RUN}), None)
    assert process.done[-1] == "said", "what ends in time says so itself"


def test_it_ends_also_where_the_server_has_gone_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """X3"""
    process = Process(monkeypatch, looks=0)

    def gone(run: UUID) -> None:
        raise httpx.ConnectError("refused")

    process.says = gone
    with pytest.raises(httpx.ConnectError):
        orphan._listen(RUN, WORKER)
    assert process.done[-1] == (os.getpid(), signal.SIGKILL)


def test_a_crash_that_nobody_asked_for_stays_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch, looks=0)
    orphan.end_as_cancelled(None, type("Run", (), {"id": RUN}), None)
    assert process.done == []


def test_a_server_that_does_not_answer_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """X2, and W2 of runs that are overdue"""
    from prefect.client.schemas.objects import FlowRun
    from prefect.states import Running

    from tasks import overdue

    def refused(**_: object) -> None:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr("prefect.client.orchestration.get_client", refused)
    monkeypatch.setattr(overdue, "get_client", refused)
    assert orphan.is_cancelled(RUN) is False
    overdue.take_over_overdue(None, FlowRun(flow_id=uuid4(), deployment_id=uuid4()), Running())
