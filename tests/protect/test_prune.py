"""Prune: what no record needs goes after the grace, everything else stays, and a vault it does not understand is left
alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from reopen.clock import FixedClock
from reopen.errors import InvalidInput, Refused
from reopen.ids import seeded_random
from reopen.protect.prune.choice import PackToDo, RepackReason
from reopen.protect.prune.prune import GRACE_SECONDS, execute_prune, plan_prune
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import Capabilities
from reopen.vault import SnapshotRecord, Vault, make_keys
from reopen.vault.indexcache import IndexCache
from reopen.vault.indexparts import load_writer_index
from reopen.vault.statements import read_statements
from reopen.vault.tombstones import read_marks
from tests.aged import GRACE, AgedStore, expire, prune, prune_to_the_end
from tests.kit import a_dataset, a_keyring, a_table, a_vault, reopened, restore, snapshot
from tests.trees import differences, grow, some_bytes

KEYS = make_keys(seeded_random(20261122))


def new_vault() -> tuple[AgedStore, Vault]:
    store = AgedStore()
    return store, a_vault(store, keys=KEYS)


def taken(vault: Vault, folder: Path, files: dict[str, bytes | str], name: str = "it") -> SnapshotRecord:
    return snapshot(vault, a_dataset(name, grow(folder, files))).record


def assert_whole(vault: Vault, trees: dict[str, Path], tmp_path: Path) -> None:
    """Every snapshot restores to its tree, and a check of the content finds nothing."""
    assert {record.id for record in vault.records()} == set(trees)
    result = verify_vault(vault, level=Level.CONTENT, record=False)
    assert result.findings == ()
    for record in vault.records():
        target = tmp_path / f"restored-{len(list(tmp_path.iterdir()))}"
        restore(vault, record, target)
        assert differences(trees[record.id], target) == []


def kinds(store: AgedStore) -> dict[str, int]:
    """How many objects of each kind there are, leaving the ledger out."""
    found: dict[str, int] = {}
    for name in store.names():
        kind = name.partition("/")[0]
        if kind != "ledger":
            found[kind] = found.get(kind, 0) + 1
    return found


def test_what_an_expired_snapshot_alone_needed_goes_after_the_grace(tmp_path: Path) -> None:
    store, vault = new_vault()
    kept = taken(vault, tmp_path / "kept", {"a": some_bytes(70_000, 1)})
    alone = kinds(store), sum(len(data) for data, _ in store.objects.values())
    packs = -len(store.names("packs/"))
    gone = taken(vault, tmp_path / "gone", {"b": some_bytes(90_000, 2)}, "other")
    packs += len(store.names("packs/"))
    expire(vault, [gone])
    store.later()
    plan = plan_prune(vault)
    assert {choice.todo for choice in plan.packs} == {PackToDo.KEEP, PackToDo.DELETE}
    before = set(store.objects)
    first = execute_prune(plan)
    assert (first.freed_bytes, first.removed_objects) == (0, 0)
    assert set(store.objects) - before == set(store.names("tombstones/")), "marking removes nothing"
    assert first.marked_packs == packs
    assert first.marked_tables == 1
    assert first.due_at is not None
    assert abs(first.due_at - store.now() - GRACE) < timedelta(minutes=1)
    store.later(GRACE - timedelta(minutes=5))
    assert prune(vault).freed_bytes == 0, "the grace is not over"
    store.later(timedelta(minutes=6))
    second = prune(vault)
    assert second.removed_packs == packs
    assert second.freed_bytes > 90_000
    assert (second.marked_packs, second.due_at, second.waiting_for) == (0, None, ())
    assert kinds(store) == alone[0]
    left = sum(len(store.get(name)) for name in store.names() if not name.startswith("ledger/"))
    assert left == alone[1], "nothing is left over, and nothing that stays was touched"
    assert_whole(vault, {kept.id: tmp_path / "kept"}, tmp_path)


def test_a_vault_where_nothing_expired_is_left_as_it_is(tmp_path: Path) -> None:
    store, vault = new_vault()
    record = taken(vault, tmp_path / "a", {"a": some_bytes(70_000, 1), "b": b"x"})
    store.later()
    before = dict(store.objects)
    result = prune(vault)
    assert store.objects == before
    assert (result.marked_packs, result.freed_bytes, result.repacked_packs) == (0, 0, 0)
    assert_whole(vault, {record.id: tmp_path / "a"}, tmp_path)


def test_what_is_younger_than_the_grace_is_left_alone(tmp_path: Path) -> None:
    store, vault = new_vault()
    expire(vault, [taken(vault, tmp_path / "a", {"a": some_bytes(70_000, 1)})])
    assert prune(vault).marked_packs == 0
    store.later()
    assert prune(vault).marked_packs == len(store.names("packs/"))


def shared_and_not(tmp_path: Path, vault: Vault) -> tuple[SnapshotRecord, SnapshotRecord]:
    """Two snapshots of one dataset, both with half of the first's content."""
    files = {f"{number:02}": some_bytes(6_000, number) for number in range(16)}
    first = taken(vault, tmp_path / "first", dict(files))
    rest = {name: content for number, (name, content) in enumerate(files.items()) if number % 2}
    second = taken(vault, tmp_path / "second", dict(rest))
    return first, second


def test_partly_needed_packs_are_repacked_and_their_waste_is_freed(tmp_path: Path) -> None:
    store, vault = new_vault()
    first, second = shared_and_not(tmp_path, vault)
    expire(vault, [first])
    store.later()
    packs_before = store.names("packs/")
    plan = plan_prune(vault)
    chosen = plan.chosen(PackToDo.REPACK)
    assert {choice.reason for choice in chosen} == {RepackReason.WASTE}
    assert [choice.waste for choice in chosen] == sorted((choice.waste for choice in chosen), reverse=True)
    result = execute_prune(plan)
    assert result.repacked_packs == len(chosen)
    assert 8 * 6_000 <= result.repacked_bytes < 8 * 6_000 + 4_000
    assert_whole(vault, {second.id: tmp_path / "second"}, tmp_path)
    prune_to_the_end(vault, store)
    assert not set(packs_before) & set(store.names("packs/"))
    assert sum(store.head(name).size_bytes for name in store.names("packs/")) < 8 * 6_000 + 8_000
    assert_whole(vault, {second.id: tmp_path / "second"}, tmp_path)
    assert plan_prune(vault).unused_bytes == 0


def test_moving_needs_no_key_that_reads_content_and_removing_needs_only_the_retention_key(tmp_path: Path) -> None:
    store, vault = new_vault()
    first, second = shared_and_not(tmp_path, vault)
    expire(vault, [first])
    keeper = Vault.open(store, a_keyring(KEYS, "retention"))
    prune_to_the_end(keeper, store)
    assert_whole(vault, {second.id: tmp_path / "second"}, tmp_path)
    assert store.names("tombstones/") == []


@pytest.mark.parametrize("roles", [("writer",), ("writer", "verifier", "recovery")])
def test_without_the_retention_key_nothing_is_marked_or_removed(tmp_path: Path, roles: tuple[str, ...]) -> None:
    store, vault = new_vault()
    expire(vault, [taken(vault, tmp_path / "a", {"a": some_bytes(70_000, 1)})])
    store.later()
    before = dict(store.objects)
    with pytest.raises(Refused, match="needs a retention key"):
        prune(Vault.open(store, a_keyring(KEYS, *roles)))
    assert store.objects == before


def test_a_store_without_exclusive_create_is_never_pruned(tmp_path: Path) -> None:
    class Careless(AgedStore):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(exclusive_create=False)

    store, vault = new_vault()
    expire(vault, [taken(vault, tmp_path / "a", {"a": some_bytes(70_000, 1)})])
    store.later()
    before = dict(store.objects)
    with pytest.raises(Refused, match="exclusive create"):
        prune(reopened(vault, Careless(objects=store.objects, ahead=store.ahead)))
    assert store.objects == before


@pytest.mark.parametrize("options", [{"grace_seconds": 60}, {"grace_seconds": 0}, {"max_unused_share": -0.1}], ids=str)
def test_numbers_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    _, vault = new_vault()
    with pytest.raises(InvalidInput):
        plan_prune(vault, **options)  # type: ignore[arg-type]


def test_the_cost_of_repacking_is_bounded_and_the_most_wasteful_go_first(tmp_path: Path) -> None:
    store, vault = new_vault()
    files = {f"{number:02}": some_bytes(6_000, number) for number in range(24)}
    first = taken(vault, tmp_path / "first", dict(files))
    # Of the packs' files few stay at the beginning and more at the end.
    rest = {name: content for number, (name, content) in enumerate(files.items()) if number % 12 >= 12 - number // 2}
    taken(vault, tmp_path / "second", dict(rest))
    expire(vault, [first])
    store.later()
    unbounded = plan_prune(vault).chosen(PackToDo.REPACK)
    assert len(unbounded) >= 2
    bounded = plan_prune(vault, repack_max_bytes=40_000).chosen(PackToDo.REPACK)
    assert bounded == unbounded[:1]
    assert plan_prune(vault, repack_max_bytes=0).chosen(PackToDo.REPACK) == ()
    assert plan_prune(vault, max_unused_share=50.0).chosen(PackToDo.REPACK) == ()
    result = prune(vault, repack_max_bytes=40_000)
    assert result.repacked_packs == 1


def test_small_packs_of_one_writer_are_joined(tmp_path: Path) -> None:
    store, vault = new_vault()
    trees = {}
    files: dict[str, bytes | str] = {}
    for number in range(9):
        files[f"{number}"] = some_bytes(2_000, number)
        trees[taken(vault, tmp_path / f"tree{number}", dict(files)).id] = tmp_path / f"tree{number}"
    assert len(store.names("packs/")) == 9
    store.later()
    plan = plan_prune(vault)
    assert {choice.reason for choice in plan.chosen(PackToDo.REPACK)} == {RepackReason.SMALL}
    prune_to_the_end(vault, store)
    assert len(store.names("packs/")) == 1
    assert len(read_statements(vault)) == 1
    assert_whole(vault, trees, tmp_path)


def test_profiles_and_manifests_that_records_share_stay_until_the_last_of_them_goes(tmp_path: Path) -> None:
    store, vault = new_vault()
    folder = grow(tmp_path / "a", {"t.csv": "x\n1\n"})
    dataset = a_dataset("it", folder, table=a_table(), pattern="*.csv")
    first, second = snapshot(vault, dataset).record, snapshot(vault, dataset).record
    third = snapshot(vault, dataset)
    assert third.reused_manifest
    expire(vault, [first, second])
    prune_to_the_end(vault, store)
    assert len(store.names("manifests/")) == len(vault.records()[0].manifest.parts)
    assert_whole(vault, {third.record.id: folder}, tmp_path)
    expire(vault, [third.record])
    prune_to_the_end(vault, store)
    assert store.names("manifests/") + store.names("profiles/") + store.names("packs/") + store.names("index/") == []


def test_a_writer_goes_on_reusing_its_own_chunks_after_they_moved(tmp_path: Path) -> None:
    """Retention signs the new part; its origin is what counts, also in the writer's own memory of the index."""
    store, vault = new_vault()
    first, _ = shared_and_not(tmp_path, vault)
    cache = IndexCache(tmp_path / "cache")
    own = vault.keyring.signer("writer").id
    load_writer_index(vault, trusted=lambda writer, digest: writer == own, cache=cache)
    expire(vault, [first])
    prune_to_the_end(vault, store)
    assert {item.origin for item in read_statements(vault)} == {own}
    assert {item.writer for item in read_statements(vault)} == {vault.keyring.signer("retention").id}
    again = snapshot(vault, a_dataset("copy", tmp_path / "second"))
    assert again.record.totals.new_raw_bytes == 0
    index = load_writer_index(vault, trusted=lambda writer, digest: writer == own, cache=cache)
    assert len(index) == len(load_writer_index(vault, trusted=lambda *_: True, cache=None))
    fresh = snapshot(vault, a_dataset("back", tmp_path / "first"))
    assert fresh.record.totals.new_raw_bytes == 8 * 6_000, "what was pruned does not appear from the cache"


def test_a_restore_that_was_planned_before_the_mark_and_one_after_it_both_work(tmp_path: Path) -> None:
    from reopen.recover.restore import execute_restore, plan_restore

    store, vault = new_vault()
    first, second = shared_and_not(tmp_path, vault)
    before = plan_restore(vault, second, str(tmp_path / "before"))
    expire(vault, [first])
    store.later()
    prune(vault)
    after = plan_restore(vault, second, str(tmp_path / "after"))
    execute_restore(before, workers=1)
    store.later()
    assert prune(vault).removed_packs > 0
    execute_restore(after, workers=1)
    assert differences(tmp_path / "second", tmp_path / "before") == []
    assert differences(tmp_path / "second", tmp_path / "after") == []


def test_waiting_prunes_in_one_go(tmp_path: Path) -> None:
    """The pauses pass on both clocks; no time of the machine passes."""
    store = AgedStore()
    clock = FixedClock()
    vault = Vault.open(store, a_vault(store, keys=KEYS).keyring, clock=clock)
    expire(vault, [taken(vault, tmp_path / "a", {"a": some_bytes(70_000, 1)})])
    store.later()

    def pause(seconds: float) -> None:
        store.later(timedelta(seconds=seconds))
        clock.advance(timedelta(seconds=seconds))

    packs = len(store.names("packs/"))
    result = execute_prune(plan_prune(vault), wait_seconds=GRACE_SECONDS + 600, pause=pause)
    assert (result.marked_packs, result.removed_packs, result.due_at) == (packs, packs, None)
    assert store.names("packs/") == []


@pytest.mark.parametrize("jump", [timedelta(days=1), timedelta(days=-1)], ids=["ahead", "behind"])
def test_the_clock_of_the_machine_decides_nothing(tmp_path: Path, jump: timedelta) -> None:
    store = AgedStore()
    clock = FixedClock()
    vault = Vault.open(store, a_vault(store, keys=KEYS).keyring, clock=clock)
    expire(vault, [taken(vault, tmp_path / "a", {"a": some_bytes(70_000, 1)})])
    packs = len(store.names("packs/"))
    clock.advance(jump)
    assert prune(vault).marked_packs == 0, "young by the store's clock"
    store.later()
    assert prune(vault).marked_packs == packs
    clock.advance(jump)
    assert prune(vault).removed_packs == 0, "not due by the store's clock"
    store.later()
    clock.advance(-2 * jump)
    assert prune(vault).removed_packs == packs


def test_leftovers_of_crashes_go_when_they_are_old(tmp_path: Path) -> None:
    store, vault = new_vault()
    record = taken(vault, tmp_path / "a", {"a": some_bytes(20_000, 1)})
    store.put("index/0123456789abcdef-0000.parquet", [b"its statement never came"])
    store.put("probe/clock-0123456789abcdef", [b"now"])
    store.put("packs/ab/" + "ab" * 32, [b"no part lists it"])
    store.put(f"manifests/key=1/dataset=it/snapshot={'ab' * 8}/part-00000.parquet", [b"no record names it"])
    store.put("aside/index/x.json", [b"taken out of the way by repair"])
    before = set(store.objects)
    prune(vault)
    assert set(store.objects) == before, "they are young"
    prune_to_the_end(vault, store)
    gone = before - set(store.objects)
    assert {name.partition("/")[0] for name in gone} == {"index", "probe", "packs", "manifests"}
    assert len(gone) == 4
    assert read_marks(vault).packs == frozenset()
    assert_whole(vault, {record.id: tmp_path / "a"}, tmp_path)
