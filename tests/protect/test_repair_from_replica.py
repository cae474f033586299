"""A replica mends every kind of object, byte for byte; what it has damaged itself never comes back as good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.errors import Corrupt, Refused, VaultUnwritable
from reopen.protect.place import vault_at
from reopen.protect.repair.repair import RepairResult, execute_repair, plan_repair
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.vault import Keyring, NewKeys, Parameters, Vault, make_keys, packwriter
from reopen.vault.indexparts import list_packs
from reopen.vault.statements import read_statement
from tests.kit import a_dataset, a_keyring, a_table, a_vault, reopened, restore, snapshot, statuses
from tests.stores import FullFrom, MemoryStore, WatchedStore
from tests.trees import age, differences, grow, some_bytes

Spoil = Callable[[bytes], bytes | None]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def gone(data: bytes) -> None:
    return None


SPOILERS: tuple[Spoil, ...] = (flipped, cut, gone)
KINDS = ("vault.json", "keys/", "packs/", "index/", "manifests/", "profiles/", "snapshots/", "ledger/")


@pytest.fixture
def keys() -> NewKeys:
    return make_keys()


@pytest.fixture
def vault(tmp_path: Path, keys: NewKeys, monkeypatch: pytest.MonkeyPatch) -> Vault:
    """Two datasets and a void; a hold, a retirement, a proof and what was read."""
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 2)
    vault = a_vault(MemoryStore("test-memory://here"), keys=keys)
    it = grow(tmp_path / "it", {"large": some_bytes(90_000, 1), "small": "x", "t.parquet": "not really"})
    for number in range(2):
        (it / "new").write_bytes(some_bytes(5_000, 10 + number))
        age(it)
        record = snapshot(vault, a_dataset("it", it, table=a_table(), pattern="*.parquet")).record
    snapshot(vault, a_dataset("other", grow(tmp_path / "other", {"alone": some_bytes(20_000, 3)})))
    vault.record_fact("held", dataset="it", snapshot=record.id, body={"reason": "a case"})
    vault.record_fact("retired", dataset="other", snapshot="", body={"reason": "gone"})
    verify_vault(vault, level=Level.CONTENT)
    return vault


@pytest.fixture
def replica(vault: Vault) -> Vault:
    target = MemoryStore("test-memory://there")
    execute_replicate(plan_replicate(vault, target))
    return reopened(vault, target)


def store_of(vault: Vault) -> MemoryStore:
    assert isinstance(vault.store, MemoryStore)
    return vault.store


def contents(store: MemoryStore) -> dict[str, bytes]:
    return {name: store.get(name) for name in store.names()}


def spoil(store: MemoryStore, name: str, how: Spoil) -> None:
    data = how(store.get(name))
    if data is None:
        store.delete(name)
    else:
        store.replace(name, data)


def repaired(vault: Vault, replica: Vault, level: Level | None = None) -> RepairResult:
    return execute_repair(plan_repair(vault, replica, level))


def test_nothing_is_wrong_with_a_whole_vault(vault: Vault, replica: Vault) -> None:
    before = contents(store_of(vault))
    plan = plan_repair(vault, replica)
    assert plan.is_empty
    assert execute_repair(plan).ok
    assert contents(store_of(vault)) == before


@pytest.mark.parametrize("how", SPOILERS, ids=["flipped", "cut", "gone"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_object_of_a_kind_comes_back_byte_for_byte(vault: Vault, replica: Vault, kind: str, how: Spoil) -> None:
    """One object after the other, then all of the kind at once."""
    whole = contents(store_of(vault))
    names = store_of(vault).names(kind)
    assert names
    alone = names if how is flipped else names[:1]
    for damaged in ([name] for name in alone):
        check_mended(vault, replica, whole, damaged, how)
    check_mended(vault, replica, whole, names, how)


def check_mended(vault: Vault, replica: Vault, whole: dict[str, bytes], names: list[str], how: Spoil) -> None:
    store = store_of(vault).clone()
    for name in names:
        spoil(store, name, how)
    before = contents(store)
    mended = vault_at(replica, store)
    result = repaired(mended, replica)
    assert result.ok, (names, result)
    assert set(result.restored) == set(names)
    after = contents(store)
    assert {name: data for name, data in after.items() if not name.startswith("aside/")} == whole
    # What was damaged is kept.
    assert {f"aside/{name}": before[name] for name in names if name in before} == {
        name: data for name, data in after.items() if name.startswith("aside/")
    }
    assert repaired(mended, replica).restored == (), "a second repair finds nothing to do"


def test_everything_at_once_comes_back_and_restores(vault: Vault, replica: Vault, tmp_path: Path) -> None:
    whole = contents(store_of(vault))
    store = MemoryStore("test-memory://here")
    mended = vault_at(replica, store)
    result = repaired(mended, replica)
    assert result.ok
    assert contents(store) == whole
    again = reopened(vault, store)
    assert verify_vault(again, level=Level.CONTENT, record=False).findings == ()
    restore(again, again.find("it"), tmp_path / "back")
    assert differences(tmp_path / "it", tmp_path / "back") == []


def test_damage_that_only_reading_finds_is_found_by_the_level_that_reads(vault: Vault, replica: Vault) -> None:
    name = store_of(vault).names("packs/")[0]
    spoil(store_of(vault), name, flipped)
    assert plan_repair(vault, replica, Level.STRUCTURE).fetches == ()
    assert [item.name for item in plan_repair(vault, replica).fetches] == [name]
    assert [item.name for item in plan_repair(vault, replica, Level.CONTENT).fetches] == [name]


def test_a_plan_changes_nothing(vault: Vault, replica: Vault) -> None:
    for kind in ("packs/", "index/", "manifests/", "ledger/held/"):
        spoil(store_of(vault), store_of(vault).names(kind)[0], flipped)
    before, there = contents(store_of(vault)), contents(store_of(replica))
    plan = plan_repair(vault, replica)
    assert len(plan.fetches) == 4
    assert (contents(store_of(vault)), contents(store_of(replica))) == (before, there)


@pytest.mark.parametrize("how", [flipped, cut, gone], ids=["flipped", "cut", "gone"])
def test_a_copy_that_is_damaged_too_is_never_taken(vault: Vault, replica: Vault, how: Spoil) -> None:
    """And it is said what that costs: which files of which snapshots, and what is left."""
    name = lost_pack(vault)
    spoil(store_of(vault), name, flipped)
    spoil(store_of(replica), name, how)
    kept = store_of(vault).get(name)
    result = repaired(vault, replica)
    assert not result.ok
    assert [(item.name, item.status) for item in result.lost] == [(name, "digest_mismatch")]
    assert "damaged too" in result.lost[0].reason or "does not have it" in result.lost[0].reason
    assert store_of(vault).get(name) == kept
    assert store_of(vault).names("aside/") == []
    (loss,) = result.losses
    assert (loss.dataset, loss.paths, loss.files, loss.files_left) == ("other", ("alone",), 1, 0)
    # It is mended once a good copy is there.
    store_of(replica).objects[name] = store_of(vault).objects[name]
    store_of(replica).replace(name, flipped(kept))
    assert repaired(vault, replica).restored == (name,)
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()


def lost_pack(vault: Vault) -> str:
    """A pack that only ``other`` needs."""
    record = vault.find("other")
    (*_, pack) = read_statement(vault, record.indexes[0].name).packs
    return f"packs/{pack[:2]}/{pack}"


def test_the_losses_are_all_the_files_and_only_those(tmp_path: Path) -> None:
    """One pack with many files: with the recovery key only those whose chunks do not open are named."""
    store = MemoryStore()
    vault = a_vault(store, parameters=Parameters())
    source = grow(tmp_path / "it", {f"f{number:02}": some_bytes(600_000, number) for number in range(12)})
    snapshot(vault, a_dataset("it", source))
    (name,) = store.names("packs/")
    spoil(store, name, flipped)
    plan = plan_repair(vault, level=Level.STORED)
    (loss,) = plan.losses
    assert (loss.files, loss.files_left, len(loss.paths)) == (12, 11, 1)
    assert [item.name for item in plan.lost] == [name]
    blind = Vault.open(store, a_keyring_of(vault, "writer"))
    assert len(plan_repair(blind, level=Level.STORED).losses[0].paths) == 12


def a_keyring_of(vault: Vault, role: str) -> Keyring:
    signing = [key for key in vault.keyring.signing_keys if key.role == role]
    return Keyring(vault.keyring.pins, signing=signing)


def test_a_manifest_that_nobody_has_costs_the_whole_snapshot(vault: Vault, replica: Vault) -> None:
    record = vault.find("it")
    name = record.manifest.parts[0].name
    spoil(store_of(vault), name, cut)
    store_of(replica).delete(name)
    result = repaired(vault, replica)
    (loss,) = result.losses
    assert (loss.snapshot, loss.manifest_lost, loss.files_left, loss.paths) == (record.id, True, 0, ())
    assert [item.name for item in result.lost] == [name]


def test_without_a_replica_the_losses_are_told_too(vault: Vault) -> None:
    name = lost_pack(vault)
    store_of(vault).delete(name)
    plan = plan_repair(vault)
    assert [(item.name, item.reason) for item in plan.lost] == [(name, "there is no replica")]
    assert [(loss.dataset, loss.paths) for loss in plan.losses] == [("other", ("alone",))]
    assert execute_repair(plan).losses == plan.losses


def test_an_index_that_the_replica_lacks_as_well_is_rebuilt_and_costs_nothing(vault: Vault, replica: Vault) -> None:
    """It is derived; only what is lost besides is a loss."""
    for place in (vault, replica):
        for name in store_of(place).names("index/"):
            store_of(place).delete(name)
    damaged = lost_manifest = vault.find("other").manifest.parts[0].name
    spoil(store_of(vault), damaged, flipped)
    store_of(replica).delete(lost_manifest)
    plan = plan_repair(vault, replica)
    result = execute_repair(plan)
    assert result.rebuilt_packs == len(list_packs(vault))
    for losses in (plan.losses, result.losses):
        assert [(loss.dataset, loss.manifest_lost) for loss in losses] == [("other", True)]


def test_index_rows_whose_copy_is_damaged_too_are_rebuilt(vault: Vault, replica: Vault) -> None:
    name = next(name for name in store_of(vault).names("index/") if name.endswith(".parquet"))
    for place in (vault, replica):
        spoil(store_of(place), name, flipped)
    result = repaired(vault, replica)
    assert result.ok
    assert result.rebuilt_packs > 0
    assert set(result.moved_aside) == {name, name.replace(".parquet", ".json")}
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()


def test_a_lost_record_that_others_saw_comes_back_with_all_it_needs(
    vault: Vault, replica: Vault, tmp_path: Path
) -> None:
    """Record, manifest, index part and packs of one snapshot, as if a folder of the medium was lost."""
    record = vault.find("other")
    statement = read_statement(vault, record.indexes[0].name)
    names = [record.name, statement.part.name, statement.parquet.name, *(part.name for part in record.manifest.parts)]
    names += [f"packs/{pack[:2]}/{pack}" for pack in statement.packs]
    for name in names:
        store_of(vault).delete(name)
    result = repaired(vault, replica)
    assert result.ok
    assert set(names) <= set(result.restored)
    restore(vault, vault.find("other"), tmp_path / "back")
    assert differences(tmp_path / "other", tmp_path / "back") == []


def test_what_the_vault_let_go_is_not_brought_back(vault: Vault, replica: Vault) -> None:
    first = vault.records("it")[0]
    body = {"record": first.digest, "seq": first.seq, "prev": first.prev, "reasons": []}
    vault.record_fact("expired", dataset="it", snapshot=first.id, body=body)
    store_of(vault).delete(first.name)
    assert plan_repair(vault, replica).is_empty


def test_a_reason_for_a_gap_comes_back_and_an_order_does_not(vault: Vault) -> None:
    """The replica is younger than the expiry, so it holds the stub; its own order about a record here stays there."""
    first, second = vault.records("it")
    for record, place in ((first, vault),):
        body = {"record": record.digest, "seq": record.seq, "prev": record.prev, "reasons": []}
        place.record_fact("expired", dataset="it", snapshot=record.id, body=body)
    store_of(vault).delete(first.name)
    target = MemoryStore("test-memory://there")
    execute_replicate(plan_replicate(vault, target))
    replica = reopened(vault, target)
    body = {"record": second.digest, "seq": second.seq, "prev": second.prev, "reasons": []}
    replica.record_fact("expired", dataset="it", snapshot=second.id, body=body)
    (stub,) = store_of(vault).names("ledger/expired/")
    store_of(vault).delete(stub)
    assert repaired(vault, replica).restored == (stub,)
    assert verify_vault(vault, record=False).findings == ()


def test_what_was_said_at_the_replica_stays_there(vault: Vault, replica: Vault) -> None:
    verify_vault(replica, level=Level.STORED)
    replica.record_fact("released", dataset="it", snapshot=vault.find("it").id, body={})
    replica.record_fact("drilled", dataset="it", snapshot=vault.find("it").id, body={})
    assert plan_repair(vault, replica).is_empty


def test_a_chunk_that_the_replica_holds_in_another_pack_is_taken_from_there(vault: Vault, replica: Vault) -> None:
    """The replica repacked: it has no pack of that name, and all of its content."""
    name = lost_pack(vault)
    record = vault.find("other")
    elsewhere = MemoryStore("test-memory://elsewhere")
    for document in store_of(vault).names():
        if document.startswith(("keys/", "vault.json")):
            elsewhere.put(document, [store_of(vault).get(document)])
    other = reopened(vault, elsewhere)
    source = Path(record.source_url.removeprefix("file://"))
    taken = snapshot(other, a_dataset("other", source)).record
    statement = read_statement(other, taken.indexes[0].name)
    for pack in statement.packs:
        store_of(replica).put(f"packs/{pack[:2]}/{pack}", [other.store.get(f"packs/{pack[:2]}/{pack}")])
    for item in (statement.parquet.name, statement.part.name):
        store_of(replica).put(item, [other.store.get(item)])
    for place in (vault, replica):
        store_of(place).delete(name)
    for part in record.indexes:
        store_of(replica).delete(part.name)
        store_of(replica).delete(part.name.replace(".json", ".parquet"))
    result = repaired(vault, replica)
    assert any(item.startswith("packs/") for item in result.restored)
    assert [item.name for item in result.lost] == [name]
    assert result.losses == (), "its content is there all the same"
    assert {item.status for item in verify_vault(vault, level=Level.CONTENT, record=False).findings} == {"missing"}


def test_a_repair_that_takes_only_copies_needs_no_writer_s_key(vault: Vault, replica: Vault, keys: NewKeys) -> None:
    for kind in ("packs/", "manifests/", "index/"):
        spoil(store_of(vault), store_of(vault).names(kind)[0], flipped)
    verifier = Vault.open(vault.store, a_keyring(keys, "verifier"))
    assert repaired(verifier, Vault.open(replica.store, a_keyring(keys, "verifier"))).ok
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()


def test_what_lies_aside_already_is_not_replaced(vault: Vault, replica: Vault) -> None:
    name = store_of(vault).names("packs/")[0]
    for how in (flipped, cut, flipped):
        spoil(store_of(vault), name, how)
        repaired(vault, replica)
    aside = store_of(vault).names("aside/")
    assert len(aside) == 2
    whole = store_of(vault).get(name)
    assert {store_of(vault).get(item) for item in aside} == {flipped(whole), cut(whole)}


def test_a_vault_is_no_replica_of_another_or_of_itself(vault: Vault) -> None:
    with pytest.raises(Refused, match="no replica"):
        plan_repair(vault, a_vault(MemoryStore("test-memory://stranger")))
    with pytest.raises(Refused, match="no replica"):
        plan_repair(vault, reopened(vault))


def test_level_content_asks_for_the_recovery_key(vault: Vault, replica: Vault, keys: NewKeys) -> None:
    writer = Vault.open(vault.store, a_keyring(keys, "writer"))
    with pytest.raises(Refused, match="recovery key"):
        plan_repair(writer, replica, Level.CONTENT)


def test_a_good_pack_is_read_once_by_a_repair(vault: Vault, replica: Vault) -> None:
    spoil(store_of(vault), store_of(vault).names("packs/")[0], flipped)
    watched = WatchedStore(vault.store)
    execute_repair(plan_repair(vault_at(vault, watched), replica))
    read = [name for operation, name in watched.calls if operation.startswith("get") and name.startswith("packs/")]
    assert len(read) == len(store_of(vault).names("packs/")) + 1, "the damaged one once more, to keep it aside"
    assert statuses(vault, vault.find("other"), "/nowhere") == {"alone": "missing"}


def test_bytes_that_the_medium_does_not_give_back_are_replaced_all_the_same(vault: Vault, replica: Vault) -> None:
    """Nothing of them can be kept; a pack, a table and a record."""
    names = [store_of(vault).names(kind)[0] for kind in ("packs/", "manifests/", "snapshots/")]
    whole = contents(store_of(vault))

    def broken(moment: str, operation: str, name: str) -> None:
        if operation in ("get", "get_range") and name in names and name not in mended:
            raise Corrupt(f"{name} cannot be read from the medium.", object=name)
        if (moment, operation) == ("after", "put"):
            mended.add(name)

    mended: set[str] = set()
    result = repaired(vault_at(vault, WatchedStore(vault.store, broken)), replica)
    assert result.ok
    assert set(result.restored) == set(names)
    assert result.moved_aside == ()
    assert contents(store_of(vault)) == whole


def test_a_repair_that_finds_the_vault_full_is_finished_by_the_next(vault: Vault, replica: Vault) -> None:
    whole = contents(store_of(vault))
    for kind in KINDS:
        spoil(store_of(vault), store_of(vault).names(kind)[0], flipped)
    full = FullFrom(5)
    with pytest.raises(VaultUnwritable):
        repaired(vault_at(replica, WatchedStore(vault.store, full)), replica)
    assert full.refused == 1
    assert repaired(vault_at(replica, vault.store), replica).ok
    assert {name: data for name, data in contents(store_of(vault)).items() if not name.startswith("aside/")} == whole


def test_a_replica_that_goes_away_meanwhile_leaves_a_vault_that_is_no_worse(vault: Vault, replica: Vault) -> None:
    damaged = [store_of(vault).names(kind)[0] for kind in ("packs/", "manifests/", "profiles/")]
    for name in damaged:
        spoil(store_of(vault), name, flipped)
    before = contents(store_of(vault))
    plan = plan_repair(vault, replica)
    store_of(replica).objects.clear()
    result = execute_repair(plan)
    assert {item.name for item in result.lost} == set(damaged)
    assert contents(store_of(vault)) == before
