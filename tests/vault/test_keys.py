"""Keys, key files and pins; I1 to I4 are the invariants of :mod:`reopen.vault.keys`."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spec_keys

from reopen.errors import Conflict, Corrupt, InvalidInput, NotFound, Refused, TargetUnwritable
from reopen.ids import new_id, seeded_random
from reopen.storage.canonical import encode
from reopen.vault import Vault, create_vault, load_keyring, make_keys, save_key
from reopen.vault.canonical import decode, seal_envelope
from reopen.vault.content import ContentKeys
from reopen.vault.keys import SEALED_KEY_BYTES, Keyring, RecoveryKey, Roots, SigningKey, roots_context
from tests.vault.kit import ALL, KEYS, RECOVERY, WRITER, Packer, Role, flip, new_store, new_vault, reopen

OTHER = make_keys(seeded_random(8))
VAULT = KEYS.pins.vault_id


def test_a_sealed_key_opens_with_its_recovery_key_and_context_only() -> None:
    """I1."""
    sealed = KEYS.recovery.recipient().seal(b"k" * 32, b"context")
    assert len(sealed) == SEALED_KEY_BYTES
    assert KEYS.recovery.open(sealed, b"context") == b"k" * 32
    for key, info in ((OTHER.recovery, b"context"), (KEYS.recovery, b"another")):
        with pytest.raises(Corrupt, match=key.id):
            key.open(sealed, info)


@pytest.mark.parametrize("at", [0, 1000, 1087, 1088, 1119, 1120, 1151, 1152, 1167])
def test_a_changed_bit_of_a_sealed_key_does_not_open(at: int) -> None:
    sealed = bytearray(KEYS.recovery.recipient().seal(b"k" * 32, b"context"))
    sealed[at] ^= 1
    with pytest.raises(Corrupt):
        KEYS.recovery.open(bytes(sealed), b"context")


@pytest.mark.parametrize("length", [0, 31, 1088, 1120, 1167])
def test_a_sealed_key_that_is_cut_short_does_not_open(length: int) -> None:
    sealed = KEYS.recovery.recipient().seal(b"k" * 32, b"context")
    with pytest.raises(Corrupt):
        KEYS.recovery.open(sealed[:length], b"context")


def test_sealing_is_the_hpke_that_the_page_describes() -> None:
    sealed = KEYS.recovery.recipient().seal(b"k" * 32, b"context")
    opened = spec_keys.hpke_open(sealed, KEYS.recovery.mlkem_seed, KEYS.recovery.x25519_private, b"context")
    assert opened == b"k" * 32


def test_wrapped_roots_unwrap_with_their_own_key_and_vault_only() -> None:
    """I1."""
    writer, verifier = (key for key in KEYS.signing if key.role in ("writer", "verifier"))
    wrapped = writer.wrap(KEYS.roots, VAULT)
    assert len(wrapped) == 92
    assert writer.unwrap(wrapped, VAULT) == KEYS.roots
    attempts: list[Callable[[], Roots]] = [
        lambda: verifier.unwrap(wrapped, VAULT),
        lambda: writer.unwrap(wrapped, OTHER.pins.vault_id),
        lambda: writer.unwrap(wrapped[:-1], VAULT),
        lambda: writer.unwrap(b"", VAULT),
        lambda: dataclasses.replace(writer, id=verifier.id).unwrap(wrapped, VAULT),
    ]
    for attempt in attempts:
        with pytest.raises(Corrupt):
            attempt()


def test_derived_keys_differ_by_purpose_and_generation() -> None:
    """I4."""
    roots = Roots(id_root=bytes(32), meta_root=bytes(32))
    derived = {roots.chunk_id_key(), roots.directory_key(), *(roots.metadata_key(number) for number in range(1, 50))}
    assert len(derived) == 51
    assert 0 <= roots.chunker_seed() < 1 << 63


def test_a_key_file_is_private_and_reads_back(tmp_path: Path) -> None:
    every: list[RecoveryKey | SigningKey] = [KEYS.recovery, *KEYS.signing]
    for key in every:
        path = save_key(tmp_path / "keys", key, KEYS.pins)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    ring = load_keyring(tmp_path / "keys")
    assert ring.pins == KEYS.pins
    assert ring.roles == ("recovery", "root", "writer", "verifier", "retention")
    assert ring.recovery_keys == (KEYS.recovery,)
    assert {key.id: key for key in ring.signing_keys} == {key.id: key for key in KEYS.signing}


def test_a_key_file_is_never_replaced(tmp_path: Path) -> None:
    path = save_key(tmp_path, KEYS.recovery, KEYS.pins)
    before = path.read_bytes()
    with pytest.raises(Conflict, match="never replaced"):
        save_key(tmp_path, KEYS.recovery, OTHER.pins)
    assert path.read_bytes() == before


def test_secrets_do_not_show_in_a_repr() -> None:
    for holder in (KEYS, KEYS.roots, KEYS.recovery, *KEYS.signing, ALL.ring()):
        text = repr(holder)
        for secret in (KEYS.roots.id_root, KEYS.recovery.mlkem_seed, KEYS.signing[0].seed, KEYS.signing[0].wrap_key):
            assert secret.hex() not in text
            assert repr(secret) not in text


def test_a_folder_without_keys_says_what_to_do(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(NotFound, match="REOPEN_KEYS"):
            load_keyring(folder)


def _document(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    path = save_key(tmp_path, next(key for key in KEYS.signing if key.role == "writer"), KEYS.pins)
    return path, json.loads(path.read_bytes())


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document.pop("secret"),
        lambda document: document.pop("pins"),
        lambda document: document["pins"].pop("recipients"),
        lambda document: document["pins"].update(recipients=[{"id": "x"}]),
        lambda document: document["pins"].update(root_public="not hex"),
        lambda document: document.update(kind="other"),
        lambda document: document.update(version=2),
        lambda document: document.update(role="king"),
        lambda document: document.update(role="recovery"),
        lambda document: document["secret"].update(ed25519_seed="00"),
        lambda document: document["secret"].update(wrap_key=5),
        lambda document: document.update(secret="none"),
        lambda document: document.update(pins=[]),
    ],
)
def test_a_damaged_key_file_is_named(tmp_path: Path, damage: Callable[[dict[str, Any]], object]) -> None:
    path, document = _document(tmp_path)
    damage(document)
    path.write_bytes(encode(document))
    with pytest.raises(InvalidInput, match=re.escape(path.name)):
        load_keyring(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xff", b"[1]", b"{"])
def test_a_file_that_is_no_key_file_is_named(tmp_path: Path, data: bytes) -> None:
    path, _ = _document(tmp_path)
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=re.escape(path.name)):
        load_keyring(tmp_path)


def test_no_bytes_in_a_key_file_end_in_anything_but_an_error_of_ours(tmp_path: Path) -> None:
    """Flipped, cut and random: named, or read as a key (of other secrets, which open nothing)."""
    path, _ = _document(tmp_path)
    data, dice = path.read_bytes(), random.Random(3)
    tries = [flip(data, dice.randrange(len(data)), dice.randrange(8)) for _ in range(400)]
    tries += [data[: dice.randrange(len(data))] for _ in range(50)]
    tries += [dice.randbytes(dice.randrange(500)) for _ in range(50)]
    tries += [b"[" * 100_000, b'{"a":' * 50_000, b"9" * 100_000, bytes(2 << 20)]
    refused = 0
    for attempt in tries:
        path.write_bytes(attempt)
        try:
            assert load_keyring(tmp_path).roles == ("writer",)
        except InvalidInput as error:
            refused += path.name in error.message
    assert refused > len(tries) / 2


def test_an_editor_s_final_newline_does_no_harm(tmp_path: Path) -> None:
    path, _ = _document(tmp_path)
    path.write_bytes(path.read_bytes() + b"\n")
    assert load_keyring(tmp_path).roles == ("writer",)


def test_keys_of_two_vaults_in_one_folder_are_refused(tmp_path: Path) -> None:
    save_key(tmp_path, KEYS.recovery, KEYS.pins)
    save_key(tmp_path, OTHER.recovery, OTHER.pins)
    with pytest.raises(Conflict, match="vault"):
        load_keyring(tmp_path)


def test_several_keys_of_one_signing_role_may_lie_in_one_folder(tmp_path: Path) -> None:
    """As after a rotation; the vault tells which of them signs."""
    keys = [SigningKey.generate("writer") for _ in range(2)]
    for key in keys:
        save_key(tmp_path, key, KEYS.pins)
    assert {key.id for key in load_keyring(tmp_path).signing_keys} == {key.id for key in keys}


def test_a_key_file_that_lies_there_twice_counts_once_and_two_that_differ_are_refused(tmp_path: Path) -> None:
    key = SigningKey.generate("writer")
    path = save_key(tmp_path, key, KEYS.pins)
    (tmp_path / "copy.key").write_bytes(path.read_bytes())
    (tmp_path / "copy.key").chmod(0o600)
    assert load_keyring(tmp_path).signing_keys == (key,)
    (tmp_path / "copy.key").unlink()
    save_key(tmp_path / "other", dataclasses.replace(key, seed=b"x" * 32), KEYS.pins).rename(tmp_path / "copy.key")
    with pytest.raises(Conflict, match=f"differ about key {key.id}"):
        load_keyring(tmp_path)


def test_a_key_file_that_others_can_read_is_told(tmp_path: Path) -> None:
    path = save_key(tmp_path, KEYS.recovery, KEYS.pins)
    assert load_keyring(tmp_path).notes == ()
    path.chmod(0o640)
    assert [note.partition(" ")[0] for note in load_keyring(tmp_path).notes] == [str(path)]


def test_what_is_no_regular_file_is_named_and_not_read(tmp_path: Path) -> None:
    """A pipe would make the reader wait for ever, a device would have no end."""
    for make in (lambda path: os.mkfifo(path), lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero")):
        path = tmp_path / "odd.key"
        make(path)
        with pytest.raises(InvalidInput, match=r"odd\.key"):
            load_keyring(tmp_path)
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_key_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetUnwritable, match="nothing was changed in the vault"):
        save_key(tmp_path / "file", KEYS.recovery, KEYS.pins)
    save_key(tmp_path / "keys", KEYS.recovery, KEYS.pins)
    with pytest.raises(Conflict):
        save_key(tmp_path / "keys", KEYS.recovery, KEYS.pins)
    assert len(list((tmp_path / "keys").iterdir())) == 1


def test_a_missing_role_is_refused_with_its_name() -> None:
    with pytest.raises(Refused, match="needs a verifier key, and the keys here are: writer"):
        WRITER.ring().signer("verifier")


@pytest.mark.parametrize("role", ["recovery", "root", "writer", "verifier", "retention"])
def test_every_key_alone_reaches_the_roots(role: str) -> None:
    """I1: whoever holds one key can read the tables; only the recovery key can read content."""
    vault = reopen(new_vault(), Role((role,)))
    assert vault.roots == KEYS.roots
    assert vault.keyring.can_read_content is (role == "recovery")


@pytest.mark.parametrize("role", ["root", "writer", "verifier", "retention"])
def test_no_signing_key_opens_a_content_key(role: str) -> None:
    """I2."""
    vault = new_vault()
    packer = Packer(vault)
    packer.add(b"content")
    packer.writer.close()
    slot = packer.sealer.slot
    with pytest.raises(Refused, match="recovery key"):
        ContentKeys(vault.id, Role((role,)).ring()).learn([slot], "pack")
    ContentKeys(vault.id, RECOVERY.ring()).learn([slot], "pack")


def test_a_recovery_key_of_another_vault_is_told_apart(tmp_path: Path) -> None:
    vault = new_vault()
    foreign = Keyring(KEYS.pins, recovery=[RecoveryKey.generate()])
    slot = Packer(vault).sealer.slot
    with pytest.raises(NotFound, match="not sealed to any recovery key"):
        ContentKeys(vault.id, foreign).learn([slot], "pack")
    with pytest.raises(Conflict, match="none of the keys here"):
        Vault.open(vault.store, foreign)


def _lie(vault: Vault, signer: SigningKey, **changes: object) -> None:
    body = decode(vault.store.get("vault.json"), "vault.json")["body"]
    vault.store.put("vault.json", [seal_envelope({**body, **changes}, signer)])


def _root() -> SigningKey:
    return next(key for key in KEYS.signing if key.role == "root")


def test_a_store_with_another_vault_is_refused() -> None:
    """I3."""
    vault = new_vault()
    other = new_store()
    create_vault(other, OTHER, created_at=vault.clock.now())
    with pytest.raises(Refused, match="holds vault"):
        Vault.open(other, ALL.ring())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "00" * 16}, "holds vault"),
        ({"root_public": "00" * 32}, "root key"),
        ({"recipients": ["0011223344556677"]}, "recipients"),
        ({"recipients": []}, "recipients"),
        ({"format": 2}, "format 2"),
        ({"format": 0}, "format 0"),
        ({"features": {"required": ["telepathy"], "optional": []}}, "telepathy"),
    ],
)
def test_vault_json_that_contradicts_the_pins_is_refused(changes: dict[str, object], message: str) -> None:
    """I3: even when the root key signed it."""
    vault = new_vault()
    _lie(vault, _root(), **changes)
    with pytest.raises(Refused, match=message):
        Vault.open(vault.store, ALL.ring())


def test_vault_json_of_another_signer_is_refused() -> None:
    vault = new_vault()
    writer = next(key for key in KEYS.signing if key.role == "writer")
    _lie(vault, writer)
    with pytest.raises(Refused, match="not signed by the root key"):
        Vault.open(vault.store, ALL.ring())


def test_a_store_that_swaps_all_its_keys_is_refused() -> None:
    """I3: a consistent vault of an attacker's own keys under the right vault id."""
    vault = new_vault()
    pins = dataclasses.replace(OTHER.pins, vault_id=VAULT)
    forged = new_store()
    create_vault(forged, dataclasses.replace(OTHER, pins=pins), created_at=vault.clock.now())
    with pytest.raises(Refused, match="root key"):
        Vault.open(forged, ALL.ring())


def test_an_optional_feature_is_passed_over() -> None:
    vault = new_vault()
    _lie(vault, _root(), features={"required": [], "optional": ["better"]}, more="fields")
    assert Vault.open(vault.store, ALL.ring()).id == VAULT


@pytest.mark.parametrize("kind", ["certificate", "recipient"])
def test_a_key_that_the_root_did_not_sign_is_refused(kind: str) -> None:
    vault = new_vault()
    intruder = SigningKey.generate("writer")
    body = {"kind": kind, "vault": VAULT, "id": intruder.id, "role": "writer", "datasets": ["*"]}
    body |= {"ed25519": intruder.public().hex(), "wrapped_roots": "", "sealed_roots": ""}
    vault.store.put(f"keys/{intruder.id}.json", [seal_envelope(body, intruder)])
    with pytest.raises(Refused, match="not signed by the vault's root key"):
        Vault.open(vault.store, ALL.ring())


def test_damaged_vault_json_is_corrupt_and_a_missing_one_is_not_found() -> None:
    vault = new_vault()
    data = vault.store.get("vault.json")
    vault.store.put("vault.json", [data[:-1]])
    with pytest.raises(Corrupt, match=r"vault\.json"):
        Vault.open(vault.store, ALL.ring())
    vault.store.delete("vault.json")
    with pytest.raises(NotFound, match="there is no vault"):
        Vault.open(vault.store, ALL.ring())


def test_a_vault_is_made_once() -> None:
    vault = new_vault()
    before = vault.store.get("vault.json")
    with pytest.raises(Conflict, match="already"):
        create_vault(vault.store, OTHER, created_at=vault.clock.now())
    assert vault.store.get("vault.json") == before


def test_the_roots_context_names_the_vault() -> None:
    assert roots_context(VAULT) == b"reopen/v1/roots\0" + bytes.fromhex(VAULT)
    assert re.fullmatch(r"[0-9a-f]{16}", new_id())
