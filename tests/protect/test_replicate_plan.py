"""What a replica gets and what it does not: nothing that lets go, nothing that it let go, nothing read for naught."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.clock import FixedClock
from reopen.errors import Corrupt, Refused, Transient, VaultUnwritable
from reopen.protect.place import vault_at
from reopen.protect.replicate.replicate import ReplicateResult, execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import ObjectInfo, ObjectStore, Piece, open_store
from reopen.vault import Keyring, NewKeys, SnapshotRecord, Vault, make_keys, packwriter
from reopen.vault.statements import read_statements
from tests.kit import a_dataset, a_keyring, a_vault, reopened, restore, snapshot
from tests.stores import FullFrom, MemoryStore, WatchedStore
from tests.trees import age, differences, grow, some_bytes


@pytest.fixture
def keys() -> NewKeys:
    return make_keys()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def vault(tmp_path: Path, keys: NewKeys, clock: FixedClock, monkeypatch: pytest.MonkeyPatch) -> Vault:
    """Two datasets; ``it`` has three snapshots, each with a large file of its own beside one that stays."""
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 1)
    vault = a_vault(MemoryStore("test-memory://primary"), keys=keys, clock=clock)
    snapshot(vault, a_dataset("other", grow(tmp_path / "other", {"alone": some_bytes(9_000, 7)})))
    folder = grow(tmp_path / "it", {"stays": some_bytes(50_000, 1)})
    for number in range(3):
        (folder / "large").write_bytes(some_bytes(70_000, 100 + number))
        age(folder)
        snapshot(vault, a_dataset("it", folder))
    return vault


def store_of(vault: Vault) -> MemoryStore:
    assert isinstance(vault.store, MemoryStore)
    return vault.store


def replica_store() -> MemoryStore:
    return MemoryStore("test-memory://standby")


def replicate(vault: Vault, target: ObjectStore) -> ReplicateResult:
    return execute_replicate(plan_replicate(vault, target))


def expire(vault: Vault, record: SnapshotRecord, *, delete: bool = True) -> None:
    """What retention does: the fact, then the record."""
    body = {"record": record.digest, "seq": record.seq, "prev": record.prev, "reasons": []}
    vault.record_fact("expired", dataset=record.dataset, snapshot=record.id, body=body)
    if delete:
        vault.store.delete(record.name)


def prune_what_only(vault: Vault, gone: SnapshotRecord) -> list[str]:
    """What prune does after a record is gone, here for what the snapshot alone wrote and needed."""
    removed = [part.name for part in gone.manifest.parts]
    kept = {pack for item in vault.records() if item.id != gone.id for pack in packs_needed(vault, item)}
    for statement in read_statements(vault):
        if statement.part.name.startswith(f"index/{gone.id}-") and not set(statement.packs) & kept:
            removed += [statement.part.name, statement.parquet.name]
            removed += [f"packs/{pack[:2]}/{pack}" for pack in statement.packs]
    for name in removed:
        vault.store.delete(name)
    return removed


def packs_needed(vault: Vault, record: SnapshotRecord) -> set[str]:
    from reopen.protect.readable import packs_for
    from reopen.vault.index import empty_index
    from reopen.vault.indexparts import load_index

    return {pack.hex() for pack in packs_for(vault.manifest(record), empty_index(), load_index(vault))}


def test_with_pins_alone_and_no_key_a_replica_is_filled(vault: Vault, keys: NewKeys, tmp_path: Path) -> None:
    verify_vault(vault, level=Level.CONTENT)
    target = replica_store()
    copier = Vault.open(vault.store, Keyring(keys.pins))
    assert copier.keyring.roles == ()
    execute_replicate(plan_replicate(copier, target), verify_arrival=True)
    assert target.names() == store_of(vault).names()
    replica = reopened(vault, target)
    assert verify_vault(replica, level=Level.CONTENT, record=False).findings == ()
    with pytest.raises(Refused, match="no key of it is here"):
        copier.manifest(copier.find("it"))


def test_what_the_source_let_go_stays_at_the_replica(vault: Vault, tmp_path: Path) -> None:
    target = replica_store()
    replicate(vault, target)
    first = vault.records("it")[0]
    expire(vault, first)
    prune_what_only(vault, first)
    replicate(vault, target)
    assert target.names("ledger/expired/") == []
    replica = reopened(vault, target)
    assert first.name in target.names()
    assert verify_vault(replica, level=Level.CONTENT, record=False).findings == ()
    restore(replica, first, tmp_path / "back")
    assert (tmp_path / "back/large").read_bytes() == some_bytes(70_000, 100)


def test_an_order_to_let_go_whose_record_is_still_there_is_not_copied(vault: Vault) -> None:
    """Retention died between the fact and the deletion; both runs, before and after the record arrived."""
    expire(vault, vault.records("it")[0], delete=False)
    target = replica_store()
    for _ in range(2):
        replicate(vault, target)
        assert target.names("ledger/expired/") == []
    assert len(reopened(vault, target).records("it")) == 3


def test_a_new_replica_knows_why_its_first_record_follows_none(vault: Vault, tmp_path: Path) -> None:
    """The record went before there was a replica; its stub lets nothing go there, and explains the gap."""
    first = vault.records("it")[0]
    expire(vault, first)
    target = replica_store()
    replicate(vault, target)
    assert target.names("ledger/expired/") == store_of(vault).names("ledger/expired/") != []
    assert verify_vault(reopened(vault, target), level=Level.STORED, record=False).findings == ()


def test_holds_are_copied_and_releases_are_not(vault: Vault) -> None:
    """A key that is taken at production must not end a hold at the replica."""
    target = replica_store()
    record = vault.records("it")[0]
    vault.record_fact("held", dataset="it", snapshot=record.id, body={"reason": "a case"})
    replicate(vault, target)
    vault.record_fact("released", dataset="it", snapshot=record.id, body={"reason": "taken over"})
    replicate(vault, target)
    replica = reopened(vault, target)
    assert [fact.snapshot for fact in replica.facts("held")] == [record.id]
    assert replica.facts("released") == []


def test_what_the_replica_let_go_itself_is_not_copied_again(vault: Vault, tmp_path: Path) -> None:
    target = replica_store()
    replicate(vault, target)
    replica = reopened(vault, target)
    first = replica.records("it")[0]
    expire(replica, first)
    removed = prune_what_only(replica, first)
    assert any(name.startswith("packs/") for name in removed)
    before = target.names()
    plan = plan_replicate(vault, target)
    assert plan.let_go == (first.name,)
    assert plan.objects == 0
    execute_replicate(plan)
    assert target.names() == before
    # What comes after it still arrives.
    (tmp_path / "it/new").write_bytes(some_bytes(30_000, 9))
    age(tmp_path / "it")
    newest = snapshot(vault, a_dataset("it", tmp_path / "it")).record
    replicate(vault, target)
    assert not set(removed) & set(target.names())
    assert verify_vault(reopened(vault, target), level=Level.CONTENT, record=False).findings == ()
    restore(reopened(vault, target), newest, tmp_path / "back")
    assert differences(tmp_path / "it", tmp_path / "back") == []


def test_a_chunk_that_left_the_replica_with_a_snapshot_comes_back_when_a_new_one_needs_it(
    vault: Vault, tmp_path: Path
) -> None:
    """The replica pruned it; the source still has it and refers to it again."""
    target = replica_store()
    replicate(vault, target)
    replica = reopened(vault, target)
    first = replica.records("it")[0]
    expire(replica, first)
    prune_what_only(replica, first)
    (tmp_path / "it/again").write_bytes(some_bytes(70_000, 100))
    age(tmp_path / "it")
    taken = snapshot(vault, a_dataset("it", tmp_path / "it"))
    assert taken.record.totals.new_raw_bytes == 0
    replicate(vault, target)
    replica = reopened(vault, target)
    assert verify_vault(replica, level=Level.CONTENT, record=False).findings == ()
    restore(replica, taken.record, tmp_path / "back")
    assert differences(tmp_path / "it", tmp_path / "back") == []


def test_a_word_that_nobody_may_say_lets_nothing_go(vault: Vault, keys: NewKeys) -> None:
    """Somebody with the replica's credentials and no retention key."""
    target = replica_store()
    first = vault.records("it")[0]
    forged = vault.record_fact("drilled", dataset="it", snapshot=first.id, body={})
    name = forged.name.replace("drilled", "expired")
    target.put(name, [store_of(vault).get(forged.name)])
    replicate(vault, target)
    assert first.name in target.names()


def test_a_fact_waits_for_its_record(vault: Vault, tmp_path: Path) -> None:
    """The record was committed after the records were listed, and verified before the ledger was."""

    class Late(WatchedStore):
        def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
            infos = list(store_of(vault).list(prefix))
            if prefix == "snapshots/" and not self.calls:
                self.calls.append(("list", prefix))
                (tmp_path / "other/late").write_bytes(some_bytes(4_000, 3))
                age(tmp_path / "other")
                record = snapshot(vault, a_dataset("other", tmp_path / "other")).record
                vault.record_fact("held", dataset="other", snapshot=record.id, body={})
            return iter(infos)

    target = replica_store()
    replicate(vault_at(vault, Late(vault.store)), target)
    assert target.names("ledger/held/") == []
    assert verify_vault(reopened(vault, target), level=Level.STORED, record=False).findings == ()
    replicate(vault, target)
    assert target.names() == store_of(vault).names()


def test_a_second_run_reads_no_document_that_both_have(vault: Vault, tmp_path: Path) -> None:
    """The cost of a run follows what is new, not the history."""
    verify_vault(vault, level=Level.STORED)
    target = replica_store()
    replicate(vault, target)
    watched = WatchedStore(vault.store)
    replicate(vault_at(vault, watched), target)
    assert [call for call in watched.calls if call[0] != "list"] == [("get", "vault.json")]
    assert len([call for call in watched.calls if call[0] == "list"]) == 2
    (tmp_path / "other/new").write_bytes(some_bytes(4_000, 3))
    age(tmp_path / "other")
    record = snapshot(vault, a_dataset("other", tmp_path / "other")).record
    watched = WatchedStore(vault.store)
    replicate(vault_at(vault, watched), target)
    read = [name for operation, name in watched.calls if operation.startswith("get") and name != "vault.json"]
    assert len(read) == len(set(read)), "nothing is read twice"
    assert {name for name in read if not name.startswith(("packs/", "index/"))} == {
        record.name,
        *(part.name for part in record.manifest.parts),
    }


def test_the_lag_is_measured_from_commit_to_arrival(vault: Vault, clock: FixedClock) -> None:
    clock.advance(timedelta(minutes=10))
    target = replica_store()

    def slow(moment: str, operation: str, name: str) -> None:
        if (moment, operation) == ("before", "create") and name.startswith("packs/"):
            clock.advance(timedelta(seconds=1))

    packs = len(store_of(vault).names("packs/"))
    result = execute_replicate(plan_replicate(vault, WatchedStore(target, slow)), workers=1)
    assert result.lag_seconds == 600 + packs
    assert replicate(vault, target).lag_seconds is None


@pytest.mark.parametrize("how", ["shorter", "other bytes"])
def test_what_does_not_arrive_as_it_was_sent_is_told_before_any_record_is_there(vault: Vault, how: str) -> None:
    class Losing(MemoryStore):
        def create(self, name: str, pieces: Sequence[Piece]) -> int:
            written = super().create(name, pieces)
            if name.startswith("manifests/"):
                data = self.get(name)
                self.replace(name, data[:-1] if how == "shorter" else data[:-1] + bytes([data[-1] ^ 1]))
            return written

    target = Losing("test-memory://losing")
    with pytest.raises(Corrupt, match="bytes arrived" if how == "shorter" else "read back") as caught:
        execute_replicate(plan_replicate(vault, target), verify_arrival=True)
    assert "repair --from" in caught.value.hint
    assert target.names("snapshots/") == []


def test_an_object_that_both_have_with_another_size_is_told_and_left(vault: Vault) -> None:
    target = replica_store()
    replicate(vault, target)
    name = target.names("packs/")[0]
    target.replace(name, target.get(name)[:-5])
    result = replicate(vault, target)
    assert result.differing == (name,)
    assert len(target.get(name)) == len(store_of(vault).get(name)) - 5


def test_a_pack_that_leaves_the_source_meanwhile_ends_the_run_before_any_record(vault: Vault) -> None:
    """Prune put what is still needed elsewhere; the next run sees it."""
    target = replica_store()
    plan = plan_replicate(vault, target)
    name = store_of(vault).names("packs/")[0]
    data = store_of(vault).get(name)
    store_of(vault).delete(name)
    with pytest.raises(Transient, match=r"left .* while it was being copied"):
        execute_replicate(plan)
    assert target.names("snapshots/") == []
    store_of(vault).put(name, [data])
    replicate(vault, target)
    assert target.names() == store_of(vault).names()


def test_a_key_document_that_the_root_did_not_sign_is_left_out(vault: Vault, keys: NewKeys) -> None:
    stranger = a_vault(MemoryStore("test-memory://stranger"))
    (foreign, *_) = [info.name for info in stranger.store.list("keys/")]
    vault.store.put(foreign, [stranger.store.get(foreign)])
    target = replica_store()
    result = replicate(vault, target)
    assert result.left_out == (foreign,)
    assert foreign not in target.names()
    assert a_keyring(keys, "writer").roles == ("writer",)


def test_a_full_replica_shows_nothing_half_and_is_filled_by_the_next_run(vault: Vault) -> None:
    target = replica_store()
    with pytest.raises(VaultUnwritable):
        execute_replicate(plan_replicate(vault, WatchedStore(target, FullFrom(9))))
    assert target.names("snapshots/") == []
    replicate(vault, target)
    assert target.names() == store_of(vault).names()


def test_a_pack_that_is_damaged_at_the_source_is_never_visible_at_the_target(vault: Vault, tmp_path: Path) -> None:
    """Also where the target is a folder, which is written while the source is read."""
    name = store_of(vault).names("packs/")[0]
    data = store_of(vault).get(name)
    store_of(vault).replace(name, data[:-1] + bytes([data[-1] ^ 1]))
    target = open_store(str(tmp_path / "replica"))
    with pytest.raises(Corrupt, match="1 objects"):
        execute_replicate(plan_replicate(vault, target))
    assert name not in {info.name for info in target.list()}
    assert [path for path in (tmp_path / "replica").rglob("*") if path.name.startswith(".tmp-")] == []
