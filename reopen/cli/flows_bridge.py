"""Owns the one way from the command line to the flows, for ``--flow``. The engine works without them.

The package ``flows`` stands above this one and needs Prefect, so it is looked up by name at the moment it is asked for,
and its absence is an answer. Each flow ``flows.<name>.<name>`` takes one request, ``<Name>Request`` of
``flows.requests``, and returns what the engine's verb returns, so that the answer looks the same either way.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.errors import InvalidInput, Refused, ReopenError

if TYPE_CHECKING:
    from reopen.cli.face import Face

FlowOption = Annotated[
    bool, typer.Option("--flow", help="Run it as a Prefect flow, so that it is seen and kept there.")
]


def run_flow(face: Face, name: str, **fields: Any) -> Any:
    """The result of a flow, asked with a request of these fields (those that are None are left to their defaults).

    :raises Refused: Prefect, or the flows, are not installed.
    :raises InvalidInput: the request does not take a value.
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
    try:
        request = getattr(requests, f"{name.capitalize()}Request")(config=face.config, **given)
    except ValueError as error:
        # pydantic's error is one; its text names the field and what it takes.
        hint = "Correct the option that is named, or leave out --flow: the command does the same without."
        raise InvalidInput(f"the flow's request is wrong: {error}", hint=hint) from error
    embedded = importlib.import_module("tasks.environment").embedded
    shown_on = importlib.import_module("tasks.watching").shown_on
    try:
        with embedded(), shown_on(face.progress()):
            return getattr(module, name)(request)
    except ReopenError as error:
        # A run whose finding is bad fails in the orchestrator, and carries what it found all the same.
        result = getattr(error, "result", None)
        if result is None:
            raise
        return result
