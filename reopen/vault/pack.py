"""Owns the bytes of a pack: layout, frames, directory, footer; pure functions over buffers, no I/O.

::

    header     32 bytes    magic "REOPENPK", version u16, flags u16, slots u16, recipients u16, vault id 16
    slots      each: salt 16, then a recipient: key id 8, content key sealed to it 1,168
    frames     AES-256-GCM ciphertext and tag, back to back
    directory  nonce 12, ciphertext, tag 16: which frame holds which chunk
    signature  signer's key id 8, Ed25519 signature 64
    footer     32 bytes    directory offset u64, directory length u32, version u16, flags u16, zero 8, magic "REOPENPE"

All integers are little-endian.

Invariants
    I1  No chunk id and no length of a chunk or frame is in the clear.
    I2  A frame's AAD is version, vault id, slot salt, counter, codec and raw length, not the pack: frames and slots
        can move to another pack without any key.
    I3  A slot belongs to one process and counts up from zero; it is never resumed, so no nonce is used twice.
    I4  The directory's AAD is the header and the digest of all that precedes it; the signature covers the digest of
        all that precedes the signature. The pack's name is the BLAKE3 of all its bytes.
    I5  A reader checks every size against a cap before it allocates.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from reopen.errors import Corrupt
from reopen.vault.keys import SEALED_KEY_BYTES, Recipient

PACK_VERSION = 1
MAGIC = b"REOPENPK"
MAGIC_END = b"REOPENPE"
PACK_BYTES_MAX = 1 << 30
FRAME_BYTES_MAX = 16 << 20
SLOTS_MAX = 1024
RECIPIENTS_MAX = 64

CODEC_RAW = 0
CODEC_ZSTD = 1
CODECS = (CODEC_RAW, CODEC_ZSTD)
TAG_BYTES = 16
NONCE_BYTES = 12
SIGNATURE_BLOCK_BYTES = 72

_HEADER = struct.Struct("<8sHHHH16s")
_FOOTER = struct.Struct("<QIHHQ8s")
_FRAME_AAD = struct.Struct("<8sH16s16sQBI")
_DIRECTORY_HEAD = struct.Struct("<II")
HEADER_BYTES = _HEADER.size
FOOTER_BYTES = _FOOTER.size

FRAME_DTYPE = np.dtype(
    [
        ("offset", "<u8"),
        ("counter", "<u8"),
        ("stored_length", "<u4"),
        ("raw_length", "<u4"),
        ("first_chunk", "<u4"),
        ("slot", "<u2"),
        ("codec", "u1"),
        ("zero", "u1"),
    ]
)
CHUNK_DTYPE = np.dtype([("id", "V32"), ("offset", "<u4"), ("length", "<u4")])

Table = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One content key in sealed form: its salt and the key sealed to each recipient, in order of recipient id."""

    salt: bytes
    sealed: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Which frame holds which chunk. ``frames`` is of :data:`FRAME_DTYPE`, ``chunks`` of :data:`CHUNK_DTYPE`; the
    chunks of frame ``i`` are ``chunks[first_chunk[i]:first_chunk[i + 1]]``."""

    frames: Table
    chunks: Table

    def frame_of_chunk(self) -> NDArray[np.int64]:
        """For each chunk the number of its frame."""
        starts = self.frames["first_chunk"].astype(np.int64)
        counts = np.diff(np.append(starts, len(self.chunks)))
        return np.repeat(np.arange(len(self.frames), dtype=np.int64), counts)


def slot_context(vault_id: str, salt: bytes) -> bytes:
    """HPKE ``info`` under which a slot's content key is sealed."""
    return b"reopen/v1/slot\0" + bytes.fromhex(vault_id) + salt


def make_slot(content_key: bytes, salt: bytes, recipients: tuple[Recipient, ...], vault_id: str) -> Slot:
    """A content key sealed to every recipient."""
    context = slot_context(vault_id, salt)
    ordered = sorted(recipients, key=lambda recipient: recipient.id)
    return Slot(salt=salt, sealed=tuple((recipient.id, recipient.seal(content_key, context)) for recipient in ordered))


def encode_head(vault_id: str, slots: tuple[Slot, ...]) -> bytes:
    """Header and slots: the first bytes of a pack."""
    recipients = len(slots[0].sealed) if slots else 0
    parts = [_HEADER.pack(MAGIC, PACK_VERSION, 0, len(slots), recipients, bytes.fromhex(vault_id))]
    for slot in slots:
        parts.append(slot.salt)
        for recipient_id, sealed in slot.sealed:
            parts += [bytes.fromhex(recipient_id), sealed]
    return b"".join(parts)


def head_bytes(header: bytes, name: str, vault_id: str) -> int:
    """How many bytes header and slots take, from the first 32 bytes; checks magic, version, vault and caps."""
    _, _, slots, recipients = _parse_header(header, name, vault_id)
    return HEADER_BYTES + slots * (16 + recipients * (8 + SEALED_KEY_BYTES))


def decode_slots(head: bytes, name: str, vault_id: str) -> tuple[Slot, ...]:
    """The slots from header and slots."""
    if len(head) != head_bytes(head[:HEADER_BYTES], name, vault_id):
        raise Corrupt(f"pack {name} ends inside its key slots.", pack=name)
    _, _, count, recipients = _parse_header(head, name, vault_id)
    slots, at = [], HEADER_BYTES
    for _ in range(count):
        salt, at = head[at : at + 16], at + 16
        sealed = []
        for _ in range(recipients):
            sealed.append((head[at : at + 8].hex(), head[at + 8 : at + 8 + SEALED_KEY_BYTES]))
            at += 8 + SEALED_KEY_BYTES
        slots.append(Slot(salt=salt, sealed=tuple(sealed)))
    return tuple(slots)


def frame_aad(vault_id: str, salt: bytes, counter: int, codec: int, raw_length: int) -> bytes:
    """What a frame's tag covers besides its bytes (I2)."""
    return _FRAME_AAD.pack(b"RPNFRAME", PACK_VERSION, bytes.fromhex(vault_id), salt, counter, codec, raw_length)


def frame_nonce(counter: int) -> bytes:
    """The 12-byte nonce of a slot's frame: the counter as u64, then four zero bytes."""
    return counter.to_bytes(8, "little") + bytes(4)


def encode_directory(directory: Directory) -> bytes:
    """The directory's plain bytes: two counts, the frames, the chunks."""
    head = _DIRECTORY_HEAD.pack(len(directory.frames), len(directory.chunks))
    return head + directory.frames.tobytes() + directory.chunks.tobytes()


def decode_directory(plain: bytes, name: str, frames_end: int, frames_start: int, slots: int) -> Directory:
    """The directory from its plain bytes, every number checked against the pack it describes (I5).

    :param frames_start: offset of the first frame in the pack.
    :param frames_end: offset of the directory, where the last frame must end.
    """
    try:
        frame_count, chunk_count = _DIRECTORY_HEAD.unpack_from(plain)
        frames_at = _DIRECTORY_HEAD.size
        chunks_at = frames_at + frame_count * FRAME_DTYPE.itemsize
        if len(plain) != chunks_at + chunk_count * CHUNK_DTYPE.itemsize:
            raise ValueError("its length does not match its counts")
        frames = np.frombuffer(plain, FRAME_DTYPE, frame_count, frames_at)
        chunks = np.frombuffer(plain, CHUNK_DTYPE, chunk_count, chunks_at)
        _check_directory(frames, chunks, frames_start, frames_end, slots)
    except (struct.error, ValueError) as error:
        raise Corrupt(
            f"the directory of pack {name} is malformed: {error}.",
            hint="`reopen verify --level structure` names what is affected.",
            pack=name,
        ) from error
    return Directory(frames=frames, chunks=chunks)


def seal_directory(plain: bytes, key: bytes, nonce: bytes, header: bytes, digest_before: bytes) -> bytes:
    """Nonce, ciphertext and tag of a directory."""
    return nonce + AESGCM(key).encrypt(nonce, plain, _directory_aad(header, digest_before))


def open_directory(sealed: bytes, key: bytes, name: str, header: bytes, digest_before: bytes) -> bytes:
    """The plain bytes of a sealed directory; ``Corrupt`` when anything before it, or it, was changed."""
    try:
        aad = _directory_aad(header, digest_before)
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
    except (InvalidTag, ValueError) as error:
        raise Corrupt(f"the directory of pack {name} does not open.", pack=name) from error


def signature_message(vault_id: str, digest_before: bytes) -> bytes:
    """The bytes that a pack's signature covers."""
    return b"reopen/v1/pack\0" + bytes.fromhex(vault_id) + digest_before


def encode_footer(directory_offset: int, directory_length: int) -> bytes:
    """The last 32 bytes of a pack."""
    return _FOOTER.pack(directory_offset, directory_length, PACK_VERSION, 0, 0, MAGIC_END)


def decode_footer(footer: bytes, pack_size: int, name: str) -> tuple[int, int]:
    """Directory offset and length from the last 32 bytes."""
    try:
        offset, length, version, flags, zero, magic = _FOOTER.unpack(footer)
    except struct.error as error:
        raise Corrupt(f"pack {name} is too short to have a footer.", pack=name) from error
    if magic != MAGIC_END or version != PACK_VERSION or flags or zero:
        raise Corrupt(f"pack {name} has a damaged footer.", pack=name)
    if offset + length + SIGNATURE_BLOCK_BYTES + FOOTER_BYTES != pack_size or length < NONCE_BYTES + TAG_BYTES:
        raise Corrupt(f"pack {name} has a footer that does not fit its size of {pack_size} bytes.", pack=name)
    return offset, length


def _directory_aad(header: bytes, digest_before: bytes) -> bytes:
    return b"reopen/v1/directory\0" + header[:HEADER_BYTES] + digest_before


def _parse_header(header: bytes, name: str, vault_id: str) -> tuple[int, int, int, int]:
    try:
        magic, version, flags, slots, recipients, vault = _HEADER.unpack_from(header)
    except struct.error as error:
        raise Corrupt(f"pack {name} is too short to have a header.", pack=name) from error
    if magic != MAGIC:
        raise Corrupt(f"{name} is not a pack.", pack=name)
    if version != PACK_VERSION or flags:
        raise Corrupt(
            f"pack {name} has format version {version} with flags {flags}; this program reads version {PACK_VERSION}.",
            hint="Use the version of Reopen that wrote it, or a newer one.",
            pack=name,
        )
    if vault.hex() != vault_id:
        raise Corrupt(f"pack {name} belongs to vault {vault.hex()}, not to {vault_id}.", pack=name)
    if slots > SLOTS_MAX or recipients > RECIPIENTS_MAX:
        raise Corrupt(f"pack {name} claims {slots} slots of {recipients} recipients.", pack=name)
    return version, flags, slots, recipients


def _check_directory(frames: Table, chunks: Table, start: int, end: int, slots: int) -> None:
    if len(frames) == 0:
        raise ValueError("it has no frame")
    offsets, stored = frames["offset"].astype(np.uint64), frames["stored_length"].astype(np.uint64)
    ends = offsets + stored
    if int(offsets[0]) != start or int(ends[-1]) != end or not np.array_equal(offsets[1:], ends[:-1]):
        raise ValueError("its frames do not lie back to back")
    if int(frames["raw_length"].max()) > FRAME_BYTES_MAX or int(stored.max()) > FRAME_BYTES_MAX + TAG_BYTES:
        raise ValueError("a frame is larger than the cap")
    if int(frames["slot"].max()) >= slots or not np.isin(frames["codec"], CODECS).all() or frames["zero"].any():
        raise ValueError("a frame names an unknown slot or codec")
    first = frames["first_chunk"].astype(np.int64)
    counts = np.diff(np.append(first, len(chunks)))
    if first[0] != 0 or (counts < 1).any():
        raise ValueError("a frame has no chunk")
    frame_of_chunk = np.repeat(np.arange(len(frames)), counts)
    chunk_ends = chunks["offset"].astype(np.uint64) + chunks["length"]
    if (chunk_ends > frames["raw_length"].astype(np.uint64)[frame_of_chunk]).any():
        raise ValueError("a chunk reaches past its frame")
