"""Owns the signed envelopes of the vault. The canonical form itself (I1, I2) is :mod:`reopen.storage.canonical`.

Invariants
    I3  A signature covers ``reopen/v1/<kind>`` NUL canonical body, so that a body of one kind never passes for another.

    I4  A body may name in ``requires`` what a reader has to know to read it. A reader that does not know one of the
        names refuses the document, where it would pass over any other member that it does not know.

The envelope is ``{"body": {"kind": …, …}, "signature": {"signer": <key id>, "value": <hex>}}``.
"""

from __future__ import annotations

from typing import Protocol

from reopen.errors import Corrupt, MadeByNewer
from reopen.storage.canonical import RECORD_BYTES_MAX, JsonObject, decode, encode

__all__ = [
    "RECORD_BYTES_MAX",
    "JsonObject",
    "Signer",
    "check_requirements",
    "decode",
    "encode",
    "encode_envelope",
    "open_envelope",
    "seal_envelope",
    "signed_message",
]


REQUIREMENTS_KNOWN: frozenset[str] = frozenset()
"""What a document may require of this version (I4): nothing yet. A name is added with the code that understands it."""


class Signer(Protocol):
    """Something that can sign: a key id and a raw Ed25519 signature."""

    @property
    def id(self) -> str:
        """The key id that a reader looks the certificate up by."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of a message."""
        ...


def check_requirements(body: JsonObject, name: str) -> None:
    """Refuse a body that requires what this version does not know (I4). Its signature was checked: what nobody signed
    may stop no reader.

    :raises MadeByNewer: naming what it requires.
    """
    required = body.get("requires", [])
    if unknown := sorted({str(item) for item in required} - REQUIREMENTS_KNOWN):
        raise MadeByNewer(f"{name} needs what this version does not know: {', '.join(unknown)}.", object=name)


def signed_message(body: JsonObject) -> bytes:
    """The bytes that a signature of this body covers (I3)."""
    return b"reopen/v1/" + str(body["kind"]).encode() + b"\0" + encode(body)


def seal_envelope(body: JsonObject, signer: Signer) -> bytes:
    """The stored bytes of a signed body."""
    return encode_envelope(body, signer.id, signer.sign(signed_message(body)))


def encode_envelope(body: JsonObject, signer: str, signature: bytes) -> bytes:
    """The stored bytes of a body and its signature. The form is canonical, so of what was read these are the very bytes
    that are stored."""
    return encode({"body": body, "signature": {"signer": signer, "value": signature.hex()}})


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
        if raw.hex() != signature["value"]:
            raise ValueError("hex in another form than it was written")
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"{name} has a malformed signature.", object=name) from error
    return body, signer, raw
