"""A replica holds the same vault, checked on the way; what is damaged or foreign does not get in."""

from __future__ import annotations

from pathlib import Path

import pytest

from reopen.errors import Conflict, Corrupt, Refused
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.vault import NewKeys, Vault, make_keys
from tests.kit import a_dataset, a_keyring, a_table, a_vault, reopened, restore, snapshot
from tests.stores import MemoryStore, WatchedStore
from tests.trees import differences, grow, some_bytes


@pytest.fixture
def keys() -> NewKeys:
    return make_keys()


@pytest.fixture
def vault(tmp_path: Path, keys: NewKeys) -> Vault:
    vault = a_vault(MemoryStore("test-memory://primary"), keys=keys)
    for name, seed in (("one", 1), ("two", 2)):
        folder = grow(
            tmp_path / name, {"large": some_bytes(80_000, seed), "small": f"{seed}", "t.parquet": f"no {seed}"}
        )
        snapshot(vault, a_dataset(name, folder, table=a_table(), pattern="*.parquet"))
    verify_vault(vault, level=Level.CONTENT)
    return vault


def store_of(vault: Vault) -> MemoryStore:
    assert isinstance(vault.store, MemoryStore)
    return vault.store


def replica_store() -> MemoryStore:
    return MemoryStore("test-memory://standby")


def test_the_replica_restores_when_the_source_is_gone(vault: Vault, tmp_path: Path) -> None:
    target = replica_store()
    result = execute_replicate(plan_replicate(vault, target))
    assert (result.snapshots, result.present_objects) == (2, 0)
    assert result.copied_bytes == sum(info.size_bytes for info in vault.store.list())
    assert result.lag_seconds is not None
    assert 0 <= result.lag_seconds < 60
    store_of(vault).objects.clear()
    replica = reopened(vault, target)
    assert verify_vault(replica, level=Level.CONTENT, record=False).findings == ()
    for name in ("one", "two"):
        restore(replica, replica.find(name, "last-verified"), tmp_path / f"restored-{name}")
        assert differences(tmp_path / name, tmp_path / f"restored-{name}") == []


def test_a_second_run_copies_nothing_and_a_third_only_what_is_new(vault: Vault, tmp_path: Path) -> None:
    target = replica_store()
    execute_replicate(plan_replicate(vault, target))
    second = execute_replicate(plan_replicate(vault, target))
    assert (second.copied_objects, second.copied_bytes, second.lag_seconds) == (0, 0, None)
    snapshot(vault, a_dataset("one", tmp_path / "one", table=a_table(), pattern="*.parquet"))
    third = plan_replicate(vault, target)
    assert [(stage, len(copies)) for stage, copies in third.stages if copies] == [("records", 1)]
    execute_replicate(third)
    assert len(reopened(vault, target).records("one")) == 2


def test_what_refers_is_copied_after_what_it_refers_to(vault: Vault) -> None:
    target = replica_store()
    watched = WatchedStore(target)
    execute_replicate(plan_replicate(vault, watched), workers=4)
    order = [name.partition("/")[0] for _, name in watched.mutations()]
    tables = dict.fromkeys(("profiles", "manifests"), "tables")
    order = [tables.get(kind, kind) for kind in order]
    kinds = ["keys", "vault.json", "packs", "index", "tables", "snapshots", "ledger"]
    assert list(dict.fromkeys(order)) == kinds
    assert {operation for operation, _ in watched.mutations()} == {"create"}, "nothing is replaced or deleted"
    index = [name for _, name in watched.mutations() if name.startswith("index/")]
    assert [name.endswith(".json") for name in index] == sorted(name.endswith(".json") for name in index)


def test_leases_and_files_that_nobody_pins_stay_where_they_are(vault: Vault) -> None:
    for name in (
        "leases/dataset=one/0000000009.json",
        "aside/index/x.json",
        "probe/x",
        "manifests/key=1/stray.parquet",
    ):
        vault.store.put(name, [b"x"])
    target = replica_store()
    execute_replicate(plan_replicate(vault, target))
    assert {name.partition("/")[0] for name in target.names()} == {
        "index",
        "keys",
        "ledger",
        "manifests",
        "packs",
        "profiles",
        "snapshots",
        "vault.json",
    }
    assert "manifests/key=1/stray.parquet" not in target.names()


@pytest.mark.parametrize("kind", ["packs/", "index/", "manifests/", "profiles/"])
def test_a_damaged_object_is_left_out_and_keeps_nothing_else_from_the_replica(
    vault: Vault, tmp_path: Path, kind: str
) -> None:
    """It is of one of the two datasets, whichever has the lower digest: the other one restores."""
    name = next(name for name in store_of(vault).names(kind) if not name.endswith(".json"))
    data = store_of(vault).get(name)
    store_of(vault).replace(name, data[:-1] + bytes([data[-1] ^ 1]))
    target = replica_store()
    with pytest.raises(Corrupt, match=r"1 objects .* digest"):
        execute_replicate(plan_replicate(vault, target))
    assert name not in target.names()
    replica = reopened(vault, target)
    assert len(replica.records()) == 2
    result = verify_vault(replica, level=Level.CONTENT, record=False)
    hurt = {item.dataset for item in result.findings if item.dataset}
    assert len(hurt) == 1, "the check of the replica names whom it hurts, and nobody else"
    (whole,) = {"one", "two"} - hurt
    restore(replica, replica.find(whole), tmp_path / "back")
    assert differences(tmp_path / whole, tmp_path / "back") == []
    # Mended at the source, it is copied by the next run.
    store_of(vault).replace(name, data)
    execute_replicate(plan_replicate(vault, target))
    assert verify_vault(reopened(vault, target), level=Level.CONTENT, record=False).findings == ()


@pytest.mark.parametrize("kind", ["snapshots/dataset=two/", "ledger/"])
def test_a_record_or_fact_that_nobody_believes_is_left_out(vault: Vault, kind: str) -> None:
    """What is at the replica is never replaced, so a damaged one would stay there for good."""
    name = store_of(vault).names(kind)[0]
    data = store_of(vault).get(name)
    store_of(vault).replace(name, data.replace(b'"kind"', b'"KIND"', 1))
    target = replica_store()
    plan = plan_replicate(vault, target)
    assert plan.left_out == (name,)
    execute_replicate(plan)
    assert name not in target.names()
    assert reopened(vault, target).find("one").seq == 1
    store_of(vault).replace(name, data)
    execute_replicate(plan_replicate(vault, target))
    assert target.names() == store_of(vault).names()


def test_another_vault_s_store_is_refused(vault: Vault) -> None:
    other = replica_store()
    a_vault(other)
    before = dict(other.objects)
    with pytest.raises(Refused, match="holds another vault"):
        plan_replicate(vault, other)
    assert other.objects == before
    with pytest.raises(Refused, match="its own replica"):
        plan_replicate(vault, MemoryStore("test-memory://primary"))


def test_two_objects_of_one_name_and_different_bytes_are_a_conflict(vault: Vault) -> None:
    """Somebody else is copying at the same time: equal bytes are fine, different ones are told."""
    target = replica_store()
    plan = plan_replicate(vault, target)
    names = [copy.name for _, copies in plan.stages for copy in copies]
    target.put(names[0], [store_of(vault).get(names[0])])
    target.put(names[-1], [b"different"])
    with pytest.raises(Conflict, match="differs"):
        execute_replicate(plan)
    assert target.get(names[-1]) == b"different"


def test_copying_needs_no_key_that_reads_content(vault: Vault, keys: NewKeys) -> None:
    target = replica_store()
    copier = Vault.open(vault.store, a_keyring(keys, "verifier"))
    assert not copier.keyring.can_read_content
    execute_replicate(plan_replicate(copier, target))
    assert target.names() == store_of(vault).names()
