"""Owns the way from frozen dataclasses to JSON values and back, for what the control room and recovery store.

Instants are RFC 3339 text with microseconds, durations are seconds, sets and tuples are arrays. A class takes part with
``@stored``: unknown fields are refused, because a reader that drops what it does not know would act on half a record.

A member that a later version adds has a default and says so (:func:`later`): it is left out while it has that default,
so that what an earlier version stored reads, and encodes again to the bytes and the digest that it had.

Called by :mod:`reopen.control.records` and by the plan of a recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from blake3 import blake3

from reopen.clock import from_text, to_text
from reopen.errors import Corrupt, MadeByNewer

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter
    from pydantic_core import CoreSchema


class _StoredAs:
    """Tells pydantic how a type is read and written, without importing it: most commands meet no record of an epoch."""

    def __init__(self, kind: type[str | float], read: Callable[[object], object], write: Callable[[Any], Any]) -> None:
        self._kind = kind
        self._read = read
        self._write = write

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        written = core_schema.plain_serializer_function_ser_schema(
            self._write, return_schema=handler.generate_schema(self._kind), when_used="json"
        )
        return core_schema.no_info_before_validator_function(self._read, handler(source), serialization=written)


def _instant(value: object) -> object:
    return from_text(value) if isinstance(value, str) else value


def _duration(value: object) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return timedelta(seconds=value)
    return value


def _seconds(value: timedelta) -> float:
    return value.total_seconds()


Instant = Annotated[datetime, _StoredAs(str, _instant, to_text)]
"""A ``datetime`` whose stored form is :func:`reopen.clock.to_text`."""

Duration = Annotated[timedelta, _StoredAs(float, _duration, _seconds)]
"""A ``timedelta`` whose stored form is seconds."""


def later(default: object) -> Any:
    """The mark of a member that an earlier version did not have: ``group: Annotated[str, later("")] = ""``.

    :param default: the member's default, which stands for its absence.
    """
    # An annotation is a text until pydantic asks for it, so this is imported when it is there already.
    from pydantic import Field

    return Field(exclude_if=lambda value: value == default)


T = TypeVar("T")


def stored(kind: type[T]) -> type[T]:
    """Class decorator, above ``@dataclass``: the class is stored, and fields that it does not have are refused."""
    # What pydantic's own `with_config` does.
    kind.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return kind


_NEW = frozenset({"unexpected_keyword_argument", "extra_forbidden", "enum"})
"""What pydantic calls a member, or a word of a choice, that is not known."""

_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
"""One for each class and process: compiling costs milliseconds. If two threads both compile, either result serves."""


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        from pydantic import TypeAdapter

        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_json(value: Any) -> dict[str, Any]:
    """The JSON value (plain dicts, lists, text, numbers) of an instance of a stored class."""
    result = _adapter(type(value)).dump_python(value, mode="json")
    assert isinstance(result, dict)
    return result


def from_json(kind: type[T], value: Mapping[str, Any], name: str) -> T:
    """The instance that :func:`to_json` wrote; ``name`` is the stored object's name, for messages.

    :raises Corrupt: a field is missing or of the wrong type.
    :raises MadeByNewer: nothing is wrong but fields, or words of a choice, that this version does not know.
    """
    from pydantic import ValidationError

    try:
        result: T = _adapter(kind).validate_python(value)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        places = [".".join(str(part) for part in fault["loc"]) for fault in faults]
        if all(fault["type"] in _NEW for fault in faults):
            raise MadeByNewer(
                f"{name} says more than this version knows of a {kind.__name__.lower()}: {', '.join(places)}.",
                object=name,
            ) from error
        raise Corrupt(
            f"{name} is not a valid {kind.__name__.lower()}: {places[0]}: {faults[0]['msg']}.",
            hint="It was changed, or another version of Reopen wrote it. Keep it as it is; for evidence, "
            "`reopen evidence verify` shows what was changed.",
            object=name,
        ) from error
    return result


def digest(data: bytes) -> str:
    """BLAKE3 of stored bytes, 64 hex digits."""
    return blake3(data).hexdigest()
