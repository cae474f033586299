"""Real services on loopback that receive what Apprise sends: HTTP with a script of answers, and SMTP by hand."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Observer(ThreadingHTTPServer):
    """An observer of heartbeats, as healthchecks.io is one: it keeps the path and the text of each call.

    It answers with the next status of its script, the last one for ever. While ``open`` is not set it takes a call and
    answers a byte now and then, so that no read of its client ever times out.
    """

    daemon_threads = True

    def __init__(self, *script: int) -> None:
        super().__init__(("127.0.0.1", 0), ObserverHandler)
        self.script = list(script)
        self.calls: list[tuple[str, str]] = []
        self.open = threading.Event()
        self.open.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/ping/t0ken"

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever hung up is not news on the tests' terminal."""


class ObserverHandler(BaseHTTPRequestHandler):
    server: Observer

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.calls.append((self.path, text))
        status = self.server.script.pop(0) if len(self.server.script) > 1 else self.server.script[0]
        self.wfile.write(f"HTTP/1.0 {status} So\r\nX-Drip: ".encode())
        while not self.server.open.wait(0.05):
            self.wfile.write(b".")
        self.wfile.write(b"\r\nContent-Length: 0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing on the tests' terminal."""


class Receiver(ThreadingHTTPServer):
    """A webhook that answers each call with the next status of its script, the last one for ever.

    While ``open`` is not set it takes a call and answers nothing.
    """

    daemon_threads = True

    def __init__(self, *script: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = list(script)
        self.received: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.open = threading.Event()
        self.open.set()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def apprise_url(self) -> str:
        return f"json://anna:hunter2secret@{self.host}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever hung up is not news on the tests' terminal."""


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        self.server.received.append(json.loads(body))
        self.server.open.wait(30)
        self.send_response(self.server.script.pop(0) if len(self.server.script) > 1 else self.server.script[0])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing on the tests' terminal."""


class MailServer(socketserver.ThreadingTCPServer):
    """As much of SMTP as a client needs to leave a message."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MailHandler)
        self.mails: list[tuple[list[str], Message]] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class MailHandler(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        recipients: list[str] = []
        self._say("220 loopback")
        while line := self.rfile.readline().decode().strip():
            verb = line.split(":")[0].split()[0].upper()
            if verb == "RCPT":
                recipients.append(line.partition("<")[2].rpartition(">")[0])
            if verb == "DATA":
                self._say("354 go on")
                data = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.mails.append((recipients, message_from_bytes(data, policy=default)))
                recipients = []
            if verb == "QUIT":
                self._say("221 bye")
                return
            self._say("250 ok")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    """Serve in a thread, until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        if isinstance(server, Receiver | Observer):
            server.open.set()
        server.shutdown()
        thread.join()
        server.server_close()
