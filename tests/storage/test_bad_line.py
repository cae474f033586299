"""A real S3 server behind a bad line: some requests get 503, and the answers to some writes never arrive."""

from __future__ import annotations

import http.client
import http.server
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

from reopen.errors import Conflict
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import open_store
from reopen.storage.objects import ObstoreStore
from reopen.storage.patience import Patience
from tests.kit import a_dataset, a_vault, reopened, restore, snapshot
from tests.s3 import make_bucket
from tests.trees import differences, grow, some_bytes

QUICK = Patience(retries=6, backoff_seconds=0.005, backoff_seconds_max=0.05)
FILES = {"a": some_bytes(120_000, 1), "b/c": some_bytes(3_000, 2)}


@dataclass
class Line:
    """Every so many requests one is refused, every so many writes one answer is lost; 0 for none."""

    refuse_every: int = 0
    lose_every: int = 0
    requests: int = 0
    writes: int = 0
    refused: int = 0
    lost: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_refused(self) -> bool:
        with self.lock:
            self.requests += 1
            refused = self.refuse_every > 0 and self.requests % self.refuse_every == 0
            self.refused += refused
            return refused

    def is_lost(self, path: str) -> bool:
        with self.lock:
            self.writes += 1
            lost = self.lose_every > 0 and self.writes % self.lose_every == 0
            if lost:
                self.lost.append(path)
            return lost


@pytest.fixture
def line(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """The line between the client and moto; the environment leads through it."""
    told = Line()
    server_at = urlparse(s3_endpoint)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *details: Any) -> None:
            """Nobody reads it."""

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if told.is_refused():
                self._answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
                return
            connection = http.client.HTTPConnection(str(server_at.hostname), server_at.port, timeout=20)
            try:
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
            finally:
                connection.close()
            if self.command == "PUT" and answer.status == 200 and told.is_lost(self.path):
                self.close_connection = True  # It was written, and nobody is told.
                return
            kept = {name: value for name, value in answer.getheaders() if name.lower() != "transfer-encoding"}
            self._answer(answer.status, kept, data)

        def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response_only(status)
            if self.command != "HEAD":
                headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
                headers["Content-Length"] = str(len(data))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass  # noqa: N815 - the base class's names

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    bucket = make_bucket(s3_endpoint, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("BUCKET_OF_THE_TEST", bucket)
    yield told
    proxy.shutdown()
    proxy.server_close()
    thread.join()


@pytest.fixture
def store(line: Line) -> ObstoreStore:
    return ObstoreStore(f"s3://{os.environ['BUCKET_OF_THE_TEST']}/vault", patience=QUICK)


@pytest.mark.parametrize(("refuse_every", "lose_every"), [(5, 0), (0, 3), (7, 4)])
def test_snapshots_come_through(
    line: Line, store: ObstoreStore, tmp_path: Path, refuse_every: int, lose_every: int
) -> None:
    """Nothing fails, nothing is doubled, and what arrives is whole, though every third write seems not to happen."""
    vault = a_vault(store)
    line.refuse_every, line.lose_every = refuse_every, lose_every
    source = grow(tmp_path / "source", FILES)
    first = snapshot(vault, a_dataset("it", source), workers=1).record
    (source / "a").write_bytes(some_bytes(90_000, 3))
    second = snapshot(reopened(vault), a_dataset("it", source), workers=1).record
    restore(vault, second, tmp_path / "back")
    assert differences(source, tmp_path / "back") == []
    line.refuse_every = line.lose_every = 0
    assert (line.refused > 3) is (refuse_every > 0)
    assert (len(line.lost) > 3) is (lose_every > 0)
    assert [record.id for record in vault.records()] == [first.id, second.id]
    assert verify_vault(reopened(vault), level=Level.CONTENT, record=False).findings == ()
    assert list(store.list("leases/")) == []


def test_a_create_whose_answer_was_lost_is_ours_and_another_s_is_not(line: Line, store: ObstoreStore) -> None:
    store.create("before", [b"x"])
    line.lose_every = 1
    store.create("a", [b"ours"])
    line.lose_every = 0
    assert line.lost
    assert store.get("a") == b"ours"
    with pytest.raises(Conflict):
        store.create("a", [b"not ours"])
    assert open_store(store.url).get("a") == b"ours"
