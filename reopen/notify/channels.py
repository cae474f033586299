"""Owns the sending of notices over Apprise (Slack, mail, webhook, and some hundred more), one delivery a channel.

Invariants
    N1  A channel that fails stops nothing: it is tried once more, and what became of it is in the delivery.
    N2  No delivery, log line or error shows a token: channels are named by Apprise's own masked form.

Apprise is imported on the first notice: it costs half a second, and a recovery sends from a thread of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reopen.notify.words import render
from reopen.recover.context import Delivery, Notice

ATTEMPTS_MAX = 2
"""The first, and one retry. More would only delay the next notice: the failed one is recorded and shown."""


class AppriseNotifier:
    """Sends each notice to every configured channel.

    :param urls: Apprise URLs, as the settings have them. One that Apprise cannot read is a failed delivery each time,
        and not an error: a typing mistake in a channel must not stop a recovery.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = tuple(urls)

    def __call__(self, notice: Notice) -> tuple[Delivery, ...]:
        if not self._urls:
            return ()
        subject, text = render(notice)
        return tuple(
            self._deliver(notice.event, number, url, subject, text) for number, url in enumerate(self._urls, start=1)
        )

    def _deliver(self, event: str, number: int, url: str, subject: str, text: str) -> Delivery:
        channel = _channel(url)
        if channel is None:
            name, problem = f"channel {number}", "Apprise does not know this kind of URL"
            return Delivery(event=event, channel=name, status="failed", attempts=0, error=problem)
        name, error = str(channel.url(privacy=True)), ""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                if channel.notify(body=text, title=subject):
                    return Delivery(event=event, channel=name, status="sent", attempts=attempt)
                error = "the service did not take it"
            except Exception as failure:  # noqa: BLE001 - N1: plugins raise what their libraries raise.
                # Only the kind of the failure: its text may quote the URL, and so a token (N2).
                error = type(failure).__name__
        return Delivery(event=event, channel=name, status="failed", attempts=ATTEMPTS_MAX, error=error)


def _channel(url: str) -> Any:
    from apprise import Apprise

    return Apprise.instantiate(url, suppress_exceptions=True)
