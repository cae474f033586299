"""Owns moving frames into new packs without a content key.

A frame's AAD does not name its pack, so a frame moves as it is, and the slot with its sealed content key beside it. The
source is checked against its name and its signature first.

Invariants
    I1  Only frames of one writer share a new pack, and its index part names that writer as ``origin``: retention's
        signature makes nobody trust somebody else's chunks (P5 of ``docs/0005-prune.md``).
    I2  A source counts as moved only after every needed frame of it is in a pack that is durable and that a durable
        index part covers.
    I3  One source and one new pack are in memory.

A crash leaves new packs without an index part, or frames that lie in two packs; the next run sees both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from reopen.errors import Conflict, Corrupt, NotFound
from reopen.ids import new_id
from reopen.progress import SILENT, Progress
from reopen.vault import Vault
from reopen.vault.indexparts import write_index_part
from reopen.vault.pack import (
    CHUNK_DTYPE,
    FRAME_DTYPE,
    NONCE_BYTES,
    SLOTS_MAX,
    Directory,
    Slot,
    Table,
    encode_directory,
    encode_footer,
    encode_head,
    seal_directory,
    signature_message,
)
from reopen.vault.packreader import OpenPack, check_stored, open_pack, signer_of
from reopen.vault.packwriter import PACKS_PER_INDEX_PART, StoredPack, index_rows
from reopen.vault.record import pack_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Repacked:
    """What was moved. ``sources``: packs of which every needed frame is in a new pack now. ``unreadable``: packs that
    could not be opened, with the reason; they stay as they are."""

    sources: tuple[bytes, ...] = ()
    unreadable: tuple[tuple[bytes, str], ...] = ()
    read_bytes: int = 0
    moved_bytes: int = 0
    new_packs: int = 0
    new_bytes: int = 0


Wanted = Callable[[OpenPack], NDArray[np.bool_]]
"""Of an open pack, which of its frames are to be moved."""


def repack(
    vault: Vault, sources: Sequence[bytes], wanted: Wanted, *, origins: dict[bytes, str], progress: Progress = SILENT
) -> Repacked:
    """Move the wanted frames of some packs into new ones.

    :param origins: of packs that retention signed, whose chunks they hold.
    :raises VaultUnwritable: the store refuses bytes; nothing is lost.
    """
    mover = _Mover(vault)
    moved, unreadable = [], []
    read_bytes = 0
    progress.start("repack", len(sources), "packs")
    for pack_id in sources:
        try:
            pack = checked_pack(vault, pack_id)
        except (Corrupt, NotFound) as error:
            unreadable.append((pack_id, error.message))
        else:
            read_bytes += len(pack.data)
            mover.add(pack, wanted(pack), origin_of(vault, pack, origins))
            moved.append(pack_id)
        progress.advance(1)
    mover.finish()
    progress.finish()
    return Repacked(
        sources=tuple(moved),
        unreadable=tuple(unreadable),
        read_bytes=read_bytes,
        moved_bytes=mover.moved_bytes,
        new_packs=mover.new_packs,
        new_bytes=mover.new_bytes,
    )


def checked_pack(vault: Vault, pack_id: bytes) -> OpenPack:
    """A pack whose bytes are what its name says, with its directory open and its signature right."""
    data = vault.store.get(pack_name(pack_id.hex()))
    check_stored(pack_id.hex(), data)
    return open_pack(vault, pack_id.hex(), data)


def origin_of(vault: Vault, pack: OpenPack, origins: dict[bytes, str]) -> str:
    """The writer whose chunks a pack holds: who signed it, or where retention did, whom it named."""
    signer = signer_of(pack)
    if vault.certificates[signer].role == "writer":
        return signer
    return origins.get(bytes.fromhex(pack.id), "")


@dataclass(slots=True)
class _Growing:
    """Frames that will be one pack."""

    slots: dict[bytes, tuple[int, Slot]] = field(default_factory=dict)
    stored: list[bytes] = field(default_factory=list)
    frames: list[Table] = field(default_factory=list)
    chunks: list[Table] = field(default_factory=list)
    size_bytes: int = 0


class _Mover:
    """Gathers frames by whose they are and to whom their slots are sealed, and stores packs as they fill."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._signer = vault.keyring.signer("retention")
        self._growing: dict[tuple[str, tuple[str, ...]], _Growing] = {}
        self._unlisted: dict[str, list[StoredPack]] = {}
        self.moved_bytes = 0
        self.new_packs = 0
        self.new_bytes = 0

    def add(self, pack: OpenPack, wanted: NDArray[np.bool_], origin: str) -> None:
        frames, chunks = pack.directory.frames, pack.directory.chunks
        borders = np.append(frames["first_chunk"].astype(np.int64), len(chunks))
        for number in np.flatnonzero(wanted).tolist():
            frame = frames[number : number + 1].copy()
            slot = pack.slots[int(frame["slot"][0])]
            key = origin, tuple(recipient for recipient, _ in slot.sealed)
            growing = self._growing.setdefault(key, _Growing())
            if slot.salt not in growing.slots:
                growing.slots[slot.salt] = len(growing.slots), slot
                growing.size_bytes += len(encode_head(self._vault.id, (slot,)))
            frame["slot"] = growing.slots[slot.salt][0]
            start, length = int(frame["offset"][0]), int(frame["stored_length"][0])
            growing.stored.append(pack.data[start : start + length])
            growing.frames.append(frame)
            growing.chunks.append(chunks[borders[number] : borders[number + 1]])
            growing.size_bytes += length
            self.moved_bytes += length
            full = growing.size_bytes >= self._vault.parameters.pack_bytes
            if full or len(growing.slots) == SLOTS_MAX:
                self._store(key[0], self._growing.pop(key))

    def finish(self) -> None:
        """Store what is left; everything added is durable and indexed afterwards (I2)."""
        for (origin, _), growing in self._growing.items():
            self._store(origin, growing)
        self._growing.clear()
        for origin in self._unlisted:
            self._list(origin)

    def _store(self, origin: str, growing: _Growing) -> None:
        slots = tuple(slot for _, slot in growing.slots.values())
        head = encode_head(self._vault.id, slots)
        directory = _directory(growing, len(head))
        pieces = [head, *growing.stored]
        digest = blake3()
        for piece in pieces:
            digest.update(piece)

        def append(piece: bytes) -> None:
            pieces.append(piece)
            digest.update(piece)

        offset = sum(len(piece) for piece in pieces)
        nonce = self._vault.random_bytes(NONCE_BYTES)
        sealed = seal_directory(
            encode_directory(directory), self._vault.roots.directory_key(), nonce, head, digest.digest()
        )
        append(sealed)
        message = signature_message(self._vault.id, digest.digest())
        append(bytes.fromhex(self._signer.id) + self._signer.sign(message))
        append(encode_footer(offset, len(sealed)))
        pack_id, size_bytes = digest.digest(), sum(len(piece) for piece in pieces)
        self._create(pack_id, size_bytes, pieces)
        self.new_packs += 1
        self.new_bytes += size_bytes
        rows = index_rows(pack_id, slots, directory)
        unlisted = self._unlisted.setdefault(origin, [])
        unlisted.append(StoredPack(id=pack_id, size_bytes=size_bytes, rows=rows))
        if len(unlisted) >= PACKS_PER_INDEX_PART:
            self._list(origin)

    def _create(self, pack_id: bytes, size_bytes: int, pieces: list[bytes]) -> None:
        name = pack_name(pack_id.hex())
        try:
            self._vault.store.create(name, pieces)
        except Conflict:
            # The name is a digest over a fresh nonce: it is our own earlier attempt, whose answer was lost.
            if self._vault.store.head(name).size_bytes != size_bytes:
                raise

    def _list(self, origin: str) -> None:
        packs, self._unlisted[origin] = self._unlisted[origin], []
        if packs:
            name = f"prune-{new_id(self._vault.random_bytes)}"
            write_index_part(self._vault, name, packs, self._signer, origin=origin)


def _directory(growing: _Growing, start: int) -> Directory:
    frames = np.concatenate(growing.frames).astype(FRAME_DTYPE)
    counts = np.array([len(chunks) for chunks in growing.chunks], dtype=np.int64)
    lengths = frames["stored_length"].astype(np.uint64)
    frames["offset"] = start + np.cumsum(lengths) - lengths
    frames["first_chunk"] = np.cumsum(counts) - counts
    return Directory(frames=frames, chunks=np.concatenate(growing.chunks).astype(CHUNK_DTYPE))
