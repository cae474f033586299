"""Restoring where others act at the same time, or where the target cannot hold all that a snapshot has."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reopen.errors import Conflict, Corrupt, Refused, TargetUnwritable
from reopen.recover.names import Folding
from reopen.recover.restore import begin_restore, plan_restore
from reopen.recover.shards import restore_shard
from reopen.recover.target import probe_folding
from reopen.recover.tree import WORK_FOLDER, Tree
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.tables import MANIFEST
from tests.kit import a_dataset, a_vault, restore, snapshot, statuses, with_manifest
from tests.trees import differences, grow, some_bytes

FILES = {"sub/one": b"one", "sub/two": some_bytes(40_000, 1), "other": b"other", "empty": b""}


@pytest.fixture
def vault() -> Vault:
    return a_vault()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return grow(tmp_path / "source", FILES)


@pytest.fixture
def record(vault: Vault, source: Path) -> SnapshotRecord:
    return snapshot(vault, a_dataset("it", source)).record


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return grow(tmp_path / "outside", {"one": "precious", "two": "precious"})


def forged(vault: Vault, record: SnapshotRecord, change: Callable[[dict[str, Any]], Any]) -> SnapshotRecord:
    """A snapshot whose manifest rows were changed by somebody with a writer's key."""
    rows = vault.manifest(record).to_pylist()
    for row in rows:
        change(row)
    return with_manifest(vault, record, pa.Table.from_pylist(rows, schema=MANIFEST))


def another(vault: Vault, record: SnapshotRecord, *more: dict[str, Any]) -> SnapshotRecord:
    """A snapshot with more entries, each given by what is not usual of it."""
    usual = dict.fromkeys(MANIFEST.names) | {"type": "file", "size_bytes": 0, "chunks": b"", "mode": 0o644}
    rows = vault.manifest(record).to_pylist()
    rows += [usual | {"change": "added", "read_state": "ok"} | row for row in more]
    rows.sort(key=lambda row: row["path"].encode())
    return with_manifest(vault, record, pa.Table.from_pylist(rows, schema=MANIFEST))


def untouched(outside: Path) -> bool:
    return {path.name: path.read_text() for path in outside.iterdir()} == {"one": "precious", "two": "precious"}


def test_a_folder_that_is_swapped_for_a_symlink_meanwhile_is_not_followed(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path, outside: Path
) -> None:
    with begin_restore(plan_restore(vault, record, str(target))) as run:
        (target / "sub").rename(target / "moved")
        (target / "sub").symlink_to(outside)
        results = [restore_shard(vault, run.shard(number)) for number in range(run.shard_count)]
        with pytest.raises(Conflict, match=r"entries could not be restored.*in the way"):
            run.finish(results)
    assert untouched(outside)
    assert (target / "other").read_bytes() == b"other"
    (target / "sub").unlink()
    (target / "moved").rmdir()
    restore(vault, record, target)
    assert differences(source, target) == []


def test_no_deletion_goes_through_a_folder_that_was_swapped_for_a_symlink(target: Path, outside: Path) -> None:
    grow(target, {"sub/one": "old"})
    with Tree(os.fsencode(target)) as tree:
        (target / "sub" / "one").unlink()
        (target / "sub").rmdir()
        (target / "sub").symlink_to(outside)
        with pytest.raises(OSError, match="Not a directory") as caught:
            tree.remove(b"sub/one", folder=False)
    assert caught.value.errno == errno.ENOTDIR
    assert untouched(outside)


def test_the_check_does_not_look_through_a_symlink(
    vault: Vault, record: SnapshotRecord, target: Path, tmp_path: Path
) -> None:
    """A folder of the same content elsewhere is not what was restored."""
    restore(vault, record, target)
    (target / "sub").rename(tmp_path / "elsewhere")
    (target / "sub").symlink_to(tmp_path / "elsewhere")
    found = statuses(vault, record, target)
    assert {name: found[name] for name in ("sub", "sub/one", "sub/two", "other")} == {
        "sub": "type_mismatch",
        "sub/one": "missing",
        "sub/two": "missing",
        "other": "ok",
    }


def test_a_work_folder_that_is_a_symlink_is_not_emptied(
    vault: Vault, record: SnapshotRecord, target: Path, outside: Path
) -> None:
    target.mkdir()
    (target / os.fsdecode(WORK_FOLDER)).symlink_to(outside)
    with pytest.raises(Conflict, match="in the way"):
        restore(vault, record, target)
    assert untouched(outside)


def test_one_restore_at_a_time_writes_to_a_target(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reopen.recover.target.LOCK_SECONDS_MAX", 0)
    plan = plan_restore(vault, record, str(target))
    with begin_restore(plan), pytest.raises(Conflict, match="another restore"):
        restore(vault, record, target)
    restore(vault, record, target)
    assert differences(source, target) == []


def test_a_restore_that_was_given_up_leaves_the_empty_work_folder_as_a_mark(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path
) -> None:
    with begin_restore(plan_restore(vault, record, str(target))) as run:
        restore_shard(vault, run.shard(0))
    assert list((target / os.fsdecode(WORK_FOLDER)).iterdir()) == []
    restore(vault, record, target)
    assert differences(source, target) == []


@pytest.mark.parametrize(
    ("folding", "names"),
    [
        (Folding(case=True), ["Name", "nAME"]),
        (Folding(case=True), ["Folder/a", "folder/b"]),
        (Folding(case=True), ["STRASSE", "stra\u00dfe"]),
        (Folding(composition=True), ["caf\u00e9", "cafe\u0301"]),
        (Folding(case=True, composition=True), ["CAF\u00c9", "cafe\u0301"]),
    ],
)
def test_names_that_are_one_to_the_target_are_refused_before_anything_is_written(
    vault: Vault,
    record: SnapshotRecord,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    folding: Folding,
    names: list[str],
) -> None:
    monkeypatch.setattr("reopen.recover.target.probe_folding", lambda folder: folding)
    twins = another(vault, record, *({"path": name} for name in names))
    with pytest.raises(Refused, match="does not tell them apart"):
        restore(vault, twins, target)
    assert [path.name for path in target.rglob("*")] == [os.fsdecode(WORK_FOLDER)]


def test_where_names_fold_nothing_restored_is_deleted_for_being_spelt_otherwise(
    vault: Vault, record: SnapshotRecord, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a file system may keep the spelling that was there before."""
    monkeypatch.setattr("reopen.recover.target.probe_folding", lambda folder: Folding(case=True))
    grow(target, {"OTHER": "as the file system spells it", "extra": "x"})
    assert restore(vault, record, target, delete=True).deleted == 1
    assert (target / "OTHER").exists()
    assert not (target / "extra").exists()


def test_this_file_system_is_asked_and_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert probe_folding(folder) == Folding(), "the tests' own folder tells names apart"
        monkeypatch.setattr("reopen.recover.target._exists", lambda folder, name: name.startswith(b"p"))
        assert probe_folding(folder) == Folding(case=True)
        assert list(tmp_path.iterdir()) == []
    finally:
        os.close(folder)


def test_an_entry_that_the_target_does_not_take_costs_only_itself(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path
) -> None:
    hostile = another(
        vault,
        record,
        {"path": "n" * 300},
        {"path": "l" * 300, "type": "dir"},
        {"path": "l" * 300 + "/below"},
        {"path": "link", "type": "symlink", "link_target": ""},
        {"path": "nul", "type": "symlink", "link_target": "a\0b"},
    )
    with pytest.raises(TargetUnwritable, match=r"5 entries could not be restored: link, lll") as caught:
        restore(vault, hostile, target)
    assert "The others are in" in caught.value.message
    assert differences(source, target) == []


def test_a_single_entry_that_is_not_taken_is_told_as_it_is(vault: Vault, record: SnapshotRecord, target: Path) -> None:
    grow(target, {"other/precious": "x"})
    with pytest.raises(Conflict, match="other is a folder"):
        restore(vault, record, target)
    assert (target / "sub" / "one").read_bytes() == b"one"
    assert (target / "other" / "precious").read_text() == "x"


def test_a_path_longer_than_the_system_takes_at_once_is_restored_and_checked(
    vault: Vault, record: SnapshotRecord, target: Path
) -> None:
    """Each folder is opened in the one above it, so only a single name is ever given to the system."""
    deep = "/".join(["folder" * 10] * 100)
    long = another(vault, record, {"path": f"{deep}/file"})
    assert len(deep) > 4096
    assert restore(vault, long, target).files == 5
    assert statuses(vault, long, target)[f"{deep}/file"] == "ok"
    assert restore(vault, record, target, delete=True).deleted == 101


def test_folders_without_end_are_refused_before_they_fill_the_memory(
    vault: Vault, record: SnapshotRecord, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reopen.recover.names.FOLDER_NAME_BYTES_MAX", 1 << 20)
    with pytest.raises(Refused, match="longer than"):
        restore(vault, another(vault, record, {"path": "a/" * 30_000 + "a"}), target)
    assert not target.exists()


def test_an_entry_of_an_unknown_kind_is_refused(vault: Vault, record: SnapshotRecord, target: Path) -> None:
    with pytest.raises(Corrupt, match="type is 'device'"):
        restore(vault, another(vault, record, {"path": "null", "type": "device"}), target)
    assert not target.exists()


def test_a_mode_that_is_more_than_rights_is_refused(vault: Vault, record: SnapshotRecord, target: Path) -> None:
    with pytest.raises(Corrupt, match="mode"):
        restore(vault, forged(vault, record, lambda row: row.update(mode=0o020640)), target)
    assert not target.exists()


def test_chunks_in_places_that_are_not_theirs_make_no_file(vault: Vault, record: SnapshotRecord, target: Path) -> None:
    """Each chunk is what its id says; the sizes add up; but they are another order's."""

    def swap(row: dict[str, Any]) -> None:
        sizes = row["chunk_sizes"]
        if sizes is not None:
            row["chunk_sizes"] = sizes[4:] + sizes[:4]

    with pytest.raises(Corrupt, match=r"1 of 4 files .*sub/two .*the manifest says"):
        restore(vault, forged(vault, record, swap), target)
    assert not (target / "sub" / "two").exists()


def test_a_file_system_mounted_below_the_target_gets_its_files_too(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def refuse(*names: Any, src_dir_fd: int, dst_dir_fd: int) -> None:
        if src_dir_fd != dst_dir_fd:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(*names, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", refuse)
    restore(vault, record, target)
    assert differences(source, target) == []


def test_an_owner_that_cannot_be_set_stops_nothing(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that does not know the owner."""

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    restore(vault, forged(vault, record, lambda row: row.update(uid=12345, gid=12345)), target)
    assert (target / "other").read_bytes() == b"other"


def test_a_folder_restored_read_only_takes_what_is_missing_in_it(vault: Vault, source: Path) -> None:
    """For a user who is not root. The restore runs in a child that gives up its rights, if it has any."""
    (source / "sub").chmod(0o555)
    record = snapshot(vault, a_dataset("it", source)).record
    (source / "sub").chmod(0o755)
    with tempfile.TemporaryDirectory(prefix="reopen-tests-") as place:
        os.chmod(place, 0o777)
        target = Path(place) / "target"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if os.geteuid() == 0:
                    os.setgid(65534)
                    os.setuid(65534)
                restore(vault, record, target)
                (target / "sub").chmod(0o755)
                (target / "sub" / "one").unlink()
                (target / "sub").chmod(0o555)
                code = 0 if restore(vault, record, target).written_files == 1 else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert (target / "sub" / "one").read_bytes() == b"one"
        assert stat.S_IMODE((target / "sub").stat().st_mode) == 0o555
        (target / "sub").chmod(0o755)
