"""Every class of damage is found by the level that claims it, with the object, and through it what is affected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from reopen.errors import NotFound, Refused
from reopen.protect.verify.verify import Level, VerifyResult, verify_vault
from reopen.vault import NewKeys, Parameters, Vault, make_keys, packwriter
from tests.kit import a_dataset, a_keyring, a_table, a_vault, reopened, restore, snapshot
from tests.stores import MemoryStore
from tests.trees import age, grow, some_bytes

EVERY_LEVEL = tuple(Level)


@dataclass
class World:
    """A vault with two datasets: ``it`` has two snapshots, ``other`` one; each file has chunks of its own."""

    vault: Vault
    store: MemoryStore
    keys: NewKeys

    def check(self, level: Level) -> VerifyResult:
        return verify_vault(reopened(self.vault), level=level, record=False, workers=2)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 1)
    keys, store = make_keys(), MemoryStore()
    vault = a_vault(store, keys=keys)
    it = grow(tmp_path / "it", {"large": some_bytes(100_000, 1), "small": "x", "t.parquet": "not really"})
    snapshot(vault, a_dataset("it", it, table=a_table(), pattern="*.parquet"))
    (it / "new").write_bytes(some_bytes(5000, 2))
    age(it)
    snapshot(vault, a_dataset("it", it, table=a_table(), pattern="*.parquet"))
    snapshot(vault, a_dataset("other", grow(tmp_path / "other", {"alone": some_bytes(5000, 3)})))
    return World(vault, store, keys)


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


Spoil = Callable[[bytes], bytes]
SPOILERS: list[Spoil | None] = [flipped, truncated, None]
STATUS_OF: dict[Spoil | None, str] = {flipped: "digest_mismatch", truncated: "size_mismatch", None: "missing"}


def spoil(store: MemoryStore, name: str, how: Spoil | None) -> None:
    if how is None:
        store.delete(name)
    else:
        store.replace(name, how(store.get(name)))


def places(result: VerifyResult, name: str = "") -> set[tuple[str, str]]:
    """Status and dataset of the findings about one object, or of all."""
    return {(item.status, item.dataset) for item in result.findings if name in ("", item.object)}


def pack_of(world: World, seed: int) -> str:
    """The name of a pack that holds chunks of the file with these bytes: the first that its snapshot stored."""
    dataset, number = {1: ("it", 0), 2: ("it", 1), 3: ("other", 0)}[seed]
    record = world.vault.records(dataset)[number]
    from reopen.vault.indexparts import read_statement

    statement = read_statement(world.vault, record.indexes[0].name)
    (pack,) = statement.packs
    return f"packs/{pack[:2]}/{pack}"


def test_an_undamaged_vault_has_no_finding_at_any_level(world: World) -> None:
    for level in EVERY_LEVEL:
        result = world.check(level)
        assert (result.ok, result.findings) == (True, ())
        assert [(v.dataset, v.seq, v.intact) for v in result.snapshots] == [
            ("it", 1, True),
            ("it", 2, True),
            ("other", 1, True),
        ]
    assert world.check(Level.STORED).checked_bytes > 100_000 > world.check(Level.STRUCTURE).checked_bytes


@pytest.mark.parametrize("how", SPOILERS, ids=["flipped", "truncated", "deleted"])
def test_a_damaged_pack_is_found_with_all_that_needs_it(world: World, how: Spoil | None) -> None:
    """One flipped byte shows only when packs are read; size and absence show in the listing already. What needs the
    pack is named at the level that finds it, and the snapshot of the other dataset is not blamed."""
    name = pack_of(world, 1)
    spoil(world.store, name, how)
    levels = EVERY_LEVEL if how is not flipped else (Level.STORED, Level.CONTENT)
    for level in EVERY_LEVEL:
        result = world.check(level)
        if level not in levels:
            assert result.ok
            continue
        expected = STATUS_OF[how]
        assert (expected, "") in places(result, name)
        affected = {(item.dataset, item.snapshot, item.path) for item in result.findings if item.path}
        for record in world.vault.records("it"):
            assert ("it", record.id, "large") in affected
        assert {dataset for dataset, _, _ in affected} == {"it"}
        assert [verdict.intact for verdict in result.snapshots] == [False, False, True]


@pytest.mark.parametrize("how", SPOILERS, ids=["flipped", "truncated", "deleted"])
@pytest.mark.parametrize("level", EVERY_LEVEL)
def test_a_damaged_index_part_is_found_with_the_files_that_it_hides(
    world: World, how: Spoil | None, level: Level
) -> None:
    part = world.vault.records("other")[0].indexes[0].name.replace(".json", ".parquet")
    spoil(world.store, part, how)
    result = world.check(level)
    assert part in {item.object for item in result.findings}
    assert ("other", "alone") in {(item.dataset, item.path) for item in result.findings}
    assert [verdict.intact for verdict in result.snapshots] == [True, True, False]


@pytest.mark.parametrize("how", SPOILERS, ids=["flipped", "truncated", "deleted"])
@pytest.mark.parametrize("level", EVERY_LEVEL)
def test_a_damaged_index_statement_is_found_with_the_files_that_it_hides(
    world: World, how: Spoil | None, level: Level
) -> None:
    statement = world.vault.records("other")[0].indexes[0].name
    spoil(world.store, statement, how)
    result = world.check(level)
    assert statement in {item.object for item in result.findings}
    assert ("other", "alone") in {(item.dataset, item.path) for item in result.findings}


@pytest.mark.parametrize("how", SPOILERS, ids=["flipped", "truncated", "deleted"])
@pytest.mark.parametrize("kind", ["manifest", "profile"])
@pytest.mark.parametrize("level", EVERY_LEVEL)
def test_a_damaged_table_is_found_with_its_snapshot(world: World, how: Spoil | None, kind: str, level: Level) -> None:
    record = world.vault.records("it")[1]
    reference = record.manifest if kind == "manifest" else record.profile
    assert reference is not None
    name = reference.parts[0].name
    spoil(world.store, name, how)
    result = world.check(level)
    found = [item for item in result.findings if item.object == name]
    expected = STATUS_OF[how]
    assert {item.status for item in found} == {expected}
    # The profile did not change, so both snapshots refer to it; the manifest is the second one's own.
    owners = {record.id} if kind == "manifest" else {item.id for item in world.vault.records("it")}
    assert {item.snapshot for item in found} == owners
    assert [verdict.intact for verdict in result.snapshots] == [kind == "manifest", False, True]


@pytest.mark.parametrize("how", [flipped, truncated], ids=["flipped", "truncated"])
def test_a_damaged_record_is_found_and_hides_no_other(world: World, how: Spoil) -> None:
    name = world.vault.records("it")[0].name
    spoil(world.store, name, how)
    result = world.check(Level.STRUCTURE)
    assert ("invalid", "it") in places(result, name)
    assert [(verdict.dataset, verdict.seq) for verdict in result.snapshots] == [("it", 2), ("other", 1)]


def test_a_record_that_is_gone_leaves_a_gap_in_the_chain(world: World) -> None:
    gone, left = world.vault.records("it")
    world.store.delete(gone.name)
    result = world.check(Level.STRUCTURE)
    assert ("invalid", "it") in places(result, left.name)
    assert result.snapshots[0].snapshot == left.id


def test_a_newest_record_that_is_gone_is_missed_by_what_saw_it(world: World) -> None:
    """Every record names the newest of each dataset that it saw."""
    newest = world.vault.records("it")[1]
    world.store.delete(newest.name)
    assert ("missing", "it") in places(world.check(Level.STRUCTURE), newest.name)


def test_one_finding_does_not_hide_another(world: World) -> None:
    damaged = [pack_of(world, 1), world.vault.records("it")[1].manifest.parts[0].name]
    spoil(world.store, damaged[0], flipped)
    spoil(world.store, damaged[1], None)
    spoil(world.store, world.vault.records("other")[0].indexes[0].name, truncated)
    found = {item.object for item in world.check(Level.CONTENT).findings}
    assert {*damaged, world.vault.records("other")[0].indexes[0].name} <= found


def test_a_chunk_that_a_hostile_writer_named_wrongly_is_found_by_content_only(world: World, tmp_path: Path) -> None:
    """Sealed, signed and stored rightly, under an id that is not that of its bytes: only opening it tells."""
    from reopen.vault.content import ChunkHasher

    monkey = pytest.MonkeyPatch()
    monkey.setattr(ChunkHasher, "__call__", lambda self, data: bytes(31) + bytes([len(data) % 251]))
    record = snapshot(world.vault, a_dataset("forged", grow(tmp_path / "forged", {"f": some_bytes(700, 9)}))).record
    monkey.undo()
    assert world.check(Level.STORED).ok
    result = world.check(Level.CONTENT)
    assert ("forged", record.id, "f") in {(item.dataset, item.snapshot, item.path) for item in result.findings}


def facts(vault: Vault, result: str) -> list[tuple[str, str]]:
    return [(fact.dataset, fact.body["level"]) for fact in vault.facts("verified") if fact.body["result"] == result]


def test_what_passed_is_signed_as_verified_and_the_rest_is_not(world: World) -> None:
    spoil(world.store, pack_of(world, 3), truncated)
    result = verify_vault(world.vault, level=Level.STRUCTURE)
    assert facts(world.vault, "ok") == [("it", "structure"), ("it", "structure")]
    assert facts(world.vault, "damaged") == [("other", "structure")]
    assert result.facts == 3
    with pytest.raises(NotFound):
        world.vault.find("other", "last-verified")


@pytest.mark.parametrize(("level", "how"), [(Level.STRUCTURE, None), (Level.STORED, flipped)])
def test_damage_that_is_found_later_takes_an_earlier_proof_back(world: World, level: Level, how: Spoil | None) -> None:
    verify_vault(world.vault, level=Level.CONTENT)
    assert world.vault.find("other", "last-verified").seq == 1
    spoil(world.store, pack_of(world, 3), how)
    verify_vault(world.vault, level=level)
    with pytest.raises(NotFound):
        world.vault.find("other", "last-verified")


def test_without_the_verifier_s_key_nothing_is_signed(world: World) -> None:
    vault = Vault.open(world.store, a_keyring(world.keys, "writer", "recovery"))
    result = verify_vault(vault, level=Level.CONTENT)
    assert (result.ok, result.facts, vault.facts("verified")) == (True, 0, [])


def test_a_writer_alone_checks_structure_and_stored_bytes_and_reads_no_content(world: World, tmp_path: Path) -> None:
    vault = Vault.open(world.store, a_keyring(world.keys, "writer"))
    assert verify_vault(vault, level=Level.STRUCTURE).ok
    assert verify_vault(vault, level=Level.STORED).ok
    with pytest.raises(Refused, match="recovery key"):
        verify_vault(vault, level=Level.CONTENT)
    source = grow(tmp_path / "more", {"f": some_bytes(2000, 5)})
    record = snapshot(vault, a_dataset("more", source)).record
    with pytest.raises(Refused, match="recovery key"):
        restore(vault, record, tmp_path / "target")
    assert not list((tmp_path / "target").rglob("f"))


def test_a_check_may_be_limited_to_datasets_and_newest_snapshots(world: World) -> None:
    spoil(world.store, pack_of(world, 3), flipped)
    assert verify_vault(world.vault, level=Level.CONTENT, datasets=["it"], record=False).ok
    result = verify_vault(world.vault, level=Level.CONTENT, datasets=["it"], latest_only=True, record=False)
    assert [verdict.seq for verdict in result.snapshots] == [2]
    assert not verify_vault(world.vault, level=Level.CONTENT, datasets=["other"], record=False).ok
    with pytest.raises(NotFound, match="Datasets here: it, other"):
        verify_vault(world.vault, datasets=["nothing"])


def test_a_content_check_of_a_damaged_pack_blames_the_files_that_are_hurt_and_no_other(tmp_path: Path) -> None:
    """The pack's own directory is sealed over all its bytes and does not open any more; the index tells the frames."""
    store = MemoryStore()
    vault = a_vault(store, parameters=Parameters())
    files = {f"file{number}": some_bytes(600_000, number) for number in range(8)}
    record = snapshot(vault, a_dataset("it", grow(tmp_path / "it", files))).record
    (name,) = store.names("packs/")
    spoil(store, name, flipped)
    result = verify_vault(reopened(vault), level=Level.CONTENT, record=False)
    hurt = {item.path for item in result.findings if item.path}
    assert len(hurt) == 1
    assert hurt < set(files)
    assert {item.status for item in result.findings if item.object == name} == {"digest_mismatch"}
    # Without opening it, all that can be said is that any of them may be hurt.
    stored = verify_vault(reopened(vault), level=Level.STORED, record=False)
    assert len({item.path for item in stored.findings if item.path}) > 1
    assert record.state == "complete"


def test_a_pack_whose_head_is_damaged_blames_everything_in_it(tmp_path: Path) -> None:
    store = MemoryStore()
    vault = a_vault(store, parameters=Parameters())
    snapshot(vault, a_dataset("it", grow(tmp_path / "it", {"a": some_bytes(5000, 1), "b": some_bytes(600_000, 2)})))
    (name,) = store.names("packs/")
    store.replace(name, b"\0" * 64 + store.get(name)[64:])
    result = verify_vault(reopened(vault), level=Level.CONTENT, record=False)
    assert {item.path for item in result.findings if item.path} == {"a", "b"}
