"""Disks that are full or may not be written to: at the target of a restore, at the index cache, at the witness. The
vault's own is in ``tests/protect/test_vault_errors.py``."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from reopen.errors import ReopenError, TargetUnwritable
from reopen.protect.plan import plan_snapshot
from reopen.protect.verify.verify import verify_vault
from reopen.protect.witness import Witness
from reopen.recover.tree import WORK_FOLDER
from reopen.vault import Vault, indexcache
from reopen.vault.indexcache import IndexCache
from tests import proof
from tests.crash.calls import TREE_CALLS, failing_at
from tests.kit import SITE, a_dataset, a_vault, restore, snapshot
from tests.trees import differences, grow, some_bytes

FILES = {"a": some_bytes(20_000, 1), "b/c": some_bytes(3_000, 2), "d": b"", "e/f/g": b"x"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = grow(tmp_path / "source", FILES)
    (source / "link").symlink_to("a")
    os.link(source / "b" / "c", source / "b" / "hard")
    return source


@pytest.fixture
def vault(source: Path) -> Vault:
    vault = a_vault()
    snapshot(vault, a_dataset("it", source))
    return vault


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_target_that_refuses_at_any_call_is_told_and_a_second_run_finishes(
    vault: Vault, source: Path, tmp_path: Path, number: int
) -> None:
    """Every call with which a restore writes fails once, the n-th for every n."""
    record, quiet = vault.records()[0], 0
    for at in itertools.count():
        target = tmp_path / f"target-{at}"
        with failing_at(at, OSError(number, os.strerror(number))) as failure:
            told = refusal_of(vault, target)
        if not failure.happened:
            break
        if told is None:
            # It was the probe for names that fold, without which the restore is careful instead.
            assert differences(source, target) == []
            quiet += 1
            continue
        assert str(target) in str(told)
        assert told.hint
        shown = {name for name in FILES if (target / name).exists()}
        assert all((target / name).read_bytes() == FILES[name] for name in shown)
        restore(vault, record, target)
        assert differences(source, target) == []
        assert not (target / WORK_FOLDER.decode()).exists()
    assert at > len(TREE_CALLS)
    assert quiet <= 2
    proof.count("fault points", at)


def refusal_of(vault: Vault, target: Path) -> TargetUnwritable | None:
    """What a restore says of a target that it cannot write to."""
    try:
        restore(vault, vault.records()[0], target)
    except TargetUnwritable as error:
        return error
    return None


def refuse(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_at_the_index_cache_costs_time_and_no_snapshot(
    vault: Vault, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call with which the cache is written fails once; the plan is the same as without a cache."""
    monkeypatch.setattr(indexcache, "SAVE_AFTER_PARTS", 1)
    dataset = a_dataset("it", source)
    expected = plan_snapshot(vault, dataset, SITE)
    for at in itertools.count():
        cache = IndexCache(tmp_path / f"cache-{at}")
        with failing_at(at, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) as failure:
            found = plan_snapshot(vault, dataset, SITE, cache=cache)
        assert found.read_files == expected.read_files
        if not failure.happened:
            break
        assert plan_snapshot(vault, dataset, SITE, cache=cache).read_files == expected.read_files
    assert at > 1
    proof.count("fault points", at)


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "replace"])
def test_a_full_disk_at_the_witness_is_told_and_keeps_what_it_knew(
    vault: Vault, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """What a reader has seen must not be lost silently: the error names the file."""
    folder = tmp_path / "witness"
    if call != "mkdir":
        Witness(folder).remember(vault)
        (source / "a").write_bytes(b"changed")
        snapshot(vault, a_dataset("it", source))
    fill_up(monkeypatch, call)
    with pytest.raises(ReopenError, match="witness"):
        Witness(folder).remember(vault)
    monkeypatch.undo()
    assert verify_vault(vault, record=False, witness=Witness(folder)).findings == ()
    assert not list(tmp_path.rglob("*.new"))
    Witness(folder).remember(vault)
    proof.count("fault points")


def fill_up(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Let one step of writing a file fail as on a full disk."""
    if call in ("mkdir", "replace"):
        monkeypatch.setattr(Path, call, refuse)
        return
    real = Path.open

    def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if "w" not in mode:
            return real(path, mode, *arguments, **options)
        if call == "open":
            refuse()
        file = real(path, mode, *arguments, **options)
        return _FullFile(file)

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: opened(path, "wb").write(data))


class _FullFile:
    """A file that takes no byte."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def write(self, data: bytes) -> int:
        self._inner.close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __enter__(self) -> _FullFile:
        return self

    def __exit__(self, *details: object) -> None:
        self._inner.close()
