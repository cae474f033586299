"""Owns the one way from the command line to the flows, for ``--flow``. The engine works without them.

The package ``flows`` stands above this one and needs Prefect, so it is looked up by name at the moment it is asked for,
and its absence is an answer. Each flow ``flows.<name>.<name>`` takes one request, ``<Name>Request`` of
``flows.requests``.
"""

from __future__ import annotations

import importlib
from typing import Any

from reopen.cli.face import Answer, Face
from reopen.cli.text import plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, Refused


def run_flow(face: Face, name: str, **fields: Any) -> Answer:
    """Run a flow with a request of these fields (those that are None are left to their defaults).

    What the flow returns is the answer; when that has ``ok`` and it is false, the exit code is 3.

    :raises Refused: Prefect, or the flows, are not installed.
    """
    try:
        requests = importlib.import_module("flows.requests")
        module = importlib.import_module(f"flows.{name}")
    except ModuleNotFoundError as error:
        raise Refused(
            f"--flow needs the module {error.name}, which is not installed.",
            hint="Install the package with its orchestrator, or leave out --flow: the command does the same without.",
        ) from error
    given = {key: value for key, value in fields.items() if value is not None}
    request = getattr(requests, f"{name.capitalize()}Request")(config=face.config, **given)
    result = plain_result(getattr(module, name)(request))
    show = [f"{key}: {value}" for key, value in result.items() if not isinstance(value, list | dict)]
    return Answer(value=result, show=show, exit_code=EXIT_OK if result.get("ok", True) else EXIT_NEGATIVE)


def plain_result(result: object) -> dict[str, Any]:
    """What a flow returned as a JSON object; pydantic models say themselves how."""
    dump = getattr(result, "model_dump", None)
    value = dump(mode="json") if callable(dump) else plain(result)
    return value if isinstance(value, dict) else {"result": value}
