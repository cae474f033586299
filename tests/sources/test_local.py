"""Files of a local folder: nothing outside it is read, whatever takes the place of its folders."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from reopen.sources import local
from reopen.sources.files import open_source
from reopen.storage import folders
from tests.trees import grow


def test_a_folder_that_became_a_symlink_is_not_followed_by_the_reader(tmp_path: Path) -> None:
    source = open_source(str(grow(tmp_path / "source", {"a/b/file": b"ours"})))
    grow(tmp_path / "outside", {"b/file": b"theirs"})
    (tmp_path / "source" / "a").rename(tmp_path / "moved")
    (tmp_path / "source" / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(FileNotFoundError):
        source.open(b"a/b/file")


def test_a_folder_that_became_a_symlink_is_not_followed_by_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is swapped between the listing of its parent and its own opening."""
    source = open_source(str(grow(tmp_path / "source", {"a/file": b"ours"})))
    grow(tmp_path / "outside", {"secret": b"theirs"})
    real = os.open

    def swap(path: bytes, *arguments: Any, **options: Any) -> int:
        if path == b"a":
            (tmp_path / "source" / "a").rename(tmp_path / "moved")
            (tmp_path / "source" / "a").symlink_to(tmp_path / "outside")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", swap)
    scan = source.scan()
    assert scan.column("path").to_pylist() == ["a"]
    assert "cannot be listed" in scan.column("error")[0].as_py(), "what it held is not known, and that is said"


def test_a_file_in_a_folder_that_was_replaced_by_another_is_read_there(tmp_path: Path) -> None:
    source = open_source(str(grow(tmp_path / "source", {"a/old": b"old"})))
    with source.open(b"a/old") as file:
        assert file.stamp().size_bytes == 3
    (tmp_path / "source" / "a").rename(tmp_path / "moved")
    grow(tmp_path / "source", {"a/new": b"newer"})
    with source.open(b"a/new") as file:
        assert file.stamp().size_bytes == 5


def test_a_tree_deeper_than_the_folders_kept_open_is_scanned_and_read(tmp_path: Path) -> None:
    depth = folders.OPEN_FOLDERS_MAX * 2
    deep = "/".join(["d"] * depth)
    source = open_source(str(grow(tmp_path / "source", {f"{deep}/file": b"deep", "file": b"flat"})))
    assert source.scan().num_rows == depth + 2
    for name in (f"{deep}/file".encode(), b"file", f"{deep}/file".encode()):
        with source.open(name) as file:
            assert file.stamp().size_bytes == 4


def test_every_descriptor_is_closed_again(tmp_path: Path) -> None:
    source = open_source(str(grow(tmp_path / "source", {f"{number}/file": b"x" for number in range(100)})))
    before = len(os.listdir("/proc/self/fd"))
    source.scan()
    assert len(os.listdir("/proc/self/fd")) == before
    for number in range(100):
        with source.open(f"{number}/file".encode()):
            pass
    assert len(os.listdir("/proc/self/fd")) <= before + folders.OPEN_FOLDERS_MAX
    del source
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_large_tree_is_scanned_by_several_processes_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files, links, names that are no text, and a folder that cannot be listed, which a child finds."""
    files = {f"{number % 20}/{number % 3}/{number}": b"x" * number for number in range(300)}
    root = grow(tmp_path / "source", files)
    for number in range(20):
        (root / str(number) / "link").symlink_to("0")
        os.link(root / "0/0/0", root / str(number) / "hard")
        with open(os.fsencode(root / str(number)) + b"/bad-\xff", "wb") as file:
            file.write(b"x")
    real = os.scandir

    def refuse(descriptor: int) -> Any:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("source/7/1"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(descriptor)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(local, "_ENTRIES_WORTH_PROCESSES", 10)
    monkeypatch.setattr(local, "can_fork", lambda: True)
    source = open_source(str(root))
    alone, together = source.scan(), source.scan(processes=3)
    assert together.equals(alone)
    assert alone.num_rows > 360
    failed = alone.filter(alone.column("error").is_valid())
    assert failed.column("path").to_pylist() == ["7/1"]
