"""``docs/vault-format.md`` and the code say the same: tables of columns, limits, structures and vectors."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
import spec_keys
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pyfastcdc.py.constants import GEAR, GEAR_LS, MASKS

from reopen.clock import FixedClock
from reopen.ids import seeded_random
from reopen.protect import lease
from reopen.storage.canonical import RECORD_BYTES_MAX
from reopen.vault import Totals, pack, passphrase, tables, trust
from reopen.vault.content import COMPRESSION_LEVEL, ChunkHasher
from reopen.vault.create import Parameters
from reopen.vault.keys import Roots
from reopen.vault.packwriter import PACKS_PER_INDEX_PART
from reopen.vault.record import DATASET_NAME, FACT_ROLES
from tests.golden import spec_cut
from tests.vault.kit import KEYS, new_vault

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "vault-format.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading, up to the next heading of any level."""
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row in a text, headings and rules left out."""
    found = [
        [cell.strip().strip("`") for cell in line.strip("|\n").split("|")]
        for line in text.splitlines()
        if line[:1] == "|"
    ]
    rules = [number for number, row in enumerate(found) if set(row[0]) <= {"-"}]
    return [row for number, row in enumerate(found) if number not in rules and number + 1 not in rules]


@pytest.mark.parametrize(
    ("title", "schema"), [("Manifest", tables.MANIFEST), ("Profile", tables.PROFILE), ("Index part", tables.INDEX)]
)
def test_the_tables_of_columns_are_the_schemas(title: str, schema: pa.Schema) -> None:
    described = [(name, kind, null) for name, kind, null, _ in rows(section(title))]
    assert described == [(field.name, str(field.type), "yes" if field.nullable else "no") for field in schema]


def test_the_tables_of_structures_are_the_dtypes() -> None:
    names = {"u64": "<u8", "u32": "<u4", "u16": "<u2", "u8": "|u1", "32 bytes": "|V32"}
    described = [(name, int(offset), names[kind]) for offset, kind, name, _ in rows(section("Directory"))]
    expected = [
        (name, dtype.fields[name][1], dtype.fields[name][0].str)
        for dtype in (pack.FRAME_DTYPE, pack.CHUNK_DTYPE)
        for name in dtype.names or ()
        if dtype.fields is not None
    ]
    assert described == expected
    assert (pack.FRAME_DTYPE.itemsize, pack.CHUNK_DTYPE.itemsize) == (32, 40)
    assert (pack.HEADER_BYTES, pack.FOOTER_BYTES, pack.SIGNATURE_BLOCK_BYTES) == (32, 32, 72)


def test_the_roles_of_facts_are_those_of_the_code() -> None:
    described = {fact.strip("` "): role for facts, role, *_ in rows(section("10. Ledger")) for fact in facts.split(",")}
    assert described == FACT_ROLES


def test_the_totals_are_those_of_the_code() -> None:
    text = section("Record").partition("`totals` (")[2]
    known = {field.name for field in dataclasses.fields(Totals)}
    assert known == set(re.findall(r"`([a-z_]+)`", text))


def test_limits_and_parameters_are_those_of_the_code() -> None:
    assert Parameters().to_json() == {
        "chunk_min": 262_144,
        "chunk_avg": 1_048_576,
        "chunk_max": 4_194_304,
        "pack_bytes": 64 << 20,
        "frame_bytes": 1 << 20,
    }
    assert (RECORD_BYTES_MAX, pack.FRAME_BYTES_MAX, pack.PACK_BYTES_MAX) == (1 << 20, 16 << 20, 1 << 30)
    assert (pack.SLOTS_MAX, pack.RECIPIENTS_MAX) == (1024, 64)
    assert (tables.PART_ROWS_MAX, tables.PART_TEXT_BYTES_MAX) == (1_000_000, 256 << 20)
    assert (tables.DECODED_BYTES_MAX, tables.DECODED_BYTES_PER_BYTE_MAX) == (512 << 20, 32)
    assert (tables.ROW_GROUP_ROWS_MAX, tables.ROW_GROUP_BLOB_BYTES_MAX) == (20_000, 64 << 20)
    assert (PACKS_PER_INDEX_PART, COMPRESSION_LEVEL) == (16, 3)
    assert (lease.LEASE_SECONDS, lease.RENEW_SECONDS) == (900, 60)
    assert DATASET_NAME.pattern in PAGE


def test_the_gear_table_and_the_masks_are_those_of_the_library() -> None:
    assert spec_cut.cut(b"", 256, 1024, 4096, 0) == []
    described = dict(re.findall(r"\| (\d+) \| `([0-9a-f]{16})` ", PAGE)) | {
        bits: mask for row in rows(section("5. Chunks")) for bits, mask in zip(row[::2], row[1::2], strict=True) if bits
    }
    assert {int(bits): int(mask, 16) for bits, mask in described.items()} == {
        bits: MASKS[bits] for bits in range(7, 24)
    }
    assert {bits: MASKS[bits] for bits in range(7, 24)} == spec_cut.MASKS
    assert f"{GEAR[0]:016x}" in PAGE
    assert all(GEAR_LS[value] == GEAR[value] << 1 & (1 << 64) - 1 for value in range(256))


def test_the_vectors_of_derived_keys_hold() -> None:
    roots = Roots(id_root=bytes(range(32)), meta_root=bytes(range(32, 64)))
    described = {row[0].replace("`", ""): row[1] for row in rows(section("18. Test vectors")) if len(row) == 2}
    assert described == {
        "chunk id key": roots.chunk_id_key().hex(),
        "chunker seed": f"{roots.chunker_seed():x}",
        "directory key": roots.directory_key().hex(),
        "metadata key 1": roots.metadata_key(1).hex(),
        "metadata key 2": roots.metadata_key(2).hex(),
        "id of the chunk reopen (6 bytes)": ChunkHasher(roots.chunk_id_key())(b"reopen").hex(),
    }
    assert spec_keys.derive("reopen v1 metadata 2", roots.meta_root) == roots.metadata_key(2)
    assert spec_keys.chunker_seed(roots.id_root) == roots.chunker_seed()


def test_the_vector_of_a_frame_s_aad_holds() -> None:
    aad = pack.frame_aad("00112233445566778899aabbccddeeff", bytes(range(16)), 5, 1, 1000)
    assert aad.hex() in PAGE
    assert len(aad) == 55
    assert pack.frame_nonce(5).hex() in PAGE


def test_the_numbers_of_trust_grants_and_passphrases_are_those_of_the_page() -> None:
    text = section("Trust statements") + section("Grants") + section("Passphrases")
    assert passphrase.ALPHABET in text
    assert (passphrase.SCRYPT_N, passphrase.SCRYPT_N_MAX) == (1 << 17, 1 << 20)
    assert (passphrase.SCRYPT_R, passphrase.SCRYPT_P, passphrase.SCRYPT_P_MAX) == (8, 1, 4)
    assert trust.RECIPIENTS_MAX == pack.RECIPIENTS_MAX
    assert f"(`{'`, `'.join(trust.REASONS)}`)" in text
    described = {name.strip("` ") for names, _ in rows(section("Trust statements")) for name in names.split(",")}
    body = trust.Trust(number=1, recipients=(), metadata_key=1).to_body("00" * 16, FixedClock().now())
    assert described == body.keys() - {"kind"}


def test_a_passphrase_opens_what_the_page_says_by_hand() -> None:
    """From the page alone: the standard library's scrypt, BLAKE3 and AES-GCM."""
    typed = passphrase.make_passphrase(seeded_random(3))
    letters = typed.replace("-", "")
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    digest = blake3(b"reopen passphrase " + letters[:26].encode()).digest()
    assert letters[26:] == alphabet[digest[0] & 31] + alphabet[digest[1] & 31]
    body = passphrase.passphrase_body(KEYS.recovery, KEYS.pins, typed, at=FixedClock().now())
    kdf, sealed = body["kdf"], bytes.fromhex(body["sealed"])
    salt = bytes.fromhex(kdf["salt"])
    derived = hashlib.scrypt(letters.encode(), salt=salt, n=kdf["n"], r=kdf["r"], p=kdf["p"], maxmem=1 << 28, dklen=32)
    aad = b"reopen/v1/passphrase\0" + bytes.fromhex(body["vault"]) + bytes.fromhex(body["key"])
    opened = json.loads(AESGCM(derived).decrypt(sealed[:12], sealed[12:], aad))
    assert (opened["role"], opened["id"]) == ("recovery", KEYS.recovery.id)
    assert opened["secret"]["x25519"] == KEYS.recovery.x25519_private.hex()


def test_the_objects_of_a_new_vault_are_those_of_the_page() -> None:
    vault = new_vault()
    assert sorted({info.name.partition("/")[0] for info in vault.store.list()}) == ["keys", "vault.json"]
