"""What somebody who takes over production gets with a writer's key: everything that it opens is opened here, and no
byte of content is in it; and objects that are replayed or rolled back are found out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reopen.errors import Corrupt, Refused, ReopenError
from reopen.protect.verify.verify import Level, verify_vault
from reopen.protect.witness import Witness
from reopen.vault import NewKeys, Vault, make_keys
from reopen.vault.keys import RecoveryKey, SigningKey
from reopen.vault.pack import TAG_BYTES, frame_aad, frame_nonce, slot_context
from reopen.vault.packreader import OpenPack, read_pack
from reopen.vault.statements import read_statements
from reopen.vault.tables import INDEX, decode_parquet
from tests import proof
from tests.kit import a_dataset, a_keyring, a_vault, reopened, restore, snapshot
from tests.stores import MemoryStore
from tests.trees import age, grow, some_bytes

CONTENT = {
    "large": some_bytes(20_000, 1),
    "text": b"the quick brown fox jumps over the lazy dog. " * 20,
    "small": b"S" * 40,
}
WINDOW = 16


@pytest.fixture
def keys() -> NewKeys:
    return make_keys()


@pytest.fixture
def vault(keys: NewKeys, tmp_path: Path) -> Vault:
    """Written to and open with the writer's key alone."""
    store = MemoryStore()
    a_vault(store, keys=keys)
    vault = Vault.open(store, a_keyring(keys, "writer"))
    snapshot(vault, a_dataset("it", grow(tmp_path / "source", CONTENT)))
    return vault


def secrets_of(vault: Vault) -> dict[str, bytes]:
    """Every 32-byte secret that a writer has or can derive."""
    (key,) = vault.keyring.signing_keys
    roots = vault.roots
    found = {
        "signing seed": key.seed,
        "public key": key.public(),
        "wrap key": key.wrap_key,
        "id root": roots.id_root,
        "meta root": roots.meta_root,
        "chunk id key": roots.chunk_id_key(),
        "directory key": roots.directory_key(),
        "nothing": bytes(32),
    }
    return found | {f"metadata key {number}": roots.metadata_key(number) for number in range(4)}


def packs_of(vault: Vault) -> list[OpenPack]:
    """A writer opens the directories, so it knows where every frame lies."""
    return [read_pack(vault, info.name.rpartition("/")[2]) for info in vault.store.list("packs/")]


def test_no_key_of_a_writer_opens_a_frame_or_a_content_key(vault: Vault) -> None:
    tried = 0
    for pack in packs_of(vault):
        for name, secret in secrets_of(vault).items():
            for frame in pack.directory.frames:
                slot, counter = pack.slots[int(frame["slot"])], int(frame["counter"])
                aad = frame_aad(vault.id, slot.salt, counter, int(frame["codec"]), int(frame["raw_length"]))
                stored = pack.data[int(frame["offset"]) :][: int(frame["stored_length"])]
                for context in (aad, b"", None):
                    with pytest.raises(InvalidTag):
                        AESGCM(secret).decrypt(frame_nonce(counter), stored, context)
                    tried += 1
            for slot in pack.slots:
                for recipient, sealed in slot.sealed:
                    # As if the secret were a recovery key's halves.
                    guess = RecoveryKey(id=recipient, mlkem_seed=secret * 2, x25519_private=secret)
                    with pytest.raises(Corrupt):
                        guess.open(sealed, slot_context(vault.id, slot.salt))
                    with pytest.raises((InvalidTag, ValueError)):
                        AESGCM(secret).decrypt(sealed[:12], sealed[12:], None)
                    tried += 2
            assert name
    assert tried > 100
    proof.count("keys tried on content", tried)


def test_no_stored_range_holds_content_or_opens_to_it(vault: Vault) -> None:
    """Every run of 16 bytes of the content is looked for in all that is stored and in all that a writer can open; and
    ranges all over a pack are tried with each of its keys as sealed messages of their own."""
    windows = {data[at : at + WINDOW] for data in CONTENT.values() for at in range(len(data) - WINDOW + 1)}
    shown = [*readable(vault)]
    assert len(shown) > 8
    for where, data in shown:
        hits = {data[at : at + WINDOW] for at in range(len(data) - WINDOW + 1)} & windows
        assert not hits, where
    tried = 0
    ciphers = [AESGCM(secret) for secret in secrets_of(vault).values()]
    for pack in packs_of(vault):
        for start in range(0, len(pack.data) - 12 - TAG_BYTES, 997):
            for cipher in ciphers:
                with pytest.raises(InvalidTag):
                    cipher.decrypt(pack.data[start : start + 12], pack.data[start + 12 :], None)
                tried += 1
    proof.count("keys tried on content", tried)


def readable(vault: Vault) -> Iterator[tuple[str, bytes]]:
    """All that is stored, as it is and as far as a writer can open it."""
    for info in vault.store.list():
        yield info.name, vault.store.get(info.name)
    for record in vault.records():
        for table in (vault.manifest(record), vault.profile(record)):
            for column in table.column_names:
                yield f"column {column}", repr(table.column(column).to_pylist()).encode()
                for value in table.column(column).to_pylist():
                    yield f"cell of {column}", value if isinstance(value, bytes) else str(value).encode()
    for statement in read_statements(vault):
        key = vault.metadata_key(statement.key)
        table = decode_parquet(vault.get_pinned(statement.parquet), INDEX, key, statement.parquet.name)
        yield statement.part.name, b"".join(row["chunk_id"] + row["slot_salt"] for row in table.to_pylist())
    for pack in packs_of(vault):
        yield pack.id, pack.directory.chunks.tobytes() + pack.directory.frames.tobytes()


def test_a_writer_may_neither_restore_nor_check_content_nor_say_what_others_say(vault: Vault, tmp_path: Path) -> None:
    record = vault.records()[0]
    with pytest.raises(Refused):
        restore(vault, record, tmp_path / "target")
    with pytest.raises(Refused):
        verify_vault(vault, level=Level.CONTENT)
    for kind in ("verified", "clean", "drilled", "expired", "held", "released", "retired"):
        with pytest.raises(Refused):
            vault.record_fact(kind, dataset="it", snapshot=record.id, body={})
    assert not [path for path in (tmp_path / "target").glob("**/*") if path.is_file()]


def test_a_record_replayed_under_a_later_number_is_not_believed(vault: Vault) -> None:
    record = vault.records()[0]
    data = vault.store.get(record.name)
    for name in (
        f"snapshots/dataset=it/0000000002-{record.id}.json",
        f"snapshots/dataset=other/0000000001-{record.id}.json",
        "snapshots/dataset=it/0000000002-00112233445566ff.json",
    ):
        vault.store.put(name, [data])
        assert name in {item.name for item in vault.invalid_records()}
    assert [item.id for item in vault.records()] == [record.id]


def test_a_vault_rolled_back_to_any_earlier_state_is_found_out_by_who_saw_more(
    vault: Vault, keys: NewKeys, tmp_path: Path
) -> None:
    """Every state that the store ever had is put back; whoever kept the heads it has seen notices all but the last."""
    assert isinstance(vault.store, MemoryStore)
    states = [vault.store.clone()]
    for number in range(3):
        (tmp_path / "source" / "small").write_bytes(some_bytes(100, number))
        age(tmp_path / "source")
        snapshot(vault, a_dataset("it", tmp_path / "source"))
        states.append(vault.store.clone())
    reader = reopened(vault)
    Witness(tmp_path / "witness").remember(reader)
    for number, state in enumerate(states):
        rolled = Vault.open(state, a_keyring(keys, "verifier"))
        found = verify_vault(rolled, record=False, witness=Witness(tmp_path / "witness"))
        assert found.ok == (number == len(states) - 1)
        if not found.ok:
            with pytest.raises(ReopenError, match="lacks"):
                Witness(tmp_path / "witness").require_all(rolled)
    proof.count("roll-backs", len(states) - 1)


def test_a_key_of_another_vault_signs_nothing_here(vault: Vault) -> None:
    stranger = SigningKey.generate("writer")
    from reopen.vault.canonical import open_envelope, seal_envelope

    record = vault.records()[0]
    body = open_envelope(vault.store.get(record.name), record.name, "snapshot")[0]
    name = "snapshots/dataset=it/0000000002-00112233445566ff.json"
    vault.store.put(name, [seal_envelope(body | {"seq": 2, "id": "00112233445566ff"}, stranger)])
    assert [item.name for item in vault.invalid_records()] == [name]
