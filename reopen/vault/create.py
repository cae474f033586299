"""Owns the making of a vault: its keys, ``vault.json`` and ``keys/``.

Order: key files first (the caller saves them), then ``keys/*.json``, then ``vault.json`` by exclusive create. A crash
before the last step leaves keys without a vault, which is harmless; the reverse would be a vault that nobody can open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from reopen.clock import to_text
from reopen.errors import Conflict
from reopen.ids import RandomBytes, system_random
from reopen.storage import ObjectStore, probe_exclusive_create
from reopen.vault.canonical import JsonObject, seal_envelope
from reopen.vault.chunker import ChunkSizes
from reopen.vault.keydocs import certificate_body, key_name, recipient_body
from reopen.vault.keys import FORMAT_VERSION, SIGNING_ROLES, Pins, RecoveryKey, Roots, SigningKey

VAULT_OBJECT = "vault.json"
SINGLE_WRITER = "single-writer"
"""Optional feature: the vault was made in a store that cannot create exclusively, so it takes one writer at a time."""
PACK_BYTES = 64 << 20
FRAME_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is settled when a vault is made and never changes. Sizes in bytes."""

    chunks: ChunkSizes = field(default_factory=ChunkSizes)
    pack_bytes: int = PACK_BYTES
    frame_bytes: int = FRAME_BYTES
    """Small files are packed together into frames of up to this size."""

    def to_json(self) -> JsonObject:
        """As stored in ``vault.json``."""
        return {
            "chunk_min": self.chunks.min_size,
            "chunk_avg": self.chunks.avg_size,
            "chunk_max": self.chunks.max_size,
            "pack_bytes": self.pack_bytes,
            "frame_bytes": self.frame_bytes,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Parameters:
        """The parameters that :meth:`to_json` wrote."""
        return cls(
            chunks=ChunkSizes(
                min_size=int(value["chunk_min"]), avg_size=int(value["chunk_avg"]), max_size=int(value["chunk_max"])
            ),
            pack_bytes=int(value["pack_bytes"]),
            frame_bytes=int(value["frame_bytes"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NewKeys:
    """All the keys of a new vault. Save them before :func:`create_vault`, each where its role works."""

    pins: Pins
    roots: Roots
    recovery: RecoveryKey
    signing: tuple[SigningKey, ...]

    def role(self, role: str) -> RecoveryKey | SigningKey:
        """The key of a role; of the writers, the first."""
        if role == "recovery":
            return self.recovery
        return next(key for key in self.signing if key.role == role)

    @property
    def writers(self) -> tuple[SigningKey, ...]:
        """One writer key for each site that writes."""
        return tuple(key for key in self.signing if key.role == "writer")


def make_keys(random_bytes: RandomBytes = system_random, *, writers: int = 1) -> NewKeys:
    """A vault id, its roots, one recovery key and one key of every signing role.

    :param writers: how many writer keys: one for each site, so that what a lost site wrote is told apart from what
        the site that took over writes.
    """
    recovery = RecoveryKey.generate(random_bytes)
    roles = [*SIGNING_ROLES, *["writer"] * (writers - 1)]
    signing = tuple(SigningKey.generate(role, random_bytes) for role in roles)
    root = next(key for key in signing if key.role == "root")
    pins = Pins(vault_id=random_bytes(16).hex(), root_public=root.public(), recipients=(recovery.recipient(),))
    roots = Roots(id_root=random_bytes(32), meta_root=random_bytes(32))
    return NewKeys(pins=pins, roots=roots, recovery=recovery, signing=signing)


def create_vault(
    store: ObjectStore,
    keys: NewKeys,
    *,
    created_at: datetime,
    parameters: Parameters | None = None,
    optional_features: Sequence[str] = (),
    random_bytes: RandomBytes = system_random,
) -> None:
    """Make an empty vault in a store.

    :param optional_features: names of :mod:`reopen.vault.features`. Where the store cannot create exclusively,
        :data:`SINGLE_WRITER` is added.
    :raises Conflict: there is a vault already.
    """
    if any(True for _ in store.list(VAULT_OBJECT)):
        raise Conflict(
            f"there is a vault in {store.url} already.",
            hint="Name another folder, or open this one with the keys that belong to it.",
        )
    features = list(optional_features)
    if not probe_exclusive_create(store) and SINGLE_WRITER not in features:
        features.append(SINGLE_WRITER)
    root = keys.role("root")
    assert isinstance(root, SigningKey)
    vault_id = keys.pins.vault_id
    bodies = [recipient_body(recipient, keys.roots, vault_id, created_at) for recipient in keys.pins.recipients]
    bodies += [
        certificate_body(key, keys.roots, vault_id, created_at, random_bytes=random_bytes) for key in keys.signing
    ]
    for body in bodies:
        store.put(key_name(body["id"]), [seal_envelope(body, root)])
    body = {
        "kind": "vault",
        "format": FORMAT_VERSION,
        "id": keys.pins.vault_id,
        "created_at": to_text(created_at),
        "features": {"required": [], "optional": features},
        "parameters": (parameters or Parameters()).to_json(),
        "root_public": keys.pins.root_public.hex(),
        "recipients": [recipient.id for recipient in keys.pins.recipients],
        "metadata_key": 1,
    }
    store.create(VAULT_OBJECT, [seal_envelope(body, root)])
