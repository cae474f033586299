"""Every store under the same contract: local, obstore's memory, fsspec's, and S3 on a real server on loopback."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from reopen.errors import Internal, InvalidInput, Transient, VaultUnwritable
from reopen.storage import ObjectStore, open_store, probe_exclusive_create
from reopen.storage.base import Capabilities, ObjectInfo, Piece
from reopen.storage.filesystem import FsspecStore
from reopen.storage.local import LocalStore
from reopen.storage.objects import ObstoreStore
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


@pytest.fixture(scope="module")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A moto server, which honours ``If-None-Match``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/moto-api/", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=20)


class TestS3(StoreContract):
    """S3 as a real server speaks it, below a prefix of a bucket."""

    @pytest.fixture
    def store(self, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": s3_endpoint,
            "AWS_ALLOW_HTTP": "true",
            # Some machines send loopback through a proxy.
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        bucket = f"bucket-{secrets.token_hex(6)}"
        request = urllib.request.Request(f"{s3_endpoint}/{bucket}", method="PUT")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200
        return open_store(f"s3://{bucket}/some/prefix")


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


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            opener.open(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)  # Waits for a condition; there is nothing to be told by.
        else:
            return
    raise AssertionError(log.read_text())
