"""Owns the sending of notices over Apprise (Slack, mail, webhook, and some hundred more), one delivery a channel.

Invariants
    N1  A channel that fails stops nothing: it is tried once more, and what became of it is in the delivery.
    N2  No delivery, log line or error shows a token: channels are named by Apprise's own masked form, those whose
        address is their secret by their host.
    N3  A notice takes no longer than the time-out of the settings, however many channels hang: they are told side by
        side. A channel that hung is left out for a minute, so that it does not hold up the notices that follow.

Apprise is imported on the first notice: it costs half a second, and a recovery sends from a thread of its own.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.config.model import Notify
from reopen.notify.routes import Route, routes_of
from reopen.notify.words import render
from reopen.recover.context import Delivery, Notice

ATTEMPTS_MAX = 2
"""The first, and one retry. More would only delay the next notice: the failed one is recorded and shown."""
HUNG_SECONDS = 60.0
"""How long a channel that did not answer in time is left out: longer than a tier takes, shorter than a failover."""
_BARE_HOOKS = ("NotifyJSON", "NotifyXML", "NotifyForm")
"""Apprise's plain webhooks: whatever is secret of them stands in the path, which Apprise does not mask."""


class AppriseNotifier:
    """Sends each notice to the channels that the settings and the contracts name for it.

    One that Apprise cannot read is a failed delivery each time, and not an error: a typing mistake in a channel must
    not stop a recovery.
    """

    def __init__(self, settings: Notify, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self._hung: dict[str, float] = {}

    def __call__(self, notice: Notice) -> tuple[Delivery, ...]:
        routes = routes_of(self._settings, notice.event, notice.contacts)
        return self.send(notice, routes) if routes else ()

    def send(self, notice: Notice, routes: Sequence[Route]) -> tuple[Delivery, ...]:
        """Send a notice to these channels and to no other; one delivery each, in their order."""
        subject, text = render(notice)
        _load()
        limit = self._clock.elapsed_seconds() + self._settings.timeout.total_seconds()
        calls = [self._begin(notice.event, route, subject, text) for route in routes]
        return tuple(
            call if isinstance(call, Delivery) else self._await(notice.event, route, call, limit)
            for route, call in zip(routes, calls, strict=True)
        )

    def _begin(self, event: str, route: Route, subject: str, text: str) -> Delivery | SimpleQueue[Delivery]:
        """Start to tell a channel; the delivery at once where there is nothing to wait for."""
        if route.problem:
            return _failed(event, route, route.name, route.problem)
        until = self._hung.get(route.url, 0.0)
        if until > self._clock.elapsed_seconds():
            return _failed(event, route, masked_name(route), "it did not answer the last time, and is left out for now")
        answer: SimpleQueue[Delivery] = SimpleQueue()
        # A daemon: a channel that never answers must not keep the process alive.
        threading.Thread(
            target=lambda: answer.put(_deliver(event, route, subject, text)), name="channel", daemon=True
        ).start()
        return answer

    def _await(self, event: str, route: Route, answer: SimpleQueue[Delivery], limit: float) -> Delivery:
        try:
            return answer.get(timeout=max(0.001, limit - self._clock.elapsed_seconds()))
        except Empty:
            self._hung[route.url] = self._clock.elapsed_seconds() + HUNG_SECONDS
            text = f"no answer within {self._settings.timeout.total_seconds():g}s"
            return Delivery(
                event=event, channel=masked_name(route), status="unconfirmed", attempts=1, error=text,
                audience=route.audience,
            )  # fmt: skip


def masked_name(route: Route) -> str:
    """What a channel is called where people see it (N2)."""
    channel = _channel(route.url) if route.url else None
    if channel is None:
        return route.name
    # What stands after the question mark are options, and headers among them.
    masked = str(channel.url(privacy=True)).partition("?")[0]
    if type(channel).__name__ in _BARE_HOOKS:
        port = f":{channel.port}" if channel.port else ""
        return f"{masked.partition('://')[0]}://{channel.host}{port}/"
    return masked


def _deliver(event: str, route: Route, subject: str, text: str) -> Delivery:
    try:
        service = _service(route.url)
        if service is None:
            return _failed(event, route, route.name, "Apprise does not know this kind of URL")
        name, error = masked_name(route), ""
    except Exception as failure:  # noqa: BLE001 - N1: plugins raise what their libraries raise.
        return _failed(event, route, route.name, f"Apprise cannot read its URL ({type(failure).__name__})")
    for attempt in range(1, ATTEMPTS_MAX + 1):
        with _Overheard() as overheard:
            try:
                if service.notify(body=text, title=subject, body_format="text"):
                    return Delivery(event=event, channel=name, status="sent", attempts=attempt, audience=route.audience)
                error = overheard.reason()
            except Exception as failure:  # noqa: BLE001 - N1, as above.
                # Only the kind of the failure: its text may quote the URL, and so a token (N2).
                error = type(failure).__name__
    return _failed(event, route, name, error, attempts=ATTEMPTS_MAX)


def _failed(event: str, route: Route, name: str, error: str, *, attempts: int = 0) -> Delivery:
    return Delivery(event=event, channel=name, status="failed", attempts=attempts, error=error, audience=route.audience)


class _Overheard(logging.Handler):
    """What Apprise logs in this thread: it tells there, and only there, why a service did not take a notice.

    Of its text only a status code, or that nobody was reached, is passed on (N2).
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._thread = threading.get_ident()
        self._texts: list[str] = []

    def __enter__(self) -> _Overheard:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text of this thread's records."""
        if record.thread == self._thread:
            self._texts.append(record.getMessage())

    def reason(self) -> str:
        """Why it was not taken, without anything that might be secret."""
        text = "\n".join(self._texts)
        if status := re.search(r"error[=: ]+(\d{3})\b", text):
            return f"the service answered {status[1]}"
        if re.search(r"connection error|socket error|error occurred sending", text, re.IGNORECASE):
            return "the service could not be reached"
        return "the service did not take it"


def _service(url: str) -> Any:
    """Apprise with this one channel: it turns our plain text into what the channel shows. None when nobody knows it."""
    from apprise import Apprise

    channel = _channel(url)
    if channel is None:
        return None
    service = Apprise()
    service.add(channel)
    return service


def _channel(url: str) -> Any:
    from apprise import Apprise

    return Apprise.instantiate(url, suppress_exceptions=True)


def _load() -> None:
    """Import Apprise, and keep what it logs from going to the terminal: its lines quote addresses (N2)."""
    import apprise  # noqa: F401 - imported here, so that no two threads import it at once.

    logger = logging.getLogger("apprise")
    logger.propagate = False
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())
