"""Trust statements as a reader meets them: the newest counts, older ones are noticed, and no bytes do harm.

T and K numbers are the invariants of :mod:`reopen.vault.trust` and ``docs/0008-keys.md``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from reopen.clock import FixedClock
from reopen.errors import Conflict, Corrupt, Refused, ReopenError
from reopen.ids import seeded_random
from reopen.storage.canonical import encode
from reopen.vault import Keyring, Vault, load_keyring, pack, save_key, trust
from reopen.vault.canonical import decode, seal_envelope
from reopen.vault.keydocs import certificate_body, key_name
from reopen.vault.keys import Pins, RecoveryKey, SigningKey
from reopen.vault.record import Part
from reopen.vault.trust import Ended, Trust, closing_name, encode_closing, statement_name, store_trust
from reopen.vault.trustmemory import TrustMemory
from tests.vault.kit import ALL, KEYS, RECOVERY, WRITER, flip, new_vault, reopen

ROOT = next(key for key in KEYS.signing if key.role == "root")
WRITER_ID = next(key.id for key in KEYS.signing if key.role == "writer")
SECOND = RecoveryKey.generate(seeded_random(77))
NOW = FixedClock().now()


def state(vault: Vault, change: Callable[[Trust], Trust] = lambda state: state) -> Trust:
    """Store the next statement, changed."""
    newest = reopen(vault, ALL).trust
    return store_trust(vault.store, change(newest.following()), ROOT, vault.id, NOW)


def with_second(before: Trust) -> Trust:
    return replace(before, recipients=(*before.recipients, SECOND.recipient()))


def ending(key_id: str, *, digests: tuple[bytes, ...] = (), vault: Vault) -> Callable[[Trust], Trust]:
    """A change that ends a key, with a closing list of these digests in the store."""
    closing = encode_closing(digests)
    name = closing_name(key_id, blake3(closing).hexdigest())
    vault.store.put(name, [closing])
    pin = Part(name=name, size=len(closing), digest=blake3(closing).hexdigest())
    ended = Ended(at=NOW, reason="rotated", successor=None, closing=pin)
    return lambda before: replace(before, ended={**before.ended, key_id: ended})


def test_a_vault_without_statements_is_as_its_pins_say() -> None:
    vault = new_vault()
    assert vault.trust == Trust(number=0, recipients=KEYS.pins.recipients, metadata_key=1)
    assert vault.recipients == KEYS.pins.recipients
    assert vault.metadata_key_number == 1


def test_the_newest_statement_counts_and_names_the_one_before() -> None:
    vault = new_vault()
    first = state(vault, with_second)
    second = state(vault, lambda before: replace(before, metadata_key=2))
    opened = reopen(vault, RECOVERY)
    assert opened.trust == second
    assert (opened.trust.number, opened.metadata_key_number) == (2, 2)
    assert opened.recipients[-1] == SECOND.recipient()
    assert first.digest is not None
    body = decode(vault.store.get(statement_name(2)), "it")["body"]
    assert body["prev"] == blake3(vault.store.get(statement_name(1))).hexdigest() == first.digest


def test_a_statement_survives_being_written_and_read() -> None:
    vault = new_vault()
    end = ending("ab" * 8, vault=vault)
    stored = state(
        vault, lambda before: replace(end(before), removed=frozenset({"cd" * 8}), ending=frozenset({"ef" * 8}))
    )
    assert reopen(vault, WRITER).trust == stored


def test_recipients_are_bounded_as_in_packs() -> None:
    """T3."""
    assert trust.RECIPIENTS_MAX == pack.RECIPIENTS_MAX
    vault = new_vault()
    state(vault, lambda before: replace(before, recipients=()))
    with pytest.raises(Corrupt, match="names 0 recipients"):
        reopen(vault, WRITER)


@pytest.mark.parametrize("signer", ["writer", "verifier", "retention"])
def test_a_statement_that_the_root_did_not_sign_is_refused(signer: str) -> None:
    """K5: a store or a production host cannot add itself to those who can read."""
    vault = new_vault()
    key = next(key for key in KEYS.signing if key.role == signer)
    store_trust(vault.store, with_second(vault.trust.following()), key, vault.id, NOW)
    with pytest.raises(Refused, match="not signed by the vault's root key"):
        reopen(vault, WRITER)


def test_a_statement_of_another_vault_or_under_another_name_is_refused() -> None:
    vault = new_vault()
    store_trust(vault.store, vault.trust.following(), ROOT, "00" * 16, NOW)
    with pytest.raises(Refused, match="root key"):
        reopen(vault, WRITER)
    vault = new_vault()
    state(vault)
    vault.store.put(statement_name(2), [vault.store.get(statement_name(1))])
    with pytest.raises(Refused, match="holds trust statement 1"):
        reopen(vault, WRITER)


def test_a_store_below_what_key_files_pin_is_refused(tmp_path: Path) -> None:
    """K2."""
    vault = new_vault()
    state(vault)
    save_key(tmp_path, KEYS.recovery, replace(KEYS.pins, trust_min=1))
    save_key(tmp_path, ROOT, KEYS.pins)
    ring = load_keyring(tmp_path)
    assert ring.pins.trust_min == 1
    assert Vault.open(vault.store, ring).trust.number == 1
    vault.store.delete(statement_name(1))
    with pytest.raises(Refused, match="key files pin number 1"):
        Vault.open(vault.store, ring)
    assert Vault.open(vault.store, RECOVERY.ring()).trust.number == 0, "a key file from before opens what is there"


def test_a_store_below_what_was_seen_there_is_refused(tmp_path: Path) -> None:
    """K2: by place, since a replica may lag."""
    vault = new_vault()
    before, first = vault.trust, state(vault)
    memory = TrustMemory(tmp_path / "home")
    memory.remember(vault.id, "here", first)
    memory.remember(vault.id, "here", before)
    assert (memory.seen(vault.id, "here"), memory.seen(vault.id, "there")) == (1, 0)
    vault.store.delete(statement_name(1))
    with pytest.raises(Refused, match="this machine saw there number 1"):
        Vault.open(vault.store, ALL.ring(), trust_seen=memory.seen(vault.id, "here"))
    Vault.open(vault.store, ALL.ring(), trust_seen=memory.seen(vault.id, "there"))


def test_a_memory_that_cannot_be_read_is_named_and_one_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    memory = TrustMemory(tmp_path / "home")
    third = Trust(number=3, recipients=(), metadata_key=1, digest="ab" * 32)
    memory.remember("ab" * 16, "here", third)
    (path,) = (tmp_path / "home").iterdir()
    path.write_bytes(b"{")
    with pytest.raises(Corrupt, match=path.name):
        memory.seen("ab" * 16, "here")
    (tmp_path / "file").write_text("")
    TrustMemory(tmp_path / "file").remember("ab" * 16, "here", third)


def test_a_second_statement_of_a_number_that_was_seen_is_refused(tmp_path: Path) -> None:
    """The store hides a statement from the root, who makes another of the same number: a key that had ended is back."""
    vault = new_vault()
    memory = TrustMemory(tmp_path / "home")
    memory.remember(vault.id, "here", state(vault, ending(WRITER_ID, vault=vault)))
    vault.store.delete(statement_name(1))
    second = state(vault, with_second)
    assert second.number == 1
    with pytest.raises(Refused, match="another one than this machine saw"):
        memory.remember(vault.id, "here", second)


def test_key_files_of_a_vault_s_beginning_are_as_they_were() -> None:
    """``trust_min`` is absent where it says nothing, so that earlier programs read the files as ever."""
    assert "trust_min" not in KEYS.pins.to_json()
    assert Pins.from_json(replace(KEYS.pins, trust_min=4).to_json()).trust_min == 4


def test_two_statements_of_one_number_are_one_too_many() -> None:
    vault = new_vault()
    state(vault)
    with pytest.raises(Conflict, match="somebody else"):
        store_trust(vault.store, with_second(vault.trust.following()), ROOT, vault.id, NOW)


def test_the_newest_key_that_may_sign_is_taken() -> None:
    vault = new_vault()
    fresh = SigningKey.generate("writer", seeded_random(5))
    stray = SigningKey.generate("writer", seeded_random(6))
    body = certificate_body(fresh, KEYS.roots, vault.id, vault.clock.now() + timedelta(days=1), follows=WRITER_ID)
    vault.store.create(key_name(fresh.id), [seal_envelope(body, ROOT)])
    ring = Keyring(KEYS.pins, signing=[stray, *KEYS.signing, fresh])
    assert Vault.open(vault.store, ring).keyring.signer("writer") == fresh
    state(vault, ending(fresh.id, vault=vault))
    assert Vault.open(vault.store, ring).keyring.signer("writer").id == WRITER_ID
    state(vault, lambda before: replace(before, ending=frozenset({WRITER_ID})))
    opened = Vault.open(vault.store, ring)
    with pytest.raises(Refused, match="writer key"):
        opened.keyring.signer("writer")
    assert not opened.keyring.has_role("writer")
    with pytest.raises(Refused, match="has no certificate"):
        Vault.open(vault.store, Keyring(KEYS.pins, signing=[stray], recovery=[KEYS.recovery])).keyring.signer("writer")
    again = Vault.open(vault.store, opened.keyring)
    assert again.roots == KEYS.roots, "an arranged keyring opens the vault again"


def test_one_damaged_wrap_does_not_keep_another_key_from_the_roots() -> None:
    vault = new_vault()
    writer = next(key for key in KEYS.signing if key.role == "writer")
    ring = Keyring(KEYS.pins, signing=[replace(writer, wrap_key=bytes(32))], recovery=[KEYS.recovery])
    assert Vault.open(vault.store, ring).roots == KEYS.roots
    with pytest.raises(Corrupt, match=writer.id):
        Vault.open(vault.store, Keyring(KEYS.pins, signing=[replace(writer, wrap_key=bytes(32))]))


def test_a_closing_list_is_searched_exactly() -> None:
    """T2: every member is found, its neighbours are not."""
    vault = new_vault()
    digests = tuple(blake3(bytes([number])).digest() for number in range(100))
    change = ending(WRITER_ID, digests=(*digests, digests[0]), vault=vault)
    ended = change(vault.trust).ended[WRITER_ID]
    assert ended.closing.size == 3200
    lists = trust.ClosingLists(vault.store)
    assert all(lists.holds(ended, digest) for digest in digests)
    assert not any(lists.holds(ended, flip(digest, 31)) for digest in digests)
    assert not lists.holds(ended, bytes(32))
    assert not lists.holds(ended, b"\xff" * 32)


def test_a_lineage_ends_at_a_theft() -> None:
    pin = Part(name="x", size=0, digest="00" * 32)

    def ended(reason: str, successor: str | None) -> Ended:
        return Ended(at=NOW, reason=reason, successor=successor, closing=pin)

    a, b, c, d = ("aa" * 8, "bb" * 8, "cc" * 8, "dd" * 8)
    after = {a: ended("rotated", b), b: ended("stolen", c), c: ended("rotated", d)}
    now = Trust(number=3, recipients=(), metadata_key=1, ended=after)
    assert now.lineage(d) == {c, d}
    assert now.lineage(b) == {a, b}
    loop = {a: ended("rotated", b), b: ended("rotated", a)}
    assert replace(now, ended=loop).lineage(a) == {a, b}


FIELDS: list[Callable[[dict[str, Any]], object]] = [
    lambda body: body.pop("recipients"),
    lambda body: body.update(recipients=[{"id": "x"}]),
    lambda body: body.update(recipients="none"),
    lambda body: body.update(metadata_key=0),
    lambda body: body.update(metadata_key="two"),
    lambda body: body.update(ending=["not an id"]),
    lambda body: body.update(ending=5),
    lambda body: body.update(ended=[]),
    lambda body: body.update(ended={"ab" * 8: {}}),
    lambda body: body.update(ended={"ab" * 8: {"at": "x", "reason": "bored", "successor": None, "closing": {}}}),
    lambda body: body.update(removed=None),
    lambda body: body.update(number="1"),
    lambda body: body.pop("number"),
]


@pytest.mark.parametrize("damage", FIELDS)
def test_a_malformed_statement_is_corrupt_even_when_the_root_signed_it(
    damage: Callable[[dict[str, Any]], object],
) -> None:
    vault = new_vault()
    body = vault.trust.following().to_body(vault.id, NOW)
    damage(body)
    vault.store.put(statement_name(1), [seal_envelope(body, ROOT)])
    with pytest.raises((Corrupt, Refused)):
        reopen(vault, WRITER)


def test_no_bytes_in_trust_or_keys_or_grants_end_in_anything_but_an_error_of_ours() -> None:
    """Every region flipped, cut and replaced: an error with the object's name, never a crash."""
    vault = new_vault()
    state(vault, with_second)
    dice = random.Random(5)
    for name in (statement_name(1), key_name(WRITER_ID), key_name(KEYS.recovery.id)):
        data = vault.store.get(name)
        tries = [flip(data, dice.randrange(len(data)), dice.randrange(8)) for _ in range(60)]
        tries += [data[: dice.randrange(len(data))] for _ in range(10)]
        tries += [dice.randbytes(dice.randrange(300)) for _ in range(10)]
        tries += [encode({"body": {}, "signature": {}}), b"[" * 50_000, bytes(2 << 20)]
        for number, attempt in enumerate(tries):
            vault.store.put(name, [attempt])
            told = ""
            try:
                reopen(vault, ALL)
            except ReopenError as error:
                told = str(error)
            # The signer's id is no part of what is signed: the pinned root is asked whatever it says.
            harmless = not told and decode(attempt, name)["body"] == decode(data, name)["body"]
            assert harmless or name in told, (number, told)
        vault.store.put(name, [data])
    assert reopen(vault, ALL).trust.number == 1


def test_a_document_that_is_too_large_is_refused_unread() -> None:
    vault = new_vault()
    vault.store.put(statement_name(1), [bytes(2 << 20)])
    with pytest.raises(Corrupt, match="no document has more"):
        reopen(vault, WRITER)
