"""Owns the JSON that is stored: canonical form and strict reading. The rooms above add signatures or chains.

Invariants
    I1  What is written is canonical (RFC 8785), so equal values have equal bytes and a digest means something.
    I2  What is read must re-encode to the same bytes; duplicate keys, NaN and non-canonical forms are ``Corrupt``.
"""

from __future__ import annotations

import json
import re
from typing import Any

import rfc8785

from reopen.errors import Corrupt, Internal

RECORD_BYTES_MAX = 1 << 20
"""No stored JSON document is larger; a reader refuses before parsing."""

JsonObject = dict[str, Any]

_NOT_PLAIN = re.compile(rb"[0-9]{16}|[\xf0-\xff]")
"""Where canonical form is more than sorted keys without spaces: integers that a double cannot hold, and characters that
UTF-16 sorts before others. A digest with sixteen digits in a row is found as well, which costs time only."""


def encode(value: JsonObject) -> bytes:
    """Canonical bytes of a JSON object (I1)."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise Internal(f"a value cannot be written as canonical JSON: {error}.") from error


def decode(data: bytes, name: str) -> JsonObject:
    """The object in canonical bytes (I2); ``name`` is the stored object's name, for messages.

    :raises Corrupt: too large, not JSON, not an object, duplicate keys, or not canonical.
    """
    hint = "`reopen verify --level structure` names everything that is damaged."
    if len(data) > RECORD_BYTES_MAX:
        raise Corrupt(f"{name} has {len(data)} bytes; no document has more than {RECORD_BYTES_MAX}.", object=name)
    floats: list[float] = []

    def keep_float(text: str) -> float:
        floats.append(float(text))
        return floats[-1]

    try:
        value = json.loads(
            data, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant, parse_float=keep_float
        )
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{name} is not valid JSON: {error}.", hint=hint, object=name) from error
    try:
        write = rfc8785.dumps if floats or _NOT_PLAIN.search(data) else _write_plain
        canonical = isinstance(value, dict) and write(value) == data
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError):
        canonical = False
    if not canonical:
        raise Corrupt(f"{name} is not a canonical JSON object.", hint=hint, object=name)
    return dict(value)


def _write_plain(value: JsonObject) -> bytes:
    """What rfc8785 writes, ten times as fast, of a value without floats and without what :data:`_NOT_PLAIN` finds."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> JsonObject:
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise ValueError("an object has a duplicate key")
    return dict(pairs)


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
