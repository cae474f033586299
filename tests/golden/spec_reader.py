"""A second reader of the vault, written from ``docs/vault-format.md`` alone: it imports nothing of Reopen's.

It shows that the specification suffices. Section numbers are those of that page. It is plain rather than fast, holds
everything in memory, and refuses what the page tells a reader to refuse with ``AssertionError``.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MASK_64 = (1 << 64) - 1
MASKS = {  # Section 5.
    7: 0x18035100,
    8: 0x1800035300,
    9: 0x19000353000,
    10: 0x590003530000,
    11: 0xD90003530000,
    12: 0xD90103530000,
    13: 0xD90303530000,
    14: 0xD90313530000,
    15: 0xD90F03530000,
    16: 0xD90303537000,
    17: 0xD90703537000,
    18: 0xD90707537000,
    19: 0xD91707537000,
    20: 0xD91747537000,
    21: 0xD91767537000,
    22: 0xD93767537000,
    23: 0xD93777537000,
}
VERIFIER_FACTS = ("verified", "clean", "drilled", "read")  # Section 10; the rest: retention.


# Section 2: JSON documents


def canonical(value: Any) -> bytes:
    """RFC 8785 for values without floating-point numbers."""
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be"))
        return b"{" + b",".join(canonical(key) + b":" + canonical(item) for key, item in items) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(canonical(item) for item in value) + b"]"
    return json.dumps(value, ensure_ascii=False).encode()


def parse(data: bytes) -> dict[str, Any]:
    """A stored JSON document."""
    assert len(data) <= 1 << 20
    value = json.loads(data)
    assert isinstance(value, dict)
    assert canonical(value) == data
    return value


# Section 3: keys


def derive(context: str, root: bytes) -> bytes:
    """A derived key."""
    return blake3(root, derive_key_context=context).digest()


def chunker_seed(id_root: bytes) -> int:
    """The chunker's seed."""
    return int.from_bytes(derive("reopen v1 chunker seed", id_root)[:8], "little") & ~(1 << 63)


def hpke_open(sealed: bytes, mlkem_seed: bytes, x25519_private: bytes, info: bytes) -> bytes:
    """RFC 9180 in base mode with X-Wing, HKDF-SHA256 and AES-256-GCM, by hand."""
    x25519 = X25519PrivateKey.from_private_bytes(x25519_private)
    encapsulated, ephemeral, ciphertext = sealed[:1088], sealed[1088:1120], sealed[1120:]
    shared = hashlib.sha3_256(
        MLKEM768PrivateKey.from_seed_bytes(mlkem_seed).decapsulate(encapsulated)
        + x25519.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        + ephemeral
        + x25519.public_key().public_bytes_raw()
        + bytes.fromhex("5c2e2f2f5e5c")
    ).digest()
    suite = b"HPKE" + struct.pack(">HHH", 0x647A, 0x0001, 0x0002)

    def extract(salt: bytes, label: bytes, material: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, "sha256")

    def expand(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
        message = struct.pack(">H", length) + b"HPKE-v1" + suite + label + context + b"\x01"
        return hmac.digest(secret, message, "sha256")[:length]

    context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    key, nonce = expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, ciphertext, b"")


# Section 5: chunks. No reader needs this; it is here to show that the page tells a writer how to cut.


def cut(data: bytes, smallest: int, average: int, largest: int, seed: int) -> list[int]:
    """The chunk sizes of a file's bytes."""
    gear = [int.from_bytes(hashlib.md5(bytes([value]) * 64).digest()[:8], "big") ^ seed for value in range(256)]
    bits = average.bit_length() - 1
    sizes = []
    start = 0
    while start < len(data):
        sizes.append(_cut_one(data, start, (smallest, average, largest), gear, MASKS[bits + 1], MASKS[bits - 1]))
        start += sizes[-1]
    return sizes


def _cut_one(data: bytes, start: int, limits: tuple[int, int, int], gear: list[int], first: int, second: int) -> int:
    smallest, average, largest = limits
    left = len(data) - start
    if left <= smallest:
        return left
    end = min(left, largest)
    middle = min(end, average) // 2 * 2
    value = 0
    for position in range(smallest // 2 * 2, end // 2 * 2):
        value = (2 * value + gear[data[start + position]]) & MASK_64
        if value & (first if position < middle else second) == 0:
            return position
    return end


@dataclass(frozen=True)
class Certificate:
    """What a signing key may do."""

    role: str
    datasets: list[str]
    public: bytes


class SpecReader:
    """Reads a vault in a folder with one key file."""

    def __init__(self, vault: Path, key_file: Path) -> None:
        self._vault = vault
        key = parse(key_file.read_bytes().strip())
        self._pins, self._role, self._key_id, self._secret = key["pins"], key["role"], key["id"], key["secret"]
        self.vault_id: str = self._pins["vault"]
        self._certificates: dict[str, Certificate] = {}
        self._opened: dict[bytes, AESGCM] = {}
        self._last_pack: tuple[str, bytes] = ("", b"")
        self._check_vault()
        self.id_root, self.meta_root = self._read_keys()

    # Section 4

    def _check_vault(self) -> None:
        body, _ = self._envelope("vault.json", "vault", pinned=True)
        assert body["id"] == self.vault_id
        assert body["format"] == 1 >= self._pins["format_min"]
        assert body["features"]["required"] == []
        assert body["root_public"] == self._pins["root_public"]
        assert body["recipients"] == [recipient["id"] for recipient in self._pins["recipients"]]

    def _read_keys(self) -> tuple[bytes, bytes]:
        roots = b""
        for path in sorted((self._vault / "keys").iterdir()):
            name = f"keys/{path.name}"
            kind = parse(path.read_bytes())["body"]["kind"]
            assert kind in ("recipient", "certificate")
            body, _ = self._envelope(name, kind, pinned=True)
            assert body["vault"] == self.vault_id
            if kind == "certificate":
                public = bytes.fromhex(body["ed25519"])
                self._certificates[body["id"]] = Certificate(body["role"], body["datasets"], public)
            if body["id"] == self._key_id:
                roots = self._open_roots(body)
        assert len(roots) == 64
        return roots[:32], roots[32:]

    def _open_roots(self, body: dict[str, Any]) -> bytes:
        vault = bytes.fromhex(self.vault_id)
        if self._role == "recovery":
            return self._unseal(bytes.fromhex(body["sealed_roots"]), b"reopen/v1/roots\0" + vault)
        wrapped = bytes.fromhex(body["wrapped_roots"])
        aad = b"reopen/v1/wrap\0" + vault + bytes.fromhex(self._key_id)
        return AESGCM(bytes.fromhex(self._secret["wrap_key"])).decrypt(wrapped[:12], wrapped[12:], aad)

    def _unseal(self, sealed: bytes, info: bytes) -> bytes:
        return hpke_open(
            sealed, bytes.fromhex(self._secret["mlkem768_seed"]), bytes.fromhex(self._secret["x25519"]), info
        )

    # Sections 2 and 12

    def _envelope(
        self, name: str, kind: str, *, roles: tuple[str, ...] = (), pinned: bool = False
    ) -> tuple[dict[str, Any], bytes]:
        data = (self._vault / name).read_bytes()
        document = parse(data)
        assert set(document) == {"body", "signature"}
        body, signature = document["body"], document["signature"]
        assert body["kind"] == kind
        if pinned:
            public = bytes.fromhex(self._pins["root_public"])
        else:
            certificate = self._certificates[signature["signer"]]
            assert certificate.role in roles
            assert "*" in certificate.datasets or body.get("dataset") in certificate.datasets
            assert body["vault"] == self.vault_id
            public = certificate.public
        message = b"reopen/v1/" + kind.encode() + b"\0" + canonical(body)
        Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signature["value"]), message)
        return body, data

    def _names(self, folder: str) -> Iterator[str]:
        for path in sorted((self._vault / folder).rglob("*")):
            if path.is_file():
                yield path.relative_to(self._vault).as_posix()

    # Section 7

    def derive_metadata_key(self, number: int) -> bytes:
        """The key of the tables in folders ``key=<number>``."""
        return derive(f"reopen v1 metadata {number}", self.meta_root)

    def _table(self, pins: list[dict[str, Any]], key_number: int) -> pa.Table:
        properties = pe.create_decryption_properties(self.derive_metadata_key(key_number))
        parts = []
        for pin in pins:
            data = (self._vault / pin["name"]).read_bytes()
            assert len(data) == pin["size"]
            assert blake3(data).hexdigest() == pin["digest"]
            parts.append(pq.read_table(io.BytesIO(data), decryption_properties=properties))
        return pa.concat_tables(parts)

    # Sections 9 and 10

    def snapshots(self, dataset: str) -> list[dict[str, Any]]:
        """The bodies of a dataset's records, in order of ``seq``; voids left out. Checks the chain of digests, in which
        the stub of an expired record stands for it."""
        found = []
        digest = None
        stubs = {body["body"].get("record") for body in self._facts("expired") if body["dataset"] == dataset}
        for name in self._names(f"snapshots/dataset={dataset}"):
            seq, snapshot = re.fullmatch(r"(\d{10})-([0-9a-f]{16})\.json", name.rpartition("/")[2]).groups()  # type: ignore[union-attr]
            kind = parse((self._vault / name).read_bytes())["body"]["kind"]
            if kind == "void":
                body, _ = self._envelope(name, "void", roles=("writer", "retention"))
            else:
                body, data = self._envelope(name, "snapshot", roles=("writer",))
            assert (body["dataset"], body["seq"], body["id"]) == (dataset, int(seq), snapshot)
            if kind == "snapshot":
                assert body["prev"] == digest or body["prev"] in stubs
                digest = blake3(data).hexdigest()
                found.append(body)
        return found

    def facts(self) -> list[tuple[str, str, str]]:
        """Kind, dataset and snapshot of every fact of the ledger, sorted."""
        return sorted((body["fact"], body["dataset"], body["snapshot"]) for body in self._facts())

    def _facts(self, only: str = "") -> Iterator[dict[str, Any]]:
        for name in self._names(f"ledger/{only}"):
            kind = name.split("/")[1]
            body, _ = self._envelope(name, "fact", roles=("verifier" if kind in VERIFIER_FACTS else "retention",))
            place = f"ledger/{kind}/dataset={body['dataset']}/{body['snapshot'] or 'dataset'}-{body['id']}.json"
            assert (body["fact"], name) == (kind, place)
            yield body

    def manifest(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        """The entries of a snapshot."""
        reference = record["manifest"]
        table = self._table(reference["parts"], reference["key"])
        assert table.num_rows == reference["rows"]
        return list(table.to_pylist())

    def profile(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        """The profile of a snapshot; empty when it has none."""
        reference = record["profile"]
        return [] if reference is None else list(self._table(reference["parts"], reference["key"]).to_pylist())

    # Section 8

    def index(self) -> dict[bytes, dict[str, Any]]:
        """For each chunk id the row of one copy in a pack that is present."""
        rows: list[dict[str, Any]] = []
        for name in self._names("index"):
            if name.endswith(".json"):
                body, _ = self._envelope(name, "index", roles=("writer", "retention"))
                assert body["name"] == name.removesuffix("json") + "parquet"
                table = self._table([body], body["key"])
                assert table.num_rows == body["rows"]
                rows += table.to_pylist()
        present = {bytes.fromhex(name.rpartition("/")[2]) for name in self._names("packs")}
        return {row["chunk_id"]: row for row in rows if row["pack"] in present}

    # Section 6

    def slots(self, pack: bytes) -> dict[bytes, dict[str, bytes]]:
        """By salt, the content key sealed to each recipient; ``pack`` is all or the first bytes of a pack."""
        magic, version, flags, slots, recipients, vault = struct.unpack("<8sHHHH16s", pack[:32])
        assert (magic, version, flags, vault.hex()) == (b"REOPENPK", 1, 0, self.vault_id)
        assert slots <= 1024
        assert recipients <= 64
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
        name = f"packs/{pack_id.hex()[:2]}/{pack_id.hex()}"
        data = (self._vault / name).read_bytes()
        assert blake3(data).digest() == pack_id
        offset, length, version, flags, zero, magic = struct.unpack("<QIHHQ8s", data[-32:])
        assert (version, flags, zero, magic) == (1, 0, 0, b"REOPENPE")
        assert offset + length + 72 + 32 == len(data)
        signer, signature = data[-104:-96].hex(), data[-96:-32]
        assert self._certificates[signer].role in ("writer", "retention")
        message = b"reopen/v1/pack\0" + bytes.fromhex(self.vault_id) + blake3(data[:-104]).digest()
        Ed25519PublicKey.from_public_bytes(self._certificates[signer].public).verify(signature, message)
        aad = b"reopen/v1/directory\0" + data[:32] + blake3(data[:offset]).digest()
        sealed = data[offset : offset + length]
        cipher = AESGCM(derive("reopen v1 pack directory", self.meta_root))
        return self._directory_rows(cipher.decrypt(sealed[:12], sealed[12:], aad), pack_id, data, offset)

    def _directory_rows(self, plain: bytes, pack_id: bytes, data: bytes, end: int) -> list[dict[str, Any]]:
        frame_count, chunk_count = struct.unpack("<II", plain[:8])
        assert len(plain) == 8 + 32 * frame_count + 40 * chunk_count
        frames = list(struct.iter_unpack("<QQIIIHBB", plain[8 : 8 + 32 * frame_count]))
        chunks = list(struct.iter_unpack("<32sII", plain[8 + 32 * frame_count :]))
        salts = list(self.slots(data))
        recipients = struct.unpack_from("<H", data, 14)[0]
        expected_offset = 32 + len(salts) * (16 + recipients * 1176)
        rows = []
        for number, (offset, counter, stored, raw, first, slot, codec, zero) in enumerate(frames):
            assert (offset, zero) == (expected_offset, 0)
            expected_offset += stored
            last = frames[number + 1][4] if number + 1 < frame_count else chunk_count
            assert first < last
            for chunk_id, chunk_offset, chunk_length in chunks[first:last]:
                assert chunk_offset + chunk_length <= raw <= 16 << 20
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
        assert expected_offset == end
        return rows

    def chunk(self, row: dict[str, Any]) -> bytes:
        """The bytes of a chunk from a row of the index."""
        pack = self._pack(row["pack"].hex())
        salt, raw_length = row["slot_salt"], row["frame_raw_length"]
        counter, codec = row["frame_counter"], row["frame_codec"]
        vault = bytes.fromhex(self.vault_id)
        if salt not in self._opened:
            sealed = self.slots(pack)[salt].get(self._key_id) or self._granted(salt)
            self._opened[salt] = AESGCM(self._unseal(sealed, b"reopen/v1/slot\0" + vault + salt))
        aad = struct.pack("<8sH16s16sQBI", b"RPNFRAME", 1, vault, salt, counter, codec, raw_length)
        stored = pack[row["frame_offset"] : row["frame_offset"] + row["frame_length"]]
        raw = self._opened[salt].decrypt(struct.pack("<Q4x", counter), stored, aad)
        if codec == 1:
            raw = zstandard.ZstdDecompressor().decompress(raw, max_output_size=raw_length)
        assert len(raw) == raw_length
        data = raw[row["chunk_offset"] : row["chunk_offset"] + row["chunk_length"]]
        assert blake3(data, key=derive("reopen v1 chunk id", self.id_root)).digest() == row["chunk_id"]
        return data

    def _pack(self, pack_id: str) -> bytes:
        """The bytes of a pack; the last one is kept, because chunks of one file mostly lie together."""
        if self._last_pack[0] != pack_id:
            self._last_pack = (pack_id, (self._vault / f"packs/{pack_id[:2]}/{pack_id}").read_bytes())
        return self._last_pack[1]

    def _granted(self, salt: bytes) -> bytes:
        """Section 4: a content key that was sealed to a recovery key which came after the slot."""
        for name in self._names("grants"):
            if name.startswith(f"grants/{self._key_id}-"):
                body, _ = self._envelope(name, "grant", pinned=True)
                if salt.hex() in body["slots"]:
                    return bytes.fromhex(body["slots"][salt.hex()])
        raise KeyError(self._key_id)

    def content(self, entry: dict[str, Any], index: dict[bytes, dict[str, Any]]) -> bytes:
        """The bytes of a file."""
        ids = [entry["chunks"][at : at + 32] for at in range(0, len(entry["chunks"]), 32)]
        sizes = [entry["size_bytes"]] if len(ids) == 1 else []
        if len(ids) > 1:
            sizes = list(struct.unpack(f"<{len(ids)}I", entry["chunk_sizes"]))
        pieces = [self.chunk(index[chunk_id]) for chunk_id in ids]
        assert [len(piece) for piece in pieces] == sizes
        assert sum(sizes) == entry["size_bytes"]
        return b"".join(pieces)
