"""Owns the keys: what each role holds, and how roots reach them. Their files are :mod:`reopen.vault.keyfiles`.

Roles
    recovery   opens everything: roots and content. One or more recipients; kept away from production.
    writer     adds copies: signs packs, indexes and records; knows the roots, can read no content.
    verifier   states what was proven: signs ``verified``, ``clean``, ``drilled``.
    retention  lets go: signs ``expired``, ``held``, ``void``.
    root       signs the certificates of the others; needed only to add or remove keys.

Invariants
    I1  ``id_root`` and ``meta_root`` are random, belong to the vault, are sealed to every recovery recipient (HPKE,
        X25519 with ML-KEM-768) and wrapped for every signing key (AES-256-GCM under a key in its own file).
    I2  Content keys are sealed to recovery recipients only, so no signing key opens a byte of content.
    I3  Every key file pins vault id, root public key, first recipients, lowest format and lowest trust statement: a
        store that swaps them in ``vault.json`` is refused.
    I4  Derived keys come from BLAKE3 in ``derive_key`` mode, one context string a purpose, never from each other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reopen.errors import Conflict, Corrupt, Refused
from reopen.ids import RandomBytes, new_id, system_random
from reopen.storage.canonical import JsonObject

FORMAT_VERSION = 1
SIGNING_ROLES = ("root", "writer", "verifier", "retention")
ROLES = ("recovery", *SIGNING_ROLES)
KEY_ID = r"[0-9a-f]{16}"
VAULT_ID = r"[0-9a-f]{32}"
RECOVERY_KEY_HINT = (
    "Run it where the recovery key is kept, or set REOPEN_KEYS to the folder that holds it, or REOPEN_PASSPHRASE_FILE "
    "to a file with its passphrase."
)
"""What to do where content cannot be read."""

_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
SEALED_KEY_BYTES = 1168
"""A 32-byte key sealed by the suite: 1,120 bytes of encapsulation, 32 of key, 16 of tag."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Roots:
    """The vault's two secrets and what is derived from them. Held in memory only."""

    id_root: bytes
    meta_root: bytes

    def chunk_id_key(self) -> bytes:
        """Key of the keyed BLAKE3 that names chunks (32 bytes)."""
        return _derive("reopen v1 chunk id", self.id_root)

    def chunker_seed(self) -> int:
        """Seed of the gear table: an observer of lengths cannot test for a known file (63 bits:
        the chunker's library doubles the seed in a signed step)."""
        return int.from_bytes(_derive("reopen v1 chunker seed", self.id_root)[:8], "little") & ((1 << 63) - 1)

    def directory_key(self) -> bytes:
        """Key that seals pack directories (32 bytes)."""
        return _derive("reopen v1 pack directory", self.meta_root)

    def metadata_key(self, number: int) -> bytes:
        """Key of the encrypted Parquet files of key generation ``number`` (32 bytes)."""
        return _derive(f"reopen v1 metadata {number}", self.meta_root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """The public half of a recovery key: who can open content."""

    id: str
    mlkem_public: bytes
    x25519_public: bytes

    def seal(self, key: bytes, info: bytes) -> bytes:
        """``key`` (32 bytes) sealed to this recipient: 1,168 bytes."""
        public = hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.mlkem_public),
            X25519PublicKey.from_public_bytes(self.x25519_public),
        )
        return _SUITE.encrypt(key, public, info=info)

    def to_json(self) -> JsonObject:
        """As pinned in key files and published in ``keys/``."""
        return {"id": self.id, "mlkem768": self.mlkem_public.hex(), "x25519": self.x25519_public.hex()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipient:
        """The recipient that :meth:`to_json` wrote; ``ValueError``, ``KeyError`` or ``TypeError`` for another value."""
        return cls(
            id=_matching(KEY_ID, value["id"]),
            mlkem_public=_sized(value["mlkem768"], 1184),
            x25519_public=_sized(value["x25519"], 32),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """What a key file remembers of its vault, so that a store cannot lie about it (I3). ``recipients`` are those the
    vault began with; who is sealed to now is in the trust statement. ``trust_min`` is the number of the statement
    from which the key counts."""

    vault_id: str
    root_public: bytes
    recipients: tuple[Recipient, ...]
    format_min: int = FORMAT_VERSION
    trust_min: int = 0

    def to_json(self) -> JsonObject:
        """As stored in key files."""
        pins: JsonObject = {
            "vault": self.vault_id,
            "root_public": self.root_public.hex(),
            "recipients": [recipient.to_json() for recipient in self.recipients],
            "format_min": self.format_min,
        }
        # Absent in the files of a vault's beginning, which are then the same as those of earlier programs.
        return pins | {"trust_min": self.trust_min} if self.trust_min else pins

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Pins:
        """The pins that :meth:`to_json` wrote; ``ValueError``, ``KeyError`` or ``TypeError`` for another value."""
        return cls(
            vault_id=_matching(VAULT_ID, value["vault"]),
            root_public=_sized(value["root_public"], 32),
            recipients=tuple(Recipient.from_json(item) for item in value["recipients"]),
            format_min=int(value["format_min"]),
            trust_min=int(value.get("trust_min", 0)),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RecoveryKey:
    """The private half of a recovery recipient."""

    id: str
    mlkem_seed: bytes
    x25519_private: bytes

    @classmethod
    def generate(cls, random_bytes: RandomBytes = system_random) -> RecoveryKey:
        """A fresh key."""
        return cls(id=new_id(random_bytes), mlkem_seed=random_bytes(64), x25519_private=random_bytes(32))

    def recipient(self) -> Recipient:
        """The public half."""
        mlkem, x25519 = self._parts()
        return Recipient(
            id=self.id,
            mlkem_public=mlkem.public_key().public_bytes_raw(),
            x25519_public=x25519.public_key().public_bytes_raw(),
        )

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The key that :meth:`Recipient.seal` sealed; ``Corrupt`` when it is not for this key or was changed."""
        mlkem, x25519 = self._parts()
        try:
            return bytes(_SUITE.decrypt(sealed, hpke.MLKEM768X25519PrivateKey(mlkem, x25519), info=info))
        except (InvalidTag, ValueError) as error:
            raise Corrupt(
                f"a sealed key does not open with recovery key {self.id}.",
                hint="The sealed bytes are damaged, or this key belongs to another vault.",
                key=self.id,
            ) from error

    def _parts(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        return (
            MLKEM768PrivateKey.from_seed_bytes(self.mlkem_seed),
            X25519PrivateKey.from_private_bytes(self.x25519_private),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SigningKey:
    """A signing key of one role, with the secret that unwraps the roots for it."""

    id: str
    role: str
    seed: bytes
    wrap_key: bytes

    @classmethod
    def generate(cls, role: str, random_bytes: RandomBytes = system_random) -> SigningKey:
        """A fresh key of a role."""
        return cls(id=new_id(random_bytes), role=role, seed=random_bytes(32), wrap_key=random_bytes(32))

    def public(self) -> bytes:
        """The Ed25519 public key, 32 bytes."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)

    def wrap(self, roots: Roots, vault_id: str, random_bytes: RandomBytes = system_random) -> bytes:
        """The roots wrapped for this key: nonce (12), ciphertext (64), tag (16)."""
        nonce = random_bytes(12)
        plain = roots.id_root + roots.meta_root
        return nonce + AESGCM(self.wrap_key).encrypt(nonce, plain, _wrap_context(vault_id, self.id))

    def unwrap(self, wrapped: bytes, vault_id: str) -> Roots:
        """The roots that :meth:`wrap` wrapped; ``Corrupt`` when they were changed or are another key's."""
        try:
            plain = AESGCM(self.wrap_key).decrypt(wrapped[:12], wrapped[12:], _wrap_context(vault_id, self.id))
        except (InvalidTag, ValueError) as error:
            raise Corrupt(
                f"the vault's roots do not unwrap with {self.role} key {self.id}.",
                hint="The key file is not of this vault, or its keys/ is damaged; a recovery key still works.",
                key=self.id,
            ) from error
        return roots_from_bytes(plain)


def roots_from_bytes(plain: bytes) -> Roots:
    """Roots from their 64 bytes: ``id_root`` then ``meta_root``."""
    if len(plain) != 64:
        raise Corrupt(f"the vault's roots have {len(plain)} bytes instead of 64.")
    return Roots(id_root=plain[:32], meta_root=plain[32:])


def roots_context(vault_id: str) -> bytes:
    """HPKE ``info`` for the sealed roots."""
    return b"reopen/v1/roots\0" + bytes.fromhex(vault_id)


def verify_signature(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether an Ed25519 signature is right."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Grants(Protocol):
    """Content keys of old slots that were sealed again, to recovery keys that were added later."""

    def find(self, salt: bytes, recovery_ids: Collection[str]) -> tuple[str, bytes] | None:
        """For a slot's salt, a recipient among these and the content key sealed to it; ``None`` when there is none."""
        ...


class Keyring:
    """The keys that this process holds for one vault.

    As loaded it holds several keys of a role in any order; a vault arranges it (:meth:`arranged`) so that the newest
    key that may sign is taken.
    """

    def __init__(
        self,
        pins: Pins,
        *,
        signing: Iterable[SigningKey] = (),
        recovery: Iterable[RecoveryKey] = (),
        notes: Iterable[str] = (),
    ) -> None:
        """
        :param notes: what people should know about the key files, one sentence each.
        """
        self.pins = pins
        self.notes = tuple(notes)
        self.grants: Grants | None = None
        self._signing = tuple(signing)
        self._recovery = tuple(recovery)
        self._barred: Mapping[str, str] = {}

    def arranged(self, order: Sequence[str], barred: Mapping[str, str], grants: Grants | None = None) -> Keyring:
        """The same keys as one vault sees them.

        :param order: ids of signing keys, the one to take first of each role first.
        :param barred: why a key may sign nothing more, by its id: ends the sentence "writer key 3fa1… ".
        """
        places = {key_id: place for place, key_id in enumerate(order)}
        signing = sorted(self._signing, key=lambda key: places.get(key.id, len(places)))
        ring = Keyring(self.pins, signing=signing, recovery=self._recovery, notes=self.notes)
        ring._barred = dict(barred)
        ring.grants = grants
        return ring

    def joined_by(self, other: Keyring) -> Keyring:
        """These keys and the recovery keys of another ring of the same vault.

        :raises Conflict: it is of another vault.
        """
        if other.pins.vault_id != self.pins.vault_id:
            raise Conflict(
                f"the key files here belong to vault {self.pins.vault_id}, and the passphrase to a key of vault "
                f"{other.pins.vault_id}.",
                hint="Use the passphrase of this vault, or set REOPEN_KEYS to the folder with the keys of that one.",
            )
        return Keyring(self.pins, signing=self._signing, recovery=(*self._recovery, *other._recovery), notes=self.notes)

    @property
    def can_read_content(self) -> bool:
        """Whether a recovery key is here."""
        return bool(self._recovery)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that can be acted in, in the order of :data:`ROLES`."""
        held = {key.role for key in self._signing if key.id not in self._barred}
        held |= {"recovery"} if self._recovery else set()
        return tuple(role for role in ROLES if role in held)

    @property
    def recovery_keys(self) -> tuple[RecoveryKey, ...]:
        """Every recovery key held."""
        return self._recovery

    @property
    def signing_keys(self) -> tuple[SigningKey, ...]:
        """Every signing key held, also of roles that it may not act in any more."""
        return self._signing

    def has_role(self, role: str) -> bool:
        """Whether a key of this role is held that may sign."""
        return role in self.roles

    def signer(self, role: str) -> SigningKey:
        """The signing key of a role; ``Refused`` names the role and where such keys live."""
        held = [key for key in self._signing if key.role == role]
        for key in held:
            if key.id not in self._barred:
                return key
        if held:
            raise Refused(
                f"{role} key {held[0].id} {self._barred[held[0].id]}.",
                hint="Take the key file that followed it; `reopen keys list` shows which keys there are.",
                role=role,
                key=held[0].id,
            )
        raise Refused(
            f"this needs a {role} key, and the keys here are: {', '.join(self.roles) or 'none'}.",
            hint=f"Run it where the {role} key is kept, or set REOPEN_KEYS to the folder that holds it.",
            role=role,
        )


def _matching(pattern: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError("an id is malformed")
    return value


def _sized(value: str, size: int) -> bytes:
    data = bytes.fromhex(value)
    if len(data) != size:
        raise ValueError(f"a key has {len(data)} bytes instead of {size}")
    return data


def _derive(context: str, secret: bytes) -> bytes:
    return blake3(secret, derive_key_context=context).digest()


def _wrap_context(vault_id: str, key_id: str) -> bytes:
    return b"reopen/v1/wrap\0" + bytes.fromhex(vault_id) + bytes.fromhex(key_id)
