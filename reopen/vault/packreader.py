"""Owns reading a whole pack: its head, its frames and its directory, checked against its name and signature.

A pack describes itself, so with the vault's roots alone its index rows can be rebuilt, and with a recovery key its
content can be proven, whatever else of the vault was lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from blake3 import blake3

from reopen.errors import Corrupt, NotFound
from reopen.vault.content import ChunkHasher, ContentKeys
from reopen.vault.keys import verify_signature
from reopen.vault.pack import (
    FOOTER_BYTES,
    HEADER_BYTES,
    PACK_BYTES_MAX,
    SIGNATURE_BLOCK_BYTES,
    Directory,
    Slot,
    decode_directory,
    decode_footer,
    decode_slots,
    head_bytes,
    open_directory,
    signature_message,
)
from reopen.vault.record import pack_name
from reopen.vault.vault import Vault

PACK_WRITER_ROLES = ("writer", "retention")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPack:
    """A pack in memory whose directory was opened and whose signature is right."""

    id: str
    data: bytes
    slots: tuple[Slot, ...]
    directory: Directory


def signer_of(pack: OpenPack) -> str:
    """The key id of who signed a pack."""
    return pack.data[-FOOTER_BYTES - SIGNATURE_BLOCK_BYTES :][:8].hex()


def check_stored(pack_id: str, data: bytes) -> None:
    """Refuse a pack whose bytes are not what its name says; needs no key."""
    if blake3(data).hexdigest() != pack_id:
        raise Corrupt(
            f"pack {pack_id} fails its digest.",
            hint="`reopen verify --level content` lists the files that are affected; `reopen repair --from SITE` takes "
            "it from a replica.",
            pack=pack_id,
        )


def open_pack(vault: Vault, pack_id: str, data: bytes) -> OpenPack:
    """Open a pack's directory and check its signature; needs the vault's roots, no recovery key.

    :raises Corrupt: not a pack of this vault, damaged, or signed by nobody who may.
    """
    if len(data) > PACK_BYTES_MAX or len(data) < HEADER_BYTES + SIGNATURE_BLOCK_BYTES + FOOTER_BYTES:
        raise Corrupt(f"pack {pack_id} has {len(data)} bytes, which no pack has.", pack=pack_id)
    length = head_bytes(data[:HEADER_BYTES], pack_id, vault.id)
    slots = decode_slots(data[:length], pack_id, vault.id)
    offset, size = decode_footer(data[-FOOTER_BYTES:], len(data), pack_id)
    digest = blake3(memoryview(data)[:offset])
    before_directory = digest.digest()
    sealed = data[offset : offset + size]
    digest.update(sealed)
    block = data[offset + size : offset + size + SIGNATURE_BLOCK_BYTES]
    _check_signature(vault, pack_id, block, digest.digest(), data)
    plain = open_directory(sealed, vault.roots.directory_key(), pack_id, data[:HEADER_BYTES], before_directory)
    directory = decode_directory(plain, pack_id, offset, length, len(slots))
    return OpenPack(id=pack_id, data=data, slots=slots, directory=directory)


def read_pack(vault: Vault, pack_id: str) -> OpenPack:
    """Fetch a pack and open it."""
    return open_pack(vault, pack_id, vault.store.get(pack_name(pack_id)))


def check_content(vault: Vault, pack: OpenPack, keys: ContentKeys) -> Iterator[tuple[bytes, str]]:
    """Open every frame and derive every chunk id again.

    :returns: for each chunk its id and ``ok``, ``undecodable`` (its frame does not open) or ``digest_mismatch``.
    """
    keys.learn(pack.slots, pack.id)
    hasher = ChunkHasher(vault.roots.chunk_id_key())
    frames, chunks = pack.directory.frames, pack.directory.chunks
    borders = [*frames["first_chunk"].tolist(), len(chunks)]
    view = memoryview(pack.data)
    for number in range(len(frames)):
        frame = frames[number]
        members = range(borders[number], borders[number + 1])
        start = int(frame["offset"])
        try:
            raw = memoryview(
                keys.open(
                    view[start : start + int(frame["stored_length"])],
                    pack.slots[int(frame["slot"])].salt,
                    int(frame["counter"]),
                    int(frame["codec"]),
                    int(frame["raw_length"]),
                    pack.id,
                )
            )
        except Corrupt:
            yield from ((chunks["id"][at].tobytes(), "undecodable") for at in members)
            continue
        for at in members:
            chunk_id, begin = chunks["id"][at].tobytes(), int(chunks["offset"][at])
            data = raw[begin : begin + int(chunks["length"][at])]
            yield chunk_id, "ok" if hasher(data) == chunk_id else "digest_mismatch"


def check_content_by_index(
    vault: Vault, pack_id: str, data: bytes, rows: pa.Table, keys: ContentKeys
) -> Iterator[tuple[bytes, str]]:
    """As :func:`check_content` for a pack whose own directory does not open any more: the index knows where its frames
    lie, so what is whole in it can be told from what is not.

    :param rows: the index rows of this pack, schema :data:`reopen.vault.tables.INDEX`.
    """
    hasher = ChunkHasher(vault.roots.chunk_id_key())
    try:
        length = head_bytes(data[:HEADER_BYTES], pack_id, vault.id)
        keys.learn(decode_slots(data[:length], pack_id, vault.id), pack_id)
    except (Corrupt, NotFound):
        pass  # Slots before the damage are learnt, or were from another pack; a frame under any other does not open.
    view, opened_at, raw = memoryview(data), -1, memoryview(b"")
    for row in rows.sort_by("frame_offset").to_pylist():
        if row["frame_offset"] != opened_at:
            opened_at, stored = row["frame_offset"], view[row["frame_offset"] :][: row["frame_length"]]
            try:
                raw = memoryview(
                    keys.open(
                        stored,
                        row["slot_salt"],
                        row["frame_counter"],
                        row["frame_codec"],
                        row["frame_raw_length"],
                        pack_id,
                    )
                )
            except (Corrupt, KeyError):
                raw = memoryview(b"")  # Damaged, or under a slot that the pack's head does not have.
        chunk = raw[row["chunk_offset"] :][: row["chunk_length"]]
        whole = len(chunk) == row["chunk_length"] and hasher(chunk) == row["chunk_id"]
        yield row["chunk_id"], "ok" if whole else "undecodable"


def _check_signature(vault: Vault, pack_id: str, block: bytes, digest: bytes, data: bytes) -> None:
    certificate = vault.certificates.get(block[:8].hex())
    if (
        certificate is None
        or certificate.role not in PACK_WRITER_ROLES
        or not verify_signature(certificate.public, block[8:], signature_message(vault.id, digest))
    ):
        raise Corrupt(
            f"pack {pack_id} is not signed by a writer of this vault.",
            hint="Its bytes are damaged, or somebody without a key wrote it.",
            pack=pack_id,
        )
    if certificate.id in vault.trust.ended:
        # By its bytes and not by its name, which the store gives.
        vault.check_not_later(certificate.id, blake3(data).digest(), f"pack {pack_id}")
