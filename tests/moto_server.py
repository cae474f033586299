"""moto's S3 server with the waste taken out: ``python tests/moto_server.py -H 127.0.0.1 -p PORT``.

A request of moto's costs about as much in what surrounds it as in itself: the folders of all services are looked
through again, a thread and a connection are made, a line is logged, and in listings dates are guessed that moto has
just written. What is answered is moto's alone, but for one thing: moto looks whether an object is there and then puts
it, so two threads of it can both win an exclusive create, as S3 never lets them. Here objects are put one at a time.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

from botocore import utils
from moto import backends, server
from moto.moto_server.werkzeug_app import MotoRequestHandler
from moto.s3.responses import S3Response


class _Handler(MotoRequestHandler):
    """Keeps its connections, and says nothing of what went well."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *details: Any) -> None:
        """Nobody reads it; errors are logged elsewhere."""


def _one_at_a_time(put: Any) -> Any:
    putting = threading.Lock()

    @functools.wraps(put)
    def put_alone(response: S3Response) -> Any:
        with putting:
            return put(response)

    return put_alone


if __name__ == "__main__":
    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules
    utils.parse_timestamp = functools.lru_cache(4096)(utils.parse_timestamp)
    S3Response.put_object = _one_at_a_time(S3Response.put_object)  # type: ignore[method-assign]
    vars(server)["MotoRequestHandler"] = _Handler
    server.main()
