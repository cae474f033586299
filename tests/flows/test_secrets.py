"""What the environment of a run lacks comes from Prefect's Secret blocks, and stays in that environment (S1 to S3)."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from reopen.desk.session import open_session
from reopen.recover.watch.memory import Memory, remember
from tests.flows.scene import Scene, make_scene
from tests.notify.receivers import Receiver, running

FLOWS = Path(__file__).resolve().parent.parent.parent / "flows"

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def scene(tmp_path: Path, prefect_harness: None) -> Scene:
    return make_scene(tmp_path)


def test_a_channel_s_token_comes_from_a_block_and_the_environment_wins(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.blocks.system import Secret

    from flows.requests import SilentRequest
    from flows.silent import silent
    from tests.flows.observed import newest_flow_run

    Secret(value=SecretStr("from-the-block")).save("hook-token", overwrite=True)
    remember(
        open_session(scene.standby).settings.home, "production", Memory(looked_at=datetime(2026, 1, 1, tzinfo=UTC))
    )
    receiver = Receiver(200)
    with running(receiver):
        monkeypatch.setenv("REOPEN_NOTIFY__URLS", f"json://{receiver.host}/${{HOOK_TOKEN}}")
        # Empty is as good as not set, and puts it back afterwards.
        monkeypatch.setenv("HOOK_TOKEN", "")
        silent(SilentRequest(config=scene.standby))
        assert os.environ["HOOK_TOKEN"] == "from-the-block"
        monkeypatch.setenv("HOOK_TOKEN", "ours")
        silent(SilentRequest(config=scene.standby))
    assert [path.strip("/") for path in receiver.paths] == ["from-the-block", "ours"]
    assert "from-the-block" not in str(newest_flow_run("reopen").model_dump())


def test_no_flow_opens_its_session_without_looking_for_secrets() -> None:
    passing = [path.name for path in FLOWS.glob("*.py") if "desk.session import open_session" in path.read_text()]
    assert passing == []


def test_the_variables_that_may_be_secret_are_those_that_settings_contracts_and_stores_name(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.secrets import block_name, named_variables

    monkeypatch.setenv("REOPEN_NOTIFY__URLS", "slack://${SLACK_TOKEN}/x json://${HOST}/${SLACK_TOKEN}")
    monkeypatch.setenv("REOPEN_HEARTBEAT__WATCH", "${BEAT}")
    monkeypatch.setenv("REOPEN_SITES__STANDBY__VAULT", "sftp://host/vault")
    contract = scene.write_contract("ledger")
    support = "support:\n  - {channel: office, tool: webhook, url: 'https://hooks.example/${OWNER}'}\n"
    contract.write_text(contract.read_text() + support)
    wanted = {"SLACK_TOKEN", "HOST", "BEAT", "OWNER", "REOPEN_SFTP_PASSWORD"}
    assert set(named_variables(open_session(scene.standby))) == wanted
    contract.write_text("not a contract")
    assert set(named_variables(open_session(scene.standby))) == wanted - {"OWNER"}
    assert block_name("SLACK_TOKEN") == "slack-token"
