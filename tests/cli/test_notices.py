"""``notify show`` and ``notify test``: who is told of what, and whether it reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.place import Place
from tests.notify.receivers import Receiver, running

# Apprise's loader imports a module that Python 3.11 marks as deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver(200)
    with running(server):
        yield server


@pytest.fixture
def told(tmp_path: Path, receiver: Receiver) -> Place:
    """A place in which everybody, one event and an owner have a channel each."""
    place = Place(folder=tmp_path)
    place.run("init")
    place.contract("papers")
    contract = tmp_path / "data_contracts/papers.odcs.yaml"
    support = f"support:\n  - {{channel: desk, tool: webhook, url: 'http://{receiver.host}/owner'}}\n"
    contract.write_text(contract.read_text() + support)
    file = tmp_path / "reopen.toml"
    settings = file.read_text().replace("urls = []", f'urls = ["json://{receiver.host}/all"]', 1)
    settings = settings.replace(
        '# tier-restored = "off"', f'tier-restored = "off"\ndeclared = ["json://{receiver.host}/declared"]'
    )
    file.write_text(settings)
    return place


def test_a_test_reaches_every_channel_also_that_of_one_event(told: Place, receiver: Receiver) -> None:
    found = told.json("notify", "test")

    assert [delivery["status"] for delivery in found["deliveries"]] == ["sent"] * 3
    assert sorted(receiver.paths) == ["/all", "/declared", "/owner"]
    assert receiver.received[0]["title"] == "Test: production can tell you"


def test_a_test_of_an_event_goes_to_those_who_would_be_told_of_it(told: Place, receiver: Receiver) -> None:
    told.run("notify", "test", "--event", "drill-result")

    assert sorted(receiver.paths) == ["/all", "/owner"]
    assert all(message["title"].startswith("TEST, nothing happened: ") for message in receiver.received)


def test_a_test_of_an_event_that_is_off_says_that_nobody_is_told(told: Place) -> None:
    assert "Nobody is told" in told.run("notify", "test", "--event", "tier-restored").stdout


def test_a_channel_that_fails_is_a_negative_finding(told: Place, receiver: Receiver) -> None:
    receiver.script = [500]

    ran = told.run("notify", "test", code=3)

    assert "the service answered 500" in ran.stdout
    assert "0 of 3 channels took it." in ran.stdout


def test_the_list_says_who_is_told_of_what_and_sends_nothing(told: Place, receiver: Receiver) -> None:
    found = told.json("notify", "show")

    everybody, declared, owner = sorted(found["channels"], key=lambda channel: str(channel["audience"]) != "everybody")
    assert "tier-restored" not in everybody["events"]
    assert declared["events"] == ["declared"]
    assert owner["datasets"] == ["papers"]
    assert found["events"]["tier-restored"] == "Tier <tier> at <target site>: <verdict>"
    assert receiver.paths == []


def test_an_owner_who_cannot_be_reached_is_shown(told: Place) -> None:
    contract = told.folder / "data_contracts/papers.odcs.yaml"
    contract.write_text(contract.read_text().replace("http://", "mailto:"))

    ran = told.run("notify", "show", code=3)

    assert "the settings name no mail server" in ran.stdout


def test_an_event_that_is_none_is_refused_with_those_that_are(told: Place) -> None:
    ran = told.run("notify", "test", "--event", "party", code=2)

    assert "tier-restored" in ran.stderr
