"""Owns the keys: what each role holds, how roots reach them, and the key files outside the vault.

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
    I3  Every key file pins vault id, root public key, recipients and lowest format: a store that swaps them in
        ``vault.json`` is refused.
    I4  Derived keys come from BLAKE3 in ``derive_key`` mode, one context string a purpose, never from each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reopen.errors import Conflict, Corrupt, InvalidInput, NotFound, Refused
from reopen.ids import RandomBytes, new_id, system_random
from reopen.vault.canonical import JsonObject, decode, encode

FORMAT_VERSION = 1
SIGNING_ROLES = ("root", "writer", "verifier", "retention")
ROLES = ("recovery", *SIGNING_ROLES)
KEY_FILE_SUFFIX = ".key"

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
        """The recipient that :meth:`to_json` wrote."""
        return cls(
            id=str(value["id"]),
            mlkem_public=bytes.fromhex(value["mlkem768"]),
            x25519_public=bytes.fromhex(value["x25519"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """What a key file remembers of its vault, so that a store cannot lie about it (I3)."""

    vault_id: str
    root_public: bytes
    recipients: tuple[Recipient, ...]
    format_min: int = FORMAT_VERSION

    def to_json(self) -> JsonObject:
        """As stored in key files."""
        return {
            "vault": self.vault_id,
            "root_public": self.root_public.hex(),
            "recipients": [recipient.to_json() for recipient in self.recipients],
            "format_min": self.format_min,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Pins:
        """The pins that :meth:`to_json` wrote."""
        return cls(
            vault_id=str(value["vault"]),
            root_public=bytes.fromhex(value["root_public"]),
            recipients=tuple(Recipient.from_json(item) for item in value["recipients"]),
            format_min=int(value["format_min"]),
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


class Keyring:
    """The keys that this process holds for one vault."""

    def __init__(self, pins: Pins, *, signing: Iterable[SigningKey] = (), recovery: Iterable[RecoveryKey] = ()) -> None:
        self.pins = pins
        self._signing = {key.role: key for key in signing}
        self._recovery = tuple(recovery)

    @property
    def can_read_content(self) -> bool:
        """Whether a recovery key is here."""
        return bool(self._recovery)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles held, in the order of :data:`ROLES`."""
        held = set(self._signing) | ({"recovery"} if self._recovery else set())
        return tuple(role for role in ROLES if role in held)

    @property
    def recovery_keys(self) -> tuple[RecoveryKey, ...]:
        """Every recovery key held."""
        return self._recovery

    @property
    def signing_keys(self) -> tuple[SigningKey, ...]:
        """Every signing key held."""
        return tuple(self._signing.values())

    def has_role(self, role: str) -> bool:
        """Whether a key of this role is held."""
        return role in self.roles

    def signer(self, role: str) -> SigningKey:
        """The signing key of a role; ``Refused`` names the role and where such keys live."""
        key = self._signing.get(role)
        if key is None:
            raise Refused(
                f"this needs a {role} key, and the keys here are: {', '.join(self.roles) or 'none'}.",
                hint=f"Run it where the {role} key is kept, or set REOPEN_KEYS to the folder that holds it.",
                role=role,
            )
        return key


def save_key(folder: Path, key: RecoveryKey | SigningKey, pins: Pins) -> Path:
    """Write a key file ``<role>-<id>.key``, mode 0600, never replacing one; returns its path."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    role = "recovery" if isinstance(key, RecoveryKey) else key.role
    path = folder / f"{role}-{key.id}{KEY_FILE_SUFFIX}"
    secret: JsonObject
    if isinstance(key, RecoveryKey):
        secret = {"mlkem768_seed": key.mlkem_seed.hex(), "x25519": key.x25519_private.hex()}
    else:
        secret = {"ed25519_seed": key.seed.hex(), "wrap_key": key.wrap_key.hex()}
    document = {
        "kind": "reopen-key",
        "version": 1,
        "role": role,
        "id": key.id,
        "pins": pins.to_json(),
        "secret": secret,
    }
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Conflict(f"{path} already exists; a key file is never replaced.", path=path) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(encode(document))
        file.flush()
        os.fsync(file.fileno())
    return path


def load_keyring(folder: Path) -> Keyring:
    """Every key file in a folder as one keyring.

    :raises NotFound: no folder, or no key in it.
    :raises InvalidInput: a file that is not a key file.
    :raises Conflict: keys of different vaults, or two keys of one signing role.
    """
    paths = sorted(folder.glob(f"*{KEY_FILE_SUFFIX}")) if folder.is_dir() else []
    if not paths:
        raise NotFound(
            f"there is no key file in {folder}.",
            hint="`reopen init` makes keys; at a standby, copy the recovery key there or set REOPEN_KEYS.",
            path=folder,
        )
    pins: Pins | None = None
    signing: dict[str, SigningKey] = {}
    recovery: list[RecoveryKey] = []
    for path in paths:
        key, found = _load_key(path)
        if pins is not None and (found.vault_id, found.root_public) != (pins.vault_id, pins.root_public):
            raise Conflict(
                f"{path} belongs to vault {found.vault_id}, but {paths[0].name} to vault {pins.vault_id}.",
                hint="Keep the keys of one vault in one folder.",
                path=path,
            )
        if pins is not None and found.recipients != pins.recipients:
            raise Conflict(
                f"{path.name} and {paths[0].name} pin different recovery recipients.",
                hint="One of them is from before a recovery key was added or removed; take its newer copy.",
                path=path,
            )
        pins = pins or found
        if isinstance(key, RecoveryKey):
            recovery.append(key)
        elif key.role in signing:
            raise Conflict(
                f"{folder} holds two {key.role} keys: {signing[key.role].id} and {key.id}.",
                hint="Move the one that is no longer used elsewhere.",
                path=path,
            )
        else:
            signing[key.role] = key
    assert pins is not None
    return Keyring(pins, signing=signing.values(), recovery=recovery)


def _load_key(path: Path) -> tuple[RecoveryKey | SigningKey, Pins]:
    try:
        document = decode(path.read_bytes().strip(), path.name)
        role, key_id, secret = str(document["role"]), str(document["id"]), document["secret"]
        pins = Pins.from_json(document["pins"])
        if document["kind"] != "reopen-key" or document["version"] != 1 or role not in ROLES:
            raise ValueError(f"role {role!r}, version {document['version']!r}")
        if role == "recovery":
            mlkem_seed, x25519 = bytes.fromhex(secret["mlkem768_seed"]), bytes.fromhex(secret["x25519"])
            _require_sizes({"mlkem768_seed": (mlkem_seed, 64), "x25519": (x25519, 32)})
            return RecoveryKey(id=key_id, mlkem_seed=mlkem_seed, x25519_private=x25519), pins
        seed, wrap_key = bytes.fromhex(secret["ed25519_seed"]), bytes.fromhex(secret["wrap_key"])
        _require_sizes({"ed25519_seed": (seed, 32), "wrap_key": (wrap_key, 32)})
        return SigningKey(id=key_id, role=role, seed=seed, wrap_key=wrap_key), pins
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", path=path) from error
    except (Corrupt, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"{path} is not a key file that this version reads.",
            hint="Copy the key file again from where it is kept; it is one line of JSON.",
            path=path,
        ) from error


def _require_sizes(parts: Mapping[str, tuple[bytes, int]]) -> None:
    for name, (value, size) in parts.items():
        if len(value) != size:
            raise ValueError(f"{name} has {len(value)} bytes instead of {size}")


def _derive(context: str, secret: bytes) -> bytes:
    return blake3(secret, derive_key_context=context).digest()


def _wrap_context(vault_id: str, key_id: str) -> bytes:
    return b"reopen/v1/wrap\0" + bytes.fromhex(vault_id) + bytes.fromhex(key_id)
