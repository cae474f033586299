"""Adding, removing and sealing again: a new recovery key alone restores, and no command leaves a vault without one."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from spec_reader import SpecReader

from reopen.errors import Conflict, Corrupt, InvalidInput, NotFound, Refused, TargetUnwritable
from reopen.protect.keys.change import (
    execute_add_key,
    execute_rotate,
    plan_add_key,
    plan_rotate,
    remove_recipient,
    rotate_metadata_key,
)
from reopen.protect.keys.listing import list_keys
from reopen.protect.keys.phrase import forget_passphrases, store_passphrase
from reopen.protect.keys.reseal import execute_reseal, packs_lost_without, plan_reseal
from reopen.protect.keys.trial import try_recovery_keys
from reopen.protect.verify.verify import Level, verify_vault
from reopen.review.catalog.plain import plain_duckdb
from reopen.storage import ObjectStore
from reopen.storage.local import LocalStore
from reopen.vault import Vault, grants, load_keyring
from reopen.vault.canonical import decode, seal_envelope
from reopen.vault.passphrase import open_with_passphrase
from reopen.vault.slots import list_pack_objects, read_heads
from tests.kit import restore
from tests.protect.keyed import KEYS, Keyed
from tests.stores import LostAnswer, WatchedStore
from tests.trees import differences, some_bytes


@pytest.fixture
def keyed(tmp_path: Path) -> Keyed:
    return Keyed(folder=tmp_path)


def restores_all(vault: Vault, keyed: Keyed) -> None:
    """The newest snapshot restores to the data that is there now."""
    target = keyed.folder / f"restored-{vault.keyring.recovery_keys[0].id}-{vault.random_bytes(4).hex()}"
    restore(vault, vault.find("it"), target)
    assert differences(keyed.folder / "data" / "it", target) == []


def alone(keyed: Keyed, folder: str, store: ObjectStore | None = None) -> Vault:
    """The vault with the keys of one folder and nothing else."""
    return Vault.open(store if store is not None else keyed.store, load_keyring(keyed.keys(folder)))


def test_a_new_recovery_key_opens_what_is_stored_from_then_on(keyed: Keyed) -> None:
    """K5; sequence 3 of the note: and of what was stored before it opens the roots only."""
    dataset = keyed.dataset()
    keyed.snapshot(dataset)
    added = keyed.add("recovery", "second")
    second = alone(keyed, "second")
    assert second.roots == KEYS.roots
    with pytest.raises((Corrupt, NotFound), match="not sealed to any recovery key that is here"):
        restores_all(second, keyed)
    keyed.dataset(a=some_bytes(40_000, 7))
    keyed.snapshot(dataset)
    packs = read_heads(keyed.store, list_pack_objects(keyed.store), second.id)
    assert {len(slot.sealed) for head in packs for slot in head.slots} == {1, 2}
    assert {item.id for item in second.recipients} == {added.id, KEYS.recovery.id}


def test_with_resealed_slots_the_new_recovery_key_alone_restores_everything(keyed: Keyed) -> None:
    dataset = keyed.dataset()
    keyed.snapshot(dataset)
    keyed.add("recovery", "second")
    plan = plan_reseal(keyed.open("root", "recovery"))
    assert plan.grants == 1, "one process wrote one slot, however many packs"
    assert plan.packs == len(keyed.store.names("packs/")) > 1
    done = execute_reseal(plan)
    assert (done.granted, done.documents, done.unopened) == (1, 1, 0)
    second = alone(keyed, "second")
    restores_all(second, keyed)
    assert verify_vault(second, level=Level.CONTENT, record=False).findings == ()
    assert try_recovery_keys(second).ok
    again = plan_reseal(keyed.open("root", "recovery"))
    assert (again.grants, again.packs) == (0, 0)
    restores_all(keyed.open("recovery"), keyed)


def test_resealing_goes_on_from_a_key_that_was_itself_granted(keyed: Keyed) -> None:
    """The first recovery key is lost; the second, which opens by grants, opens for a third."""
    keyed.snapshot(keyed.dataset())
    keyed.add("recovery", "second")
    execute_reseal(plan_reseal(keyed.open("root", "recovery")))
    keyed.add("recovery", "third")
    execute_reseal(plan_reseal(keyed.open("root", "second")))
    restores_all(alone(keyed, "third"), keyed)


def test_grants_come_in_documents_of_bounded_size(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = keyed.dataset()
    for number in range(3):
        keyed.dataset(a=some_bytes(5_000, number))
        keyed.snapshot(dataset)
    added = keyed.add("recovery", "second")
    monkeypatch.setattr("reopen.protect.keys.reseal.SLOTS_PER_GRANT", 2)
    assert execute_reseal(plan_reseal(keyed.open("root", "recovery"))).documents == 2
    assert len(keyed.store.names(f"grants/{added.id}-")) == 2
    restores_all(alone(keyed, "second"), keyed)


def test_a_full_document_of_grants_stays_below_the_cap(keyed: Keyed) -> None:
    slots = {number.to_bytes(16, "big"): bytes(1168) for number in range(grants.SLOTS_PER_GRANT)}
    vault = keyed.open("root")
    body = grants.grant_body(vault.id, "ab" * 8, "cd" * 8, slots, vault.clock.now())
    assert len(seal_envelope(body, vault.keyring.signer("root"))) < (1 << 20) * 0.8


def test_damaged_grants_cost_their_slots_and_are_made_anew(keyed: Keyed) -> None:
    """G2."""
    keyed.snapshot(keyed.dataset())
    keyed.add("recovery", "second")
    execute_reseal(plan_reseal(keyed.open("root", "recovery")))
    (name,) = keyed.store.names("grants/")
    keyed.store.replace(name, keyed.store.get(name)[:-3])
    tried = try_recovery_keys(alone(keyed, "second"))
    assert not tried.ok
    assert execute_reseal(plan_reseal(keyed.open("root", "recovery"))).granted == 1
    restores_all(alone(keyed, "second"), keyed)


@pytest.mark.parametrize("folder", ["grants/", "passphrases/", "trust/0000000001.json"])
def test_a_check_names_damage_to_what_the_root_signed(keyed: Keyed, folder: str) -> None:
    """Opening the vault reads none of these: the newest statement is another."""
    keyed.snapshot(keyed.dataset())
    keyed.add("recovery", "second")
    execute_reseal(plan_reseal(keyed.open("root", "recovery")))
    rotate_metadata_key(keyed.open("root"))
    store_passphrase(keyed.open("root", "recovery"))
    vault = keyed.open("verifier")
    assert verify_vault(vault, record=False).findings == ()
    (name,) = keyed.store.names(folder)
    data = keyed.store.get(name)
    keyed.store.replace(name, data.replace(b"2026", b"2027", 1))
    assert [item.object for item in verify_vault(vault, record=False).findings] == [name]


def test_grants_that_the_root_did_not_sign_are_passed_over(keyed: Keyed) -> None:
    """G1, G2."""
    keyed.snapshot(keyed.dataset())
    keyed.add("recovery", "second")
    execute_reseal(plan_reseal(keyed.open("root", "recovery")))
    (name,) = keyed.store.names("grants/")
    body = decode(keyed.store.get(name), name)["body"]
    writer = next(key for key in KEYS.signing if key.role == "writer")
    forged = f"{name[:24]}0000000000000000.json"
    wrong = dict.fromkeys(body["slots"], "00" * 1168)
    keyed.store.put(forged, [seal_envelope(body | {"id": "00" * 8, "slots": wrong}, writer)])
    restores_all(alone(keyed, "second"), keyed)


def test_resealing_needs_a_recovery_key_and_the_root_key(keyed: Keyed) -> None:
    keyed.snapshot(keyed.dataset())
    keyed.add("recovery", "second")
    with pytest.raises(Refused, match="needs a recovery key that opens them"):
        execute_reseal(plan_reseal(keyed.open("root")))
    with pytest.raises(Refused, match="needs a root key"):
        execute_reseal(plan_reseal(keyed.open("recovery")))
    useless = execute_reseal(plan_reseal(keyed.open("root", "second")))
    assert (useless.granted, useless.unopened) == (0, 1)


def test_a_recovery_key_is_removed_when_another_opens_everything(keyed: Keyed) -> None:
    dataset = keyed.dataset()
    keyed.snapshot(dataset)
    with pytest.raises(Refused, match="only recovery key"):
        remove_recipient(keyed.open("root"), KEYS.recovery.id)
    keyed.add("recovery", "second")
    assert packs_lost_without(keyed.open("root"), KEYS.recovery.id) == len(keyed.store.names("packs/"))
    execute_reseal(plan_reseal(keyed.open("root", "recovery")))
    assert packs_lost_without(keyed.open("root"), KEYS.recovery.id) == 0
    remove_recipient(keyed.open("root"), KEYS.recovery.id)
    before = set(keyed.store.names("packs/"))
    keyed.dataset(a=some_bytes(30_000, 5))
    keyed.snapshot(dataset)
    vault = alone(keyed, "second")
    restores_all(vault, keyed)
    fresh = [info for info in list_pack_objects(keyed.store) if info.name not in before]
    sealed_to = {
        who for head in read_heads(keyed.store, fresh, vault.id) for slot in head.slots for who, _ in slot.sealed
    }
    assert sealed_to == {vault.keyring.recovery_keys[0].id}
    assert {row.id: row.state for row in list_keys(vault) if row.role == "recovery"} == {
        KEYS.recovery.id: "removed",
        vault.keyring.recovery_keys[0].id: "current",
    }
    with pytest.raises(NotFound, match="nothing is sealed"):
        remove_recipient(keyed.open("root"), KEYS.recovery.id)
    # It opens what it could open: removing is not revocation.
    first = keyed.open("recovery")
    restore(first, first.records()[0], keyed.folder / "old")


def test_key_files_of_before_and_after_agree(keyed: Keyed) -> None:
    """No new key file is needed anywhere when a recipient is added: all pin the first ones."""
    keyed.add("recovery", "both")
    for path in keyed.keys("recovery").iterdir():
        (keyed.keys("both") / path.name).write_bytes(path.read_bytes())
        (keyed.keys("both") / path.name).chmod(0o600)
    vault = alone(keyed, "both")
    assert len(vault.keyring.recovery_keys) == 2
    assert keyed.open("writer").recipients == vault.recipients


def test_a_writer_of_one_dataset_takes_snapshots_of_it_and_of_no_other(keyed: Keyed) -> None:
    keyed.add("writer", "limited", datasets=("it",))
    record = keyed.snapshot(keyed.dataset(), "limited")
    stranger = keyed.snapshot(keyed.dataset("other"), "limited")
    vault = keyed.open("recovery")
    assert [item.id for item in vault.records()] == [record.id]
    assert [item.name for item in vault.invalid_records()] == [stranger.name]
    restores_all(vault, keyed)


@pytest.mark.parametrize("role", ["writer", "verifier", "retention"])
def test_an_added_signing_key_may_sign_for_its_role(keyed: Keyed, role: str) -> None:
    record = keyed.snapshot(keyed.dataset())
    added = keyed.add(role, "second")
    vault = keyed.open("second")
    assert vault.keyring.signer(role).id == added.id
    if role == "writer":
        assert keyed.snapshot(keyed.dataset("more"), "second").writer == added.id
    else:
        kind = "verified" if role == "verifier" else "held"
        vault.record_fact(kind, dataset="it", snapshot=record.id, body={})
        assert [fact.signer for fact in keyed.open("recovery").facts(kind)] == [added.id]


def test_what_cannot_be_added_is_told(keyed: Keyed) -> None:
    vault = keyed.open("root")
    for role, datasets in (("root", ()), ("king", ()), ("recovery", ("it",)), ("writer", ("Not a name",))):
        with pytest.raises(InvalidInput):
            plan_add_key(vault, role, keyed.keys("new"), datasets=datasets)
    with pytest.raises(Refused, match="needs a root key"):
        plan_add_key(keyed.open("writer", "recovery"), "writer", keyed.keys("new"))


def test_a_folder_that_takes_no_file_changes_nothing_in_the_vault(keyed: Keyed) -> None:
    """K6: the key file comes first."""
    (keyed.folder / "file").write_text("")
    before = dict(keyed.store.objects)
    with pytest.raises(TargetUnwritable):
        execute_add_key(plan_add_key(keyed.open("root"), "recovery", keyed.folder / "file"))
    assert keyed.store.objects == before


@pytest.mark.parametrize("lost", ["keys/", "trust/"])
def test_a_lost_answer_is_settled_by_reading_back(keyed: Keyed, lost: str) -> None:
    store = WatchedStore(keyed.store, LostAnswer(lost))
    added = execute_add_key(plan_add_key(keyed.open("root", store=store), "recovery", keyed.keys("second")))
    assert alone(keyed, "second").recipients[-1].id == added.id


def test_where_a_role_has_several_keys_the_one_to_rotate_is_named(keyed: Keyed) -> None:
    """Two sites write, each with its own key; and a key of another role is not taken for one."""
    added = keyed.add("writer", "standby")
    with pytest.raises(Conflict, match=added.id):
        plan_rotate(keyed.open("root"), "writer", keyed.keys("standby"))
    verifier = next(key.id for key in KEYS.signing if key.role == "verifier")
    with pytest.raises(InvalidInput, match="is a verifier key"):
        plan_rotate(keyed.open("root"), "writer", keyed.keys("standby"), key_id=verifier)
    with pytest.raises(NotFound, match="no writer key"):
        plan_rotate(keyed.open("root"), "writer", keyed.keys("standby"), key_id="00" * 8)
    plan = plan_rotate(keyed.open("root"), "writer", keyed.keys("standby"), key_id=added.id)
    result = execute_rotate(plan)
    assert keyed.open("standby").keyring.signer("writer").id == result.new.id
    assert keyed.snapshot(keyed.dataset()).writer not in (added.id, result.new.id), "production keeps its own"


def test_a_key_of_some_datasets_is_followed_by_one_of_the_same(keyed: Keyed) -> None:
    added = keyed.add("writer", "limited", datasets=("it", "more"))
    result = execute_rotate(plan_rotate(keyed.open("root"), "writer", keyed.keys("limited"), key_id=added.id))
    assert keyed.open("root").certificates[result.new.id].datasets == ("it", "more")


def test_tables_of_two_metadata_keys_are_read_together(keyed: Keyed) -> None:
    dataset = keyed.dataset()
    first = keyed.snapshot(dataset)
    assert rotate_metadata_key(keyed.open("root")) == 2
    keyed.dataset(a=some_bytes(9_000, 3))
    second = keyed.snapshot(dataset)
    assert (first.manifest.key, second.manifest.key) == (1, 2)
    assert keyed.store.names(f"manifests/key=2/dataset=it/snapshot={second.id}/")
    vault = keyed.open("recovery")
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()
    restores_all(vault, keyed)
    assert vault.manifest(first).num_rows > 0


def test_plain_duckdb_and_the_second_reader_read_a_vault_whose_keys_changed(keyed: Keyed, tmp_path: Path) -> None:
    """The second reader knows nothing of trust statements, like a program from before: it must not be locked out."""
    dataset = keyed.dataset()
    keyed.snapshot(dataset)
    vault = keyed.open("root")
    execute_rotate(plan_rotate(vault, "writer", keyed.keys("writer")))
    keyed.add("recovery", "second")
    rotate_metadata_key(keyed.open("root"))
    store_passphrase(keyed.open("root", "recovery"))
    keyed.dataset(a=some_bytes(9_000, 3))
    keyed.snapshot(dataset)
    for name in keyed.store.names():
        path = tmp_path / "vault" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(keyed.store.get(name))
    reader = SpecReader(tmp_path / "vault", next(keyed.keys("recovery").iterdir()))
    assert len(reader.snapshots("it")) == 2
    local = Vault.open(LocalStore(tmp_path / "vault"), keyed.ring("recovery"))
    with duckdb.connect() as connection:
        for statement in plain_duckdb(local):
            connection.execute(statement)
        found = connection.execute("SELECT count(*), count(DISTINCT key) FROM manifests WHERE path = 'a'").fetchall()
    assert found == [(2, 2)]


def test_the_store_and_a_passphrase_alone_restore(keyed: Keyed) -> None:
    """The worst day: no key file anywhere."""
    keyed.snapshot(keyed.dataset())
    stored = store_passphrase(keyed.open("root", "recovery"))
    replica = keyed.store.clone("test-memory://replica")
    vault = Vault.open(replica, open_with_passphrase(replica, stored.passphrase.lower().replace("-", " ")))
    assert vault.keyring.roles == ("recovery",)
    restores_all(vault, keyed)
    assert [row.passphrase for row in list_keys(vault) if row.role == "recovery"] == [True]
    assert forget_passphrases(keyed.open("root")) == (stored.name,)
    with pytest.raises(NotFound, match="no recovery key under a passphrase"):
        open_with_passphrase(keyed.store, stored.passphrase)


def test_the_test_of_recovery_keys_tells_keys_packs_and_damage_apart(keyed: Keyed) -> None:
    dataset = keyed.dataset()
    assert try_recovery_keys(keyed.open("recovery")).ok, "an empty vault: the roots open"
    keyed.snapshot(dataset)
    keyed.add("recovery", "second")
    keyed.dataset(a=some_bytes(40_000, 8))
    keyed.snapshot(dataset)
    result = try_recovery_keys(keyed.open("recovery", "second"), sample=None)
    works = {tried.key: (tried.roots, tried.works) for tried in result.keys}
    second = alone(keyed, "second").keyring.recovery_keys[0].id
    assert works == {KEYS.recovery.id: ("ok", True), second: ("ok", False)}
    assert result.ok
    assert len(result.tried) == result.packs == len(keyed.store.names("packs/"))
    only_second = try_recovery_keys(alone(keyed, "second"), sample=None)
    assert not only_second.ok
    assert 0 < len(only_second.unopened) < only_second.packs
    victim = only_second.unopened[0]
    name = f"packs/{victim[:2]}/{victim}"
    keyed.store.replace(name, keyed.store.get(name)[:40])
    damaged = try_recovery_keys(keyed.open("recovery"), sample=None)
    assert damaged.unopened == (victim,)
    assert [pack.status for pack in damaged.keys[0].packs if pack.pack == victim] == ["damaged"]


def test_the_test_reads_a_sample_that_holds_the_newest_pack_and_changes_nothing(keyed: Keyed) -> None:
    dataset = keyed.dataset()
    keyed.snapshot(dataset)
    for name in keyed.store.names("packs/"):
        keyed.store.age(name, 1000)
    keyed.dataset(a=some_bytes(3_000, 4))
    before = set(keyed.store.names("packs/"))
    keyed.snapshot(dataset)
    (newest,) = set(keyed.store.names("packs/")) - before
    store = WatchedStore(keyed.store)
    result = try_recovery_keys(keyed.open("recovery", store=store), sample=1)
    assert result.tried == (newest.rpartition("/")[2],)
    assert store.mutations() == []
    assert result.ok


def test_packs_that_no_index_part_covers_are_tried_by_their_own_directory(keyed: Keyed) -> None:
    keyed.snapshot(keyed.dataset())
    for name in keyed.store.names("index/"):
        keyed.store.delete(name)
    assert try_recovery_keys(keyed.open("recovery"), sample=None).ok


def test_without_a_recovery_key_there_is_nothing_to_try(keyed: Keyed) -> None:
    with pytest.raises(Refused, match="no recovery key to try"):
        try_recovery_keys(keyed.open("writer"))
