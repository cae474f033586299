"""Owns the way of bytes into a frame and back: chunk ids, compression, sealing, opening.

Invariants
    I1  A chunk's id is the keyed BLAKE3 of its raw bytes; whoever opens a frame derives it again before a byte of
        the chunk is used: this is what authenticates content.
    I2  What was compressed is decompressed and compared before it is sealed: a fault of memory or of the codec is
        found while the source is still there.
    I3  Decompression never makes more than the frame's recorded raw length, which is capped.
    I4  A content key is made for one :class:`Sealer` and forgotten with it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reopen.errors import Corrupt, Internal, Refused
from reopen.ids import RandomBytes, system_random
from reopen.vault.keys import RECOVERY_KEY_HINT, Keyring, Recipient
from reopen.vault.pack import (
    CODEC_RAW,
    CODEC_ZSTD,
    FRAME_BYTES_MAX,
    Slot,
    frame_aad,
    frame_nonce,
    make_slot,
)
from reopen.vault.slots import unseal_slot

COMPRESSION_LEVEL = 3
_INCOMPRESSIBLE_ABOVE = 0.97
"""Share of the raw size above which the compressed form is thrown away: decoding it would cost more than it saves."""

_local = threading.local()


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFrame:
    """A frame ready for a pack: ``ids`` holds 32 bytes a chunk, ``lengths`` the chunks' raw sizes, in order."""

    stored: bytes
    raw_length: int
    counter: int
    codec: int
    ids: bytes
    lengths: tuple[int, ...]


class ChunkHasher:
    """Names chunks. A callable object rather than a closure, so that it can be shared between threads and pickled."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, data: bytes | memoryview) -> bytes:
        """The 32-byte id of a chunk's raw bytes."""
        return blake3(data, key=self._key).digest()


class Sealer:
    """One slot: makes frames until it is dropped. Safe to use from many threads."""

    def __init__(
        self, vault_id: str, recipients: tuple[Recipient, ...], random_bytes: RandomBytes = system_random
    ) -> None:
        key = random_bytes(32)
        self._vault_id = vault_id
        self._cipher = AESGCM(key)
        self._counter = itertools.count()
        self.slot = make_slot(key, random_bytes(16), recipients, vault_id)

    def seal(self, ids: bytes, pieces: Sequence[bytes | memoryview]) -> SealedFrame:
        """Compress and seal chunks together as one frame; ``ids`` are their ids, 32 bytes each, in order."""
        raw = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        raw_length = len(raw)
        if not 0 < raw_length <= FRAME_BYTES_MAX or len(ids) != 32 * len(pieces):
            raise Internal(f"a frame of {raw_length} bytes with {len(pieces)} chunks cannot be made.")
        codec, encoded = _compress(raw)
        counter = next(self._counter)  # One bytecode on a C iterator: no two threads get the same number.
        aad = frame_aad(self._vault_id, self.slot.salt, counter, codec, raw_length)
        return SealedFrame(
            stored=self._cipher.encrypt(frame_nonce(counter), encoded, aad),
            raw_length=raw_length,
            counter=counter,
            codec=codec,
            ids=ids,
            lengths=tuple(len(piece) for piece in pieces),
        )


class ContentKeys:
    """Opens frames: unseals each slot's content key once and keeps it by salt."""

    def __init__(self, vault_id: str, keyring: Keyring) -> None:
        self._vault_id = vault_id
        self._keyring = keyring
        self._ciphers: dict[bytes, AESGCM] = {}
        self._lock = threading.Lock()

    def knows(self, salt: bytes) -> bool:
        """Whether the slot's key is at hand already."""
        return salt in self._ciphers

    def learn(self, slots: Sequence[Slot], name: str) -> None:
        """Unseal the content keys of a pack's slots.

        :raises Refused: no recovery key here.
        :raises NotFound: the pack is sealed to other recipients.
        """
        if not self._keyring.can_read_content:
            raise Refused(
                "reading content needs a recovery key, and none is here.",
                hint=RECOVERY_KEY_HINT,
            )
        for slot in slots:
            if slot.salt in self._ciphers:
                continue
            key = unseal_slot(self._vault_id, self._keyring, slot, name)
            with self._lock:
                self._ciphers[slot.salt] = AESGCM(key)

    def open(
        self, stored: bytes | memoryview, salt: bytes, counter: int, codec: int, raw_length: int, name: str
    ) -> bytes:
        """The raw bytes of a frame; ``Corrupt`` names the pack when tag or decoding fails."""
        aad = frame_aad(self._vault_id, salt, counter, codec, raw_length)
        try:
            encoded = self._ciphers[salt].decrypt(frame_nonce(counter), stored, aad)
            raw = encoded if codec == CODEC_RAW else _decompress(encoded, raw_length)
        except (InvalidTag, zstandard.ZstdError, ValueError) as error:
            raise Corrupt(
                f"frame {counter} of pack {name} does not open: its bytes are not what was written.",
                hint="`reopen verify --level content` lists what is affected; `reopen repair --from SITE` takes the "
                "pack from a replica.",
                pack=name,
                frame=counter,
            ) from error
        if len(raw) != raw_length:
            raise Corrupt(f"frame {counter} of pack {name} has {len(raw)} bytes instead of {raw_length}.", pack=name)
        return raw


def _compress(raw: bytes | memoryview) -> tuple[int, bytes | memoryview]:
    compressor = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
    encoded = compressor.compress(raw)
    if len(encoded) > len(raw) * _INCOMPRESSIBLE_ABOVE:
        return CODEC_RAW, raw
    if not _equal(_decompress(encoded, len(raw)), raw):
        raise Internal(
            "a compressed frame does not decode to what went in; the memory or processor of this host is faulty.",
            hint="Nothing of it was stored. Test the memory of this host, and take the snapshot on another one.",
        )
    return CODEC_ZSTD, encoded


def _equal(left: bytes, right: bytes | memoryview) -> bool:
    """Whether two buffers hold the same bytes; ``==`` walks a view item by item, at 0.6 GB/s and holding the lock."""
    words = len(left) // 8
    return (
        len(left) == len(right)
        and left[words * 8 :] == right[words * 8 :]
        and np.array_equal(np.frombuffer(left, np.uint64, words), np.frombuffer(right, np.uint64, words))
    )


def _decompress(encoded: bytes, raw_length: int) -> bytes:
    decompressor = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    if raw_length > FRAME_BYTES_MAX:
        raise ValueError("the frame is larger than the cap")
    # The frame header's own size could lie; an absent size falls back to the bound, a larger one is refused.
    declared = zstandard.frame_content_size(encoded)
    if declared > raw_length:
        raise ValueError("the compressed data claims to be larger than recorded")
    return bytes(decompressor.decompress(encoded, max_output_size=raw_length))
