"""Owns what Typer makes of the words of a command line, where that is plain.

Typer hands every value to pydantic, an option that was not given too, and importing pydantic takes longer than many a
command. So what needs no thought (nothing, a text for a text, one of the allowed words, a path that may be read) is
answered here, with what Typer would have answered; everything else, and so every refusal, is still Typer's.

Called by :mod:`reopen.cli.face` for each command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any


def spare_pydantic(parameters: Iterable[Any]) -> list[Any]:
    """These parameters of Typer, of whose values the plain ones are answered here. Parameters of a Typer that works
    otherwise are left alone."""
    parameters = list(parameters)
    for parameter in parameters:
        typers = getattr(parameter, "get_runtime_param", None)
        is_spared = isinstance(getattr(typers, "__self__", None), _Coercion)
        if typers is not None and not is_spared and hasattr(parameter, "type_descriptor"):
            parameter.get_runtime_param = _Coercion(parameter.type_descriptor, typers).itself
    return parameters


class _Coercion:
    """Stands where Typer keeps the coercion of one parameter."""

    def __init__(self, kind: Any, typers: Callable[[], Any]) -> None:
        self._annotation = kind.annotation
        self._info = kind.parameter_info
        self._typers = typers

    def itself(self) -> _Coercion:
        """What Typer's ``get_runtime_param`` gives."""
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value that the command's function takes. Errors are Typer's."""
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        if self._info.parser is None:
            if many and self._annotation == list[str] and isinstance(value, list | tuple):
                if all(type(item) is str for item in value):
                    return list(value)
            elif type(value) is str and not many:
                plain = self._plain(value)
                if plain is not None:
                    return plain
            elif isinstance(value, Enum) and value is param.default and self._annotation is type(value):
                return value
        return self._typers().coerce(value, param=param, ctx=ctx)

    def _plain(self, text: str) -> Any:
        """What a text stands for, None where that has to be thought about."""
        kind = self._annotation
        if kind is str:
            return text
        if isinstance(kind, type) and issubclass(kind, Enum):
            return next((item for item in kind if item.value == text), None)
        if kind is Path and not _has_demands(self._info):
            path = Path(text)
            return path if os.access(path, os.R_OK) or not path.exists() else None
        return None


def _has_demands(info: Any) -> bool:
    """Whether a path has to be more than one that can be read if it is there (what Typer asks of each)."""
    return bool(
        info.exists
        or info.writable
        or info.resolve_path
        or info.allow_dash
        or info.path_type
        or not (info.file_okay and info.dir_okay and info.readable)
    )
