"""A recovery ends, and in time, whatever becomes of those who are told; and its evidence says what became of them."""

from __future__ import annotations

import socket
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.clock import SYSTEM_CLOCK
from reopen.config.model import Notify
from reopen.notify.channels import AppriseNotifier
from reopen.recover import messages
from reopen.recover.evidence import read_evidence
from reopen.storage.local import LocalStore
from tests.notify.receivers import Receiver, running
from tests.recover.business import FakeVerbs, context_of, fail_over

# Apprise's loader imports a module that Python 3.11 marks as deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def test_failing_hanging_and_unreachable_channels_do_not_stop_a_failover_and_stand_in_its_evidence(
    tmp_path: Path,
) -> None:
    good, failing, hanging = Receiver(200), Receiver(500), Receiver(200)
    hanging.open.clear()
    with running(good), running(failing), running(hanging), socket.socket() as refused:
        refused.bind(("127.0.0.1", 0))  # Bound and not listening: a connection is refused.
        urls = [f"json://{server.host}/" for server in (hanging, failing, good)]
        urls += [f"json://127.0.0.1:{refused.getsockname()[1]}/", "carrierpigeon://x", "slack://${NOT_SET_ANYWHERE}"]
        notify = AppriseNotifier(Notify(urls=tuple(urls), timeout=timedelta(seconds=1)))
        store, began = LocalStore(tmp_path), SYSTEM_CLOCK.elapsed_seconds()

        result = fail_over(store, context_of(FakeVerbs(), notify=notify))

    assert result.verdict == "met"
    assert SYSTEM_CLOCK.elapsed_seconds() - began < messages.COLLECT_SECONDS_MAX
    assert good.received[0]["title"] == "production is lost: standby takes over"
    told: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for item in read_evidence(store):
        for delivery in item.evidence.messages:
            told[str(delivery["channel"])][str(delivery["status"])] += 1
    notices = len(good.received)
    assert told[f"json://{good.host}/"] == {"sent": notices}
    assert told[f"json://{failing.host}/"] == {"failed": notices}
    assert told[f"json://{hanging.host}/"] == {"unconfirmed": 1, "failed": notices - 1}
    assert told["notify.urls[5]"] == told["notify.urls[6]"] == {"failed": notices}
    assert told["on call (phone)"].keys() == {"failed"}, "an owner who has a telephone only"
