"""Samples read the least recently verified first and remember; what they claim is no more than what was read."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reopen.clock import FixedClock
from reopen.errors import InvalidInput
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.stored import Budget, digest_of
from reopen.protect.verify.coverage import CLAIM_WINDOW, ReadNotes, coverage_of, read_times
from reopen.protect.verify.verify import Level, PackFindings, PackGroup, Sample, check_packs, group_packs, verify_vault
from reopen.storage import open_store
from reopen.vault import Keyring, NewKeys, Vault, load_keyring, make_keys
from reopen.vault.statements import list_packs
from tests.kit import a_dataset, a_keyring, a_vault, reopened, save_keys, snapshot
from tests.stores import MemoryStore, SimulatedCrash, WatchedStore
from tests.trees import age, grow, some_bytes

DAY = timedelta(days=1)


@pytest.fixture
def keys() -> NewKeys:
    return make_keys()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 1, tzinfo=UTC))


@pytest.fixture
def vault(tmp_path: Path, keys: NewKeys, clock: FixedClock) -> Vault:
    """About ten packs, of two datasets."""
    vault = a_vault(MemoryStore("test-memory://here"), keys=keys, clock=clock)
    snapshot(vault, a_dataset("it", grow(tmp_path / "it", {"large": some_bytes(250_000, 1)})))
    snapshot(vault, a_dataset("other", grow(tmp_path / "other", {"alone": some_bytes(60_000, 2)})))
    return vault


def packs_read(watched: WatchedStore) -> list[str]:
    return [name for operation, name in watched.calls if operation.startswith("get") and name.startswith("packs/")]


def sampled(vault: Vault, sample: Sample, level: Level = Level.STORED) -> list[str]:
    """The packs that a sample reads, each once."""
    watched = WatchedStore(vault.store)
    result = verify_vault(reopened(vault, watched), level=level, sample=sample, workers=1)
    assert result.findings == ()
    names = packs_read(watched)
    assert len(names) == len(set(names))
    return names


def test_samples_one_after_the_other_read_everything_before_they_read_anything_twice(
    vault: Vault, clock: FixedClock
) -> None:
    every = {f"packs/{pack.hex()[:2]}/{pack.hex()}" for pack in list_packs(vault)}
    assert len(every) > 8
    seen: list[str] = []
    last_day: dict[str, int] = {}
    for day in range(8):
        clock.advance(DAY)
        read = sampled(vault, Sample(share=0.2))
        if len(seen) >= len(every):
            # From now on it begins with what it read the longest ago.
            assert last_day[read[0]] == min(last_day.values())
        last_day |= dict.fromkeys(read, day)
        seen += read
    assert len(seen) > len(every)
    assert set(seen[: len(every)]) == every


def test_a_check_of_everything_is_remembered_too(vault: Vault, clock: FixedClock) -> None:
    verify_vault(vault, level=Level.STORED)
    packs = list_packs(vault)
    assert read_times(vault, packs, now=clock.now()) == dict.fromkeys(packs, clock.now())
    clock.advance(DAY)
    assert sampled(vault, Sample(older_than=2 * DAY)) == []
    assert len(sampled(vault, Sample(older_than=DAY))) == len(packs)


def test_a_damaged_pack_stays_first_in_line(vault: Vault, clock: FixedClock) -> None:
    verify_vault(vault, level=Level.STORED)
    store = vault.store
    assert isinstance(store, MemoryStore)
    name = store.names("packs/")[3]
    data = store.get(name)
    store.replace(name, data[:100] + bytes([data[100] ^ 1]) + data[101:])
    clock.advance(DAY)
    verify_vault(vault, level=Level.STORED)
    clock.advance(DAY)
    for _ in range(2):
        result = verify_vault(vault, level=Level.STORED, sample=Sample(bytes_max=1))
        assert {finding.object for finding in result.findings if finding.object.startswith("packs/")} <= {name}
        times = read_times(vault, list_packs(vault), now=clock.now())
        assert times[bytes.fromhex(name.rpartition("/")[2])] == clock.now() - 2 * DAY
    assert name in {finding.object for finding in result.findings}


def test_reading_stored_bytes_does_not_count_as_opening_them(vault: Vault, clock: FixedClock) -> None:
    verify_vault(vault, level=Level.STORED)
    packs = list_packs(vault)
    assert len(read_times(vault, packs, now=clock.now(), level=Level.STORED)) == len(packs)
    assert read_times(vault, packs, now=clock.now(), level=Level.CONTENT) == {}
    clock.advance(DAY)
    verify_vault(vault, level=Level.CONTENT)
    assert set(read_times(vault, packs, now=clock.now(), level=Level.STORED).values()) == {clock.now()}


def test_what_was_read_elsewhere_says_nothing_of_this_store(vault: Vault, clock: FixedClock) -> None:
    """The ledger travels to the replica; nobody has read a byte there."""
    verify_vault(vault, level=Level.CONTENT)
    target = MemoryStore("test-memory://there")
    execute_replicate(plan_replicate(vault, target))
    replica = reopened(vault, target)
    assert [fact.body["store"] for fact in replica.facts("read")] == ["test-memory://here"]
    assert coverage_of(replica, list_packs(replica), clock.now()).share(90) == 0
    assert coverage_of(vault, list_packs(vault), clock.now()).share(7) == 1
    verify_vault(replica, level=Level.STORED)
    assert coverage_of(replica, list_packs(replica), clock.now()).share(7) == 1


def test_coverage_is_the_share_of_stored_bytes_read_within_each_window(vault: Vault, clock: FixedClock) -> None:
    packs = list_packs(vault)
    verify_vault(vault, level=Level.STORED)
    clock.advance(20 * DAY)
    names = sampled(vault, Sample(share=0.3))
    read = sum(packs[bytes.fromhex(name.rpartition("/")[2])] for name in names)
    found = coverage_of(vault, packs, clock.now())
    assert found.read_bytes == {7: read, 30: sum(packs.values()), 90: sum(packs.values())}
    assert 0.3 <= found.share(7) < 0.6
    assert found.oldest_read_at == clock.now() - 20 * DAY
    clock.advance(80 * DAY)
    later = coverage_of(vault, packs, clock.now())
    assert later.read_bytes == {7: 0, 30: 0, 90: read}
    assert later.oldest_read_at is None
    empty = coverage_of(vault, {}, clock.now())
    assert (empty.share(7), empty.stored_packs) == (1.0, 0)


def test_a_reader_from_the_future_counts_as_now(vault: Vault, clock: FixedClock) -> None:
    verify_vault(vault, level=Level.STORED)
    packs = list_packs(vault)
    now = clock.now() - DAY
    assert set(read_times(vault, packs, now=now).values()) == {now}


def test_the_memory_is_read_from_its_newest_end(vault: Vault, clock: FixedClock) -> None:
    """Fifty samples and one check of everything: what is older than the last is not opened."""
    for _ in range(50):
        clock.advance(timedelta(hours=1))
        sampled(vault, Sample(bytes_max=1))
    clock.advance(DAY)
    verify_vault(vault, level=Level.STORED)
    watched = WatchedStore(vault.store)
    coverage_of(reopened(vault, watched), list_packs(vault), clock.now())
    assert len([name for operation, name in watched.calls if name.startswith("ledger/") and operation == "get"]) == 1


def test_a_hundred_thousand_packs_fit_into_documents(vault: Vault, clock: FixedClock) -> None:
    from blake3 import blake3

    packs = {blake3(number.to_bytes(4, "little")).digest(): 1 for number in range(100_000)}
    notes = ReadNotes(vault, Level.STORED)
    for pack in packs:
        notes.add(pack, clock.now())
    notes.write()
    assert notes.facts == 7
    assert all(info.size_bytes < 1 << 20 for info in vault.store.list("ledger/read/"))
    assert coverage_of(vault, packs, clock.now()).share(7) == 1


def test_an_interrupted_check_remembers_what_it_read(vault: Vault, clock: FixedClock) -> None:
    """Ctrl-C in the middle: the next sample goes on with the rest."""
    left = [4]

    def interrupt(moment: str, operation: str, name: str) -> None:
        if operation == "get" and name.startswith("packs/"):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_vault(reopened(vault, WatchedStore(vault.store, interrupt)), level=Level.STORED, workers=1)
    assert len(read_times(vault, list_packs(vault), now=clock.now())) == 4


def test_long_reading_is_written_down_while_it_goes_on(vault: Vault, clock: FixedClock) -> None:
    def slow(moment: str, operation: str, name: str) -> None:
        if operation == "get" and name.startswith("packs/"):
            clock.advance(timedelta(minutes=4))

    def one_after_the_other(groups: Sequence[PackGroup]) -> Iterable[PackFindings]:
        for group in groups:
            for pack in group.packs:
                yield check_packs(watched, PackGroup(level=group.level, packs=(pack,)))

    started = clock.now()
    watched = reopened(vault, WatchedStore(vault.store, slow))
    verify_vault(watched, level=Level.STORED, check_groups=one_after_the_other)
    facts = vault.facts("read")
    assert len(facts) > 2
    since = [datetime.fromisoformat(fact.body["since"]) for fact in facts]
    assert since[0] == started, "a pack counts from when its reading began"
    assert since == sorted(since)


def test_without_the_verifier_s_key_nothing_is_remembered(vault: Vault, keys: NewKeys, clock: FixedClock) -> None:
    blind = Vault.open(vault.store, a_keyring(keys, "writer"), clock=clock)
    assert verify_vault(blind, level=Level.STORED, sample=Sample(share=0.5)).facts == 0
    assert vault.facts("read") == []


def test_a_sample_claims_no_snapshot_until_all_its_packs_were_read(vault: Vault, clock: FixedClock) -> None:
    claims: dict[str, str] = {}
    for _ in range(12):
        clock.advance(DAY)
        sampled(vault, Sample(share=0.2))
        packs = list_packs(vault)
        times = read_times(vault, packs, now=clock.now())
        for fact in vault.facts("verified"):
            assert (fact.body["level"], fact.body["result"]) == ("stored", "ok")
            claims.setdefault(fact.dataset, fact.body["read_since"])
        if len(times) < len(packs):
            assert len(claims) < 2
    assert set(claims) == {"it", "other"}
    assert len(vault.facts("verified")) == 2, "what is said already is not said again every night"
    assert vault.find("it", "last-verified").dataset == "it"


def test_what_was_read_too_long_ago_is_not_claimed(vault: Vault, clock: FixedClock) -> None:
    half = Sample(share=0.5)
    sampled(vault, half)
    clock.advance(CLAIM_WINDOW + DAY)
    sampled(vault, half)
    assert [fact.dataset for fact in vault.facts("verified")] in ([], ["other"])
    sampled(vault, Sample(older_than=DAY))
    assert {fact.dataset for fact in vault.facts("verified")} == {"it", "other"}


def test_damage_that_a_sample_finds_takes_an_earlier_proof_back(vault: Vault, clock: FixedClock) -> None:
    verify_vault(vault, level=Level.STORED)
    store = vault.store
    assert isinstance(store, MemoryStore)
    for name in store.names("packs/"):
        data = store.get(name)
        store.replace(name, data[:-1] + bytes([data[-1] ^ 1]))
    clock.advance(DAY)
    result = verify_vault(vault, level=Level.STORED, sample=Sample(bytes_max=1))
    assert len([item for item in result.findings if item.object.startswith("packs/")]) == 1
    newest = vault.facts("verified")[-1]
    assert newest.body["result"] == "damaged"
    assert newest.dataset in {verdict.dataset for verdict in result.snapshots if not verdict.intact}


def test_a_check_of_one_dataset_names_no_missing_pack_of_another(vault: Vault) -> None:
    record = vault.find("other")
    from reopen.vault.statements import read_statement

    packs = {pack for part in record.indexes for pack in read_statement(vault, part.name).packs}
    for pack in packs:
        vault.store.delete(f"packs/{pack[:2]}/{pack}")
    for level in Level:
        assert verify_vault(vault, level=level, datasets=["it"], record=False).ok
        result = verify_vault(vault, level=level, datasets=["other"], record=False)
        assert {f"packs/{pack[:2]}/{pack}" for pack in packs} <= {finding.object for finding in result.findings}


def test_a_check_of_one_dataset_proves_only_the_index_parts_that_it_read_whole(vault: Vault) -> None:
    verify_vault(vault, level=Level.CONTENT, datasets=["it"])
    proven = {digest for fact in vault.facts("verified") for digest in fact.body["proven_indexes"]}
    of = {record.dataset: {part.digest for part in record.indexes} for record in vault.records()}
    assert of["it"] <= proven
    assert not of["other"] & proven


@given(
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=30),
    share=st.floats(0.01, 1),
    read=st.dictionaries(st.integers(0, 29), st.integers(0, 60)),
)
def test_a_sample_is_the_oldest_and_just_enough(sizes: list[int], share: float, read: dict[int, int]) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    packs = {bytes([number]) * 32: size for number, size in enumerate(sizes)}
    times = {bytes([number]) * 32: now - days * DAY for number, days in read.items() if number < len(sizes)}
    chosen = Sample(share=share).choose(packs, times, now)
    assert sum(chosen.values()) >= share * sum(sizes)
    assert sum(chosen.values()) - list(chosen.values())[-1] < share * sum(sizes)
    oldest = datetime.min.replace(tzinfo=UTC)
    left = [times.get(pack, oldest) for pack in packs if pack not in chosen]
    assert max((times.get(pack, oldest) for pack in chosen), default=oldest) <= min(left, default=now)


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.5}, {"bytes_max": 0}])
def test_a_sample_of_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        Sample(**wrong)  # type: ignore[arg-type]


def check_elsewhere(url: str, keys: Path, group: PackGroup) -> PackFindings:
    """What a worker of a process pool does: it opens the vault by itself."""
    return check_packs(Vault.open(open_store(url), load_keyring(keys)), group)


@pytest.mark.parametrize("level", [Level.STORED, Level.CONTENT])
def test_groups_are_checked_in_other_processes_with_the_same_result(
    tmp_path: Path, keys: NewKeys, level: Level
) -> None:
    vault = a_vault(open_store(str(tmp_path / "vault")), keys=keys)
    save_keys(keys, tmp_path / "keys")
    snapshot(vault, a_dataset("it", grow(tmp_path / "it", {"large": some_bytes(250_000, 1)})))
    name = max(vault.store.list("packs/"), key=lambda info: info.size_bytes).name
    data = vault.store.get(name)
    vault.store.put(name, [data[:9000] + bytes([data[9000] ^ 1]) + data[9001:]])
    here = verify_vault(vault, level=level, record=False)

    def elsewhere(groups: Sequence[PackGroup]) -> Iterable[PackFindings]:
        assert pickle.loads(pickle.dumps(groups)) == groups
        work = partial(check_elsewhere, vault.store.url, tmp_path / "keys")
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            yield from pool.map(work, groups)

    there = verify_vault(vault, level=level, record=False, check_groups=elsewhere)
    assert there.findings == here.findings != ()
    assert there.checked_bytes == here.checked_bytes


def test_groups_hold_every_pack_once_and_no_more_than_they_should() -> None:
    packs = {bytes([number]) * 32: 10 + number for number in range(20)}
    groups = group_packs(packs, Level.STORED, bytes_max=60)
    assert [pack for group in groups for pack in group.packs] == list(packs.items())
    assert all(group.size_bytes <= 60 for group in groups)
    assert len(group_packs(packs, Level.STORED, bytes_max=0)) == 20
    assert group_packs({}, Level.STORED) == []


def test_a_pack_that_prune_took_away_meanwhile_is_not_lost(vault: Vault, tmp_path: Path) -> None:
    """It is there when it is listed and gone when it is read; a statement of another pack covers its chunks."""
    from reopen.vault.indexparts import list_packs as listed
    from reopen.vault.statements import read_statements

    statement = next(
        item for item in read_statements(vault) if item.part.name in {part.name for part in vault.find("other").indexes}
    )
    record = vault.find("other")

    store = vault.store
    assert isinstance(store, MemoryStore)

    def prune(moment: str, operation: str, name: str) -> None:
        if operation.startswith("get") and name.startswith("packs/") and record.name in store.objects:
            # Retention and prune in one moment: record, statement, rows, packs.
            for gone in (record.name, statement.part.name, statement.parquet.name):
                store.delete(gone)
            for pack in statement.packs:
                store.delete(f"packs/{pack[:2]}/{pack}")

    body = {"record": record.digest, "seq": record.seq, "prev": record.prev, "reasons": []}
    vault.record_fact("expired", dataset="other", snapshot=record.id, body=body)
    result = verify_vault(reopened(vault, WatchedStore(store, prune)), level=Level.STORED, record=False, workers=1)
    missing = {finding.object for finding in result.findings if finding.object.startswith("packs/")}
    assert missing == set()
    assert len(listed(vault)) > 0


def test_stored_bytes_are_read_in_pieces_and_never_whole(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    from reopen.protect import stored

    monkeypatch.setattr(stored, "PIECE_BYTES", 1000)
    largest = [0]

    class Measuring(WatchedStore):
        def get(self, name: str) -> bytes:
            data = super().get(name)
            largest[0] = max(largest[0], len(data) if name.startswith("packs/") else 0)
            return data

        def get_range(self, name: str, start: int, length: int) -> bytes:
            largest[0] = max(largest[0], length)
            return super().get_range(name, start, length)

    assert verify_vault(reopened(vault, Measuring(vault.store)), level=Level.STORED, record=False).ok
    assert 0 < largest[0] <= 1000
    (name, *_) = [info.name for info in vault.store.list("packs/")]
    assert digest_of(vault.store, name, len(vault.store.get(name))) == name.rpartition("/")[2]


def test_a_budget_lets_a_larger_object_through_alone() -> None:
    budget = Budget(10)
    with budget.hold(100):
        pass
    with budget.hold(4), budget.hold(6):
        pass


def test_a_read_fact_that_is_damaged_proves_nothing(vault: Vault, clock: FixedClock) -> None:
    verify_vault(vault, level=Level.STORED)
    (info,) = vault.store.list("ledger/read/")
    store = vault.store
    assert isinstance(store, MemoryStore)
    store.replace(info.name, store.get(info.name).replace(b'"stored"', b'"conten"'))
    assert coverage_of(vault, list_packs(vault), clock.now()).share(90) == 0
    assert info.name in {finding.object for finding in verify_vault(vault, record=False).findings}


def test_a_crash_while_a_check_writes_leaves_a_vault_that_is_whole(vault: Vault, clock: FixedClock) -> None:
    def crash(moment: str, operation: str, name: str) -> None:
        if operation == "create" and name.startswith("ledger/verified/"):
            raise SimulatedCrash

    with pytest.raises(SimulatedCrash):
        verify_vault(reopened(vault, WatchedStore(vault.store, crash)), level=Level.STORED)
    assert verify_vault(vault, level=Level.CONTENT, record=False).ok
    assert coverage_of(vault, list_packs(vault), clock.now()).share(7) == 1
    assert isinstance(vault.keyring, Keyring)


def test_new_packs_come_before_old_ones(vault: Vault, tmp_path: Path, clock: FixedClock) -> None:
    verify_vault(vault, level=Level.STORED)
    before = set(list_packs(vault))
    (tmp_path / "other/new").write_bytes(some_bytes(40_000, 5))
    age(tmp_path / "other")
    snapshot(vault, a_dataset("other", tmp_path / "other"))
    fresh = {f"packs/{pack.hex()[:2]}/{pack.hex()}" for pack in set(list_packs(vault)) - before}
    clock.advance(DAY)
    assert set(sampled(vault, Sample(bytes_max=1))) <= fresh


@pytest.mark.parametrize("lie", ["another chunk", "a pack that it does not list"])
def test_an_index_part_that_says_something_else_than_its_pack_is_found_by_opening_it_and_never_proven(
    vault: Vault, lie: str
) -> None:
    """A writer with a valid key claims that a chunk, which another file will have tomorrow, is stored: whoever believed
    it would store nothing."""
    import pyarrow as pa

    from reopen.protect.readable import readable_rows
    from reopen.vault.indexparts import write_index_part
    from reopen.vault.packwriter import StoredPack

    packs = list_packs(vault)
    first, second = sorted(packs)[:2]
    rows = readable_rows(vault)
    rows = rows.filter(pa.compute.equal(rows.column("pack"), pa.scalar(first, pa.binary(32))))
    if lie == "another chunk":
        forged = pa.array([b"x" * 32, *rows.column("chunk_id").to_pylist()[1:]], pa.binary(32))
        rows = rows.set_column(0, rows.schema.field(0), forged)
        listed = first
    else:
        listed = second
    stored = StoredPack(id=listed, size_bytes=packs[listed], rows=rows)
    lying = write_index_part(vault, "feedfeedfeedfeed-0000", [stored], vault.keyring.signer("writer"))
    for level in (Level.STRUCTURE, Level.STORED):
        assert verify_vault(vault, level=level, record=False).ok
    result = verify_vault(vault, level=Level.CONTENT)
    assert {finding.object for finding in result.findings} == {lying.name.replace(".json", ".parquet")}
    assert all(verdict.intact for verdict in result.snapshots), "the true parts are there beside it"
    proven = {digest for fact in vault.facts("verified") for digest in fact.body["proven_indexes"]}
    assert lying.digest not in proven
    assert {part.digest for record in vault.records() for part in record.indexes} <= proven
