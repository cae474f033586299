"""Records, voids and facts in an open vault; I1, I3 and I5 are the invariants of :mod:`reopen.vault.vault`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reopen.clock import FixedClock
from reopen.errors import Corrupt, InvalidInput, NotFound, Refused
from reopen.vault import ContractRef, SnapshotRecord, TableRef, Totals, Vault
from reopen.vault.canonical import decode, encode, seal_envelope
from reopen.vault.keys import SigningKey
from reopen.vault.record import FACT_ROLES, Part, parse_record_name, record_name
from tests.vault.kit import KEYS, WRITER, Role, new_vault, reopen

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ABSENT = "00" * 8


def record(vault: Vault, seq: int, snapshot: str = "", **changes: Any) -> SnapshotRecord:
    """A record of dataset ``orders`` taken at noon plus ``seq`` hours."""
    at = NOON + timedelta(hours=seq)
    reference = TableRef(
        snapshot=f"{seq:016x}", key=1, rows=0, parts=(Part(name="manifests/m", size=1, digest="00" * 32),)
    )
    return dataclasses.replace(
        SnapshotRecord(
            vault=vault.id,
            dataset="orders",
            seq=seq,
            id=snapshot or f"{seq:016x}",
            prev=None,
            heads={},
            site="production",
            epoch=0,
            confirmed=True,
            group=None,
            scan_started_at=at,
            scan_ended_at=at,
            consistent_at=at,
            committed_at=at,
            source_kind="files",
            source_url="srv",
            contract=ContractRef(id="c", version="1", digest="00" * 32),
            state="complete",
            manifest=reference,
            profile=None,
            indexes=(),
            totals=Totals(files=seq),
            program="test",
        ),
        **changes,
    )


def store_body(vault: Vault, body: dict[str, Any], name: str, role: str = "writer") -> bytes:
    """Sign a body in a role and store it under a name."""
    data = seal_envelope(body, vault.keyring.signer(role))
    vault.store.put(name, [data])
    return data


def commit(vault: Vault, *records: SnapshotRecord) -> None:
    """Store records as a writer does."""
    for item in records:
        store_body(vault, item.to_body(), item.name)


def seqs(vault: Vault, dataset: str | None = None) -> list[int]:
    """The numbers of the records that are believed."""
    return [item.seq for item in vault.records(dataset)]


@pytest.fixture
def vault() -> Vault:
    return new_vault()


def test_a_record_reads_back_with_its_writer_and_digest(vault: Vault) -> None:
    written = record(vault, 1, totals=Totals(files=3, size_bytes=2**52), heads={"orders": "x"}, prev="ab")
    commit(vault, written)
    read = vault.records("orders")[0]
    assert dataclasses.replace(read, writer="", digest="") == written
    assert read.writer == vault.keyring.signer("writer").id
    assert len(read.digest) == 64
    assert read.name == "snapshots/dataset=orders/0000000001-0000000000000001.json"


def test_records_come_by_dataset_and_seq(vault: Vault) -> None:
    commit(vault, *(record(vault, seq) for seq in (10, 2, 1)), record(vault, 1, dataset="customer"))
    assert [(item.dataset, item.seq) for item in vault.records()] == [
        ("customer", 1),
        ("orders", 1),
        ("orders", 2),
        ("orders", 10),
    ]
    assert seqs(vault, "orders") == [1, 2, 10]
    assert vault.datasets() == ["customer", "orders"]
    assert vault.records("order") == []


@pytest.mark.parametrize("role", ["root", "verifier", "retention"])
def test_a_record_signed_in_another_role_is_not_believed(vault: Vault, role: str) -> None:
    """I1, I5."""
    commit(vault, record(vault, 1))
    store_body(vault, record(vault, 2).to_body(), record(vault, 2).name, role)
    assert seqs(vault) == [1]
    assert [invalid.name for invalid in vault.invalid_records()] == [record(vault, 2).name]
    assert "may not say this" in vault.invalid_records()[0].error.message


def test_a_record_signed_by_a_stranger_is_not_believed(vault: Vault) -> None:
    written = record(vault, 1)
    vault.store.put(written.name, [seal_envelope(written.to_body(), SigningKey.generate("writer"))])
    assert seqs(vault) == []
    assert "no certificate" in vault.invalid_records()[0].error.message


def test_a_record_whose_body_was_changed_is_not_believed(vault: Vault) -> None:
    written = record(vault, 1)
    envelope = decode(store_body(vault, written.to_body(), written.name), "x")
    envelope["body"]["totals"]["files"] = 99
    vault.store.put(written.name, [encode(envelope)])
    assert "wrong signature" in vault.invalid_records()[0].error.message


def test_a_certificate_speaks_for_its_datasets_only(vault: Vault) -> None:
    """I1."""
    writer = vault.keyring.signer("writer").id
    limited = dataclasses.replace(vault.certificates[writer], datasets=("customer",))
    vault.certificates = {**vault.certificates, writer: limited}
    commit(vault, record(vault, 1), record(vault, 1, dataset="customer"))
    assert [item.dataset for item in vault.records()] == ["customer"]


@pytest.mark.parametrize(
    "other", [record_name("orders", 2, "0" * 15 + "1"), record_name("customer", 1, "0" * 15 + "1")]
)
def test_a_record_under_another_name_is_not_believed(vault: Vault, other: str) -> None:
    data = store_body(vault, record(vault, 1).to_body(), record(vault, 1).name)
    vault.store.put(other, [data])
    assert seqs(vault) == [1]
    assert [invalid.name for invalid in vault.invalid_records()] == [other]


def test_a_record_of_another_vault_is_not_believed(vault: Vault) -> None:
    commit(vault, dataclasses.replace(record(vault, 1), vault="11" * 16))
    assert seqs(vault) == []
    assert "belongs to vault" in vault.invalid_records()[0].error.message


@pytest.mark.parametrize("junk", [b"", b"{}", b"not json", b'{"body":{"kind":"void"},"signature":{}}', b"\xff" * 100])
def test_an_invalid_record_does_not_stop_the_others(vault: Vault, junk: bytes) -> None:
    """I5."""
    commit(vault, record(vault, 1), record(vault, 3))
    vault.store.put(record(vault, 2).name, [junk])
    vault.store.put("snapshots/dataset=orders/readme.txt", [junk])
    assert seqs(vault) == [1, 3]
    assert len(vault.invalid_records()) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body.pop("seq"),
        lambda body: body.pop("totals"),
        lambda body: body.update(totals=[]),
        lambda body: body.update(manifest=None),
        lambda body: body["manifest"].pop("parts"),
        lambda body: body["manifest"].update(parts=["x"]),
        lambda body: body.update(indexes=[{"name": "x"}]),
        lambda body: body.update(committed_at="yesterday"),
        lambda body: body.update(committed_at="2026-01-01T00:00:00"),
        lambda body: body.update(committed_at=5),
        lambda body: body.update(state="fine"),
        lambda body: body.update(heads=5),
        lambda body: body.update(seq="one"),
        lambda body: body.update(seq=2),
        lambda body: body.update(id="1111111111111111"),
        lambda body: body.update(dataset="Orders"),
        lambda body: body.update(source="files"),
        lambda body: body.update(contract={"id": "x"}),
        lambda body: body.update(format=2),
    ],
)
def test_a_signed_record_with_a_wrong_field_is_not_believed(
    vault: Vault, damage: Callable[[dict[str, Any]], object]
) -> None:
    """A writer that was taken over can sign anything; readers of other records do not notice."""
    body = record(vault, 1).to_body()
    damage(body)
    store_body(vault, body, record(vault, 1).name)
    commit(vault, record(vault, 5))
    assert seqs(vault) == [5]
    assert isinstance(vault.invalid_records()[0].error, Corrupt)


def test_fields_and_counts_of_a_later_version_are_passed_over(vault: Vault) -> None:
    body = record(vault, 1).to_body()
    body["mood"] = "good"
    body["totals"]["holes"] = 7
    del body["totals"]["packs"]
    store_body(vault, body, record(vault, 1).name)
    assert vault.records()[0].totals == Totals(files=1)


def void_body(vault: Vault, seq: int, snapshot: str = "") -> dict[str, Any]:
    """A void of dataset ``orders``."""
    body = {"kind": "void", "vault": vault.id, "dataset": "orders", "seq": seq}
    return {**body, "id": snapshot or f"{seq:016x}", "at": "2026-01-01T00:00:00.000000Z"}


@pytest.mark.parametrize("role", ["writer", "retention"])
def test_a_voided_snapshot_does_not_exist_and_is_no_fault(vault: Vault, role: str) -> None:
    commit(vault, record(vault, 1))
    store_body(vault, void_body(vault, 2), record(vault, 2).name, role)
    assert seqs(vault) == [1]
    assert vault.invalid_records() == []


def test_a_void_in_another_s_place_does_not_hide_it_silently(vault: Vault) -> None:
    """A store that copies a signed void over a record is found out."""
    data = store_body(vault, void_body(vault, 2), record(vault, 2).name)
    vault.store.put(record(vault, 1).name, [data])
    assert [invalid.name for invalid in vault.invalid_records()] == [record(vault, 1).name]
    store_body(vault, {**void_body(vault, 3), "seq": "three"}, record(vault, 3).name)
    assert len(vault.invalid_records()) == 2


def test_a_void_of_a_verifier_is_not_believed(vault: Vault) -> None:
    store_body(vault, void_body(vault, 1), record(vault, 1).name, "verifier")
    assert len(vault.invalid_records()) == 1


def test_selectors_choose_as_they_say(vault: Vault) -> None:
    commit(
        vault,
        record(vault, 1, "aaaa000000000001"),
        record(vault, 2, "aabb000000000002"),
        record(vault, 3, "cccc000000000003", state="incomplete"),
    )
    assert vault.find("orders").seq == 2
    assert vault.find("orders", "latest").seq == 2
    assert vault.find("orders", "aaaa").seq == 1
    assert vault.find("orders", "cccc000000000003").seq == 3
    assert vault.find("orders", "at:2026-03-01T13:30:00Z").seq == 1
    assert vault.find("orders", "at:2026-03-01T15:00:00+01:00").seq == 2
    vault.record_fact(
        "verified", dataset="orders", snapshot="aaaa000000000001", body={"level": "content", "result": "ok"}
    )
    assert vault.find("orders", "last-verified").seq == 1
    assert vault.find("orders", "last-clean").seq == 1


def test_what_was_written_without_the_role_confirmed_is_taken_only_by_its_id(vault: Vault) -> None:
    commit(vault, record(vault, 1), record(vault, 2, confirmed=False))
    assert vault.find("orders").seq == 1
    assert vault.find("orders", "at:2026-03-01T23:00:00Z").seq == 1
    assert vault.find("orders", f"{2:016x}").seq == 2


def test_a_selector_that_matches_nothing_says_what_there_is(vault: Vault) -> None:
    commit(vault, record(vault, 1), record(vault, 2))
    with pytest.raises(NotFound, match="orders has no complete snapshot that was verified; there are 2, 2"):
        vault.find("orders", "last-verified")
    with pytest.raises(NotFound, match="no complete snapshot of 2020-01-01"):
        vault.find("orders", "at:2020-01-01T00:00:00Z")
    with pytest.raises(NotFound, match="Datasets in this vault: orders"):
        vault.find("order")
    with pytest.raises(InvalidInput, match="more than one"):
        vault.find("orders", "00")
    for text in ("at:yesterday", "at:2026-03-01T13:30:00"):
        with pytest.raises(InvalidInput, match="is not a recovery point"):
            vault.find("orders", text)


def test_names_of_records_read_back_and_nothing_else_does() -> None:
    name = record_name("orders_2-x", 7, "0123456789abcdef")
    assert parse_record_name(name) == ("orders_2-x", 7, "0123456789abcdef")
    for wrong in ("x" + name, name + "x", name.upper(), name.replace("=", "-"), name.replace("0000000007", "7")):
        assert parse_record_name(wrong) is None
    assert parse_record_name(record_name("a" * 64, 7, "0123456789abcdef")) is None


@pytest.mark.parametrize("kind", sorted(FACT_ROLES))
def test_each_fact_needs_the_key_of_its_role(vault: Vault, kind: str) -> None:
    """I1: neither verifier nor retention lives on production, so a production host says none of these."""
    with pytest.raises(Refused, match=f"needs a {FACT_ROLES[kind]} key"):
        reopen(vault, WRITER).record_fact(kind, dataset="orders", snapshot=ABSENT, body={})
    speaker = reopen(vault, Role((FACT_ROLES[kind],)))
    fact = speaker.record_fact(kind, dataset="orders", snapshot=ABSENT, body={"why": "tested"})
    assert reopen(vault, WRITER).facts(kind, "orders") == [fact]
    assert vault.facts(kind, "customer") == []
    assert fact.body == {"why": "tested"}


@pytest.mark.parametrize("role", ["root", "writer", "retention"])
def test_a_fact_signed_in_another_role_is_not_believed(vault: Vault, role: str) -> None:
    body = fact_body(vault)
    store_body(vault, body, f"ledger/verified/dataset=orders/{ABSENT}-{body['id']}.json", role)
    assert vault.facts() == []


def fact_body(vault: Vault) -> dict[str, Any]:
    """A good body of a ``verified`` fact."""
    body = {"kind": "fact", "fact": "verified", "id": "22" * 8, "vault": vault.id, "dataset": "orders"}
    return {**body, "snapshot": ABSENT, "at": "2026-01-01T00:00:00.000000Z", "body": {}}


@pytest.mark.parametrize(
    "name",
    [
        f"ledger/clean/dataset=orders/{ABSENT}-{'22' * 8}.json",
        f"ledger/verified/dataset=customer/{ABSENT}-{'22' * 8}.json",
        f"ledger/verified/dataset=orders/{'33' * 8}-{'22' * 8}.json",
        f"ledger/verified/dataset=orders/{ABSENT}-{'33' * 8}.json",
        f"ledger/verified/{ABSENT}-{'22' * 8}.json",
    ],
)
def test_a_fact_under_another_name_is_not_believed(vault: Vault, name: str) -> None:
    store_body(vault, fact_body(vault), name, "verifier")
    assert vault.facts() == []


def test_junk_in_the_ledger_does_not_stop_the_facts(vault: Vault) -> None:
    body = fact_body(vault)
    store_body(vault, body, f"ledger/verified/dataset=orders/{ABSENT}-{body['id']}.json", "verifier")
    vault.store.put("ledger/verified/dataset=orders/junk.json", [b"junk"])
    broken = {**body, "id": "44" * 8, "at": "never"}
    store_body(vault, broken, f"ledger/verified/dataset=orders/{ABSENT}-{'44' * 8}.json", "verifier")
    assert [fact.snapshot for fact in vault.facts()] == [ABSENT]


def test_facts_come_oldest_first_and_may_be_about_a_dataset(vault: Vault) -> None:
    assert isinstance(vault.clock, FixedClock)
    for number in range(3):
        vault.record_fact("retired", dataset="orders", snapshot="", body={"number": number})
        vault.clock.advance(timedelta(seconds=1))
    assert [fact.body["number"] for fact in vault.facts()] == [0, 1, 2]
    assert vault.facts()[0].name.startswith("ledger/retired/dataset=orders/dataset-")


def test_a_part_that_is_not_what_was_pinned_is_corrupt(vault: Vault) -> None:
    """I3."""
    vault.store.put("m", [b"other"])
    with pytest.raises(Corrupt, match="5 bytes instead of 1"):
        vault.get_pinned(Part(name="m", size=1, digest="00" * 32))
    with pytest.raises(Corrupt, match="fails its digest"):
        vault.get_pinned(Part(name="m", size=5, digest="00" * 32))
    assert KEYS.pins.vault_id == vault.id
