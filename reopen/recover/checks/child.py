"""Owns the child's side of the pipe: ``python -m reopen.recover.checks.child``.

One JSON object a line. First the child says ``{"ready": {versions}}``, once the engine is imported; then it answers
each request in turn, with ``{"id": n, "result": {…}}`` or ``{"id": n, "error": {…}}``.

Invariants
    I1  Its standard output carries messages and nothing else: file descriptor 1 is moved away before any library is
        imported, and what libraries print goes to standard error.
    I2  Nothing in Python opens a connection to any network here. Objects of the folders that it was given are read
        through :mod:`reopen.storage.reading`, whose client is native code that the rule does not see; whatever a
        contract's SQL asks for passes DuckDB's list of allowed folders first.
    I3  It ends when its parent is gone: the pipe from the parent is read by a thread of its own, so that the end of the
        pipe is seen in the middle of a query too.
    I4  An error is an answer. Only death (a signal, memory) leaves a request without one, and the parent sees that.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

_NETWORK_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.bind", "socket.getaddrinfo"})


def main() -> None:
    """Serve requests until the pipe ends."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.addaudithook(_refuse_network)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), name="requests", daemon=True).start()
    _serve(requests, messages)


def _refuse_network(event: str, _: tuple[Any, ...]) -> None:
    if event in _NETWORK_EVENTS:
        raise PermissionError("the validator has no network")


def _read(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    # Not sys.exit: the main thread may be inside a query of minutes, and nobody waits for its answer any more. What
    # it wrote is scratch.
    os._exit(0)


def _serve(requests: queue.SimpleQueue[str], messages: IO[str]) -> None:
    from reopen.recover.checks import engine

    engine.load()
    versions = {"python": ".".join(map(str, sys.version_info[:3])), **engine.versions()}
    _say(messages, {"ready": versions})
    while True:
        request = json.loads(requests.get())
        try:
            answer = {"id": request["id"], "result": _answer(request, versions)}
        except Exception as error:  # noqa: BLE001 (I4: whatever it was, the parent turns it into a result)
            traceback.print_exc()
            answer = {"id": request["id"], "error": {"type": type(error).__name__, "message": str(error)}}
        _say(messages, answer)


def _say(messages: IO[str], message: Mapping[str, Any]) -> None:
    messages.write(json.dumps(message, default=str) + "\n")
    messages.flush()


def _answer(request: Mapping[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
    from reopen.recover.checks.examine import Examination, examine
    from reopen.recover.checks.model import Subject

    related = {
        name: (Subject.from_dict(entry["subject"]), str(entry["folder"])) for name, entry in request["related"].items()
    }
    result = examine(
        Examination(
            subject=Subject.from_dict(request["subject"]),
            folder=request["folder"],
            profile=_profile(request["profile"]),
            related=related,
            memory_limit=request["memory_limit"],
            threads=request["threads"],
            work=Path(request["work"]),
            spill=Path(request["spill"]),
            versions=versions,
        )
    )
    return {**result.as_dict(), "peak_bytes": _peak_bytes()}


def _profile(path: str | None) -> Any:
    if path is None:
        return None
    import pyarrow as pa

    with pa.memory_map(path) as file, pa.ipc.open_file(file) as reader:
        return reader.read_all()


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts KiB, macOS bytes.
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
