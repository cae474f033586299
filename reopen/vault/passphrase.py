"""Owns recovery keys under a passphrase: ``passphrases/<key id>-<16 hex>.json`` holds a whole key file, sealed.

For the worst day: the store and a line on paper open the vault. Opt-in, since whoever copies the object may try
passphrases for ever; so none can be chosen, they are made of 130 random bits.

Invariants
    W1  A passphrase is generated. Its last two letters are a check over the others, so that a typing error is told
        before the derivation, apart from a wrong passphrase.
    W2  What a document asks of the derivation is bounded before memory is taken: N from 2^17 to 2^20, r = 8, p up to
        4, and at most :data:`DOCUMENTS_MAX` documents are tried.
    W3  The pins come out of the sealed part: a store can withhold the key, and not exchange the vault.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from pathlib import Path

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reopen.clock import to_text
from reopen.errors import Corrupt, InvalidInput, NotFound, Refused
from reopen.ids import RandomBytes, new_id, system_random
from reopen.storage import ObjectStore
from reopen.vault.canonical import RECORD_BYTES_MAX, JsonObject, open_envelope, signed_message
from reopen.vault.keyfiles import decode_key, encode_key
from reopen.vault.keys import KEY_ID, VAULT_ID, Keyring, Pins, RecoveryKey, verify_signature

PREFIX = "passphrases/"
FILE_VARIABLE = "REOPEN_PASSPHRASE_FILE"
SCRYPT_N = 1 << 17
SCRYPT_R = 8
SCRYPT_P = 1
SCRYPT_N_MAX = 1 << 20
SCRYPT_P_MAX = 4
SALT_BYTES = 16
DOCUMENTS_MAX = 16
"""At 0.4 s each what a person waits for; a vault has one or two."""
FILE_BYTES_MAX = 4096

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: no I, L, O or U, which are taken for others when they are read aloud."""
LETTERS = 26
CHECK_LETTERS = 2
GROUP = 4
_NAME = re.compile(r"passphrases/([0-9a-f]{16})-[0-9a-f]{16}\.json")


def make_passphrase(random_bytes: RandomBytes = system_random) -> str:
    """A fresh passphrase: seven groups of four letters, 130 random bits and a check."""
    value = int.from_bytes(random_bytes(17), "little")
    letters = "".join(ALPHABET[value >> 5 * at & 31] for at in range(LETTERS))
    letters += _check(letters)
    return "-".join(letters[at : at + GROUP] for at in range(0, len(letters), GROUP))


def read_passphrase(text: str) -> str:
    """The letters of a passphrase as somebody typed it: case, blanks and dashes do not matter.

    :raises InvalidInput: it is not one (W1).
    """
    letters = re.sub(r"[\s-]", "", text).upper().translate(str.maketrans("OIL", "011"))
    if len(letters) != LETTERS + CHECK_LETTERS or set(letters) - set(ALPHABET):
        raise InvalidInput(
            f"a passphrase has {LETTERS + CHECK_LETTERS} letters and digits in groups of {GROUP}; "
            f"this one has {len(letters)}.",
            hint="Type it as `reopen keys passphrase` printed it.",
        )
    if _check(letters[:LETTERS]) != letters[LETTERS:]:
        raise InvalidInput("the passphrase has a typing error.", hint="Compare it letter by letter.")
    return letters


def read_passphrase_file(path: Path) -> str:
    """The passphrase in a file. :raises InvalidInput: the file cannot be read, or holds none."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX)
    except OSError as error:
        hint = (
            "REOPEN_PASSPHRASE_FILE or --passphrase-file has to name a file with the passphrase, readable by this user."
        )
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", hint=hint, path=path) from error
    return read_passphrase(data.decode("utf-8", "replace"))


def passphrase_name(key_id: str, document_id: str) -> str:
    """Where a recovery key under a passphrase is stored. A new passphrase is a new object: nothing is replaced."""
    return f"{PREFIX}{key_id}-{document_id}.json"


def passphrase_body(
    key: RecoveryKey,
    pins: Pins,
    passphrase: str,
    *,
    at: datetime,
    random_bytes: RandomBytes = system_random,
) -> JsonObject:
    """A recovery key's file under a passphrase, to be signed by the root."""
    salt, nonce = random_bytes(SALT_BYTES), random_bytes(12)
    derived = _derive(read_passphrase(passphrase), salt, SCRYPT_N, SCRYPT_P)
    sealed = AESGCM(derived).encrypt(nonce, encode_key(key, pins), _context(pins.vault_id, key.id))
    return {
        "kind": "passphrase",
        "vault": pins.vault_id,
        "id": new_id(random_bytes),
        "key": key.id,
        "at": to_text(at),
        "kdf": {"name": "scrypt", "n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "salt": salt.hex()},
        "sealed": (nonce + sealed).hex(),
    }


def passphrase_keys(store: ObjectStore) -> dict[str, list[str]]:
    """Names of the documents under a passphrase, by the id of the recovery key in them."""
    found: dict[str, list[str]] = {}
    for info in store.list(PREFIX):
        match = _NAME.fullmatch(info.name)
        if match:
            found.setdefault(match[1], []).append(info.name)
    return found


def open_with_passphrase(store: ObjectStore, passphrase: str) -> Keyring:
    """The recovery key that a passphrase opens, with the pins that lie under it.

    :raises NotFound: the store holds no key under a passphrase.
    :raises InvalidInput: the passphrase opens none of them. :raises Refused: none asks for a bearable derivation (W2).
    """
    letters = read_passphrase(passphrase)
    names = [name for names in passphrase_keys(store).values() for name in names]
    if not names:
        raise NotFound(
            f"{store.url} holds no recovery key under a passphrase.",
            hint="`reopen keys passphrase` makes one, where the recovery key and the root key are; else a key file is "
            "needed.",
        )
    troubles: list[Corrupt | Refused] = []
    tried = 0
    for name in names[:DOCUMENTS_MAX]:
        try:
            key, pins = _open(store, name, letters)
        except (Corrupt, Refused) as error:
            troubles.append(error)
            continue
        except InvalidTag:
            tried += 1
            continue
        return Keyring(pins, recovery=[key])
    if troubles and not tried:
        raise troubles[0]
    raise InvalidInput(
        f"the passphrase opens none of the {len(names)} keys under a passphrase in {store.url}.",
        hint="It was made for another vault, or the objects in passphrases/ are damaged: try a replica.",
    )


def _open(store: ObjectStore, name: str, letters: str) -> tuple[RecoveryKey, Pins]:
    info = store.head(name)
    if info.size_bytes > RECORD_BYTES_MAX:
        raise Corrupt(f"{name} has {info.size_bytes} bytes; no document has more.", object=name)
    body, _, signature = open_envelope(store.get(name), name, "passphrase")
    try:
        vault_id, key_id, kdf = body["vault"], body["key"], body["kdf"]
        salt, sealed = bytes.fromhex(kdf["salt"]), bytes.fromhex(body["sealed"])
        n, r, p = kdf["n"], kdf["r"], kdf["p"]
        if not re.fullmatch(VAULT_ID, vault_id) or not re.fullmatch(KEY_ID, key_id) or kdf["name"] != "scrypt":
            raise ValueError("an id or the derivation is malformed")
        if any(type(number) is not int for number in (n, r, p)) or len(salt) != SALT_BYTES or len(sealed) < 28:
            raise ValueError("the derivation is malformed")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(f"{name} lacks or misspells a field: {error}.", object=name) from error
    if not SCRYPT_N <= n <= SCRYPT_N_MAX or n & (n - 1) or r != SCRYPT_R or not 1 <= p <= SCRYPT_P_MAX:
        raise Refused(
            f"{name} asks for a key derivation with N = {n}, r = {r}, p = {p}, which this program does not do.",
            hint="Somebody tampered with it; take the store's replica or a key file.",
            object=name,
        )
    plain = AESGCM(_derive(letters, salt, n, p)).decrypt(sealed[:12], sealed[12:], _context(vault_id, key_id))
    try:
        key, pins = decode_key(plain, name)
    except ValueError as error:
        raise Corrupt(f"{name} holds no key file: {error}.", object=name) from error
    if not isinstance(key, RecoveryKey) or (key.id, pins.vault_id) != (key_id, vault_id):
        raise Corrupt(f"{name} holds another key than it says.", object=name)
    # Only now is it known whose signature to ask for (W3); who knows the passphrase made what is under it.
    if not verify_signature(pins.root_public, signature, signed_message(body)):
        raise Corrupt(f"{name} is not signed by the vault's root key.", object=name)
    return key, pins


def _derive(letters: str, salt: bytes, n: int, p: int) -> bytes:
    return hashlib.scrypt(
        letters.encode(), salt=salt, n=n, r=SCRYPT_R, p=p, maxmem=128 * SCRYPT_R * (n + p + 2) + (1 << 20), dklen=32
    )


def _context(vault_id: str, key_id: str) -> bytes:
    return b"reopen/v1/passphrase\0" + bytes.fromhex(vault_id) + bytes.fromhex(key_id)


def _check(letters: str) -> str:
    digest = blake3(b"reopen passphrase " + letters.encode()).digest()
    return "".join(ALPHABET[digest[at] & 31] for at in range(CHECK_LETTERS))
