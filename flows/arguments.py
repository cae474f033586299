"""Owns running a flow as ``python -m flows.<name>``: options from the fields of its request, our own exit codes, and
nothing on the terminal but the result.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from flows.outcome import BadFinding
from flows.requests import Request
from reopen.errors import EXIT_INTERRUPTED, EXIT_OK, InvalidInput, ReopenError
from tasks.environment import embedded

Q = TypeVar("Q", bound=Request)


def run_as_command(
    flow: Callable[[Q], Any],
    request: type[Q],
    lines: Callable[[Any], Sequence[str]],
    arguments: Sequence[str] | None = None,
) -> None:
    """Run ``flow`` with a request from the command line, print its result and exit with its code."""
    sys.exit(_run(flow, request, lines, sys.argv[1:] if arguments is None else arguments))


def parser_of(request: type[Request]) -> argparse.ArgumentParser:
    """The command line of a request: an option a field, a repeated one where the field takes several."""
    name = request.__name__.removesuffix("Request").lower()
    parser = argparse.ArgumentParser(prog=f"python -m flows.{name}", description=request.__doc__)
    for field, info in request.model_fields.items():
        parser.add_argument(_option(field), dest=field, help=_help(info), default=None, **_taking(info))
    return parser


def _run(
    flow: Callable[[Q], Any], request: type[Q], lines: Callable[[Any], Sequence[str]], arguments: Sequence[str]
) -> int:
    given = {name: value for name, value in vars(parser_of(request).parse_args(arguments)).items() if value is not None}
    try:
        with embedded():
            result = flow(_request(request, given))
    except BadFinding as bad:
        _write(sys.stdout, lines(bad.result))
        return bad.exit_code
    except ReopenError as error:
        hint = [f"hint: {error.next_step}"] if error.next_step else []
        _write(sys.stderr, [f"error: {error.message}", *hint])
        return error.exit_code
    except KeyboardInterrupt:
        _write(sys.stderr, ["error: interrupted."])
        return EXIT_INTERRUPTED
    _write(sys.stdout, lines(result))
    return EXIT_OK


def _request(request: type[Q], given: dict[str, Any]) -> Q:
    try:
        return request(**given)
    except ValidationError as error:
        first = error.errors()[0]
        option = _option(str(first["loc"][0]))
        raise InvalidInput(f"{option}: {first['msg']}.", hint="--help shows what it takes.") from error


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _help(info: FieldInfo) -> str:
    # A percent sign would be a format to argparse.
    return (info.description or "").replace("%", "%%")


def _taking(info: FieldInfo) -> dict[str, Any]:
    if info.annotation is bool:
        return {"action": "store_true"}
    if get_origin(info.annotation) is tuple:
        return {"action": "append", "metavar": _metavar(get_args(info.annotation)[0])}
    return {"metavar": _metavar(info.annotation)}


def _metavar(annotation: Any) -> str:
    return "N" if annotation is int or int in get_args(annotation) else "VALUE"


def _write(stream: Any, lines: Sequence[str]) -> None:
    stream.write("\n".join(lines).rstrip("\n") + "\n")
    stream.flush()
