"""Sealing to a recovery key, against the published vectors of its standards: HPKE (RFC 9180) over MLKEM768-X25519
(X-Wing, KEM 0x647a of draft-ietf-hpke-pq) with HKDF-SHA256 and AES-256-GCM.

The library encapsulates with randomness of its own, so the vectors are opened and not made. No published vector has
exactly our suite: those of our KEM have another cipher, the one of our cipher another KEM. So each half is held
against its own vector, and the joint is shown by sealing by hand, under a vector's shared secret, what a recovery key
must open. ``kem_vectors.json`` says where each comes from.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from reopen.errors import Corrupt
from reopen.vault.keys import RecoveryKey
from tests import proof

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).with_name("kem_vectors.json")).read_text(encoding="utf-8")
)
KEM_XWING, KEM_X25519 = 0x647A, 0x0020
KDF_HKDF_SHA256 = 0x0001
AEAD_AES_256_GCM, AEAD_CHACHA = 0x0002, 0x0003
XWING_ENC_BYTES, MLKEM_ENC_BYTES = 1120, 1088

HKDF = [vector for vector in VECTORS["hpke_pq"] if vector["kdf_id"] == KDF_HKDF_SHA256]


def plain(vector: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(vector[name])


def recovery_key(seed: bytes) -> RecoveryKey:
    """X-Wing keeps one seed of 32 bytes and expands it; a key file keeps what it expands to."""
    expanded = hashlib.shake_256(seed).digest(96)
    return RecoveryKey(id="00" * 8, mlkem_seed=expanded[:64], x25519_private=expanded[64:])


def key_schedule(shared: bytes, info: bytes, kem: int, aead: int) -> tuple[bytes, bytes]:
    """Key and base nonce of RFC 9180, section 5.1, in base mode with HKDF-SHA256."""
    suite = b"HPKE" + struct.pack(">HHH", kem, KDF_HKDF_SHA256, aead)

    def extract(salt: bytes, label: bytes, material: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, "sha256")

    def expand(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
        message = struct.pack(">H", length) + b"HPKE-v1" + suite + label + context + b"\x01"
        return hmac.digest(secret, message, "sha256")[:length]

    context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)


@pytest.mark.parametrize("vector", VECTORS["mlkem768"], ids=range(len(VECTORS["mlkem768"])))
def test_ml_kem_768_is_that_of_fips_203(vector: dict[str, Any]) -> None:
    """Key generation from a seed, decapsulation, and what is answered to a ciphertext that was not made for the key."""
    key = MLKEM768PrivateKey.from_seed_bytes(plain(vector, "d") + plain(vector, "z"))
    assert key.public_key().public_bytes_raw() == plain(vector, "pk")
    assert key.decapsulate(plain(vector, "ct")) == plain(vector, "ss")
    assert key.decapsulate(plain(vector, "ct_n")) == plain(vector, "ss_n")
    proof.count("public vectors", 3)


@pytest.mark.parametrize("vector", VECTORS["hpke_pq"], ids=lambda vector: f"kdf {vector['kdf_id']}")
def test_a_recovery_key_s_public_half_is_x_wing_s(vector: dict[str, Any]) -> None:
    recipient = recovery_key(plain(vector, "skRm")).recipient()
    assert recipient.mlkem_public + recipient.x25519_public == plain(vector, "pkRm")
    proof.count("public vectors")


@pytest.mark.parametrize("vector", VECTORS["hpke_pq"], ids=lambda vector: f"kdf {vector['kdf_id']}")
def test_a_recovery_key_opens_what_was_encapsulated_in_a_published_vector(vector: dict[str, Any]) -> None:
    """The vector's ``enc`` gives its shared secret; a key that is sealed by hand under that secret, with our KDF and
    cipher, opens, and under any other secret it does not."""
    key, info = recovery_key(plain(vector, "skRm")), b"reopen/v1/roots\0" + bytes(16)
    secret, nonce = key_schedule(plain(vector, "shared_secret"), info, KEM_XWING, AEAD_AES_256_GCM)
    sealed = plain(vector, "enc") + AESGCM(secret).encrypt(nonce, b"k" * 32, b"")
    assert key.open(sealed, info) == b"k" * 32
    other, nonce = key_schedule(hashlib.sha256(b"other").digest(), info, KEM_XWING, AEAD_AES_256_GCM)
    with pytest.raises(Corrupt):
        key.open(plain(vector, "enc") + AESGCM(other).encrypt(nonce, b"k" * 32, b""), info)
    proof.count("public vectors")


@pytest.mark.parametrize("vector", VECTORS["hpke_pq"], ids=lambda vector: f"kdf {vector['kdf_id']}")
def test_the_parts_of_the_kem_put_together_by_hand_give_the_published_secret(vector: dict[str, Any]) -> None:
    """SHA3-256 over both shared secrets, the ephemeral and the recipient's X25519 keys, and X-Wing's label."""
    key, enc = recovery_key(plain(vector, "skRm")), plain(vector, "enc")
    assert len(enc) == XWING_ENC_BYTES
    x25519 = X25519PrivateKey.from_private_bytes(key.x25519_private)
    ephemeral = enc[MLKEM_ENC_BYTES:]
    shared = hashlib.sha3_256(
        MLKEM768PrivateKey.from_seed_bytes(key.mlkem_seed).decapsulate(enc[:MLKEM_ENC_BYTES])
        + x25519.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        + ephemeral
        + x25519.public_key().public_bytes_raw()
        + bytes.fromhex("5c2e2f2f5e5c")
    )
    assert shared.digest() == plain(vector, "shared_secret")
    proof.count("public vectors")


@pytest.mark.parametrize("vector", HKDF, ids=lambda vector: f"aead {vector['aead_id']}")
def test_the_key_schedule_over_our_kem_and_kdf_is_the_published_one(vector: dict[str, Any]) -> None:
    """With the vector's cipher: by hand, and as the library does it."""
    assert vector["aead_id"] == AEAD_CHACHA
    info, (first,) = plain(vector, "info"), vector["encryptions"]
    secret, nonce = key_schedule(plain(vector, "shared_secret"), info, KEM_XWING, AEAD_CHACHA)
    assert (secret, nonce) == (plain(vector, "key"), plain(vector, "base_nonce"))
    assert ChaCha20Poly1305(secret).decrypt(nonce, plain(first, "ct"), plain(first, "aad")) == plain(first, "pt")
    proof.count("public vectors", 2)


@pytest.mark.parametrize("vector", VECTORS["rfc9180"], ids=["X25519"])
def test_our_kdf_and_cipher_are_those_of_rfc_9180(vector: dict[str, Any]) -> None:
    """With the classical KEM, as RFC 9180 has it: key, nonce and the first message."""
    info, (first,) = plain(vector, "info"), vector["encryptions"]
    secret, nonce = key_schedule(plain(vector, "shared_secret"), info, KEM_X25519, AEAD_AES_256_GCM)
    assert (secret, nonce) == (plain(vector, "key"), plain(vector, "base_nonce"))
    assert AESGCM(secret).decrypt(nonce, plain(first, "ct"), plain(first, "aad")) == plain(first, "pt")
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    key = X25519PrivateKey.from_private_bytes(plain(vector, "skRm"))
    sealed = plain(vector, "enc") + AESGCM(secret).encrypt(nonce, b"sealed by hand", b"")
    assert suite.decrypt(sealed, key, info=info) == b"sealed by hand"
    proof.count("public vectors", 3)
