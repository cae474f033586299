"""The ciphers as this engine calls them, against published vectors: what is stored today opens with anybody's
implementation of the same standards."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from reopen.vault.content import ChunkHasher
from reopen.vault.keys import SigningKey, verify_signature
from tests import proof

# NIST's GCM vectors (McGrew and Viega's test cases 13 to 16: 256-bit keys, 96-bit nonces).
GCM = [
    ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    ("00" * 32, "00" * 12, "00" * 16, "", "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    (
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        (
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba"
            "637b391aafd255"
        ),
        "",
        (
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abc"
            "c9f662898015adb094dac5d93471bdec1a502270e3cc6c"
        ),
    ),
    (
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        (
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba"
            "637b39"
        ),
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        (
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abc"
            "c9f66276fc6ece0f4e1768cddf8853bb2d551b"
        ),
    ),
]

# RFC 8032, section 7.1.
ED25519 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2465"
            "5141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb0"
            "0d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc0"
            "27beceea1ec40a"
        ),
    ),
]

# BLAKE3's own test vectors (test_vectors.json): input byte i is i mod 251; the first 32 bytes of each output.
BLAKE3_KEY = b"whats the Elvish word for friend"
BLAKE3_CONTEXT = "BLAKE3 2019-12-27 16:29:52 test vectors context"
BLAKE3 = [
    (
        0,
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
        "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d",
    ),
    (
        1,
        "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
        "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b",
        "b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c",
    ),
    (
        1024,
        "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
        "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4",
        "7356cd7720d5b66b6d0697eb3177d9f8d73a4a5c5e968896eb6a689684302706",
    ),
]


def test_aes_256_gcm_is_nist_s() -> None:
    for key, nonce, plain, aad, sealed in GCM:
        cipher = AESGCM(bytes.fromhex(key))
        made = cipher.encrypt(bytes.fromhex(nonce), bytes.fromhex(plain), bytes.fromhex(aad))
        assert made.hex() == sealed
        assert cipher.decrypt(bytes.fromhex(nonce), made, bytes.fromhex(aad)).hex() == plain
    proof.count("public vectors", len(GCM))


def test_signatures_are_those_of_rfc_8032() -> None:
    for seed, public, message, signature in ED25519:
        key = SigningKey(id="00" * 8, role="writer", seed=bytes.fromhex(seed), wrap_key=bytes(32))
        assert key.public().hex() == public
        assert key.sign(bytes.fromhex(message)).hex() == signature
        assert verify_signature(bytes.fromhex(public), bytes.fromhex(signature), bytes.fromhex(message))
        assert not verify_signature(bytes.fromhex(public), bytes.fromhex(signature), bytes.fromhex(message) + b"x")
        assert Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).private_bytes_raw().hex() == seed
    proof.count("public vectors", len(ED25519))


@pytest.mark.parametrize(("length", "plain", "keyed", "derived"), BLAKE3, ids=[str(item[0]) for item in BLAKE3])
def test_blake3_is_blake3_in_all_three_modes(length: int, plain: str, keyed: str, derived: str) -> None:
    """Plain names packs and pins, keyed names chunks, derive_key makes keys."""
    data = bytes(number % 251 for number in range(length))
    assert blake3(data).hexdigest() == plain
    assert ChunkHasher(BLAKE3_KEY)(data).hex() == keyed
    assert blake3(data, derive_key_context=BLAKE3_CONTEXT).hexdigest() == derived
    proof.count("public vectors", 3)


def test_x25519_is_that_of_rfc_7748() -> None:
    """Section 5.2: what the hybrid's classical half computes."""
    private = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    )
    public = X25519PublicKey.from_public_bytes(
        bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    )
    assert private.exchange(public).hex() == "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    proof.count("public vectors")


def test_hkdf_sha256_is_that_of_rfc_5869() -> None:
    """Test case 1, of which HPKE's key schedule is made; computed here by hand, as the second reader does."""
    prk = hmac.new(bytes.fromhex("000102030405060708090a0b0c"), b"\x0b" * 22, hashlib.sha256).digest()
    assert prk.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    proof.count("public vectors")


def test_scrypt_is_that_of_rfc_7914() -> None:
    """Section 12, third vector: what a passphrase goes through."""
    made = Scrypt(salt=b"SodiumChloride", length=64, n=16384, r=8, p=1).derive(b"pleaseletmein")
    assert made.hex() == (
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40df"
        "cf017b45575887"
    )
    proof.count("public vectors")
