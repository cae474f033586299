"""``reopen ready`` and ``reopen watch`` over a real place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.config import load_settings
from reopen.desk.readiness import assess_site, tell_unready
from reopen.desk.session import Session
from reopen.notify.tried import remember_tried
from reopen.recover.context import Delivery, Notice
from tests.cli.place import Place
from tests.faults.scripts import JumpingClock

# Apprise imports it to look at attachments, which we have none of.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def standby(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The site that watches and would take over, with a verified replica."""
    place.run("snapshot")
    place.run("replicate")
    monkeypatch.setenv("REOPEN_SITE", "standby")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    place.run("verify", "--level", "stored")
    return place


def checks(found: Any) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in found["checks"]}


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_site_that_could_take_over_is_ready_and_left_as_it_was(standby: Place) -> None:
    before = tree(standby.folder)

    found = standby.json("ready")

    assert tree(standby.folder) == before
    assert (found["ok"], found["site"], found["verdict"]) == (True, "standby", "warn")
    warned = {name for name, verdict in checks(found).items() if verdict == "warn"}
    assert warned == {"versions", "watch", "observer", "channels", "vault-delete", "proven", "drill"}
    assert {check["area"] for check in found["checks"]} == {
        "software", "connectivity", "security", "capacity", "freshness", "drift",
    }  # fmt: skip


def test_a_site_without_its_replica_or_its_key_is_not_ready(standby: Place) -> None:
    (key,) = (standby.folder / ".reopen/keys").glob("recovery*.key")
    key.rename(standby.folder / "elsewhere.key")
    found = standby.json("ready", code=3)
    assert checks(found)["recovery-key"] == "fail"
    assert found["ok"] is False

    shutil.rmtree(standby.folder / ".reopen/standby/vault")
    found = standby.json("ready", code=3)
    assert checks(found)["vault"] == "fail"
    assert checks(found)["plan"] == "fail"
    assert "could NOT take over now" in standby.run("ready", code=3).stdout


def test_what_stands_still_and_nobody_would_notice_is_warned_of(
    standby: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outside observer, the kit at the standby, and a look that is made from elsewhere."""
    stored = standby.folder / ".reopen/standby/control/kit.zip"
    assert checks(standby.json("ready"))["kit"] == "ok"
    stored.write_bytes(b"no kit")
    monkeypatch.setenv("REOPEN_HEARTBEAT__WATCH", "http://127.0.0.1:9/ping")
    found = standby.json("ready")
    assert (checks(found)["kit"], checks(found)["observer"], checks(found)["place"]) == ("warn", "ok", "ok")
    (kit,) = [check for check in found["checks"] if check["name"] == "kit"]
    assert "reopen kit --store" in kit["what_to_do"]
    monkeypatch.setenv("REOPEN_SITE", "production")
    found = standby.json("ready")
    assert checks(found)["place"] == "warn"
    assert "observer" not in checks(found), "that is the standby's own matter"
    stored.unlink()
    first = standby.run("ready").stdout.splitlines()[2]
    assert "warn" in first, "what somebody has to do stands first"


def test_a_primary_that_is_gone_leaves_the_lag_unknown(standby: Place) -> None:
    shutil.rmtree(standby.folder / ".reopen/vault")

    found = standby.json("ready")

    (replication,) = [check for check in found["checks"] if check["name"] == "replication"]
    assert replication["verdict"] == "warn"
    assert replication["value"].startswith("unknown: the vault of production was not read")


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing on the terminal."""


@pytest.fixture
def orchestrator() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Healthy)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_orchestrator_is_asked_and_missed_by_nobody(
    standby: Place, orchestrator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", orchestrator)
    assert checks(standby.json("ready"))["orchestrator"] == "ok"

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    found = standby.json("ready")
    assert checks(found)["orchestrator"] == "warn"
    assert found["ok"] is True


def test_channels_are_asked_without_sending_and_a_test_is_sent_when_wanted(
    standby: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REOPEN_NOTIFY__URLS", "json://127.0.0.1:9/hook")
    (never,) = [check for check in standby.json("ready")["checks"] if check["name"] == "channel"]
    assert (never["verdict"], "never tried from this site" in never["value"]) == ("warn", True)
    remember_tried(
        standby.folder / ".reopen",
        [Delivery(event="test", channel=never["value"].partition(": ")[0], status="sent", attempts=1)],
        SYSTEM_CLOCK.now(),
    )
    assert checks(standby.json("ready"))["channel"] == "ok"

    assert checks(standby.json("ready", "--send-test"))["channel"] == "warn", "no recovery waits for a channel"


def test_a_site_that_does_not_exist_is_an_error(standby: Place) -> None:
    assert "production, standby" in standby.run("ready", "--site", "moon", code=4).stderr


def test_the_watch_sees_a_primary_alive_then_failing_then_back(standby: Place) -> None:
    found = standby.json("watch", "--once")
    assert (found["ok"], found["state"], found["signals"]) == (True, "alive", [])
    assert checks(standby.json("ready"))["watch"] == "ok"

    (standby.folder / "data").rename(standby.folder / "gone")
    found = standby.json("watch", "--once", code=3)
    assert (found["state"], found["failures"]) == ("failing", 1)
    assert [signal["sign"] for signal in found["signals"]] == ["site.unreachable"]
    assert "data:papers" in found["problem"]

    (standby.folder / "gone").rename(standby.folder / "data")
    found = standby.json("watch", "--once")
    assert [signal["sign"] for signal in found["signals"]] == ["site.returned"]


def test_people_are_told_of_a_watch_that_fell_silent_and_of_none_that_never_was(
    standby: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Notice] = []

    class Teller:
        def __init__(self, *_: object, **__: object) -> None:
            """Whom it would tell does not matter here."""

        def __call__(self, notice: Notice) -> tuple[Delivery, ...]:
            told.append(notice)
            return ()

    monkeypatch.setattr("reopen.desk.readiness.AppriseNotifier", Teller)
    later = JumpingClock(0, timedelta(hours=1))

    def look(clock: Clock) -> list[str]:
        told.clear()
        session = Session(load_settings(standby.folder / "reopen.toml"), clock=clock)
        tell_unready(session, assess_site(session))
        return [notice.event for notice in told]

    assert "watch-silent" not in look(later)
    standby.run("watch", "--once", "--no-tell")
    assert "watch-silent" not in look(SYSTEM_CLOCK)
    assert "watch-silent" in look(later)


def test_the_watch_loses_a_primary_and_says_why_nothing_goes_by_itself(
    standby: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REOPEN_WATCH__FAILURES", "1")
    standby.run("watch", "--once")
    shutil.rmtree(standby.folder / "data")
    shutil.rmtree(standby.folder / ".reopen/vault")

    found = standby.json("watch", "--once", code=3)

    assert found["state"] == "lost"
    assert found["automatic_failover"]["by_itself"] is False
    assert "split brain" in found["automatic_failover"]["why"]
    (signal,) = found["signals"]
    assert signal["sign"] == "site.lost"
    assert signal["payload"]["target"] == "standby"
    assert any(note.startswith("How far the replica is behind is unknown") for note in found["notes"])


def test_a_contract_that_somebody_spoilt_does_not_blind_the_watch(standby: Place) -> None:
    (standby.folder / "data_contracts/papers.odcs.yaml").write_text("id: [")

    found = standby.json("watch", "--once", code=3)

    assert found["state"] == "alive"
    assert [place["place"] for place in found["places"]] == ["vault"]
    assert any("only the vault of production is watched" in note for note in found["notes"])
    shutil.rmtree(standby.folder / ".reopen/vault")
    found = standby.json("watch", "--once", code=3)
    assert [signal["sign"] for signal in found["signals"]] == ["site.unreachable"], "and it is told all the same"
    assert standby.run("ready", code=3).stdout


def test_the_primary_watches_nobody(place: Place) -> None:
    assert place.json("watch", "--once")["watched"] is None
    assert "--once looks once" in place.run("watch", "--once", "--every", "30s", code=2).stderr


def test_a_failover_goes_by_itself_only_with_a_fence_that_enforces_and_contracts_that_allow_it(standby: Place) -> None:
    from reopen.desk.recovery import Wish, plan_wish
    from reopen.desk.session import open_session

    settings, contract = standby.folder / "reopen.toml", standby.folder / "data_contracts/papers.odcs.yaml"
    written, described = settings.read_text(), contract.read_text()

    def asking(*, automatic: bool = True) -> tuple[str, ...]:
        return plan_wish(open_session(settings), Wish(automatic=automatic)).approvals

    assert asking(automatic=False) == ()
    assert asking() == ("papers",)
    contract.write_text(described + "  - {property: automaticFailover, value: true, vendor: reopen}\n")
    assert asking() == ("papers",), "two sites, and nobody can be sure"
    settings.write_text(written + '\n[sites.production.hooks.fence]\ncommand = ["true"]\nenforces = true\n')
    assert asking() == ()
    assert standby.json("watch", "--once")["automatic_failover"]["by_itself"] is True
    contract.write_text(described)
    assert asking() == ("papers",)
