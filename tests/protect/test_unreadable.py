"""Files that cannot be read make a snapshot incomplete, never smaller without a word."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reopen.errors import NotFound, SourceUnreadable
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import execute_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.vault import SnapshotRecord, Vault
from tests.kit import SITE, a_dataset, a_vault, restore, rows_of, snapshot, statuses
from tests.trees import differences, grow, some_bytes

FILES = {"good": b"fine", "large": some_bytes(60_000), "small": b"short", "folder/inner": b"deep"}


class BadMedium:
    """Makes chosen paths fail as the operating system would, for any user (tests may run as root)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open_fails: dict[str, int] = {}
        self.read_fails: dict[str, int] = {}
        self.list_fails: dict[str, int] = {}
        self._paths: dict[int, str] = {}
        self._open, self._readv, self._scandir = os.open, os.readv, os.scandir
        monkeypatch.setattr(os, "open", self._opened)
        monkeypatch.setattr(os, "readv", self._read)
        monkeypatch.setattr(os, "scandir", self._listed)

    def _fail(self, chosen: dict[str, int], path: str) -> None:
        for ending, number in chosen.items():
            if path.endswith(ending):
                raise OSError(number, os.strerror(number), path)

    def _opened(self, path: Any, *arguments: Any, **options: Any) -> int:
        # Names are opened in their folder: the whole path is that of the folder's descriptor and the name.
        folder = self._paths.get(options.get("dir_fd", -1))
        full = f"{folder}/{os.fsdecode(path)}" if folder is not None else os.fsdecode(path)
        self._fail(self.open_fails, full)
        descriptor = self._open(path, *arguments, **options)
        self._paths[descriptor] = full
        return descriptor

    def _read(self, descriptor: int, buffers: Any) -> int:
        if descriptor in self._paths:
            self._fail(self.read_fails, self._paths[descriptor])
        return self._readv(descriptor, buffers)

    def _listed(self, path: Any) -> Any:
        self._fail(self.list_fails, self._paths[path] if isinstance(path, int) else os.fsdecode(path))
        return self._scandir(path)


@pytest.fixture
def medium(monkeypatch: pytest.MonkeyPatch) -> BadMedium:
    return BadMedium(monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return grow(tmp_path / "source", FILES)


def bad_open(medium: BadMedium, path: str) -> None:
    medium.open_fails[path] = errno.EACCES


def bad_read(medium: BadMedium, path: str) -> None:
    medium.read_fails[path] = errno.EIO


@pytest.mark.parametrize("path", ["small", "large"])
@pytest.mark.parametrize(("spoil", "reason"), [(bad_open, "Permission denied"), (bad_read, "Input/output error")])
def test_an_unreadable_file_is_marked_and_the_others_are_kept(
    source: Path, tmp_path: Path, medium: BadMedium, spoil: Callable[[BadMedium, str], None], reason: str, path: str
) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    spoil(medium, f"source/{path}")
    record = snapshot(vault, dataset).record
    rows = rows_of(vault, record)
    assert (record.state, record.totals.unreadable) == ("incomplete", 1)
    assert (rows[path]["read_state"], rows[path]["error"], rows[path]["chunks"]) == ("unreadable", reason, b"")
    result = restore(vault, record, tmp_path / "target")
    assert result.left_out == 1
    assert sorted(differences(source, tmp_path / "target")) == [f"{path}: missing"]
    assert verify_vault(vault, level=Level.CONTENT).ok, "what an incomplete snapshot holds is intact"
    assert statuses(vault, record, tmp_path / "target")[path] == "ok"


def test_an_incomplete_snapshot_is_chosen_only_by_name(source: Path, medium: BadMedium) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    complete = snapshot(vault, dataset).record
    os.utime(source / "small")
    bad_open(medium, "source/small")
    incomplete = snapshot(vault, dataset).record
    verify_vault(vault, level=Level.CONTENT)
    assert vault.records("it")[-1].id == incomplete.id
    for selector in ("latest", "last-verified", "at:2999-01-01T00:00:00Z"):
        assert vault.find("it", selector).id == complete.id
    assert vault.find("it", incomplete.id[:8]).id == incomplete.id


def test_a_dataset_with_incomplete_snapshots_only_has_no_latest(source: Path, medium: BadMedium) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    bad_open(medium, "source/small")
    snapshot(vault, dataset)
    with pytest.raises(NotFound, match="0 of them complete"):
        vault.find("it")


def test_the_next_snapshot_reads_the_file_again_and_is_complete(
    source: Path, tmp_path: Path, medium: BadMedium
) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    bad_read(medium, "source/large")
    snapshot(vault, dataset)
    assert snapshot(vault, dataset).record.state == "incomplete", "unchanged is no reason to believe it readable"
    medium.read_fails.clear()
    record = snapshot(vault, dataset).record
    assert (record.state, record.totals.read_files) == ("complete", 1)
    restore(vault, record, tmp_path / "target")
    assert differences(source, tmp_path / "target") == []


@pytest.mark.parametrize("patterns", [{}, {"include": ("inner", "good")}])
def test_a_folder_that_cannot_be_listed_makes_the_snapshot_incomplete(
    source: Path, tmp_path: Path, medium: BadMedium, patterns: Any
) -> None:
    """Also under patterns that keep folders only for the files in them: what it holds is not known."""
    vault, dataset = a_vault(), a_dataset("it", source, **patterns)
    medium.list_fails["source/folder"] = errno.EACCES
    record = snapshot(vault, dataset).record
    row = rows_of(vault, record)["folder"]
    assert (record.state, row["read_state"]) == ("incomplete", "unreadable")
    assert row["error"] == "cannot be listed: Permission denied"
    restore(vault, record, tmp_path / "target")
    assert (tmp_path / "target" / "good").exists()
    medium.list_fails.clear()
    healed = snapshot(vault, dataset).record
    assert (healed.state, rows_of(vault, healed)["folder/inner"]["change"]) == ("complete", "added")


def test_a_root_that_cannot_be_listed_is_an_error_and_commits_nothing(source: Path, medium: BadMedium) -> None:
    vault, dataset = a_vault(), a_dataset("it", source)
    medium.list_fails["source"] = errno.EACCES
    with pytest.raises(SourceUnreadable, match="cannot be listed"):
        snapshot(vault, dataset)
    assert vault.records("it") == []


@pytest.mark.parametrize("kind", ["file", "symlink", "folder"])
def test_an_entry_that_cannot_be_examined_is_marked(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A folder that may be listed and not entered shows names and nothing else."""
    os.symlink("good", source / "symlink")
    os.rename(source / "small", source / "file")
    vault, dataset = a_vault(), a_dataset("it", source)
    refuse_to_examine(monkeypatch, kind)
    record = snapshot(vault, dataset).record
    assert record.state == "incomplete"
    assert rows_of(vault, record)[kind]["error"] == "cannot be examined: Permission denied"
    assert restore(vault, record, tmp_path / "target").left_out == 1
    assert set(statuses(vault, record, tmp_path / "target").values()) == {"ok"}


def refuse_to_examine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make ``stat`` fail on the entry of a listing with this name."""
    scandir = os.scandir

    class Entry:
        def __init__(self, inner: os.DirEntry[str]) -> None:
            self._inner = inner

        def __getattr__(self, attribute: str) -> Any:
            return getattr(self._inner, attribute)

        def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
            if self._inner.name == name:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return self._inner.stat(follow_symlinks=follow_symlinks)

    class Listing:
        def __init__(self, descriptor: int) -> None:
            self._inner = scandir(descriptor)

        def __enter__(self) -> Iterator[Entry]:
            return (Entry(entry) for entry in self._inner.__enter__())

        def __exit__(self, *details: Any) -> None:
            self._inner.__exit__(*details)

    monkeypatch.setattr(os, "scandir", Listing)


def state_of(vault: Vault, record: SnapshotRecord, path: str) -> str:
    return str(rows_of(vault, record)[path]["read_state"])


def test_a_source_error_halfway_loses_no_chunk_that_another_file_shares(source: Path, tmp_path: Path) -> None:
    """The readable twin of a file that fails halfway refers to chunks that the failed one was the first to claim."""
    from tests.kit import MeddlingSource, meddled

    (source / "twin").write_bytes(FILES["large"])
    vault, dataset = a_vault(), a_dataset("it", source)

    class Failing(MeddlingSource):
        def on_read(self, name: bytes, position: int) -> None:
            if name == b"large" and position > 0:
                raise SourceUnreadable("large cannot be read: it is torn.", reason="it is torn")

    plan = plan_snapshot(vault, dataset, SITE)
    plan, _ = meddled(plan, Failing(plan.source))
    record = execute_snapshot(vault, plan, workers=4).record
    assert (state_of(vault, record, "large"), state_of(vault, record, "twin")) == ("unreadable", "ok")
    assert verify_vault(vault, level=Level.CONTENT).findings == ()
    restore(vault, record, tmp_path / "target")
    assert (tmp_path / "target" / "twin").read_bytes() == FILES["large"]
