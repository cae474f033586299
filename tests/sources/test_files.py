"""What a scan says of a tree, local or remote, and how a file of it is opened."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reopen.errors import NotFound, SourceUnreadable
from reopen.sources.files import SCAN, open_source, text_name
from tests.kit import a_dataset, a_vault, restore, rows_of, snapshot, watched
from tests.trees import OLD_NS, grow


def scanned(url: Path | str, **patterns: Any) -> dict[str, dict[str, Any]]:
    table = open_source(str(url), **patterns).scan()
    assert table.schema == SCAN
    return {row["path"]: row for row in table.to_pylist()}


def test_a_scan_tells_kind_size_time_and_mode(tmp_path: Path) -> None:
    root = grow(tmp_path / "tree", {"file": "four", "folder/inner": "x"})
    (root / "link").symlink_to("file")
    os.mkfifo(root / "pipe")
    (root / "file").chmod(0o640)
    os.utime(root / "file", ns=(0, OLD_NS))
    found = scanned(root)
    assert {name: row["type"] for name, row in found.items()} == {
        "file": "file",
        "folder": "dir",
        "folder/inner": "file",
        "link": "symlink",
        "pipe": "special",
    }
    row = found["file"]
    status = (root / "file").stat()
    assert (row["size_bytes"], row["mode"]) == (4, 0o640)
    assert (row["mtime_s"], row["mtime_ns"]) == divmod(OLD_NS, 10**9)
    assert (row["ctime_ns"], row["inode"]) == (status.st_ctime_ns, status.st_ino)
    assert found["link"]["link_target"] == "file"
    assert found["file"]["link_group"] is None


def test_names_are_sorted_by_their_bytes_whatever_the_tree(tmp_path: Path) -> None:
    """``a.b`` sorts before ``a/x`` by bytes, and a name that is not UTF-8 has its place too."""
    root = os.fsencode(grow(tmp_path / "tree", {"a/x": "", "a.b": "", "a-c": "", "b": "", "é": ""}))
    with open(root + b"/\xff", "wb"):
        pass
    table = open_source(os.fsdecode(root)).scan()
    raw = [row["path_raw"] or row["path"].encode() for row in table.to_pylist()]
    assert raw == sorted(raw)
    assert raw[-1] == b"\xff"


@given(st.binary(min_size=1, max_size=40))
def test_a_name_is_text_where_it_can_be_and_keeps_its_bytes_where_not(name: bytes) -> None:
    text, raw = text_name(name)
    assert (raw if raw is not None else text.encode()) == name
    assert text.encode().decode() == text


def test_hard_links_share_a_group_and_others_have_none(tmp_path: Path) -> None:
    root = grow(tmp_path / "tree", {"a": "x", "b": "y"})
    os.link(root / "a", root / "c")
    found = scanned(root)
    assert found["a"]["link_group"] == found["c"]["link_group"] is not None
    assert found["b"]["link_group"] is None


def test_a_missing_root_and_a_file_as_root_are_errors(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Is the disk mounted"):
        scanned(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(SourceUnreadable):
        scanned(tmp_path / "file")


def test_a_file_url_is_a_local_folder(tmp_path: Path) -> None:
    root = grow(tmp_path / "with space", {"a": "x"})
    assert set(scanned(root.as_uri())) == {"a"}


def test_an_open_file_tells_its_stamp_and_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    root = grow(tmp_path / "tree", {"file": "four", "folder/inner": "x"})
    source = open_source(str(root))
    with source.open(b"file") as file:
        buffer = bytearray(10)
        assert file.readinto(memoryview(buffer)) == 4
        assert file.readinto(memoryview(buffer)[4:]) == 0
        assert file.stamp().inode == (root / "file").stat().st_ino
        (root / "file").write_text("longer")
        assert file.stamp().size_bytes == 6
    for name in (b"folder", b"gone", b"folder/inner/below"):
        with pytest.raises(FileNotFoundError):
            source.open(name)


counter = itertools.count()


@pytest.fixture
def bucket() -> str:
    """A fresh prefix on fsspec's file system in memory."""
    return f"memory://bucket{next(counter)}/data"


def fill(url: str, files: dict[str, bytes]) -> None:
    filesystem, root = fsspec.core.url_to_fs(url)
    for name, content in files.items():
        filesystem.pipe_file(f"{root}/{name}", content)


def test_a_remote_source_is_protected_and_restored(bucket: str, tmp_path: Path) -> None:
    files = {"a.csv": b"first", "sub/deep/b.csv": bytes(100_000), "sub/c.tmp": b"x", "empty": b""}
    fill(bucket, files)
    vault, dataset = a_vault(), a_dataset("it", bucket, exclude=("*.tmp",))
    record = snapshot(vault, dataset).record
    assert set(rows_of(vault, record)) == {"a.csv", "sub/deep/b.csv", "empty"}
    assert rows_of(vault, record)["a.csv"]["mode"] is None
    restore(vault, record, tmp_path / "target")
    target = tmp_path / "target"
    found = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert found == {name: content for name, content in files.items() if not name.endswith(".tmp")}


def test_a_remote_file_that_was_written_just_now_is_read_again(bucket: str) -> None:
    fill(bucket, {"a": b"first"})
    vault, dataset = a_vault(), a_dataset("it", bucket)
    snapshot(vault, dataset)
    fill(bucket, {"a": b"FIRST"})
    with watched(vault, dataset) as files:
        assert files.opened == [b"a"]
    assert rows_of(vault, vault.find("it"))["a"]["change"] == "modified"


def test_patterns_apply_to_folders_of_a_remote_source(bucket: str) -> None:
    fill(bucket, dict.fromkeys(("keep/a", "skip/b", "keep/skip/c", "keep/d.log"), b"x"))
    assert set(scanned(bucket, exclude=("skip/", "*.log"))) == {"keep/a"}
    assert set(scanned(bucket, include=("/keep/",), exclude=("*.log",))) == {"keep/a", "keep/skip/c"}


def test_a_missing_remote_prefix_is_an_error(bucket: str) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        scanned(bucket)


def test_the_folder_of_versions_is_part_of_no_dataset(bucket: str, tmp_path: Path) -> None:
    files = {".reopen-versions/a/v/x": b"1", "sub/.reopen-versions/y": b"2", "sub/kept": b"3"}
    fill(bucket, files)
    assert set(scanned(bucket)) == {"sub/kept"}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert set(scanned(tmp_path)) == {"sub", "sub/kept"}


def test_a_place_that_is_a_link_is_scanned_as_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "version").mkdir()
    (tmp_path / "version" / "a").write_text("1")
    (tmp_path / "place").symlink_to("version")
    assert set(scanned(tmp_path / "place")) == {"a"}
