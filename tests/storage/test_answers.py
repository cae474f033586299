"""What a server that misbehaves is taken for: a server on loopback gives each answer, the real client asks."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from reopen.errors import Conflict, NotFound, Refused, ReopenError, Transient, VaultUnwritable
from reopen.storage import ObjectStore
from reopen.storage.objects import CLIENT_OPTIONS, ObstoreStore
from reopen.storage.patience import PATIENCE, RETRIES_MAX, Patience

QUICK = Patience(
    connect_seconds=2, silence_seconds=0.3, read_seconds=2, write_seconds=0.3, retries=2, retry_seconds=5,
    backoff_seconds=0.005, backoff_seconds_max=0.02,
)  # fmt: skip


@dataclass
class Oracle:
    """What the server answers to everything, and what it was asked."""

    status: int = 200
    code: str = ""
    is_silent: bool = False
    closes: bool = False
    asked: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Oracle]:
    told = Oracle()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *details: Any) -> None:
            """Nobody reads it."""

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            told.asked.append(self.command)
            self.close_connection = True
            if told.is_silent:
                told.over.wait(20)
            if told.is_silent or told.closes:
                return
            body = f"<Error><Code>{told.code}</Code></Error>".encode() if told.code else b""
            self.send_response(told.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer  # noqa: N815 - the base class's names

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
        "AWS_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "NO_PROXY": "127.0.0.1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield told
    told.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def store(oracle: Oracle) -> ObjectStore:
    return ObstoreStore("s3://bucket/p", patience=QUICK)


READS: dict[str, Callable[[ObjectStore], object]] = {
    "get": lambda store: store.get("a"),
    "range": lambda store: store.get_range("a", 0, 4),
    "list": lambda store: list(store.list()),
}
WRITES: dict[str, Callable[[ObjectStore], object]] = {
    "put": lambda store: store.put("a", [b"x"]),
    "create": lambda store: store.create("a", [b"x"]),
    "delete": lambda store: store.delete("a"),
}


@pytest.mark.parametrize(
    ("status", "code", "reading", "writing"),
    [
        (500, "InternalError", Transient, Transient),
        (503, "SlowDown", Transient, Transient),
        (429, "TooManyRequests", Transient, Transient),
        (507, "", VaultUnwritable, VaultUnwritable),
        (403, "QuotaExceeded", VaultUnwritable, VaultUnwritable),
        (403, "AccessDenied", Refused, VaultUnwritable),
        (403, "InvalidAccessKeyId", Refused, VaultUnwritable),
        (403, "SignatureDoesNotMatch", Refused, VaultUnwritable),
        (403, "RequestTimeTooSkewed", Refused, VaultUnwritable),
        (400, "ExpiredToken", Refused, VaultUnwritable),
        (301, "PermanentRedirect", Refused, VaultUnwritable),
        (404, "NoSuchBucket", NotFound, NotFound),
    ],
)
def test_each_answer_has_the_class_that_a_handler_needs(
    oracle: Oracle, store: ObjectStore, status: int, code: str, reading: type[ReopenError], writing: type[ReopenError]
) -> None:
    oracle.status, oracle.code = status, code
    for calls, expected in ((READS, reading), (WRITES, writing)):
        for name, call in calls.items():
            with pytest.raises(ReopenError) as caught:
                call(store)
            assert type(caught.value) is expected, f"{name}: {caught.value}"
            if expected is not Transient:
                assert caught.value.hint, name


def test_what_the_server_cannot_do_is_no_passing_fault(oracle: Oracle, store: ObjectStore) -> None:
    """A server that answers 501 to the condition has none; the create then looks and puts, and that is refused too."""
    oracle.status, oracle.code = 501, "NotImplemented"
    with pytest.raises(Refused, match="does not support"):
        store.put("a", [b"x"])


@pytest.mark.parametrize("how", ["is_silent", "closes"])
@pytest.mark.parametrize("verb", [*READS, *WRITES])
def test_a_server_that_does_not_answer_is_given_up_in_time(
    oracle: Oracle, store: ObjectStore, how: str, verb: str
) -> None:
    setattr(oracle, how, True)
    with pytest.raises(Transient, match="did not answer"):
        ({**READS, **WRITES})[verb](store)
    assert oracle.asked


def test_a_busy_answer_is_asked_again_before_it_is_a_lost_race(oracle: Oracle, store: ObjectStore) -> None:
    """S3 answers 409 while another conditional write is under way: nobody has won, unless the name is there."""
    oracle.status, oracle.code = 409, "ConditionalRequestConflict"
    with pytest.raises(Transient):
        store.put("a", [b"x"])
    with pytest.raises(Transient):
        store.create("a", [b"x"])


def test_a_lost_condition_is_a_conflict(oracle: Oracle, store: ObjectStore) -> None:
    oracle.status, oracle.code = 412, "PreconditionFailed"
    with pytest.raises(Conflict):
        store._create_once("a", b"x")  # type: ignore[attr-defined]


def test_a_passing_fault_is_tried_again_and_no_more_often_than_said(oracle: Oracle, store: ObjectStore) -> None:
    oracle.status, oracle.code = 503, "SlowDown"
    with pytest.raises(Transient):
        store.get("a")
    assert len(oracle.asked) == 1 + QUICK.retries
    oracle.asked.clear()
    oracle.status, oracle.code = 403, "AccessDenied"
    with pytest.raises(Refused):
        store.get("a")
    assert len(oracle.asked) == 1


def test_the_environment_stands_above_our_limits(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library forgets the environment's client options as soon as it is given one by code."""
    assert "allow_http" in CLIENT_OPTIONS
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(Transient):
        ObstoreStore("s3://bucket/p", patience=QUICK).get("a")
    assert oracle.asked == []


def test_waiting_grows_and_ends() -> None:
    waits = [PATIENCE.backoff(tries) for tries in range(1, RETRIES_MAX + 1)]
    assert waits == sorted(waits)
    assert waits[-1] <= PATIENCE.backoff_seconds_max
    assert sum(waits) < PATIENCE.retry_seconds
