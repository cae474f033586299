"""Notices reach real HTTP channels, and no failing one stops anything (N1, N2)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from reopen.notify.channels import AppriseNotifier
from reopen.recover.context import Notice

# Apprise's loader imports a module that Python 3.11 marks as deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOTICE = Notice(event="objective-missed", fields={"dataset": "orders", "target_site": "standby", "verdict": "missed"})


class Receiver(HTTPServer):
    """A channel on loopback that answers each call with the next status of its script."""

    def __init__(self, *script: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = list(script)
        self.received: list[dict[str, str]] = []

    @property
    def apprise_url(self) -> str:
        return f"json://anna:hunter2secret@127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(self.server.script.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing on the tests' terminal."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver(200)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_notice_reaches_its_channel_with_subject_and_text(receiver: Receiver) -> None:
    (delivery,) = AppriseNotifier([receiver.apprise_url])(NOTICE)

    assert (delivery.event, delivery.status, delivery.attempts) == ("objective-missed", "sent", 1)
    assert receiver.received[0]["title"] == "orders at standby: missed"
    assert "(objective $rto)" in receiver.received[0]["message"], "an unknown field stays visible"


def test_a_channel_that_fails_once_is_tried_again(receiver: Receiver) -> None:
    receiver.script = [503, 200]

    (delivery,) = AppriseNotifier([receiver.apprise_url])(NOTICE)

    assert (delivery.status, delivery.attempts) == ("sent", 2)


def test_a_channel_that_keeps_failing_is_recorded_and_the_next_one_is_served(receiver: Receiver) -> None:
    receiver.script = [503, 503, 200]
    url = receiver.apprise_url

    first, second = AppriseNotifier([url, url])(NOTICE)

    assert (first.status, first.attempts, first.error) == ("failed", 2, "the service did not take it")
    assert second.status == "sent"


def test_no_delivery_shows_a_token(receiver: Receiver) -> None:
    (delivery,) = AppriseNotifier([receiver.apprise_url])(NOTICE)

    assert "127.0.0.1" in delivery.channel
    assert "hunter2secret" not in repr(delivery)


def test_a_url_that_nobody_understands_is_a_failed_delivery_without_its_text() -> None:
    (delivery,) = AppriseNotifier(["carrierpigeon://hunter2secret"])(NOTICE)

    assert (delivery.status, delivery.attempts, delivery.channel) == ("failed", 0, "channel 1")
    assert "hunter2secret" not in repr(delivery)


def test_without_channels_nobody_is_told_and_nothing_is_imported() -> None:
    assert AppriseNotifier([])(NOTICE) == ()
