"""Notices reach real HTTP and mail channels, and no failing, hanging or missing one stops anything (N1 to N3)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage

import pytest

from reopen.clock import SYSTEM_CLOCK
from reopen.config.model import EventChannels, Notify
from reopen.notify.channels import HUNG_SECONDS, AppriseNotifier
from reopen.recover.context import Delivery, Notice
from reopen.recover.plan import Contact
from tests.notify.receivers import MailServer, Receiver, running

# Apprise's loader imports a module that Python 3.11 marks as deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOTICE = Notice(event="objective-missed", fields={"dataset": "orders", "target_site": "standby", "verdict": "missed"})
TIMEOUT = timedelta(seconds=5)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver(200)
    with running(server):
        yield server


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer()
    with running(server):
        yield server


def tell(*urls: str, notice: Notice = NOTICE, **settings: object) -> tuple[Delivery, ...]:
    return AppriseNotifier(Notify(urls=urls, timeout=TIMEOUT, **settings))(notice)  # type: ignore[arg-type]


def test_a_notice_reaches_its_channel_with_subject_and_text(receiver: Receiver) -> None:
    (delivery,) = tell(receiver.apprise_url)

    assert (delivery.event, delivery.status, delivery.attempts) == ("objective-missed", "sent", 1)
    assert delivery.audience == "everybody"
    assert receiver.received[0]["title"] == "orders at standby: missed"
    assert "(objective $rto)" in receiver.received[0]["message"], "an unknown field stays visible"


def test_a_channel_that_fails_once_is_tried_again(receiver: Receiver) -> None:
    receiver.script = [503, 200]

    (delivery,) = tell(receiver.apprise_url)

    assert (delivery.status, delivery.attempts) == ("sent", 2)


def test_a_channel_that_keeps_failing_is_recorded_with_the_answer_and_the_next_one_is_served(
    receiver: Receiver,
) -> None:
    receiver.script = [503]
    good = Receiver(200)
    with running(good):
        first, second = tell(receiver.apprise_url, good.apprise_url)

    assert (first.status, first.attempts, first.error) == ("failed", 2, "the service answered 503")
    assert len(receiver.received) == 2
    assert second.status == "sent"


def test_a_network_that_cannot_be_reached_is_a_failed_delivery() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound and not listening: a connection is refused.
        (delivery,) = tell(f"json://127.0.0.1:{taken.getsockname()[1]}/")

    assert (delivery.status, delivery.error) == ("failed", "the service could not be reached")


def test_a_channel_that_hangs_holds_nobody_up_and_is_left_out_of_the_next_notice(receiver: Receiver) -> None:
    receiver.open.clear()
    good = Receiver(200)
    notifier = AppriseNotifier(Notify(urls=(receiver.apprise_url, good.apprise_url), timeout=timedelta(seconds=0.5)))
    with running(good):
        began = SYSTEM_CLOCK.elapsed_seconds()
        hung, served = notifier(NOTICE)
        again, served_again = notifier(NOTICE)
        took = SYSTEM_CLOCK.elapsed_seconds() - began

    assert (hung.status, hung.error) == ("unconfirmed", "no answer within 0.5s")
    assert (served.status, served_again.status) == ("sent", "sent")
    assert (again.status, again.attempts) == ("failed", 0)
    assert "left out" in again.error
    assert took < HUNG_SECONDS / 4


def test_an_owner_gets_mail_through_the_server_of_the_settings(
    mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_SENDER", "reopen@example.org")
    owner = Contact(name="sales", tool="email", url="mailto:on+call@example.org")
    notice = Notice(event=NOTICE.event, fields=NOTICE.fields, contacts=(owner, owner))

    (delivery,) = tell(notice=notice, mail=f"mailto://{mail.host}?from=${{MAIL_SENDER}}")

    assert (delivery.status, delivery.audience) == ("sent", "sales")
    ((recipients, message),) = mail.mails
    assert recipients == ["on+call@example.org"]
    assert "orders at standby: missed" in message["subject"]
    assert "reopen@example.org" in message["from"]
    assert isinstance(message, EmailMessage)
    body = message.get_body(("plain",))
    assert body is not None
    assert "Data lost: $rpa" in body.get_content()


def test_a_webhook_of_a_contract_is_sent_json_and_its_secret_comes_from_the_environment(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", "T1/s3cr3tpath")
    owner = Contact(name="ops", tool="", url=f"http://{receiver.host}/${{HOOK}}")

    (delivery,) = tell(notice=Notice(event=NOTICE.event, fields=NOTICE.fields, contacts=(owner,)))

    assert delivery.status == "sent"
    assert receiver.paths == ["/T1/s3cr3tpath"]
    assert "s3cr3tpath" not in repr(delivery)


def test_only_the_channels_of_an_event_are_told_where_the_settings_say_so(receiver: Receiver) -> None:
    owner = Contact(name="ops", tool="", url=f"http://{receiver.host}/owner")
    notice = Notice(event=NOTICE.event, fields=NOTICE.fields, contacts=(owner,))
    here = f"json://{receiver.host}/special"

    sent = tell(receiver.apprise_url, notice=notice, events={NOTICE.event: EventChannels(urls=(here,), only=True)})

    assert [delivery.audience for delivery in sent] == ["told of objective-missed"]
    assert receiver.paths == ["/special"]


def test_no_delivery_shows_a_token(receiver: Receiver) -> None:
    (delivery,) = tell(receiver.apprise_url + "path-token?+X-Key=header-token")

    assert receiver.host in delivery.channel
    assert not [secret for secret in ("hunter2secret", "path-token", "header-token") if secret in repr(delivery)]


def test_a_url_that_nobody_understands_is_a_failed_delivery_without_its_text() -> None:
    (delivery,) = tell("carrierpigeon://hunter2secret")

    assert (delivery.status, delivery.attempts, delivery.channel) == ("failed", 0, "notify.urls[1]")
    assert "hunter2secret" not in repr(delivery)


def test_what_apprise_logs_of_a_failure_does_not_reach_the_terminal(
    receiver: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver.script = [500]

    tell(receiver.apprise_url, "carrierpigeon://hunter2secret")

    assert capfd.readouterr() == ("", "")


def test_without_channels_nobody_is_told_and_nothing_is_imported() -> None:
    assert tell() == ()
