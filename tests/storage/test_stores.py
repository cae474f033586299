"""Every store under the same contract: local, obstore's memory, fsspec's, and S3 on a real server on loopback."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from reopen.errors import Internal, InvalidInput, NotFound, Transient, VaultUnwritable
from reopen.storage import ObjectStore, open_store, probe_exclusive_create
from reopen.storage.base import Capabilities, ObjectInfo, Piece
from reopen.storage.filesystem import FsspecStore
from reopen.storage.local import LocalStore
from reopen.storage.objects import ObstoreStore
from reopen.storage.sftp import SftpStore
from tests.s3 import make_bucket
from tests.servers import Served
from tests.storage.contract import StoreContract


class TestLocalStore(StoreContract):
    """A folder."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return LocalStore(tmp_path / "vault")


class TestMemory(StoreContract):
    """obstore's store in memory."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        return ObstoreStore(f"memory://{secrets.token_hex(8)}")


class TestFsspecLocal(StoreContract):
    """fsspec's local file system, standing for any file system with folders."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return FsspecStore(f"file://{tmp_path}/vault")


class TestFsspecMemory(StoreContract):
    """fsspec's memory file system."""

    @pytest.fixture
    def store(self) -> Iterator[ObjectStore]:
        store = FsspecStore(f"memory://{secrets.token_hex(8)}")
        yield store
        with contextlib.suppress(FileNotFoundError):
            store._filesystem.rm(store._root, recursive=True)


class TestS3(StoreContract):
    """S3 as a real server speaks it, below a prefix of a bucket."""

    @pytest.fixture
    def store(self, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        bucket = make_bucket(s3_endpoint, monkeypatch)
        return open_store(f"s3://{bucket}/some/prefix")


class TestS3OnDisk(StoreContract):
    """S3 as rclone speaks it: real accounts, no conditions."""

    may_list_twice = True

    @pytest.fixture
    def store(self, s3_on_disk: Served, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        return open_store(s3_on_disk.s3_url(monkeypatch))


class TestSftp(StoreContract):
    """SFTP as rclone speaks it."""

    may_list_twice = True

    @pytest.fixture
    def store(self, sftp_on_disk: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
        store = SftpStore(sftp_on_disk.sftp_url(monkeypatch))
        yield store
        store.close()

    def test_readers_see_whole_objects_only(self, store: ObjectStore) -> None:
        """D1, as a vault needs it: its names are used once, and what is read under one is nothing or the whole.

        Of a name that is replaced again and again this server gives parts of two versions now and then (twice in some
        hundred runs): it looks a file up by its name for each part. OpenSSH reads on in the file that was opened.
        """
        versions = [bytes([number]) * 50_000 for number in range(8)]
        done = threading.Event()

        def write() -> None:
            for number, version in enumerate(versions):
                store.put(f"whole/{number}", [version[:20_000], version[20_000:]])
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        seen: set[int] = set()
        try:
            while len(seen) < len(versions):
                assert writer.is_alive() or done.is_set()
                for number in set(range(len(versions))) - seen:
                    with contextlib.suppress(NotFound):
                        assert store.get(f"whole/{number}") == versions[number]
                        seen.add(number)
        finally:
            writer.join()


class _Pretender(LocalStore):
    """Accepts the condition and ignores it, as some servers do."""

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        return self.put(name, pieces)


def test_the_probe_finds_a_store_that_ignores_the_condition(tmp_path: Path) -> None:
    store = _Pretender(tmp_path)
    assert probe_exclusive_create(store) is False
    assert list(store.list()) == []


class _Liar(LocalStore):
    """Reports a conflict and has replaced the object all the same."""

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        present = bool(list(self.list(name)))
        self.put(name, pieces)
        return super().create(name, pieces) if present else 0


def test_the_probe_refuses_a_store_that_reports_a_conflict_and_replaces(tmp_path: Path) -> None:
    with pytest.raises(Internal, match="replaced"):
        probe_exclusive_create(_Liar(tmp_path))


def test_the_url_chooses_the_store(tmp_path: Path) -> None:
    assert isinstance(open_store(str(tmp_path)), LocalStore)
    assert isinstance(open_store(f"file://{tmp_path}/a%20b"), LocalStore)
    assert open_store(f"file://{tmp_path}/a%20b").url == f"{tmp_path}/a b"
    assert isinstance(open_store("memory://here"), ObstoreStore)
    with pytest.raises(InvalidInput, match="gopher"):
        open_store("gopher://somewhere/else")


def test_one_memory_url_is_one_store() -> None:
    url = f"memory://{secrets.token_hex(8)}"
    open_store(url).put("a", [b"x"])
    assert open_store(url).get("a") == b"x"


def test_an_object_that_was_taken_away_holds_no_bytes() -> None:
    # rclone's S3 server says "exists already" and removes the object the next moment, to replace it.
    store = ObstoreStore(f"memory://{secrets.token_hex(8)}")
    store.put("there", [b"ours"])
    assert store.holds("there", b"ours")
    assert not store.holds("there", b"them")
    store.delete("there")
    assert not store.holds("there", b"ours")


def test_a_failing_listing_is_an_error_and_never_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """D4 for fsspec, whose own ``exists`` and ``find`` take a failure for absence."""
    store = FsspecStore(f"file://{tmp_path}")
    store.put("p/a", [b"x"])

    def fail(*_: object, **__: object) -> None:
        raise OSError("the line is down")

    monkeypatch.setattr(store._filesystem, "ls", fail)
    with pytest.raises(Transient, match="the line is down"):
        list(store.list())
    monkeypatch.setattr(store._filesystem, "info", fail)
    with pytest.raises(Transient):
        store.create("p/b", [b"y"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_full_or_closed_file_system_is_unwritable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    """D5 for fsspec."""
    store = FsspecStore(f"file://{tmp_path}")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(store._filesystem, "pipe_file", fail)
    with pytest.raises(VaultUnwritable):
        store.create("a", [b"x"])


def test_two_prefixes_of_a_store_do_not_see_each_other(tmp_path: Path) -> None:
    first, second = LocalStore(tmp_path / "a"), LocalStore(tmp_path / "ab")
    first.put("x", [b"1"])
    assert list(second.list()) == []


def test_listing_entries_carry_sizes_and_times(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", [b"123"])
    assert list(store.list()) == [store.head("a")]
    assert isinstance(store.head("a"), ObjectInfo)
    assert store.capabilities == Capabilities(exclusive_create=True)
