"""``--flow`` hands a request to the flow, and shows what it returns as the command shows its own result."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reopen.errors import ReopenError
from reopen.protect.verify.verify import Finding, Level, VerifyResult
from tasks import environment, watching
from tests.cli.place import Place

ROOT = Path(__file__).resolve().parents[2]

RESULT = VerifyResult(
    level=Level.STORED, checked_objects=3, checked_bytes=10, findings=(), snapshots=(), facts=0, seconds=0.5
)


class BadFinding(ReopenError):
    """As the flows raise it: the run failed, and carries what it found."""

    def __init__(self, result: VerifyResult) -> None:
        super().__init__("1 finding")
        self.result = result


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], None]:
    """Puts a function in the place of ``flows.verify.verify``; its request is a bag of fields."""

    def install(flow: Callable[[Any], Any]) -> None:
        modules: dict[str, object] = {
            "flows.requests": SimpleNamespace(VerifyRequest=lambda **fields: SimpleNamespace(**fields)),
            "flows.verify": SimpleNamespace(verify=flow),
            "tasks.environment": environment,
            "tasks.watching": watching,
        }
        monkeypatch.setattr(importlib, "import_module", modules.__getitem__)

    return install


def test_the_flow_gets_what_was_asked_for_and_its_result_is_the_answer(
    place: Place, stand_in: Callable[[Callable[[Any], Any]], None]
) -> None:
    place.run("snapshot")
    asked: list[Any] = []

    def flow(request: Any) -> VerifyResult:
        asked.append(request)
        return RESULT

    stand_in(flow)
    found = place.json("verify", "papers", "--level", "stored", "--sample", "5%", "--flow")
    assert (found["schema"], found["checked_bytes"], found["ok"]) == ("reopen.verify/1", 10, True)
    [request] = asked
    assert (request.datasets, request.level, request.config) == (("papers",), "stored", place.folder / "reopen.toml")
    assert request.sample_percent == 5


def test_a_flow_whose_finding_is_bad_exits_with_3_and_shows_it(
    place: Place, stand_in: Callable[[Callable[[Any], Any]], None]
) -> None:
    place.run("snapshot")
    finding = Finding(object="packs/ab/cd", status="missing", detail="it is gone")

    def flow(request: Any) -> VerifyResult:
        raise BadFinding(
            VerifyResult(
                level=Level.STORED,
                checked_objects=3,
                checked_bytes=10,
                findings=(finding,),
                snapshots=(),
                facts=0,
                seconds=0.5,
            )
        )

    stand_in(flow)
    assert "packs/ab/cd" in place.run("verify", "--flow", code=3).stdout


def test_an_error_inside_a_flow_is_the_command_s_error(
    place: Place, stand_in: Callable[[Callable[[Any], Any]], None]
) -> None:
    place.run("snapshot")

    def flow(request: Any) -> VerifyResult:
        from reopen.errors import Corrupt

        raise Corrupt("vault.json is damaged.")

    stand_in(flow)
    assert place.json("verify", "--flow", code=5)["error"]["kind"] == "corrupt"


def test_a_flow_that_cannot_be_imported_is_refused_with_the_way_out(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    error = place.json("snapshot", "--flow", code=7)["error"]
    assert "leave out --flow" in error["hint"]


def test_every_field_that_the_command_hands_over_is_one_that_the_request_has() -> None:
    """Asked in a process of its own, because importing the flows prepares the environment for Prefect."""
    code = (
        "import json\nfrom flows import requests as r\n"
        "print(json.dumps({n: list(c.model_fields) for n, c in vars(r).items() if n.endswith('Request')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    known = json.loads(done.stdout)
    handed = {
        "SnapshotRequest": {"config", "datasets", "workers", "vault"},
        "VerifyRequest": {"config", "datasets", "level", "latest_only", "vault"},
        "DrillRequest": {"config", "datasets", "tier", "point", "assumed_detection", "vault"},
        "FailoverRequest": {
            "config", "datasets", "reason", "point", "source", "to", "failed_at", "assert_fenced", "accept_risk", "by",
            "vault",
        },
    }  # fmt: skip
    for name, fields in handed.items():
        assert fields <= set(known[name]), name
