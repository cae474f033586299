"""What the vault's tests share: a vault in memory with its keys, and frames and packs made by hand."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from reopen.clock import FixedClock
from reopen.ids import seeded_random
from reopen.storage import ObjectStore, open_store
from reopen.vault import NewKeys, Parameters, Vault, create_vault, make_keys
from reopen.vault.content import ChunkHasher, SealedFrame, Sealer
from reopen.vault.indexparts import write_index_part
from reopen.vault.keys import Keyring
from reopen.vault.packwriter import PackWriter, StoredPack

KEYS = make_keys(seeded_random(7))
"""One set of keys for all tests: making the hybrid keys takes longer than most tests."""


@dataclass(frozen=True)
class Role:
    """A keyring with some of the keys."""

    names: tuple[str, ...]

    def ring(self, keys: NewKeys = KEYS) -> Keyring:
        """The keyring."""
        recovery = (keys.recovery,) if "recovery" in self.names else ()
        return Keyring(keys.pins, signing=[key for key in keys.signing if key.role in self.names], recovery=recovery)


ALL = Role(("recovery", "root", "writer", "verifier", "retention"))
WRITER = Role(("writer",))
RECOVERY = Role(("recovery",))


def new_store() -> ObjectStore:
    """An empty store in memory."""
    return open_store(f"memory://{secrets.token_hex(8)}")


def new_vault(
    store: ObjectStore | None = None, role: Role = ALL, parameters: Parameters | None = None, keys: NewKeys = KEYS
) -> Vault:
    """A fresh vault in a store, opened with the keys of a role."""
    store = store or new_store()
    clock = FixedClock()
    create_vault(store, keys, created_at=clock.now(), parameters=parameters)
    return Vault.open(store, role.ring(keys), clock=clock)


def reopen(vault: Vault, role: Role) -> Vault:
    """The same vault with other keys."""
    return Vault.open(vault.store, role.ring(), clock=vault.clock)


def hasher(vault: Vault) -> ChunkHasher:
    """What names chunks in a vault."""
    return ChunkHasher(vault.roots.chunk_id_key())


def seal(vault: Vault, sealer: Sealer, *pieces: bytes) -> SealedFrame:
    """A frame of chunks."""
    name = hasher(vault)
    return sealer.seal(b"".join(name(piece) for piece in pieces), pieces)


class Packer:
    """A pack writer whose index parts are collected and written to the vault."""

    def __init__(self, vault: Vault, *, pack_bytes: int = 1 << 20, store: ObjectStore | None = None) -> None:
        self.vault = vault
        self.flushed: list[list[StoredPack]] = []
        self.sealer = Sealer(vault.id, vault.keyring.pins.recipients)
        self.writer = PackWriter(
            store or vault.store,
            vault_id=vault.id,
            roots=vault.roots,
            slot=self.sealer.slot,
            signer=vault.keyring.signer("writer"),
            pack_bytes=pack_bytes,
            flush=self._flush,
        )

    def add(self, *pieces: bytes) -> SealedFrame:
        """Seal chunks together and put the frame into a pack."""
        frame = seal(self.vault, self.sealer, *pieces)
        self.writer.add(frame)
        return frame

    def _flush(self, packs: list[StoredPack]) -> None:
        name = f"{secrets.token_hex(8)}-{len(self.flushed):04d}"
        write_index_part(self.vault, name, packs, self.vault.keyring.signer("writer"))
        self.flushed.append(packs)

    @property
    def packs(self) -> list[StoredPack]:
        """Every pack that was flushed to the index."""
        return [pack for part in self.flushed for pack in part]


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return blake3(seed.to_bytes(8, "little")).digest(length=size)


def flip(data: bytes, at: int, bit: int = 0) -> bytes:
    """The bytes with one bit changed."""
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def rewrite(path: Path, data: bytes) -> None:
    """Replace a file's bytes."""
    path.write_bytes(data)
