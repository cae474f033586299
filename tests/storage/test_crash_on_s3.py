"""The crash suite on S3: every verb that changes a vault dies after its changes, through the real client, on a server
that keeps to S3's rules (moto).

``tests/crash`` tries every point of these verbs in memory, before and after each change. On the server a point costs a
second or two, so an ordinary run tries :data:`POINTS_MAX` of each verb, spread from its first change to its last; the
soak tries them all. Snapshot and replicate are in ``test_crash_on_servers.py``, at all of their points.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.clock import SYSTEM_CLOCK
from reopen.contracts import RetentionRule
from reopen.errors import Conflict, NotFound
from reopen.protect.place import vault_at
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.retain.holds import place_hold
from reopen.protect.retain.retain import execute_retain, plan_retain
from reopen.protect.retain.stubs import read_stubs
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import ObjectStore
from reopen.vault import Vault, create_vault, packwriter
from tests import proof
from tests.aged import AgedStore, prune, prune_to_the_end
from tests.crash.crashes import Trees, small_vault
from tests.crash.test_keys import CHANGES, converged, every_key_opens
from tests.crash.test_prune import nothing_left_over, used_vault
from tests.kit import EVERY_ROLE, SMALL, a_dataset, a_keyring, reopened, snapshot
from tests.protect.histories import a_history
from tests.protect.keyed import KEYS, Keyed
from tests.storage.dying import Elapsed, Place, buckets, die_at
from tests.stores import MemoryStore
from tests.trees import grow, some_bytes

POINTS_MAX = 3
"""Of each verb in an ordinary run: the first change, the last, and one between."""

FILES = {"a": some_bytes(30_000, 1), "b/c": some_bytes(3_000, 2)}
how_many = pytest.mark.parametrize(
    "points_max", [POINTS_MAX, pytest.param(None, marks=pytest.mark.soak)], ids=["some", "every point"]
)


@pytest.fixture
def place(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 2)
    return buckets(s3_endpoint, monkeypatch)


@how_many
def test_a_vault_whose_making_dies_is_none_or_whole(place: Place, points_max: int | None) -> None:
    def operate(store: ObjectStore) -> None:
        try:
            create_vault(store, KEYS, created_at=SYSTEM_CLOCK.now(), parameters=SMALL)
        except Conflict:
            assert "vault.json" in {info.name for info in store.list()}

    def check(store: MemoryStore, finished: bool) -> None:
        if "vault.json" not in store.names():
            assert not finished
            with pytest.raises(NotFound):
                Vault.open(store, a_keyring(KEYS, *EVERY_ROLE))
            return
        for role in ("recovery", "root", "writer"):
            assert Vault.open(store, a_keyring(KEYS, role)).roots == KEYS.roots

    tried = die_at(place, None, operate, check, points_max=points_max)
    assert tried >= POINTS_MAX
    proof.count("crash points on S3", tried)


@how_many
def test_retention_that_dies_keeps_what_stays_and_is_finished_by_the_next(
    place: Place, tmp_path: Path, points_max: int | None
) -> None:
    rules = {"it": RetentionRule(last=2)}
    base, vault = small_vault()
    history = a_history(vault, tmp_path / "it", [9, 8, 7, 1])
    trees = Trees(tmp_path)
    for record in history:
        trees.expect(record, tmp_path / "it")
    place_hold(vault, "it", history[1], "case 4711")
    staying = {record.name for record in (history[1], *history[-2:])}

    def operate(store: ObjectStore) -> None:
        assert execute_retain(plan_retain(reopened(vault, store), rules)).failed == {}

    def check(store: MemoryStore, finished: bool) -> None:
        now, present = reopened(vault, store), set(store.names("snapshots/"))
        going = {record.name for record in history} - staying
        assert staying <= present <= staying | going
        assert going - present <= read_stubs(now).keys() <= going
        trees.check(now)
        assert not finished or present == staying

    tried = die_at(place, base, operate, check, points_max=points_max)
    assert tried >= POINTS_MAX
    proof.count("crash points on S3", tried)


@how_many
@pytest.mark.parametrize("phase", ["mark", "sweep"])
def test_a_prune_that_dies_loses_nothing_and_is_finished_later(
    place: Place, tmp_path: Path, points_max: int | None, phase: str
) -> None:
    base, vault, trees = used_vault(tmp_path)
    if phase == "sweep":
        prune(vault)
        base.later()
    # A server tells time in whole seconds.
    base.later(timedelta(minutes=1))

    def operate(store: ObjectStore) -> None:
        prune(reopened(vault, Elapsed(store, base)), max_unused_share=0)

    def take(store: ObjectStore) -> MemoryStore:
        return Elapsed(store, base).in_memory()

    def check(store: MemoryStore, finished: bool) -> None:
        trees.check(reopened(vault, store))
        if finished:
            assert isinstance(store, AgedStore)
            for name in store.names("probe/"):
                # The dead process was asking the server; the next sweep that has something to do removes it.
                store.delete(name)
            prune_to_the_end(reopened(vault, store), store)
            trees.check(reopened(vault, store))
            nothing_left_over(reopened(vault, store))

    tried = die_at(place, base, operate, check, points_max=points_max, take=take)
    assert tried >= POINTS_MAX
    proof.count("crash points on S3", tried)


def flip(store: MemoryStore, name: str) -> None:
    data = bytearray(store.get(name))
    data[len(data) // 2] ^= 1
    store.replace(name, bytes(data))


@how_many
def test_a_repair_of_the_index_that_dies_is_finished_by_the_next(
    place: Place, tmp_path: Path, points_max: int | None
) -> None:
    """One part's rows are gone and another's statement is damaged: nothing else is touched, and what leaves the index
    lies aside."""
    source = grow(tmp_path / "source", FILES)
    base, vault = small_vault()
    trees = Trees(tmp_path)
    trees.expect(snapshot(vault, a_dataset("it", source)).record, source)
    flip(base, [name for name in base.names("index/") if name.endswith(".json")][-1])
    base.delete(next(name for name in base.names("index/") if name.endswith(".parquet")))
    kept = {name: base.get(name) for name in base.names() if not name.startswith("index/")}
    index = {name: base.get(name) for name in base.names("index/")}

    def operate(store: ObjectStore) -> None:
        execute_repair(plan_repair(reopened(vault, store)))

    def check(store: MemoryStore, finished: bool) -> None:
        assert kept.items() <= {name: store.get(name) for name in store.names()}.items()
        for name, data in index.items():
            assert data in (store.objects.get(name, (b"",))[0], store.objects.get(f"aside/{name}", (b"",))[0])
        if finished:
            trees.check(reopened(vault, store))
            assert plan_repair(reopened(vault, store)).is_empty

    tried = die_at(place, base, operate, check, points_max=points_max)
    assert tried >= POINTS_MAX
    proof.count("crash points on S3", tried)


@how_many
def test_a_repair_from_a_replica_that_dies_destroys_nothing_and_is_finished_by_the_next(
    place: Place, tmp_path: Path, points_max: int | None
) -> None:
    """One object of each kind is damaged and one is gone; the replica is whole."""
    source = grow(tmp_path / "source", FILES)
    base, vault = small_vault()
    trees = Trees(tmp_path)
    trees.expect(snapshot(vault, a_dataset("it", source)).record, source)
    verify_vault(vault, level=Level.CONTENT)
    target = MemoryStore("test-memory://replica")
    execute_replicate(plan_replicate(vault, target))
    replica = reopened(vault, target)
    whole = {name: base.get(name) for name in base.names()}
    for kind in ("packs/", "index/", "manifests/", "snapshots/"):
        names = base.names(kind)
        flip(base, names[0])
        base.delete(names[-1]) if len(names) > 1 else None
    damaged = {name: base.get(name) for name in base.names() if base.get(name) != whole[name]}

    def operate(store: ObjectStore) -> None:
        execute_repair(plan_repair(vault_at(replica, store), replica))

    def check(store: MemoryStore, finished: bool) -> None:
        for name, data in damaged.items():
            assert data in (store.objects.get(name, (b"",))[0], store.objects.get(f"aside/{name}", (b"",))[0])
        there = {name: store.get(name) for name in store.names() if not name.startswith("aside/")}
        assert all(data in (whole[name], damaged.get(name)) for name, data in there.items())
        if finished:
            assert there == whole
            trees.check(reopened(vault, store))

    tried = die_at(place, base, operate, check, points_max=points_max)
    assert tried >= POINTS_MAX
    proof.count("crash points on S3", tried)


@how_many
@pytest.mark.parametrize("name", ["add a writer", "rotate the writer", "rotate the metadata key"])
def test_a_change_of_keys_that_dies_leaves_every_key_of_use(
    place: Place, tmp_path: Path, points_max: int | None, name: str
) -> None:
    change, _ = CHANGES[name]
    keyed = Keyed(folder=tmp_path)
    record = keyed.snapshot(keyed.dataset())

    def operate(store: ObjectStore) -> None:
        change(keyed, store)

    def check(store: MemoryStore, finished: bool) -> None:
        every_key_opens(keyed, store)
        vault = keyed.open("recovery", store=store)
        assert [item.id for item in vault.records()] == [record.id]
        assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()
        if finished:
            converged(keyed, store, change)
            shutil.rmtree(keyed.keys("new"), ignore_errors=True)

    def before_each() -> Callable[[], ObjectStore]:
        # Key files of the run before belong to its store alone.
        shutil.rmtree(keyed.keys("new"), ignore_errors=True)
        return place()

    tried = die_at(before_each, keyed.store, operate, check, points_max=points_max)
    assert tried > 0
    proof.count("crash points on S3", tried)
