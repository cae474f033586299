"""Owns the documents in ``keys/``: who was ever given a key, signed by the root and never changed or removed.

A recipient's document holds the roots sealed to it; a certificate says what its key may sign and holds the roots
wrapped for it. What holds of a key *now* is in the trust statement (:mod:`reopen.vault.trust`).

Invariants
    D1  A document in ``keys/`` that the pinned root did not sign, for this vault and under this name, is an attack or
        damage: the vault is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from reopen.clock import from_text, to_text
from reopen.errors import Corrupt, NotFound, Refused
from reopen.ids import RandomBytes, system_random
from reopen.storage import ObjectInfo, ObjectStore
from reopen.vault.canonical import RECORD_BYTES_MAX, JsonObject, check_requirements, open_envelope, signed_message
from reopen.vault.keys import (
    KEY_ID,
    SIGNING_ROLES,
    Pins,
    Recipient,
    Roots,
    SigningKey,
    roots_context,
    verify_signature,
)

PREFIX = "keys/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Who may sign what: a key id, its role, the datasets (``*``: all) and its public key. ``follows``: the key that
    it was made to replace."""

    id: str
    role: str
    datasets: tuple[str, ...]
    public: bytes
    created_at: datetime
    follows: str | None = None

    def covers(self, dataset: str) -> bool:
        """Whether the certificate speaks for a dataset."""
        return "*" in self.datasets or dataset in self.datasets


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A recovery key that the vault knows: its public half, and since when."""

    recipient: Recipient
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDocuments:
    """Everything in ``keys/``, by key id. ``roots`` are sealed to recipients and wrapped for signing keys."""

    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    recipients: Mapping[str, Listed] = field(default_factory=dict)
    roots: Mapping[str, bytes] = field(default_factory=dict)


def key_name(key_id: str) -> str:
    """Where the document of a key is stored."""
    return f"{PREFIX}{key_id}.json"


def recipient_body(recipient: Recipient, roots: Roots, vault_id: str, created_at: datetime) -> JsonObject:
    """The document of a recovery recipient, to be signed by the root."""
    # HPKE seals 32 or 64 bytes alike; the roots travel as one 64-byte message.
    sealed = recipient.seal(roots.id_root + roots.meta_root, roots_context(vault_id))
    return {
        "kind": "recipient",
        "vault": vault_id,
        "created_at": to_text(created_at),
        **recipient.to_json(),
        "sealed_roots": sealed.hex(),
    }


def certificate_body(
    key: SigningKey,
    roots: Roots,
    vault_id: str,
    created_at: datetime,
    *,
    datasets: tuple[str, ...] = ("*",),
    follows: str | None = None,
    random_bytes: RandomBytes = system_random,
) -> JsonObject:
    """The certificate of a signing key, to be signed by the root."""
    body: JsonObject = {
        "kind": "certificate",
        "vault": vault_id,
        "created_at": to_text(created_at),
        "id": key.id,
        "role": key.role,
        "datasets": list(datasets),
        "ed25519": key.public().hex(),
        "wrapped_roots": key.wrap(roots, vault_id, random_bytes).hex(),
    }
    return body | {"follows": follows} if follows else body


def read_key_documents(store: ObjectStore, pins: Pins) -> KeyDocuments:
    """Every document in ``keys/``.

    :raises Refused: one that the root did not sign, or that belongs elsewhere (D1). :raises Corrupt: a malformed one.
    """
    certificates: dict[str, Certificate] = {}
    recipients: dict[str, Listed] = {}
    roots: dict[str, bytes] = {}
    for info in store.list(PREFIX):
        body, _ = open_root_document(store, info, pins, ("recipient", "certificate"))
        if info.name != key_name(str(body.get("id"))):
            raise Refused(
                f"{info.name} in {store.url} holds the key document of {body.get('id')}.",
                hint="Somebody moved it; `reopen repair --from SITE` takes keys/ from a replica.",
                object=info.name,
            )
        try:
            key_id, created_at = _key_id(body), from_text(body["created_at"])
            if body["kind"] == "recipient":
                recipients[key_id] = Listed(recipient=Recipient.from_json(body), created_at=created_at)
                roots[key_id] = bytes.fromhex(body["sealed_roots"])
                continue
            roots[key_id] = bytes.fromhex(body["wrapped_roots"])
            certificates[key_id] = Certificate(
                id=key_id,
                role=_role(body),
                datasets=tuple(map(str, body["datasets"])),
                public=bytes.fromhex(body["ed25519"]),
                created_at=created_at,
                follows=body.get("follows"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Corrupt(f"{info.name} lacks or misspells a field: {error}.", object=info.name) from error
    return KeyDocuments(certificates=certificates, recipients=recipients, roots=roots)


def open_root_document(
    store: ObjectStore, info: ObjectInfo, pins: Pins, kinds: tuple[str, ...]
) -> tuple[JsonObject, bytes]:
    """Body and stored bytes of a document that only the root may sign, for this vault.

    :raises Refused: another signature, or of another vault. :raises Corrupt: no such document.
    :raises MadeByNewer: it requires what this version does not know.
    """
    if info.size_bytes > RECORD_BYTES_MAX:
        raise Corrupt(f"{info.name} has {info.size_bytes} bytes; no document has more.", object=info.name)
    try:
        data = store.get(info.name)
    except NotFound as error:
        raise NotFound(
            f"{info.name} is listed in {store.url} and not there.",
            hint="`reopen repair --from SITE` takes it from a replica.",
        ) from error
    head = data[:16384]
    kind = next((kind for kind in kinds[:-1] if f'"kind":"{kind}"'.encode() in head), kinds[-1])
    body, _, signature = open_envelope(data, info.name, kind)
    signed = verify_signature(pins.root_public, signature, signed_message(body))
    if not signed or body.get("vault") != pins.vault_id:
        raise Refused(
            f"{info.name} in {store.url} is not signed by the vault's root key.",
            hint="Somebody tried to change the keys; `reopen repair --from SITE` takes it from a replica.",
            object=info.name,
        )
    check_requirements(body, info.name)
    return body, data


def _key_id(body: JsonObject) -> str:
    if not re.fullmatch(KEY_ID, body["id"]):
        raise ValueError("a key id is malformed")
    return str(body["id"])


def _role(body: JsonObject) -> str:
    if body["role"] not in SIGNING_ROLES:
        raise ValueError(f"unknown role {body['role']!r}")
    return str(body["role"])
