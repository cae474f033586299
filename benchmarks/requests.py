"""Owns counting what each tool asks of object storage: an S3 server inside this process, with a counter before it.

Time is not measured here, since the server is a test server; the number and kind of requests is what a bill and a
latency are made of. Every tool gets a bucket of its own and the same small tree.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from benchmarks.peers import Peer
from benchmarks.process import Command, run
from benchmarks.tools import Reopen, Restic, Tool
from benchmarks.workloads import Workload

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """How often one verb of one tool asked for what (``put``, ``get``, ``head``, ``list``, ``delete``, other)."""

    workload: str
    verb: str
    tool: str
    counts: dict[str, int]

    @property
    def total(self) -> int:
        """All requests together."""
        return sum(self.counts.values())


class Counting:
    """A WSGI application that counts what it hands on."""

    def __init__(self, inner: Callable[..., Iterable[bytes]]) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def __call__(self, environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            self._counts[kind_of(environment["REQUEST_METHOD"], environment.get("QUERY_STRING", ""))] += 1
        return self._inner(environment, start_response)

    def take(self) -> dict[str, int]:
        """The counts since the last call."""
        with self._lock:
            counts, self._counts = dict(sorted(self._counts.items())), Counter()
        return counts


def kind_of(method: str, query: str) -> str:
    """What a request is, in the words of a bill."""
    asked = parse_qs(query, keep_blank_values=True)
    if method == "GET" and ({"list-type", "prefix", "delimiter", "location", "versioning"} & asked.keys()):
        return "list" if {"list-type", "prefix", "delimiter"} & asked.keys() else "other"
    if method == "POST" and "delete" in asked:
        return "delete"
    return {"PUT": "put", "POST": "put", "GET": "get", "HEAD": "head", "DELETE": "delete"}.get(method, "other")


@contextmanager
def counting_server(bucket: str) -> Iterator[tuple[str, Counting]]:
    """A running S3 server with one bucket, its URL, and its counter. What it holds lives as long as this process."""
    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, kind: str, message: str, *values: Any) -> None:
            """Say nothing."""

    counting = Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, counting, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, name="benchmark-s3", daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=CREDENTIALS["AWS_REGION"],
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket=bucket)
        client.close()
        counting.take()
        yield url, counting
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def count_requests(workload: Workload, peers: Mapping[str, Peer], place: Path) -> list[Requests]:
    """Count every verb of ours and of restic (borg has no object storage) over one workload."""
    source = place / "source"
    workload.make(source)
    found: list[Requests] = []
    bucket = f"benchmark-{workload.name}"
    with counting_server(bucket) as (url, counting):
        tools: list[Tool] = [
            Reopen(place / "reopen", source, vault=f"s3://{bucket}/reopen", replica=f"s3://{bucket}/replica")
        ]
        if "restic" in peers:
            there = f"s3:{url}/{bucket}/restic"
            tools.append(Restic(place / "restic", source, peers["restic"], repository_url=there))
        for tool in tools:
            tool.environment |= {**CREDENTIALS, "AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true"}
            tool.prepare()
            counting.take()

        def count(verb: str, tool: Tool, command: Command | None) -> None:
            if command is not None:
                run(command, tool.environment, tool.work / f"{verb}.log")
                found.append(Requests(workload=workload.name, verb=verb, tool=tool.name, counts=counting.take()))

        for verb in ("first", "unchanged"):
            for tool in tools:
                count(verb, tool, tool.backup(verb))
        workload.change(source, place / "kept")
        for tool in tools:
            count("changed", tool, tool.backup("changed"))
            count("verify", tool, tool.verify())
            count("restore", tool, tool.restore(place / f"restored-{tool.name}"))
    return found
