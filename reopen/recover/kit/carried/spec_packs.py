"""Section 6 of ``docs/vault-format.md``, as a reader needs it: packs, their frames and directories."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from spec_keys import about, derive, need

FRAMES_KEPT = 8
"""Small files lie together in a frame, in the order of their names, so a few frames serve many files."""
FRAME_BYTES_MAX = 16 << 20


class Packs:
    """The packs of a vault in a folder.

    :param content_key: opens a slot: from its salt, and the content key sealed to each recipient by key id.
    :param check_signer: refuses a signature over a message; from signer, message, signature, and the pack's id.
    """

    def __init__(
        self,
        vault: Path,
        vault_id: str,
        roots: tuple[bytes, bytes],
        content_key: Callable[[bytes, dict[str, bytes]], bytes],
        check_signer: Callable[[str, bytes, bytes, bytes], None],
    ) -> None:
        self._vault, self._vault_id = vault, bytes.fromhex(vault_id)
        self._chunk_key = derive("reopen v1 chunk id", roots[0])
        self._directory_key = derive("reopen v1 pack directory", roots[1])
        self._content_key, self._check_signer = content_key, check_signer
        self._opened: dict[bytes, AESGCM] = {}
        self._frames: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()

    def chunk_id(self, data: bytes) -> bytes:
        """The id of these bytes."""
        return blake3(data, key=self._chunk_key).digest()

    def chunk(self, row: dict[str, Any]) -> bytes:
        """The bytes of a chunk from a row of the index."""
        with about(f"packs/{row['pack'].hex()[:2]}/{row['pack'].hex()}"):
            raw = self._frame(row)
            need(row["chunk_length"] > 0 <= row["chunk_offset"], "a chunk lies outside its frame")
            need(row["chunk_offset"] + row["chunk_length"] <= len(raw), "a chunk lies outside its frame")
            data = raw[row["chunk_offset"] : row["chunk_offset"] + row["chunk_length"]]
            need(self.chunk_id(data) == row["chunk_id"], f"the bytes of chunk {row['chunk_id'].hex()[:16]} are others")
        return data

    def _frame(self, row: dict[str, Any]) -> bytes:
        place = (row["pack"], row["frame_offset"])
        if place in self._frames:
            self._frames.move_to_end(place)
            return self._frames[place]
        raw_length, counter, codec = row["frame_raw_length"], row["frame_counter"], row["frame_codec"]
        need(0 < raw_length <= FRAME_BYTES_MAX and codec in (0, 1), "the index has a frame that cannot be")
        need(0 < row["frame_length"] <= FRAME_BYTES_MAX + 4096 and row["frame_offset"] >= 32, "a frame lies nowhere")
        aad = struct.pack("<8sH16s16sQBI", b"RPNFRAME", 1, self._vault_id, row["slot_salt"], counter, codec, raw_length)
        with self._path(row["pack"]).open("rb") as pack:
            if row["slot_salt"] not in self._opened:
                head = pack.read(32)
                slots, recipients = struct.unpack_from("<HH", head, 12)
                sealed = self.slots(head + pack.read(min(slots, 1024) * (16 + 1176 * min(recipients, 64))))
                need(row["slot_salt"] in sealed, "it lacks a slot that the index names")
                self._opened[row["slot_salt"]] = AESGCM(self._content_key(row["slot_salt"], sealed[row["slot_salt"]]))
            pack.seek(row["frame_offset"])
            stored = pack.read(row["frame_length"])
        raw = self._opened[row["slot_salt"]].decrypt(struct.pack("<Q4x", counter), stored, aad)
        if codec == 1:
            # What the frame says of its size is a number from outside: it is looked at before memory is taken for it.
            need(zstandard.frame_content_size(raw) in (-1, raw_length), "a frame claims another size")
            raw = zstandard.ZstdDecompressor().decompress(raw, max_output_size=raw_length)
        need(len(raw) == raw_length, "a frame has another size")
        self._frames[place] = raw
        if len(self._frames) > FRAMES_KEPT:
            self._frames.popitem(last=False)
        return raw

    def slots(self, pack: bytes) -> dict[bytes, dict[str, bytes]]:
        """By salt, the content key sealed to each recipient; ``pack`` is all or the first bytes of a pack."""
        magic, version, flags, slots, recipients, vault = struct.unpack("<8sHHHH16s", pack[:32])
        need((magic, version, flags) == (b"REOPENPK", 1, 0), "it is no pack of version 1")
        need(vault == self._vault_id, "it is a pack of another vault")
        need(slots <= 1024 and recipients <= 64, "it has more slots than a pack may have")
        found: dict[bytes, dict[str, bytes]] = {}
        at = 32
        for _ in range(slots):
            sealed = found.setdefault(pack[at : at + 16], {})
            at += 16
            for _ in range(recipients):
                sealed[pack[at : at + 8].hex()] = pack[at + 8 : at + 1176]
                at += 1176
        return found

    def directory(self, pack_id: bytes) -> list[dict[str, Any]]:
        """The chunks of a pack from its own directory, as rows of the index; checks name, signature and layout."""
        with about(f"packs/{pack_id.hex()[:2]}/{pack_id.hex()}"):
            data = self._path(pack_id).read_bytes()
            need(blake3(data).digest() == pack_id, "it is damaged: its bytes are not what its name says")
            offset, length, version, flags, zero, magic = struct.unpack("<QIHHQ8s", data[-32:])
            need((version, flags, zero, magic) == (1, 0, 0, b"REOPENPE"), "it is no pack of version 1")
            need(offset + length + 72 + 32 == len(data), "its directory lies elsewhere")
            message = b"reopen/v1/pack\0" + self._vault_id + blake3(data[:-104]).digest()
            self._check_signer(data[-104:-96].hex(), message, data[-96:-32], pack_id)
            aad = b"reopen/v1/directory\0" + data[:32] + blake3(data[:offset]).digest()
            sealed = data[offset : offset + length]
            plain = AESGCM(self._directory_key).decrypt(sealed[:12], sealed[12:], aad)
            return self._directory_rows(plain, pack_id, data, offset)

    def _directory_rows(self, plain: bytes, pack_id: bytes, data: bytes, end: int) -> list[dict[str, Any]]:
        frame_count, chunk_count = struct.unpack("<II", plain[:8])
        need(len(plain) == 8 + 32 * frame_count + 40 * chunk_count, "its directory has another size")
        frames = list(struct.iter_unpack("<QQIIIHBB", plain[8 : 8 + 32 * frame_count]))
        chunks = list(struct.iter_unpack("<32sII", plain[8 + 32 * frame_count :]))
        salts = list(self.slots(data))
        recipients = struct.unpack_from("<H", data, 14)[0]
        expected_offset = 32 + len(salts) * (16 + recipients * 1176)
        rows = []
        for number, (offset, counter, stored, raw, first, slot, codec, zero) in enumerate(frames):
            need((offset, zero) == (expected_offset, 0), "its frames do not lie back to back")
            expected_offset += stored
            last = frames[number + 1][4] if number + 1 < frame_count else chunk_count
            need(first < last and raw <= FRAME_BYTES_MAX, "its directory has a frame that cannot be")
            for chunk_id, chunk_offset, chunk_length in chunks[first:last]:
                need(chunk_offset + chunk_length <= raw, "its directory has a chunk outside its frame")
                rows.append(
                    {
                        "chunk_id": chunk_id,
                        "pack": pack_id,
                        "slot_salt": salts[slot],
                        "frame_offset": offset,
                        "frame_length": stored,
                        "frame_raw_length": raw,
                        "frame_counter": counter,
                        "frame_codec": codec,
                        "chunk_offset": chunk_offset,
                        "chunk_length": chunk_length,
                    }
                )
        need(expected_offset == end, "its frames do not end where its directory begins")
        return rows

    def _path(self, pack_id: bytes) -> Path:
        return self._vault / f"packs/{pack_id.hex()[:2]}/{pack_id.hex()}"
