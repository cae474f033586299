"""A line between a client and an S3 server that a test can trouble: requests that are refused, answers that are lost,
and silence."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlparse

SILENT_SECONDS_MAX = 60
"""A silent request ends by its client's patience or with the line; this only ends a test that forgot both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What happens to one request. ``status`` 0: the line breaks without an answer. ``after``: the server did what it
    was asked before. ``is_silent``: nothing is answered, and the line stays open."""

    status: int = 0
    code: str = ""
    after: bool = False
    is_silent: bool = False


Plan = Callable[[int, str], Trouble | None]
"""What happens to a request, by its number from zero and its method; ``None``: it passes."""


@dataclass
class Line:
    """What the line does, and what it did. ``requests`` counts all that arrived, since the last :meth:`trouble`."""

    port: int = 0
    requests: int = 0
    troubled: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)
    _plan: Plan = lambda number, method: None

    def trouble(self, plan: Plan | None = None) -> None:
        """From now on do this; without a plan nothing happens to any request."""
        with self.lock:
            self._plan = plan or (lambda number, method: None)
            self.requests = 0
            self.troubled = []

    def trouble_of(self, method: str, path: str) -> Trouble | None:
        """What happens to the request that has just arrived."""
        with self.lock:
            found = self._plan(self.requests, method)
            self.requests += 1
            if found is not None:
                self.troubled.append((method, path))
            return found


@contextmanager
def line_to(server: str) -> Iterator[Line]:
    """A line to a server, by its URL, that ends with the block. It answers on :attr:`Line.port` of loopback."""
    line, server_at = Line(), urlparse(server)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *details: Any) -> None:
            """Nobody reads it."""

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            trouble = line.trouble_of(self.command, self.path)
            if trouble is None or trouble.after:
                status, headers, data = self._ask(body)
            if trouble is None:
                self._answer(status, headers, data)
            elif trouble.is_silent:
                line.over.wait(SILENT_SECONDS_MAX)
                self.close_connection = True
            elif trouble.status:
                self._answer(trouble.status, {}, f"<Error><Code>{trouble.code}</Code></Error>".encode())
            else:
                self.close_connection = True

        def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(str(server_at.hostname), server_at.port, timeout=20)
            try:
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                kept = {name: value for name, value in answer.getheaders() if name.lower() != "transfer-encoding"}
                return answer.status, kept, answer.read()
            finally:
                connection.close()

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

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that lost its patience has gone: that is what the tests want."""

    proxy = Server(("127.0.0.1", 0), Handler)
    line.port = proxy.server_port
    thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield line
    finally:
        line.over.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()
