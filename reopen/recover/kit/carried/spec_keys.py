"""Sections 2 to 4 of ``docs/vault-format.md``, as a reader needs them: documents, keys, passphrases.

What the page tells a reader to refuse is a :class:`Refusal`, which says what and where.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
NEWER = "was made by a newer Reopen than this reader: take the reader of a newer recovery kit"


class Refusal(Exception):
    """Something is not what the page asks for."""


class Newer(Refusal):
    """Something has to be understood whole, and this reader is too old for it (section 14)."""


def need(holds: object, what: str) -> None:
    """Refuse, unless it holds."""
    if not holds:
        raise Refusal(what)


@contextmanager
def about(name: str) -> Iterator[None]:
    """Whatever is wrong with these bytes is said of this object."""
    try:
        yield
    except Refusal as error:
        if str(error).startswith(name):
            raise
        raise type(error)(f"{name}: {error}") from error
    except InvalidSignature as error:
        raise Refusal(f"{name}: its signature is wrong") from error
    except InvalidTag as error:
        raise Refusal(f"{name}: it is damaged, or sealed with another key") from error
    except OSError as error:
        # Whatever Arrow says of bytes that do not decrypt is an OSError without a number.
        raise Refusal(f"{name}: {error.strerror or str(error).splitlines()[0]}") from error
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, struct.error, RecursionError) as error:
        raise Refusal(f"{name}: it is malformed ({type(error).__name__}: {str(error)[:120]})") from error
    except (pa.ArrowException, zstandard.ZstdError) as error:
        raise Refusal(f"{name}: it cannot be decoded ({str(error)[:120]})") from error


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
    need(len(data) <= 1 << 20, "it is larger than any document")
    value = json.loads(data, parse_float=_no_number, parse_constant=_no_number)
    need(isinstance(value, dict) and canonical(value) == data, "it is not canonical JSON")
    return dict(value)


def _no_number(text: str) -> None:
    raise Refusal(f"{text} is no number of format 1")


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


def read_key(data: bytes) -> dict[str, Any]:
    """A key file."""
    with about("the key file"):
        key = parse(data.strip())
        need((key["kind"], key["version"]) == ("reopen-key", 1), "it is no key file of version 1")
        return key


# Section 4: a recovery key under a passphrase


def passphrase_letters(typed: str) -> str:
    """The letters of a passphrase as it was typed; a typing error is found by the last two."""
    letters = re.sub(r"[\s-]", "", typed).upper().translate(str.maketrans("OIL", "011"))
    need(len(letters) == 28 and set(letters) <= set(LETTERS), f"a passphrase has 28 letters; this has {len(letters)}")
    check = blake3(b"reopen passphrase " + letters[:26].encode()).digest()
    need(letters[26:] == "".join(LETTERS[check[at] & 31] for at in (0, 1)), "the passphrase has a typing error")
    return letters


def open_passphrase(vault: Path, typed: str) -> dict[str, Any]:
    """The key file that a passphrase opens."""
    letters = passphrase_letters(typed)
    found = sorted((vault / "passphrases").glob("*.json"))
    need(found, f"no recovery key under a passphrase is in {vault}: a key file is needed")
    reasons = []
    for path in found[:16]:
        try:
            with about(f"passphrases/{path.name}"):
                return _open_passphrase(parse(path.read_bytes()), path.name, letters)
        except Refusal as error:
            reasons.append(str(error))
    raise Refusal("the passphrase opens no key of this vault: " + "; ".join(reasons))


def _open_passphrase(document: dict[str, Any], name: str, letters: str) -> dict[str, Any]:
    body, kdf = document["body"], document["body"]["kdf"]
    n, r, p = kdf["n"], kdf["r"], kdf["p"]
    need(body["kind"] == "passphrase" and name == f"{body['key']}-{body['id']}.json", f"{name} is none of its name")
    bounded = kdf["name"] == "scrypt" and 1 << 17 <= n <= 1 << 20 and not n & (n - 1) and r == 8 and 1 <= p <= 4
    need(bounded, f"{name} asks for a derivation that the format does not allow")
    salt, sealed = bytes.fromhex(kdf["salt"]), bytes.fromhex(body["sealed"])
    derived = hashlib.scrypt(
        letters.encode(), salt=salt, n=n, r=r, p=p, maxmem=1024 * (n + p + 2) + (1 << 20), dklen=32
    )
    aad = b"reopen/v1/passphrase\0" + bytes.fromhex(body["vault"]) + bytes.fromhex(body["key"])
    key = read_key(AESGCM(derived).decrypt(sealed[:12], sealed[12:], aad))
    need((key["role"], key["id"], key["pins"]["vault"]) == ("recovery", body["key"], body["vault"]), f"{name} lies")
    check_signature(bytes.fromhex(key["pins"]["root_public"]), document)
    return key


def check_signature(public: bytes, document: dict[str, Any]) -> None:
    """The signature of an envelope."""
    body, signature = document["body"], document["signature"]
    message = b"reopen/v1/" + body["kind"].encode() + b"\0" + canonical(body)
    Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signature["value"]), message)
