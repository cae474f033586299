"""Recovery keys under a passphrase; W numbers are the invariants of :mod:`reopen.vault.passphrase`.

Each derivation takes 128 MiB and most of half a second, so one sealed document serves most tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reopen.clock import FixedClock
from reopen.errors import Corrupt, InvalidInput, NotFound, Refused, ReopenError
from reopen.ids import seeded_random
from reopen.storage.canonical import encode
from reopen.vault import Vault, make_keys, passphrase
from reopen.vault.canonical import decode, seal_envelope
from reopen.vault.passphrase import (
    ALPHABET,
    make_passphrase,
    open_with_passphrase,
    passphrase_body,
    passphrase_keys,
    passphrase_name,
    read_passphrase,
    read_passphrase_file,
)
from tests.stores import MemoryStore
from tests.vault.kit import KEYS, flip, new_vault

ROOT = next(key for key in KEYS.signing if key.role == "root")
WRITER = next(key for key in KEYS.signing if key.role == "writer")
SECRET = make_passphrase(seeded_random(1))
BODY = passphrase_body(KEYS.recovery, KEYS.pins, SECRET, at=FixedClock().now(), random_bytes=seeded_random(2))
NAME = passphrase_name(KEYS.recovery.id, BODY["id"])
STORED = seal_envelope(BODY, ROOT)


def a_store(data: bytes = STORED, name: str = NAME) -> MemoryStore:
    store = MemoryStore()
    store.put(name, [data])
    return store


def changed(**changes: Any) -> bytes:
    return seal_envelope(BODY | changes, ROOT)


def with_kdf(**changes: Any) -> bytes:
    return changed(kdf=BODY["kdf"] | changes)


def test_a_passphrase_has_130_random_bits_in_groups_that_can_be_read_out() -> None:
    """W1."""
    made = {make_passphrase(seeded_random(number)) for number in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(rf"([{ALPHABET}]{{4}}-){{6}}[{ALPHABET}]{{4}}", one) for one in made)
    assert len(ALPHABET) == 32
    assert not set("ILOU") & set(ALPHABET)
    for at in range(26):
        letters = {one.replace("-", "")[at] for one in made}
        assert len(letters) > 20, "every letter varies"


def test_how_a_passphrase_is_typed_does_not_matter() -> None:
    letters = SECRET.replace("-", "")
    assert read_passphrase(SECRET) == letters
    for typed in (
        SECRET.lower(),
        letters,
        f"  {SECRET}\n",
        SECRET.replace("-", " "),
        letters.replace("0", "o").replace("1", "l"),
    ):
        assert read_passphrase(typed) == letters


def test_a_typing_error_is_told_from_a_wrong_passphrase() -> None:
    """W1: every single wrong letter but about one in a thousand is told before half a second is spent."""
    letters = SECRET.replace("-", "")
    unnoticed = 0
    for at in range(26):
        for letter in set(ALPHABET) - {letters[at]}:
            try:
                read_passphrase(letters[:at] + letter + letters[at + 1 :])
            except InvalidInput:
                continue
            unnoticed += 1
    assert unnoticed <= 5
    for wrong in ("", "short", letters + "0", letters[:-1], "correct horse battery staple", letters[:-1] + "é"):
        with pytest.raises(InvalidInput):
            read_passphrase(wrong)


def test_the_store_and_the_passphrase_open_the_vault() -> None:
    """W3: the pins come from under the passphrase."""
    vault = new_vault()
    vault.store.put(NAME, [STORED])
    ring = open_with_passphrase(vault.store, SECRET)
    assert ring.pins == KEYS.pins
    assert ring.recovery_keys == (KEYS.recovery,)
    assert Vault.open(vault.store, ring).roots == KEYS.roots
    assert passphrase_keys(vault.store) == {KEYS.recovery.id: [NAME]}


def test_a_wrong_passphrase_is_told_so() -> None:
    with pytest.raises(InvalidInput, match="opens none of the 1 keys"):
        open_with_passphrase(a_store(), make_passphrase(seeded_random(9)))


def test_a_store_without_such_a_key_says_what_is_needed() -> None:
    store = MemoryStore()
    store.put("passphrases/readme.txt", [b"no such document"])
    with pytest.raises(NotFound, match="holds no recovery key under a passphrase"):
        open_with_passphrase(store, SECRET)


@pytest.mark.parametrize(
    "kdf",
    [
        *({"n": n} for n in (1 << 40, 1 << 21, 1 << 16, 1, 0, -1, (1 << 17) + 1)),
        *({"r": r} for r in (1 << 20, 0, 9)),
        *({"p": p} for p in (1 << 20, 0, 5)),
    ],
)
def test_a_derivation_beyond_the_bounds_is_refused_before_it_begins(
    kdf: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W2, K7."""
    monkeypatch.setattr(passphrase, "_derive", lambda *arguments: pytest.fail("derived"))
    with pytest.raises(Refused, match="asks for a key derivation"):
        open_with_passphrase(a_store(with_kdf(**kdf)), SECRET)


@pytest.mark.parametrize(
    "data",
    [
        with_kdf(n="131072"),
        with_kdf(n=True),
        with_kdf(name="argon2"),
        with_kdf(salt="00"),
        with_kdf(salt=5),
        changed(kdf=[]),
        changed(kdf={}),
        changed(sealed="00" * 20),
        changed(sealed="not hex"),
        changed(vault="x"),
        changed(key="../../etc"),
        seal_envelope({"kind": "passphrase"}, ROOT),
        seal_envelope({"kind": "snapshot"}, ROOT),
        STORED[:-1],
        b"",
        b"[" * 100_000,
        bytes(2 << 20),
        encode({"body": 1, "signature": 2}),
    ],
)
def test_a_malformed_document_is_corrupt(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "_derive", lambda *arguments: pytest.fail("derived"))
    with pytest.raises(Corrupt):
        open_with_passphrase(a_store(data), SECRET)


@pytest.mark.parametrize("at", [0, 11, 12, 100, -17, -1])
def test_a_changed_bit_under_the_passphrase_does_not_open(at: int) -> None:
    sealed = bytes.fromhex(BODY["sealed"])
    with pytest.raises(InvalidInput, match="opens none"):
        open_with_passphrase(a_store(changed(sealed=flip(sealed, at % len(sealed)).hex())), SECRET)


def test_what_is_sealed_for_another_vault_or_key_id_does_not_open() -> None:
    for lie in ({"vault": "ab" * 16}, {"key": "ab" * 8}):
        with pytest.raises(ReopenError):
            open_with_passphrase(a_store(changed(**lie)), SECRET)


def test_a_document_that_the_root_did_not_sign_is_not_believed() -> None:
    """Somebody who knows the passphrase of a vault cannot pass off his own."""
    with pytest.raises(Corrupt, match="not signed by the vault's root key"):
        open_with_passphrase(a_store(seal_envelope(BODY, WRITER)), SECRET)


def test_a_store_that_exchanges_the_whole_vault_is_refused() -> None:
    """W3: the pins lie under the passphrase, so another vault's root is not theirs."""
    other = make_keys(seeded_random(66))
    pins = replace(other.pins, vault_id=KEYS.pins.vault_id)
    vault = new_vault(keys=replace(other, pins=pins))
    vault.store.put(NAME, [STORED])
    with pytest.raises(Refused, match="not signed by the root key"):
        Vault.open(vault.store, open_with_passphrase(vault.store, SECRET))


def test_damaged_documents_do_not_hide_a_good_one_and_only_so_many_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """W2."""
    store = a_store()
    for number in range(5):
        store.put(passphrase_name("00" * 8, f"{number:016x}"), [STORED[:-1]])
    assert open_with_passphrase(store, SECRET).recovery_keys == (KEYS.recovery,)
    store = MemoryStore()
    for number in range(40):
        store.put(passphrase_name("00" * 8, f"{number:016x}"), [STORED])
    derived = []

    def count(*arguments: object) -> bytes:
        derived.append(arguments)
        return bytes(32)

    monkeypatch.setattr(passphrase, "_derive", count)
    with pytest.raises(InvalidInput, match="none of the 40"):
        open_with_passphrase(store, SECRET)
    assert len(derived) == passphrase.DOCUMENTS_MAX


def test_the_passphrase_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_text(f"{SECRET}\n")
    assert read_passphrase_file(path) == SECRET.replace("-", "")
    path.write_bytes(b"\xff" * 100)
    for wrong in (path, tmp_path / "none", tmp_path):
        with pytest.raises(InvalidInput):
            read_passphrase_file(wrong)


def test_neither_passphrase_nor_key_is_in_the_document() -> None:
    text = STORED.decode()
    for secret in (SECRET, SECRET.replace("-", ""), KEYS.recovery.mlkem_seed.hex(), KEYS.recovery.x25519_private.hex()):
        assert secret not in text
    assert decode(STORED, NAME)["body"]["kdf"] == {
        "name": "scrypt",
        "n": 1 << 17,
        "r": 8,
        "p": 1,
        "salt": BODY["kdf"]["salt"],
    }


def test_a_document_may_ask_for_as_much_as_the_bounds_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later program may use more; only what is asked is recorded here, not done."""
    asked: list[tuple[int, int]] = []

    def note(letters: str, salt: bytes, n: int, p: int) -> bytes:
        asked.append((n, p))
        return bytes(32)

    monkeypatch.setattr(passphrase, "_derive", note)
    allowed: list[Callable[[], bytes]] = [lambda: with_kdf(n=1 << 20), lambda: with_kdf(n=1 << 18, p=4)]
    for make in allowed:
        with pytest.raises(InvalidInput):
            open_with_passphrase(a_store(make()), SECRET)
    assert asked == [(1 << 20, 1), (1 << 18, 4)]
