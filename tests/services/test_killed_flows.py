"""Flow processes that are killed (SIGKILL) in the middle of a move, one after the other, each followed by a new process
with an empty Prefect home, and the last by one with an empty Prefect database too: the epoch log alone goes on.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from reopen.cli.tree import app
from reopen.control.records import Epoch, Intent, Outcome, Promotion, Record, StepResult, Takeover
from reopen.control.rules import values
from reopen.desk.session import open_session
from reopen.protect.plan import plan_snapshot
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.snapshot import execute_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.recover.evidence import read_evidence
from reopen.storage import open_store
from tests.flows.scene import Scene, make_scene
from tests.proof import count

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS_MAX = 170
NAMES = ("ledger", "papers")


@pytest.fixture
def business(tmp_path: Path) -> Scene:
    """Production with a verified replica at the standby; both are there."""
    scene = make_scene(tmp_path)
    production = open_session(scene.production)
    for dataset in production.chosen(()):
        execute_snapshot(production.vault(), plan_snapshot(production.vault(), dataset, "production"))
    execute_replicate(plan_replicate(production.vault(), open_store(production.settings.standby.vault)))
    verify_vault(open_session(scene.standby).vault(), level=Level.STORED)
    return scene


def flow_process(
    scene: Scene, number: int, *arguments: str, dies: str = "", server: str = ""
) -> subprocess.CompletedProcess[str]:
    """A failover flow in a new process with a Prefect home that nobody has used; its database is that of ``server``,
    else an empty one of its own."""
    home = scene.folder / f"prefect-{number}"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**kept, "HOME": str(home), "PREFECT_HOME": str(home / "prefect")}
    if server:
        environment["PREFECT_API_URL"] = server
    started = ["-m", "tests.flows.dying", dies, "flows.failover"] if dies else ["-m", "flows.failover"]
    done = subprocess.run(
        [sys.executable, *started, "--config", str(scene.standby), *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False,
    )  # fmt: skip
    expected = -signal.SIGKILL if dies else 0
    assert done.returncode == expected, (done.returncode, done.stdout, done.stderr)
    return done


def run_to_its_end(scene: Scene, deaths: Sequence[str], *arguments: str, again: Sequence[str] = ()) -> str:
    """A move whose process dies at each of ``deaths`` in turn, and is then left alone; what the last one printed."""
    from prefect.settings import PREFECT_API_URL

    server = PREFECT_API_URL.value()
    assert server
    begun: Sequence[str] = arguments
    for number, death in enumerate(deaths):
        flow_process(scene, number, *begun, dies=death, server=server)
        count("flow processes killed in a move")
        begun = again
    return flow_process(scene, len(deaths), *again).stdout


def nothing_was_done_twice(scene: Scene, epoch: int) -> None:
    """No step that was done was begun again, every dataset was promoted once, and there was one epoch."""
    records = log_records(scene)
    done: set[tuple[str, str]] = set()
    for record in records:
        match record.value:
            case Intent() as intent:
                assert (intent.plan, intent.step) not in done, f"{intent.step} was done and begun again"
            case Outcome() as outcome if outcome.outcome.result is StepResult.DONE:
                done.add((outcome.plan, outcome.outcome.step))
    promoted = Counter(member.dataset for value in values(records, Promotion) if value.epoch == epoch
                       for member in value.members)  # fmt: skip
    assert promoted == dict.fromkeys(NAMES, 1)
    assert [value.epoch for value in values(records, Epoch)] == list(range(1, epoch + 1))


def log_records(scene: Scene) -> tuple[Record, ...]:
    log = open_session(scene.standby).log
    assert log is not None
    return log.records()


def files(scene: Scene, site: str) -> dict[str, dict[str, str]]:
    return {
        name: {path.name: path.read_text() for path in sorted((scene.folder / site / "data" / name).iterdir())}
        for name in NAMES
    }


def test_a_failover_whose_flow_processes_are_killed_is_ended_by_one_that_knows_the_log_only(
    business: Scene, prefect_harness: None
) -> None:
    expected = files(business, "production")
    shutil.rmtree(business.folder / "production")

    printed = run_to_its_end(
        business,
        ["after:outcome:fence", "middle:restore:ledger", "after:promotion:ledger"],
        "--reason", "the site burnt down", "--assert-fenced", "it is ashes",
    )  # fmt: skip

    assert "standby is the primary, epoch 1" in printed
    assert files(business, "standby") == expected
    nothing_was_done_twice(business, 1)
    takeovers = list(values(log_records(business), Takeover))
    assert len(takeovers) == 4, "each process took over by the log"
    [evidence] = read_evidence(open_store(str(business.folder / "standby/control")))
    assert evidence.evidence.resumed
    assert {entry["step"] for entry in evidence.evidence.unsettled} == {"restore:ledger", "promote:ledger"}


@pytest.mark.soak
def test_a_failback_whose_flow_processes_are_killed_is_ended_by_one_that_knows_the_log_only(
    business: Scene, prefect_harness: None
) -> None:
    from typer.testing import CliRunner

    for arguments in (
        ["failover", "--reason", "fire", "--assert-fenced", "ashes"],
        ["commit", "--reason", "it runs"],
    ):
        done = CliRunner().invoke(app, ["--config", str(business.standby), *arguments])
        assert done.exit_code == 0, (done.stdout, done.stderr)
    (business.folder / "standby/data/ledger/0.txt").write_text("written at the standby")
    expected = files(business, "standby")

    fenced = ("--assert-fenced", "we hold the writers")
    printed = run_to_its_end(
        business,
        ["before:outcome:final-sync:ledger", "after:outcome:fence", "after:promotion:ledger"],
        "--failback", "--reason", "rebuilt", *fenced,
        again=["--failback", *fenced],
    )  # fmt: skip

    assert "production is the primary, epoch 2" in printed
    assert files(business, "production") == expected
    nothing_was_done_twice(business, 2)
    newest = read_evidence(open_store(str(business.folder / "standby/control")))[-1].evidence
    assert (newest.scenario, newest.resumed) == ("failback", True)
