"""Index parts in the store: signed, pinned, and honest about packs that are gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reopen.errors import Corrupt, NotFound
from reopen.vault import Vault, indexcache, indexparts
from reopen.vault.canonical import decode, seal_envelope
from reopen.vault.index import ids_array
from reopen.vault.indexcache import IndexCache
from reopen.vault.indexparts import (
    list_packs,
    load_index,
    load_writer_index,
    read_rows,
    read_statement,
    read_statements,
    write_index_part,
)
from reopen.vault.packwriter import StoredPack
from reopen.vault.record import pack_name
from tests.vault.kit import WRITER, Packer, flip, hasher, new_vault, noise, reopen

PIECES = [noise(3000, number) for number in range(6)]


@pytest.fixture
def vault() -> Vault:
    """A vault with six chunks in three packs and two index parts."""
    made = new_vault()
    for pieces in (PIECES[:4], PIECES[4:]):
        packer = Packer(made, pack_bytes=6000)
        for piece in pieces:
            packer.add(piece)
        packer.writer.close()
    return made


def statements(vault: Vault) -> list[str]:
    return [info.name for info in vault.store.list("index/") if info.name.endswith(".json")]


def found(vault: Vault) -> list[bool]:
    index = load_index(vault)
    return [index.contains(hasher(vault)(piece)) for piece in PIECES]


def reusable(
    vault: Vault, trusted: Callable[[str, str], bool] = lambda writer, digest: True, cache: IndexCache | None = None
) -> list[bool]:
    index = load_writer_index(vault, trusted=trusted, cache=cache)
    return [index.contains(hasher(vault)(piece)) for piece in PIECES]


def restate(vault: Vault, statement: str, role: str = "writer", **changes: Any) -> None:
    """Sign a statement again with changed fields."""
    body = decode(vault.store.get(statement), statement)["body"]
    vault.store.put(statement, [seal_envelope({**body, **changes}, vault.keyring.signer(role))])


def test_all_parts_together_are_the_index(vault: Vault) -> None:
    assert found(vault) == [True] * 6
    assert found(reopen(vault, WRITER)) == [True] * 6
    assert {pack for item in read_statements(vault) for pack in item.packs} == {
        pack.hex() for pack in list_packs(vault)
    }


def test_an_empty_vault_has_an_empty_index() -> None:
    vault = new_vault()
    assert len(load_index(vault)) == 0
    assert read_statements(vault) == []


def test_rows_of_an_absent_pack_do_not_count(vault: Vault) -> None:
    gone = next(iter(list_packs(vault)))
    vault.store.delete(pack_name(gone.hex()))
    assert found(vault).count(False) == 2


def test_rows_without_a_statement_are_not_read(vault: Vault) -> None:
    """What a crash between the two writes leaves."""
    vault.store.delete(statements(vault)[0])
    assert 0 < found(vault).count(True) < 6


def test_a_missing_parquet_file_names_the_repair(vault: Vault) -> None:
    vault.store.delete(read_statement(vault, statements(vault)[0]).parquet.name)
    with pytest.raises(NotFound, match="`reopen repair` rebuilds it"):
        load_index(vault)


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_parquet_file_names_the_repair(vault: Vault, damage: str) -> None:
    name = read_statement(vault, statements(vault)[0]).parquet.name
    data = vault.store.get(name)
    vault.store.put(name, [flip(data, 100) if damage == "flip" else data[:-10]])
    with pytest.raises(Corrupt, match="`reopen repair` rebuilds it"):
        load_index(vault)


@pytest.mark.parametrize("role", ["root", "verifier"])
def test_a_statement_signed_in_another_role_is_corrupt(vault: Vault, role: str) -> None:
    restate(vault, statements(vault)[0], role)
    with pytest.raises(Corrupt, match="may not say this"):
        load_index(vault)


def test_maintenance_may_state_an_index_as_well(vault: Vault) -> None:
    restate(vault, statements(vault)[0], "retention")
    assert found(vault) == [True] * 6


def test_a_statement_beside_another_file_is_corrupt(vault: Vault) -> None:
    """It could otherwise send repair to any object of the vault."""
    vault.store.put("index/copy.json", [vault.store.get(statements(vault)[0])])
    with pytest.raises(Corrupt, match="beside its own file"):
        load_index(vault)
    vault.store.delete("index/copy.json")
    restate(vault, statements(vault)[0], name="vault.parquet")
    with pytest.raises(Corrupt, match="beside its own file"):
        load_index(vault)


@pytest.mark.parametrize("changes", [{"packs": []}, {"packs": {"x": "y"}}, {"size": "big"}, {"key": None}])
def test_a_signed_statement_with_a_wrong_field_is_corrupt(vault: Vault, changes: dict[str, Any]) -> None:
    restate(vault, statements(vault)[0], **changes)
    with pytest.raises(Corrupt, match="lacks or misspells"):
        read_statement(vault, statements(vault)[0])


def test_a_writer_can_restrict_what_it_reuses(vault: Vault) -> None:
    """Dedup poisoning: chunks of parts that are not trusted count as not stored."""
    first = read_statements(vault)[0].part.digest
    for cache in (None, IndexCache(Path("never written"))):
        trusted = reusable(vault, lambda writer, digest: digest == first, cache)
        assert 0 < trusted.count(True) < 6
        assert reusable(vault, lambda writer, digest: False, cache) == [False] * 6


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IndexCache:
    """A cache that is written at once."""
    monkeypatch.setattr(indexcache, "SAVE_AFTER_PARTS", 1)
    return IndexCache(tmp_path / "cache")


def test_what_a_writer_read_once_it_does_not_read_again(vault: Vault, cache: IndexCache, tmp_path: Path) -> None:
    assert reusable(vault, cache=cache) == [True] * 6
    for info in list(vault.store.list("index/")):
        vault.store.put(info.name, [b"no longer readable"])
    assert reusable(vault, cache=cache) == [True] * 6
    assert reusable(vault, cache=IndexCache(tmp_path / "cache")) == [True] * 6, "another process reads the file"
    with pytest.raises(Corrupt):
        load_index(vault)


def test_the_cache_makes_nothing_appear_that_is_gone(vault: Vault, cache: IndexCache) -> None:
    assert reusable(vault, cache=cache) == [True] * 6
    packs = list(read_statements(vault)[0].packs)
    vault.store.delete(pack_name(packs[0]))
    without_a_pack = reusable(vault, cache=cache)
    assert without_a_pack == reusable(vault)
    assert False in without_a_pack
    vault.store.delete(statements(vault)[0])
    without_a_part = reusable(vault, cache=cache)
    assert without_a_part == reusable(vault)
    assert without_a_part.count(True) <= without_a_pack.count(True)


def test_many_parts_are_fetched_at_once_and_all_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one step of fetching, and more than one run."""
    monkeypatch.setattr(indexparts, "PARTS_A_STEP", 10)
    monkeypatch.setattr(indexparts, "RUN_ROWS", 12)
    made = new_vault()
    pieces = [noise(500, number) for number in range(27)]
    for piece in pieces:
        packer = Packer(made, pack_bytes=100)
        packer.add(piece)
        packer.writer.close()
    assert len(statements(made)) == 27
    index = load_index(made)
    assert all(index.contains(hasher(made)(piece)) for piece in pieces)
    assert len(index) == 27


def test_a_reader_uses_what_was_read_before(vault: Vault, cache: IndexCache) -> None:
    assert reusable(vault, cache=cache) == [True] * 6
    for info in list(vault.store.list("index/")):
        vault.store.put(info.name, [b"no longer readable"])
    index = load_index(vault, cache=cache)
    assert [index.contains(hasher(vault)(piece)) for piece in PIECES] == [True] * 6
    assert not index.contains(bytes(32)), "a true no"


def test_a_reader_with_a_damaged_copy_is_told_so_and_the_next_run_is_right(
    vault: Vault, cache: IndexCache, tmp_path: Path
) -> None:
    """It must not be told that the vault has lost a chunk."""
    reusable(vault, cache=cache)
    (path,) = (tmp_path / "cache").rglob("*.run")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Corrupt, match="local copy of the index"):
        load_index(vault, cache=IndexCache(tmp_path / "cache")).find(
            ids_array(b"".join(hasher(vault)(piece) for piece in PIECES))
        )
    index = load_index(vault, cache=IndexCache(tmp_path / "cache"))
    assert [index.contains(hasher(vault)(piece)) for piece in PIECES] == [True] * 6


def test_a_writer_with_a_damaged_copy_stores_again(vault: Vault, cache: IndexCache, tmp_path: Path) -> None:
    reusable(vault, cache=cache)
    (path,) = (tmp_path / "cache").rglob("*.run")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    assert reusable(vault, cache=IndexCache(tmp_path / "cache")).count(False) == 1
    assert reusable(vault, cache=IndexCache(tmp_path / "cache")) == [True] * 6, "the damaged copy was removed"


def test_a_part_that_is_not_trusted_gains_nothing_by_naming_a_trusted_pack(vault: Vault, cache: IndexCache) -> None:
    """Dedup poisoning: the pack is there and ours; that it holds this chunk is only somebody's word."""
    honest = {statement.part.digest for statement in read_statements(vault)}
    pack = bytes.fromhex(next(iter(read_statements(vault)[0].packs)))
    poison = b"\x07" * 32
    rows = read_rows(vault, read_statements(vault)[0]).slice(0, 1)
    for name, value in (("chunk_id", poison), ("pack", pack)):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pa.array([value], rows.schema.field(at).type))
    write_index_part(
        vault, "ffffffffffffffff-0000", [StoredPack(id=pack, size_bytes=1, rows=rows)], vault.keyring.signer("writer")
    )
    for kept in (None, cache):
        every = load_writer_index(vault, trusted=lambda writer, digest: True, cache=kept)
        assert every.contains(poison)
        careful = load_writer_index(vault, trusted=lambda writer, digest: digest in honest, cache=kept)
        assert not careful.contains(poison)
        assert all(careful.contains(hasher(vault)(piece)) for piece in PIECES)


def test_objects_that_are_no_packs_are_not_listed_as_packs(vault: Vault) -> None:
    before = list_packs(vault)
    for name in ("packs/ab/short", f"packs/zz/{'z' * 64}", f"packs/{'a' * 64}", "packs/readme"):
        vault.store.put(name, [b"x"])
    assert list_packs(vault) == before
