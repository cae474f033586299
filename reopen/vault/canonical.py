"""Owns the JSON that is stored: canonical form, strict reading, signed envelopes.

Invariants
    I1  What is written is canonical (RFC 8785), so equal values have equal bytes and a digest means something.
    I2  What is read must re-encode to the same bytes; duplicate keys, NaN and non-canonical forms are ``Corrupt``.
    I3  A signature covers ``reopen/v1/<kind>`` NUL canonical body, so that a body of one kind never passes for another.

The envelope is ``{"body": {"kind": …, …}, "signature": {"signer": <key id>, "value": <hex>}}``.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

import rfc8785

from reopen.errors import Corrupt, Internal

RECORD_BYTES_MAX = 1 << 20
"""No stored JSON document is larger; a reader refuses before parsing."""

JsonObject = dict[str, Any]


class Signer(Protocol):
    """Something that can sign: a key id and a raw Ed25519 signature."""

    @property
    def id(self) -> str:
        """The key id that a reader looks the certificate up by."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of a message."""
        ...


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
    try:
        value = json.loads(data, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{name} is not valid JSON: {error}.", hint=hint, object=name) from error
    try:
        canonical = isinstance(value, dict) and rfc8785.dumps(value) == data
    except (rfc8785.CanonicalizationError, RecursionError):
        canonical = False
    if not canonical:
        raise Corrupt(f"{name} is not a canonical JSON object.", hint=hint, object=name)
    return dict(value)


def signed_message(body: JsonObject) -> bytes:
    """The bytes that a signature of this body covers (I3)."""
    return b"reopen/v1/" + str(body["kind"]).encode() + b"\0" + encode(body)


def seal_envelope(body: JsonObject, signer: Signer) -> bytes:
    """The stored bytes of a signed body."""
    signature = {"signer": signer.id, "value": signer.sign(signed_message(body)).hex()}
    return encode({"body": body, "signature": signature})


def open_envelope(data: bytes, name: str, kind: str) -> tuple[JsonObject, str, bytes]:
    """Body, signer id and raw signature of an envelope whose body is of ``kind``; the caller checks the signature.

    :raises Corrupt: not an envelope, or of another kind.
    """
    value = decode(data, name)
    body, signature = value.get("body"), value.get("signature")
    if not isinstance(body, dict) or not isinstance(signature, dict) or set(value) != {"body", "signature"}:
        raise Corrupt(f"{name} is not a signed document.", object=name)
    if body.get("kind") != kind:
        raise Corrupt(f"{name} is a {body.get('kind')!r} document where a {kind!r} is expected.", object=name)
    try:
        signer, raw = str(signature["signer"]), bytes.fromhex(signature["value"])
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"{name} has a malformed signature.", object=name) from error
    return body, signer, raw


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> JsonObject:
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise ValueError("an object has a duplicate key")
    return dict(pairs)


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
