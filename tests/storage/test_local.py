"""The local store's durability and its errors; I1 to I4 are the invariants of :mod:`reopen.storage.local`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reopen.errors import Conflict, Corrupt, NotFound, Refused, Transient, VaultUnwritable
from reopen.storage.local import LocalStore


class Trace:
    """Records the calls that make a write durable, in order, with the files they are about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        for name in ("link", "replace", "mkdir"):
            self._wrap(monkeypatch, name, lambda _source, target="", *_, **__: str(target or _source))
        opened: dict[int, str] = {}
        fsync, open_file = os.fsync, os.open

        def traced_open(path: Any, *arguments: Any, **options: Any) -> int:
            descriptor = open_file(path, *arguments, **options)
            opened[descriptor] = str(path)
            return descriptor

        def traced_fsync(descriptor: int) -> None:
            self.calls.append(("fsync", opened[descriptor]))
            fsync(descriptor)

        monkeypatch.setattr(os, "open", traced_open)
        monkeypatch.setattr(os, "fsync", traced_fsync)

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, name: str, about: Callable[..., str]) -> None:
        call: Callable[..., Any] = getattr(os, name)

        def traced(*arguments: Any, **options: Any) -> Any:
            result = call(*arguments, **options)
            subject = str(arguments[0]) if name == "mkdir" else about(*arguments)
            self.calls.append((name, subject))
            return result

        monkeypatch.setattr(os, name, traced)

    def steps(self, root: Path) -> list[tuple[str, str]]:
        """The calls, with temporary files shown as ``TEMP`` and names relative to the root."""

        def shown(path: str) -> str:
            relative = os.path.relpath(path, root)
            head, _, last = relative.rpartition("/")
            return f"{head}/TEMP" if last.startswith(".tmp-") else relative

        return [(call, shown(path)) for call, path in self.calls]


@pytest.mark.parametrize(("verb", "appears_by"), [("create", "link"), ("put", "replace")])
def test_bytes_are_durable_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, appears_by: str
) -> None:
    """I1, I2: the file is fsynced, then named, then its folder is fsynced; so is every folder made on the way."""
    store = LocalStore(tmp_path)
    trace = Trace(monkeypatch)
    getattr(store, verb)("packs/ab/abcd", [b"x"])
    assert trace.steps(tmp_path) == [
        ("fsync", ".."),
        ("mkdir", "packs"),
        ("fsync", "."),
        ("mkdir", "packs/ab"),
        ("fsync", "packs"),
        ("fsync", "packs/ab/TEMP"),
        (appears_by, "packs/ab/abcd"),
        ("fsync", "packs/ab"),
    ]


def test_a_folder_that_another_made_is_made_durable_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I2: its maker may have died between making it and fsyncing its parent."""
    (tmp_path / "packs" / "ab").mkdir(parents=True)
    store = LocalStore(tmp_path)
    trace = Trace(monkeypatch)
    store.put("packs/ab/1", [b"x"])
    assert trace.steps(tmp_path)[:3] == [("fsync", ".."), ("fsync", "."), ("fsync", "packs")]
    trace.calls.clear()
    store.put("packs/ab/2", [b"x"])
    assert [step for step in trace.steps(tmp_path) if step[1] in (".", "packs")] == []


def test_the_root_is_made_with_the_first_write_and_not_before(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "deep" / "vault")
    assert list(store.list()) == []
    assert not (tmp_path / "deep").exists()
    store.put("a", [b"x"])
    assert (tmp_path / "deep" / "vault" / "a").read_bytes() == b"x"


def test_temporary_files_of_a_crash_are_invisible(tmp_path: Path) -> None:
    """I4."""
    store = LocalStore(tmp_path)
    store.put("p/a.parquet", [b"x"])
    (tmp_path / "p" / ".tmp-0123456789abcdef").write_bytes(b"torn")
    (tmp_path / ".tmp-clock-00").write_bytes(b"")
    assert [info.name for info in store.list()] == ["p/a.parquet"]
    assert [str(path.name) for path in tmp_path.glob("**/*.parquet")] == ["a.parquet"]


@pytest.mark.parametrize("failing", ["fsync", "writev", "link"])
def test_a_write_that_fails_leaves_neither_object_nor_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    store = LocalStore(tmp_path)
    store.put("p/before", [b"x"])

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(VaultUnwritable, match="is full") as caught:
        store.create("p/object", [b"bytes"])
    assert caught.value.hint
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["before"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, VaultUnwritable),
        (errno.EDQUOT, VaultUnwritable),
        (errno.EACCES, VaultUnwritable),
        (errno.EROFS, VaultUnwritable),
        (errno.EIO, Transient),
        (errno.ENOENT, Transient),
    ],
)
def test_each_failure_to_write_has_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    """D5: what a later try may mend is transient, what a person must mend is not."""
    store = LocalStore(tmp_path)

    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "writev", fail)
    for verb in (store.put, store.create):
        with pytest.raises(expected, match="object") as caught:
            verb("object", [b"x"])
        assert type(caught.value) is expected


def test_a_full_medium_stops_a_partial_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short ``writev`` is continued; nothing is named before every byte is written."""
    store = LocalStore(tmp_path)
    writev = os.writev
    monkeypatch.setattr(os, "writev", lambda descriptor, views: writev(descriptor, [bytes(views[0])[:3]]))
    store.put("a", [b"four score", b"", b"and seven"])
    assert store.get("a") == b"four scoreand seven"


def test_a_folder_without_rights_is_unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may run as root, whom no mode stops, so the refusal is injected where the kernel would give it."""
    store = LocalStore(tmp_path)

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(VaultUnwritable, match="does not accept"):
        store.create("a", [b"x"])


def test_a_medium_that_fails_is_corrupt_when_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    store.put("a", [b"x"])

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(Corrupt, match="medium"):
        store.get("a")


def test_a_listing_that_fails_half_way_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D4."""
    store = LocalStore(tmp_path)
    store.put("a/1", [b"x"])
    store.put("b/1", [b"x"])
    scandir = os.scandir

    def fail(folder: Path) -> Any:
        if Path(folder).name == "b":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(Refused, match="b/") as caught:
        list(store.list())
    assert caught.value.hint


def test_a_lost_race_names_the_object(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.create("p/raced", [b"x"])
    with pytest.raises(Conflict, match="p/raced"):
        store.create("p/raced", [b"y"])
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["raced"]


def test_a_name_below_an_object_is_not_found(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", [b"x"])
    with pytest.raises(NotFound):
        store.get("a/b")
