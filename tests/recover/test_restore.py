"""Restoring: into nothing, over something, of a part, past damage, elsewhere; and what is never touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from reopen.errors import Conflict, Corrupt, InvalidInput, NotFound, TargetUnwritable
from reopen.protect.verify.verify import Level, verify_vault
from reopen.recover.check import check_tree
from reopen.recover.restore import execute_restore, plan_restore
from reopen.recover.tree import WORK_FOLDER
from reopen.vault import SnapshotRecord, Vault, make_keys
from reopen.vault.content import ChunkHasher
from tests.disks import give_room, small_disk_at
from tests.kit import a_dataset, a_keyring, a_vault, reopened, restore, snapshot, statuses
from tests.stores import MemoryStore, WatchedStore
from tests.trees import OLD_NS, age, describe, differences, grow, some_bytes

LARGE = some_bytes(300_000, 1)
FILES = {
    "large": LARGE,
    "sub/small": b"small",
    "sub/deep/other": some_bytes(3000, 2),
    "empty": b"",
    "zeros": bytes(70_000),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = grow(tmp_path / "source", FILES)
    os.link(source / "large", source / "twin")
    (source / "link").symlink_to("sub/small")
    (source / "void").mkdir()
    age(source)
    return source


@pytest.fixture
def vault() -> Vault:
    return a_vault()


@pytest.fixture
def record(vault: Vault, source: Path) -> SnapshotRecord:
    return snapshot(vault, a_dataset("it", source)).record


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and change time of every entry: what any write to it would change."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_ino, path.lstat().st_ctime_ns)
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def test_an_empty_target_is_filled_and_counted(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path
) -> None:
    result = restore(vault, record, target)
    assert differences(source, target) == []
    assert (result.files, result.written_files, result.unchanged_files, result.deleted) == (6, 6, 0, 0)
    assert result.size_bytes == sum(map(len, FILES.values())) + len(LARGE)
    assert result.written_bytes == sum(map(len, FILES.values())), "a hard link is not fetched twice"
    assert not (target / os.fsdecode(WORK_FOLDER)).exists()


def test_only_what_differs_is_written(vault: Vault, record: SnapshotRecord, source: Path, target: Path) -> None:
    restore(vault, record, target)
    (target / "sub" / "small").write_bytes(b"SMALL")
    (target / "sub" / "deep" / "other").unlink()
    (target / "zeros").chmod(0o600)
    os.utime(target / "empty", ns=(0, 0))
    before = identities(target)
    watched = WatchedStore(vault.store)
    result = restore(reopened(vault, watched), record, target)
    assert differences(source, target) == []
    assert (result.written_files, result.written_bytes) == (4, 3005)
    after = identities(target)
    touched = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert touched == {"sub/small", "sub/deep/other", "zeros", "empty"}
    assert (before["zeros"][0], before["empty"][0]) == (after["zeros"][0], after["empty"][0]), "set in place"


def test_size_and_time_alone_are_not_believed(vault: Vault, record: SnapshotRecord, source: Path, target: Path) -> None:
    restore(vault, record, target)
    (target / "sub" / "small").write_bytes(b"smalL")
    os.utime(target / "sub" / "small", ns=(OLD_NS, OLD_NS))
    assert statuses(vault, record, target)["sub/small"] == "digest_mismatch"
    assert restore(vault, record, target).written_files == 1
    assert differences(source, target) == []


def test_of_a_large_file_with_one_damaged_chunk_only_that_chunk_is_fetched(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path
) -> None:
    restore(vault, record, target)
    with (target / "large").open("r+b") as file:
        file.seek(150_000)
        file.write(bytes([LARGE[150_000] ^ 1]))
    watched = WatchedStore(vault.store)
    fresh = reopened(vault, watched)
    plan = plan_restore(fresh, record, str(target))
    before = watched.read_bytes
    result = execute_restore(plan)
    assert result.written_bytes <= 16384
    assert watched.read_bytes - before < 40_000, "one frame, and the head of its pack"
    assert differences(source, target) == []


@pytest.mark.parametrize("length", [0, 10, 149_999, 300_000 - 1, 300_001, 500_000])
def test_a_file_of_another_length_is_made_right(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path, length: int
) -> None:
    """Cut short: what is left is kept. Too long: nothing needs fetching."""
    restore(vault, record, target)
    (target / "twin").unlink()
    os.truncate(target / "large", length)
    result = restore(vault, record, target)
    assert differences(source, target) == []
    assert result.written_bytes <= max(0, 300_000 - length) + 16384
    assert (result.written_bytes == 0) == (length > 300_000)


def test_what_it_did_not_write_stays_unless_asked(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path
) -> None:
    restore(vault, record, target)
    grow(target, {"extra": "x", "sub/extra": "x", "new/folder/extra": "x"}, old=False)
    (target / "new" / "link").symlink_to(source)
    assert restore(vault, record, target).deleted == 0
    assert (target / "new" / "folder" / "extra").exists()
    found = check_tree(vault, record, str(target), exact=True).to_pylist()
    extra = [row["path"] for row in found if row["status"] == "extra"]
    assert extra == ["extra", "new", "new/folder", "new/folder/extra", "new/link", "sub/extra"]
    assert {row["status"] for row in found} == {"ok", "extra"}
    result = restore(vault, record, target, delete=True)
    assert result.deleted == 6
    assert differences(source, target) == []
    assert describe(source)[b"large"].content, "what a removed link pointed to is untouched"


def test_patterns_choose_files_with_the_folders_that_lead_to_them(
    vault: Vault, record: SnapshotRecord, target: Path
) -> None:
    result = restore(vault, record, target, patterns=["deep/", "twin"])
    assert {name.decode() for name in describe(target)} == {"sub", "sub/deep", "sub/deep/other", "twin"}
    assert result.files == 2
    assert (target / "twin").read_bytes() == LARGE, "the other name of the same file was not chosen"
    with pytest.raises(NotFound, match="matches"):
        plan_restore(vault, record, str(target), patterns=["nothing-like-this"])
    with pytest.raises(InvalidInput, match="cannot be limited"):
        plan_restore(vault, record, str(target), patterns=["twin"], delete=True)


def test_a_symlink_where_a_folder_belongs_is_a_conflict_and_nothing_is_written_through_it(
    vault: Vault, record: SnapshotRecord, target: Path, tmp_path: Path
) -> None:
    outside = grow(tmp_path / "outside", {"keep": "x"})
    target.mkdir()
    (target / "sub").symlink_to(outside)
    before = identities(outside)
    with pytest.raises(Conflict, match="is in the way"):
        restore(vault, record, target)
    assert identities(outside) == before
    assert sorted(path.name for path in outside.iterdir()) == ["keep"]


def test_a_symlink_where_a_file_belongs_is_replaced_and_not_written_through(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path, tmp_path: Path
) -> None:
    outside = grow(tmp_path / "outside", {"victim": "x"})
    target.mkdir()
    (target / "large").symlink_to(outside / "victim")
    (target / "empty").symlink_to(outside / "victim")
    (target / "twin").symlink_to(outside / "victim")
    restore(vault, record, target)
    assert (outside / "victim").read_text() == "x"
    assert differences(source, target) == []


@pytest.mark.parametrize("name", ["large", "twin", "link", "empty"])
def test_a_folder_where_something_else_belongs_is_a_conflict(
    vault: Vault, record: SnapshotRecord, target: Path, name: str
) -> None:
    grow(target, {f"{name}/precious": "x"})
    with pytest.raises(Conflict, match="is a folder"):
        restore(vault, record, target)
    assert (target / name / "precious").read_text() == "x"


def test_a_pipe_where_a_file_belongs_is_replaced(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path
) -> None:
    target.mkdir()
    os.mkfifo(target / "large")
    os.mkfifo(target / "empty")
    restore(vault, record, target)
    assert differences(source, target) == []


def damage(vault: Vault, seed_file: str, record: SnapshotRecord) -> list[str]:
    """Flip a byte in a pack that holds chunks of a file; returns the paths that a check blames."""
    assert isinstance(vault.store, MemoryStore)
    for name in vault.store.names("packs/"):
        data = bytearray(vault.store.get(name))
        data[len(data) // 3] ^= 1
        vault.store.replace(name, bytes(data))
        found = [item.path for item in verify_vault(vault, level=Level.CONTENT, record=False).findings if item.path]
        if seed_file in found:
            return found
        data[len(data) // 3] ^= 1
        vault.store.replace(name, bytes(data))
    raise AssertionError(f"no pack holds {seed_file} of {record.id}")


def test_damage_costs_the_files_it_touches_and_no_other(vault: Vault, record: SnapshotRecord, target: Path) -> None:
    damage(vault, "large", record)
    with pytest.raises(Corrupt, match=r"2 of \d+ files .* large, twin .*pack") as caught:
        restore(vault, record, target)
    found = statuses(vault, record, target)
    assert set(found.values()) <= {"ok", "missing"}, "nothing wrong ever stands under a file's name"
    assert {name for name, status in found.items() if status == "missing"} == {"large", "twin"}, "twin is its link"
    assert "--vault" in caught.value.hint


def test_content_that_is_not_what_its_id_says_is_never_restored(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that lies seals and signs other bytes under an id: only deriving the id again tells."""

    class Lying(ChunkHasher):
        def __call__(self, data: bytes | memoryview) -> bytes:
            return super().__call__(b"what it should be" if bytes(data) == b"poison" else data)

    vault, source = a_vault(), grow(tmp_path / "it", {"bad": b"poison", "good": b"as it was"})
    with monkeypatch.context() as lie:
        lie.setattr("reopen.protect.capture.ChunkHasher", Lying)
        record = snapshot(vault, a_dataset("it", source)).record
    with pytest.raises(Corrupt, match=r"1 of 2 files .* not what its id says"):
        restore(vault, record, target)
    assert not (target / "bad").exists()
    assert (target / "good").read_bytes() == b"as it was"
    findings = verify_vault(vault, level=Level.CONTENT, record=False).findings
    assert {item.path for item in findings if item.path} == {"bad"}


def test_missing_packs_cost_every_file_with_bytes_and_nothing_else(
    vault: Vault, record: SnapshotRecord, target: Path
) -> None:
    for info in list(vault.store.list("packs/")):
        vault.store.delete(info.name)
    with pytest.raises(Corrupt, match="no pack in the vault holds it"):
        restore(vault, record, target)
    assert not [path for path in target.rglob("*") if path.is_file() and path.stat().st_size]


def test_a_remote_target_gets_bytes_and_names(vault: Vault, record: SnapshotRecord, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/there"
    result = restore(vault, record, url)
    assert (result.written_files, result.unchanged_files) == (6, 0)
    remote = fsspec.filesystem("memory")
    root = f"/{tmp_path.name}/there"
    assert {name: remote.cat_file(f"{root}/{name}") for name in (*FILES, "twin")} == {**FILES, "twin": LARGE}
    assert set(statuses(vault, record, url).values()) == {"ok"}
    remote.pipe_file(f"{root}/large", LARGE[:-1] + b"?")
    remote.pipe_file(f"{root}/sub/small", b"small and more")
    remote.rm_file(f"{root}/zeros")
    remote.pipe_file(f"{root}/sub/extra", b"x")
    found = statuses(vault, record, url)
    assert (found["large"], found["sub/small"], found["zeros"]) == ("digest_mismatch", "size_mismatch", "missing")
    again = restore(vault, record, url, delete=True)
    assert (again.written_files, again.unchanged_files, again.deleted) == (3, 3, 1)
    assert not remote.exists(f"{root}/sub/extra")
    assert set(statuses(vault, record, url).values()) == {"ok"}


def test_the_check_tells_each_way_in_which_an_entry_can_be_wrong(
    vault: Vault, record: SnapshotRecord, target: Path
) -> None:
    restore(vault, record, target)
    assert set(statuses(vault, record, target).values()) == {"ok"}
    (target / "large").write_bytes(LARGE[:-1] + bytes([LARGE[-1] ^ 1]))
    (target / "zeros").write_bytes(b"")
    (target / "empty").unlink()
    os.mkfifo(target / "empty")
    (target / "sub" / "small").unlink()
    (target / "sub" / "small").mkdir()
    (target / "sub" / "deep" / "other").unlink()
    (target / "link").unlink()
    (target / "link").symlink_to("elsewhere")
    (target / "void").rmdir()
    (target / "void").write_text("a file")
    found = statuses(vault, record, target)
    assert found == {
        "empty": "type_mismatch",
        "large": "digest_mismatch",
        "link": "digest_mismatch",
        "sub": "ok",
        "sub/deep": "ok",
        "sub/deep/other": "missing",
        "sub/small": "type_mismatch",
        "twin": "digest_mismatch",
        "void": "type_mismatch",
        "zeros": "size_mismatch",
    }
    (target / "link").unlink()
    (target / "link").write_text("a file")
    (target / "large").unlink()
    (target / "large").symlink_to("twin")
    assert {name: statuses(vault, record, target)[name] for name in ("link", "large")} == {
        "link": "type_mismatch",
        "large": "type_mismatch",
    }


def test_what_an_interrupted_restore_left_in_a_dataset_comes_back_too(vault: Vault, tmp_path: Path) -> None:
    """A dataset may itself have been restored once, and hold a work folder: it is data like any other."""
    source = grow(tmp_path / "was-target", {".reopen-restore/3": "left over", ".reopen-restore-1": "x", "file": "y"})
    record = snapshot(vault, a_dataset("odd", source)).record
    restore(vault, record, tmp_path / "target")
    assert differences(source, tmp_path / "target") == []
    assert set(statuses(vault, record, tmp_path / "target").values()) == {"ok"}
    assert restore(vault, record, tmp_path / "target").written_files == 0


def test_a_restore_over_the_source_itself_brings_an_earlier_state_back(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path
) -> None:
    restore(vault, record, target)
    (source / "large").write_bytes(b"encrypted by somebody")
    (source / "note").write_text("pay")
    (source / "void").rmdir()
    restore(vault, record, source, delete=True)
    assert differences(target, source) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small-disk", size="256k", file_bytes_max=100_000) as folder:
        yield folder


def test_a_full_target_is_told_and_a_second_run_finishes(
    vault: Vault, record: SnapshotRecord, source: Path, small_disk: Path
) -> None:
    target = small_disk / "target"
    with pytest.raises(TargetUnwritable):
        restore(vault, record, target)
    assert set(statuses(vault, record, target).values()) <= {"ok", "missing"}
    give_room(small_disk)
    result = restore(vault, record, target)
    assert result.files == 6
    assert differences(source, target) == []


def test_a_plan_of_an_older_index_notices_a_pack_that_has_gone_since(
    vault: Vault, record: SnapshotRecord, target: Path
) -> None:
    plan = plan_restore(vault, record, str(target))
    for info in list(vault.store.list("packs/")):
        vault.store.delete(info.name)
    with pytest.raises(Corrupt, match="has gone"):
        execute_restore(replace(plan))


@pytest.mark.parametrize("lost", [".json", ".parquet"])
def test_a_damaged_index_costs_a_restore_no_file(tmp_path: Path, lost: str) -> None:
    """With a recovery key alone, where nobody can repair: the packs say themselves what they hold."""
    keys = make_keys()
    vault = a_vault(keys=keys)
    source = grow(tmp_path / "source", {f"{number}": some_bytes(9000, number) for number in range(12)})
    record = snapshot(vault, a_dataset("it", source)).record
    store = vault.store
    assert isinstance(store, MemoryStore)
    for name in store.names("index/"):
        if name.endswith(lost):
            store.replace(name, store.get(name)[:-1] + b"?")
    reader = Vault.open(store, a_keyring(keys, "recovery"))
    assert restore(reader, record, tmp_path / "restored").written_files == 12
    assert differences(source, tmp_path / "restored") == []


def test_a_damaged_index_and_a_damaged_pack_cost_what_only_that_pack_held(tmp_path: Path) -> None:
    keys = make_keys()
    vault = a_vault(keys=keys)
    source = grow(tmp_path / "source", {f"{number}": some_bytes(9000, number) for number in range(12)})
    record = snapshot(vault, a_dataset("it", source)).record
    store = vault.store
    assert isinstance(store, MemoryStore)
    for name in store.names("index/"):
        store.delete(name)
    first = store.names("packs/")[0]
    store.replace(first, store.get(first)[:-1] + b"?")
    reader = Vault.open(store, a_keyring(keys, "recovery"))
    with pytest.raises(Corrupt, match="of 12 files of snapshot"):
        restore(reader, record, tmp_path / "restored")
    lost = differences(source, tmp_path / "restored")
    assert all(line.endswith(": missing") for line in lost)
    assert 0 < len(lost) < 12
