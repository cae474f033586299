"""Restoring to a place that is no local folder, in parts of bounded size."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from reopen.errors import Corrupt, Refused
from reopen.vault import Vault
from tests.kit import a_dataset, a_vault, restore, snapshot, statuses
from tests.stores import MemoryStore
from tests.trees import grow, some_bytes

FILES = {f"folder{n % 3}/file{n}": some_bytes(500 + n, n) for n in range(40)} | {"empty": b""}


@pytest.fixture
def vault() -> Vault:
    return a_vault()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reopen.recover.remote.PART_FILES_MAX", 7)
    monkeypatch.setattr("reopen.recover.remote.PART_BYTES_MAX", 3000)


def test_files_go_there_part_by_part(vault: Vault, tmp_path: Path) -> None:
    record = snapshot(vault, a_dataset("it", grow(tmp_path / "source", FILES))).record
    url = f"memory://{tmp_path.name}/there"
    result = restore(vault, record, url)
    assert (result.files, result.written_files, result.unchanged_files) == (41, 41, 0)
    assert result.written_bytes == sum(map(len, FILES.values()))
    remote = fsspec.filesystem("memory")
    assert {name: remote.cat_file(f"/{tmp_path.name}/there/{name}") for name in FILES} == FILES
    assert restore(vault, record, url).written_files == 0


def test_damage_in_many_parts_is_told_once_and_under_the_target_s_name(vault: Vault, tmp_path: Path) -> None:
    record = snapshot(vault, a_dataset("it", grow(tmp_path / "source", FILES))).record
    assert isinstance(vault.store, MemoryStore)
    for name in vault.store.names("packs/"):
        vault.store.delete(name)
    url = f"memory://{tmp_path.name}/there"
    with pytest.raises(Corrupt, match=f"40 of 41 files .* The others are in {url}"):
        restore(vault, record, url)
    assert {name for name, status in statuses(vault, record, url).items() if status == "ok"} == {
        "empty",
        "folder0",
        "folder1",
        "folder2",
    }


def test_two_names_that_would_be_one_there_are_refused(vault: Vault, tmp_path: Path) -> None:
    """A name that is not UTF-8 is shown as text there, and that text may be the name of another file."""
    source = grow(tmp_path / "source", {"\\xff": b"text"})
    (source / Path(b"\xff".decode("utf-8", "surrogateescape"))).write_bytes(b"raw")
    record = snapshot(vault, a_dataset("it", source)).record
    with pytest.raises(Refused, match="two files"):
        restore(vault, record, f"memory://{tmp_path.name}/there")
    restore(vault, record, tmp_path / "local")
    assert len(list((tmp_path / "local").iterdir())) == 2
