"""The end of a signing key: what it signed before stays believed, nothing later is, and nobody says "done" in vain.

K and E numbers are the invariants of ``docs/0008-keys.md`` and of :mod:`reopen.protect.keys.ending`.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from blake3 import blake3

from reopen.contracts.model import Dataset
from reopen.errors import Conflict, Corrupt, InvalidInput, NotFound, Refused
from reopen.protect import lease as leases
from reopen.protect.keys.change import execute_rotate, plan_rotate
from reopen.protect.keys.ending import execute_end_key, plan_end_key, relist
from reopen.protect.keys.listing import list_keys
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import SnapshotRun, create_record, execute_snapshot
from reopen.protect.verify.findings import Seen
from reopen.protect.verify.records import check_keys
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import ObjectStore
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.canonical import decode, seal_envelope
from reopen.vault.content import Sealer
from reopen.vault.indexparts import read_statement, read_statements, write_index_part
from reopen.vault.packreader import read_pack
from reopen.vault.packwriter import PackWriter, StoredPack
from reopen.vault.record import pack_name, record_name
from reopen.vault.trust import SignedLater
from tests.kit import SITE, restore
from tests.protect.keyed import KEYS, Keyed
from tests.stores import MemoryStore, WatchedStore
from tests.trees import differences, some_bytes

OLD = next(key for key in KEYS.signing if key.role == "writer")


@pytest.fixture
def keyed(tmp_path: Path) -> Keyed:
    return Keyed(folder=tmp_path)


def rotate(keyed: Keyed, role: str = "writer", *, stolen: bool = False, others: tuple[Vault, ...] = ()) -> str:
    """Rotate to the end; returns the id of the new key."""
    plan = plan_rotate(keyed.open("root"), role, keyed.keys(role), stolen=stolen, others=others)
    result = execute_rotate(plan)
    assert result.end.ended
    return result.new.id


def thief(store: ObjectStore, before: Vault) -> Vault:
    """A vault as the holder of the old writer key opens it: with what held when the key was stolen."""
    return Vault(
        store,
        before.keyring,
        parameters=before.parameters,
        roots=before.roots,
        key_documents=before.key_documents,
        trust=before.trust,
        clock=before.clock,
        random_bytes=before.random_bytes,
    )


def plant(held: Vault) -> list[StoredPack]:
    """A pack that the old key signs."""
    planted: list[StoredPack] = []
    sealer = Sealer(held.id, held.recipients)
    packs = PackWriter(
        held.store, vault_id=held.id, roots=held.roots, slot=sealer.slot, signer=OLD, pack_bytes=1, flush=planted.extend
    )
    packs.add(sealer.seal(blake3(b"x").digest(), [b"planted"]))
    packs.close()
    return planted


def back_dated(record: SnapshotRecord, seq: int) -> SnapshotRecord:
    """A record that claims to be older than the last one, of the same content."""
    return replace(
        record,
        id="deadbeefdeadbeef",
        seq=seq,
        committed_at=record.committed_at - timedelta(days=90),
        consistent_at=record.consistent_at - timedelta(days=90),
    )


def test_what_a_rotated_key_signed_stays_whole_and_restores(keyed: Keyed, tmp_path: Path) -> None:
    """K3: records, index parts and packs of before; the new key goes on where the old one ended."""
    dataset = keyed.dataset()
    first = keyed.snapshot(dataset)
    new = rotate(keyed)
    keyed.dataset(f=some_bytes(30_000, 9))
    second = keyed.snapshot(dataset)
    assert (first.writer, second.writer) == (OLD.id, new)
    vault = keyed.open("recovery", "verifier")
    assert [record.id for record in vault.records()] == [first.id, second.id]
    assert verify_vault(vault, level=Level.CONTENT).findings == ()
    restore(vault, second, tmp_path / "restored")
    assert differences(tmp_path / "data" / "it", tmp_path / "restored") == []


def test_the_new_key_reuses_the_chunks_of_the_one_it_follows_unless_that_was_stolen(keyed: Keyed) -> None:
    first = keyed.snapshot(keyed.dataset())
    assert first.totals.packs > 0
    rotate(keyed)
    same = keyed.dataset("again")
    assert keyed.snapshot(same).totals.new_raw_bytes == 0
    rotate(keyed, stolen=True)
    fresh = keyed.snapshot(keyed.dataset("once more"[:4]))
    assert fresh.totals.new_raw_bytes > 0, "what a thief may have planted is not relied on without a proof"


@pytest.mark.parametrize("stolen", [False, True], ids=["rotated", "stolen"])
def test_a_rotated_out_writer_key_cannot_commit_a_snapshot_readers_believe(keyed: Keyed, *, stolen: bool) -> None:
    """K3: back-dated or not, with the store's help."""
    record = keyed.snapshot(keyed.dataset())
    before = keyed.open("writer")
    rotate(keyed, stolen=stolen)
    held = thief(keyed.store, before)
    for seq in (record.seq, record.seq + 1):
        create_record(held, back_dated(record, seq))
    vault = keyed.open("recovery")
    assert [item.id for item in vault.records()] == [record.id]
    assert vault.newest("it") == record
    assert vault.find("it", "latest") == record
    with pytest.raises(NotFound):
        vault.find("it", "deadbeef")
    invalid = vault.invalid_records()
    assert {item.name for item in invalid} == {record_name("it", seq, "deadbeef" * 2) for seq in (1, 2)}
    assert all("had not signed it by then" in item.error.message for item in invalid)


def test_a_record_that_the_store_replaces_under_its_own_name_is_not_believed(keyed: Keyed) -> None:
    """K3: the list holds digests, not names."""
    record = keyed.snapshot(keyed.dataset())
    rotate(keyed)
    body = decode(keyed.store.get(record.name), record.name)["body"]
    keyed.store.replace(record.name, seal_envelope(body | {"site": "elsewhere"}, OLD))
    vault = keyed.open("recovery")
    assert vault.records() == []
    assert [item.name for item in vault.invalid_records()] == [record.name]


def test_nothing_else_that_an_ended_key_signs_is_believed(keyed: Keyed) -> None:
    """Index statements, packs, voids: each by its own reader."""
    record = keyed.snapshot(keyed.dataset())
    before = keyed.open("writer")
    rotate(keyed)
    held = thief(keyed.store, before)
    planted = plant(held)
    statement = write_index_part(held, "0123456789abcdef-0000", planted, OLD).name
    void = {"kind": "void", "vault": held.id, "dataset": "it", "seq": 7, "id": "00" * 8, "at": "2026-01-01T00:00:00Z"}
    void_name = record_name("it", 7, "00" * 8)
    keyed.store.create(void_name, [seal_envelope(void, OLD)])

    vault = keyed.open("recovery")
    with pytest.raises(Corrupt, match="had not"):
        read_statement(vault, statement)
    with pytest.raises(Corrupt, match="had not"):
        read_pack(vault, planted[0].id.hex())
    assert [item.name for item in vault.invalid_records()] == [void_name]
    # Under the name of a pack that is on the list it is told by its bytes.
    good = next(name for name in keyed.store.names("packs/") if name != pack_name(planted[0].id.hex()))
    keyed.store.replace(good, keyed.store.get(pack_name(planted[0].id.hex())))
    with pytest.raises(Corrupt, match="had not"):
        read_pack(vault, good.rpartition("/")[2])
    assert record in vault.records()


@pytest.mark.parametrize(("role", "kind"), [("verifier", "verified"), ("retention", "held")])
def test_facts_of_an_ended_key_count_when_they_are_older_than_its_end(keyed: Keyed, role: str, kind: str) -> None:
    record = keyed.snapshot(keyed.dataset())
    before = keyed.open(role)
    kept = before.record_fact(kind, dataset="it", snapshot=record.id, body={"result": "ok", "level": "stored"})
    rotate(keyed, role)
    late = thief(keyed.store, before).record_fact(kind, dataset="it", snapshot=record.id, body={"result": "ok"})
    vault = keyed.open(role)
    assert [fact.name for fact in vault.facts(kind)] == [kept.name]
    assert [item.name for item in vault.invalid_facts()] == [late.name]
    assert vault.record_fact(kind, dataset="it", snapshot=record.id, body={}).signer != kept.signer


def test_an_ended_key_is_refused_where_it_would_sign(keyed: Keyed) -> None:
    dataset = keyed.dataset()
    keyed.snapshot(dataset)
    execute_end_key(plan_end_key(keyed.open("root"), OLD.id, reason="removed"))
    with pytest.raises(Refused, match=f"writer key {OLD.id} ended: it was removed"):
        keyed.snapshot(dataset)
    vault = keyed.open("writer")
    assert not vault.keyring.has_role("writer")
    assert len(vault.records()) == 1, "it still opens the vault"


def test_a_key_begins_nothing_while_a_snapshot_with_it_is_waited_for(keyed: Keyed) -> None:
    """K4, and the order of the module: the snapshot under way is on the list, the next one is refused."""
    dataset = keyed.dataset()
    vault = keyed.open("writer")
    with SnapshotRun(vault, plan_snapshot(vault, dataset, SITE), workers=1) as run:
        plan = plan_rotate(keyed.open("root"), "writer", keyed.keys("root"))
        waiting = execute_rotate(plan)
        assert not waiting.end.ended
        assert len(waiting.end.waiting) == 1
        with pytest.raises(Refused, match="is ending"):
            keyed.snapshot(dataset)
        with pytest.raises(Refused, match="ended while this ran"):
            leases.acquire(vault, "it", "00" * 8, 5)  # Opened before: it asks once its lease is durable.
        for shard in plan_snapshot(vault, dataset, SITE).shards:
            run.write_shard(shard)
        record = run.commit().record
    assert keyed.store.names("leases/") == []
    done = execute_rotate(plan_rotate(keyed.open("root"), "writer", keyed.keys("root")))
    assert done.end.ended
    assert done.new.id == waiting.new.id
    reader = keyed.open("recovery")
    assert reader.records() == [record]
    assert {row.id: row.state for row in list_keys(reader) if row.role == "writer"} == {
        OLD.id: "rotated",
        done.new.id: "current",
    }


@pytest.mark.parametrize("moment", ["leases/", "packs/", "index/", "manifests/", "snapshots/"])
def test_a_key_does_not_end_while_a_snapshot_with_it_has_still_to_write(keyed: Keyed, moment: str) -> None:
    """K4: the root acts just before each kind of object is created, at last between the writer's last look and its
    commit. Either the snapshot is refused, or it is waited for and believed."""
    dataset = keyed.dataset()
    ended: list[bool] = []

    def meddle(when: str, operation: str, name: str) -> None:
        if (when, operation) == ("before", "create") and name.startswith(moment) and not ended:
            ended.append(False)
            plan = plan_rotate(keyed.open("root"), "writer", keyed.keys("root"), key_id=OLD.id)
            ended[0] = execute_rotate(plan).end.ended

    vault = keyed.open("writer", store=WatchedStore(keyed.store, meddle))
    try:
        done = [execute_snapshot(vault, plan_snapshot(vault, dataset, SITE), workers=1).record]
    except Refused:
        done = []
    assert ended == [moment == "leases/"], "before its lease is durable nobody knows of it"
    assert (done == []) is ended[0]
    if not ended[0]:
        rotate(keyed)
    reader = keyed.open("recovery")
    assert reader.records() == done
    assert reader.invalid_records() == []


def test_no_snapshot_that_said_done_is_disbelieved_however_it_races_with_the_end_of_its_key(keyed: Keyed) -> None:
    """K4: writers take one snapshot after the other with the old key until they are refused."""
    datasets = [keyed.dataset(f"d{number}", a=some_bytes(4_000, number)) for number in range(3)]
    folder = keyed.keys("root")
    begun = threading.Barrier(len(datasets) + 1)

    def write(dataset: Dataset) -> list[SnapshotRecord]:
        done = [keyed.snapshot(dataset)]
        begun.wait()
        while True:
            try:
                done.append(keyed.snapshot(dataset))
            except Refused:
                return done  # Its key is ending, or has ended.

    with ThreadPoolExecutor(len(datasets)) as pool:
        writing = [pool.submit(write, dataset) for dataset in datasets]
        begun.wait()
        while not (
            result := execute_rotate(plan_rotate(keyed.open("root"), "writer", folder, key_id=OLD.id))
        ).end.ended:
            assert result.end.waiting
        said_done = {record.id for future in writing for record in future.result()}
    assert result.end.late == ()
    reader = keyed.open("recovery")
    assert reader.invalid_records() == []
    assert {record.id for record in reader.records()} == said_done


def test_a_snapshot_whose_key_is_reported_stolen_fails_before_its_commit(keyed: Keyed) -> None:
    dataset = keyed.dataset()
    vault = keyed.open("writer")
    plan = plan_snapshot(vault, dataset, SITE)
    run = SnapshotRun(vault, plan, workers=1)
    for shard in plan.shards:
        run.write_shard(shard)
    rotate(keyed, stolen=True)
    with pytest.raises(Refused, match="ended while this ran"):
        run.commit()
    run.abandon()
    assert keyed.open("recovery").records() == []
    assert keyed.open("recovery").invalid_records() == []
    assert keyed.snapshot(dataset).seq >= 1


def test_index_parts_that_an_ended_key_signs_stop_no_reader(keyed: Keyed, tmp_path: Path) -> None:
    """One may slip in between list and statement, from a snapshot under way: its packs count as not indexed."""
    dataset = keyed.dataset()
    record = keyed.snapshot(dataset)
    held = thief(keyed.store, keyed.open("writer"))
    rotate(keyed, stolen=True)
    planted = write_index_part(held, "0123456789abcdef-0000", plant(held), OLD).name
    reader = keyed.open("recovery")
    with pytest.raises(SignedLater):
        read_statement(reader, planted)
    restore(reader, record, tmp_path / "it-restored")
    assert differences(tmp_path / "data" / "it", tmp_path / "it-restored") == []
    keyed.dataset(a=some_bytes(9_000, 31))
    keyed.snapshot(dataset)
    assert planted not in {item.part.name for item in read_statements(keyed.open("recovery"))}
    assert planted in {item.object for item in verify_vault(keyed.open("recovery"), record=False).findings}


def test_what_slips_in_between_list_and_statement_is_named(keyed: Keyed) -> None:
    record = keyed.snapshot(keyed.dataset())
    held = thief(keyed.store, keyed.open("writer"))

    def slip(moment: str, operation: str, name: str) -> None:
        if (moment, operation) == ("before", "create") and name.startswith("trust/") and name.endswith(".list"):
            create_record(held, back_dated(record, 9))

    store = WatchedStore(keyed.store, slip)
    end = execute_end_key(plan_end_key(keyed.open("root", store=store), OLD.id, reason="stolen"))
    assert end.late == (record_name("it", 9, "deadbeef" * 2),)
    assert keyed.open("recovery").records() == [record]


def test_what_only_a_replica_still_has_stays_believed_there(keyed: Keyed) -> None:
    """E1."""
    record = keyed.snapshot(keyed.dataset())
    replica = keyed.store.clone("test-memory://replica")
    keyed.store.delete(record.name)
    rotate(keyed, others=(keyed.open("root", store=replica),))
    for name in keyed.store.names("trust/") + keyed.store.names("keys/"):
        replica.put(name, [keyed.store.get(name)])
    assert keyed.open("recovery", store=replica).records() == [record]


def test_a_key_is_not_ended_over_documents_that_nobody_can_read(keyed: Keyed) -> None:
    """E2: mended later, they would be off the list for ever."""
    record = keyed.snapshot(keyed.dataset())
    good = keyed.store.get(record.name)
    keyed.store.replace(record.name, good[:-1])
    with pytest.raises(Refused, match=record.name):
        rotate(keyed)
    replica = MemoryStore("test-memory://replica", keyed.store.objects)
    replica.replace(record.name, good)
    rotate(keyed, others=(keyed.open("root", store=replica),))
    keyed.store.replace(record.name, good)
    assert keyed.open("recovery").records() == [record]


def test_a_stolen_key_is_ended_all_the_same_and_says_what_it_could_not_read(keyed: Keyed) -> None:
    record = keyed.snapshot(keyed.dataset())
    keyed.store.replace(record.name, b"{}")
    end = execute_end_key(plan_end_key(keyed.open("root"), OLD.id, reason="stolen"))
    assert end.ended
    assert end.unreadable == (record.name,)


@pytest.mark.parametrize("damage", ["missing", "changed", "cut"])
def test_a_closing_list_that_is_gone_or_changed_stops_its_readers_with_its_name(keyed: Keyed, damage: str) -> None:
    """Without it nobody can tell what the key signed; believing all or nothing of it would both be wrong."""
    keyed.snapshot(keyed.dataset())
    rotate(keyed)
    (name,) = [name for name in keyed.store.names("trust/") if name.endswith(".list")]
    data = keyed.store.get(name)
    if damage == "missing":
        keyed.store.delete(name)
    else:
        keyed.store.replace(name, bytes(32) + data[32:] if damage == "changed" else data[:-32])
    vault = keyed.open("recovery")
    with pytest.raises(Refused, match=name):
        vault.records()
    seen = Seen()
    check_keys(vault, seen)
    assert [item.object for item in seen.findings] == [name]
    keyed.store.put(name, [data])
    assert len(keyed.open("recovery").records()) == 1


def test_a_list_that_was_lost_is_made_anew_unless_the_key_was_stolen(keyed: Keyed) -> None:
    record = keyed.snapshot(keyed.dataset())
    rotate(keyed)
    (name,) = [name for name in keyed.store.names("trust/") if name.endswith(".list")]
    keyed.store.delete(name)
    relist(keyed.open("root"), OLD.id)
    assert keyed.open("recovery").records() == [record]
    with pytest.raises(Conflict, match="has not ended"):
        relist(keyed.open("root"), next(key.id for key in KEYS.signing if key.role == "verifier"))
    new = next(iter(keyed.open("writer").own_writers() - {OLD.id}))
    execute_end_key(plan_end_key(keyed.open("root"), new, reason="stolen"))
    with pytest.raises(Refused, match="may be the thief's"):
        relist(keyed.open("root"), new)


def test_a_replica_that_was_not_at_hand_is_added_to_the_list_later(keyed: Keyed) -> None:
    """What was on the list before stays on it, though it is gone from the vault since."""
    dataset = keyed.dataset()
    first = keyed.snapshot(dataset)
    replica = keyed.store.clone("test-memory://replica")
    keyed.store.delete(first.name)
    second = keyed.snapshot(dataset)
    later = keyed.store.clone("test-memory://later")
    rotate(keyed)
    keyed.store.delete(second.name)
    relist(keyed.open("root"), OLD.id, others=(keyed.open("root", store=replica),))
    for store in (replica, later):
        for name in keyed.store.names("trust/") + keyed.store.names("keys/"):
            store.put(name, [keyed.store.get(name)])
    assert keyed.open("recovery", store=replica).records() == [first]
    assert keyed.open("recovery", store=later).records() == [second]


def test_a_record_names_the_statement_that_its_writer_knew(keyed: Keyed) -> None:
    """A reader that never saw the statement learns from ``verify`` that there was one."""
    first = keyed.snapshot(keyed.dataset())
    rotate(keyed)
    second = keyed.snapshot(keyed.dataset("more"))
    assert (first.trust, second.trust) == (0, 2)
    assert "trust" not in first.to_body()
    vault = keyed.open("recovery")
    assert {record.trust for record in vault.records()} == {0, 2}
    assert verify_vault(vault, record=False).findings == ()
    keyed.store.delete("trust/0000000002.json")
    findings = verify_vault(keyed.open("recovery"), record=False).findings
    assert [(item.object, item.status) for item in findings] == [("trust/0000000002.json", "missing")]


def test_what_cannot_be_ended_is_told(keyed: Keyed) -> None:
    vault = keyed.open("root")
    root = vault.keyring.signer("root").id
    with pytest.raises(Refused, match="every key file pins it"):
        plan_end_key(vault, root, reason="removed")
    with pytest.raises(NotFound, match="no signing key"):
        plan_end_key(vault, KEYS.recovery.id, reason="removed")
    with pytest.raises(InvalidInput, match="no reason"):
        plan_end_key(vault, OLD.id, reason="boredom")
    with pytest.raises(Refused, match="needs a root key"):
        plan_end_key(keyed.open("writer"), OLD.id, reason="removed")
    execute_end_key(plan_end_key(vault, OLD.id, reason="removed"))
    with pytest.raises(Conflict, match="has ended"):
        plan_end_key(keyed.open("root"), OLD.id, reason="removed")


def test_of_two_roots_at_work_one_is_told(keyed: Keyed) -> None:
    """K6: each number is one exclusive create."""
    keyed.snapshot(keyed.dataset())
    verifier = next(key for key in KEYS.signing if key.role == "verifier")
    first = plan_end_key(keyed.open("root"), OLD.id, reason="stolen")

    def other(moment: str, operation: str, name: str) -> None:
        if (moment, operation) == ("before", "create") and name == "trust/0000000001.json":
            execute_end_key(first)

    store = WatchedStore(keyed.store, other)
    with pytest.raises(Conflict, match="somebody else"):
        execute_end_key(plan_end_key(keyed.open("root", store=store), verifier.id, reason="stolen"))
    assert set(keyed.open("recovery").trust.ended) == {OLD.id}
