"""A manifest is data from outside: whoever holds a writer's key can say anything in it, and must not get out of the
target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reopen.errors import Refused, ReopenError
from reopen.recover.names import NAME_BYTES_MAX
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.tables import MANIFEST
from tests.kit import a_dataset, a_vault, restore, snapshot, with_manifest
from tests.trees import grow


def entry(name: str | bytes, kind: str = "file", **changes: Any) -> dict[str, Any]:
    """One row of a manifest, of an empty file unless said otherwise."""
    raw = name if isinstance(name, bytes) else None
    row = dict.fromkeys(MANIFEST.names)
    row |= {"path": raw.decode("utf-8", "backslashreplace") if raw is not None else name, "path_raw": raw}
    row |= {"type": kind, "size_bytes": 0, "chunks": b"", "change": "added", "read_state": "ok", "mode": 0o644}
    return row | changes


@pytest.fixture
def vault() -> Vault:
    return a_vault()


@pytest.fixture
def record(vault: Vault, tmp_path: Path) -> SnapshotRecord:
    return snapshot(vault, a_dataset("it", grow(tmp_path / "source", {"good": "x"}))).record


HOSTILE: dict[str, list[dict[str, Any]]] = {
    "parent": [entry("../escaped")],
    "parent in the middle": [entry("a", "dir"), entry("a/../../escaped")],
    "parent at the end": [entry("a/..", "dir")],
    "absolute": [entry("/escaped")],
    "dot": [entry("./escaped")],
    "empty segment": [entry("a//escaped")],
    "trailing slash": [entry("a/", "dir")],
    "empty": [entry("")],
    "NUL": [entry("a\0b")],
    "NUL in raw bytes": [entry(b"\xff\0b")],
    "raw bytes that disagree with the text": [entry(b"../\xff") | {"path": "innocent"}],
    "twice": [entry("same"), entry("same", "dir")],
    "twice under two forms": [entry("same"), entry(b"same")],
    "below a symlink": [entry("link", "symlink", link_target=".."), entry("link/escaped")],
    "far below a symlink": [entry("link", "symlink", link_target=".."), entry("link/a/b/escaped")],
    "below a file": [entry("file"), entry("file/escaped")],
    "symlink below a symlink": [
        entry("link", "symlink", link_target=".."),
        entry("link/escaped", "symlink", link_target="x"),
    ],
    "folder below a symlink": [entry("link", "symlink", link_target=".."), entry("link/escaped", "dir")],
    "too long": [entry("n" * (NAME_BYTES_MAX + 5000))],
}


@pytest.mark.parametrize("rows", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_name_that_leads_out_is_refused_before_anything_is_written(
    vault: Vault, record: SnapshotRecord, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    forged = with_manifest(vault, record, pa.Table.from_pylist([entry("good"), *rows], schema=MANIFEST))
    target = tmp_path / "jail" / "target"
    with pytest.raises(Refused, match="in the manifest"):
        restore(vault, forged, target)
    assert not (tmp_path / "jail").exists()


def test_a_segment_longer_than_the_file_system_takes_is_told(
    vault: Vault, record: SnapshotRecord, tmp_path: Path
) -> None:
    """Not hostile as such; another file system may have allowed it."""
    forged = with_manifest(vault, record, pa.Table.from_pylist([entry("n" * 300)], schema=MANIFEST))
    with pytest.raises(ReopenError, match="cannot be written"):
        restore(vault, forged, tmp_path / "target")


def test_a_symlink_may_point_anywhere_and_is_never_followed(
    vault: Vault, record: SnapshotRecord, tmp_path: Path
) -> None:
    outside = grow(tmp_path / "outside", {"victim": "x"})
    rows = [
        entry("out", "symlink", link_target=str(outside)),
        entry("up", "symlink", link_target="../outside/victim"),
    ]
    forged = with_manifest(vault, record, pa.Table.from_pylist(rows, schema=MANIFEST))
    for _ in range(2):
        restore(vault, forged, tmp_path / "target", delete=True)
    assert (tmp_path / "target" / "out").readlink() == outside
    assert [path.name for path in outside.iterdir()] == ["victim"]


def test_chunk_lists_that_do_not_add_up_are_refused(vault: Vault, record: SnapshotRecord, tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"chunks": bytes(31)},
        {"chunks": bytes(64)},
        {"chunks": bytes(64), "chunk_sizes": bytes(8), "size_bytes": 9},
    ]
    for number, changes in enumerate(wrong):
        forged = with_manifest(vault, record, pa.Table.from_pylist([entry("f", **changes)], schema=MANIFEST))
        with pytest.raises(ReopenError):
            restore(vault, forged, tmp_path / f"target{number}")
        assert not (tmp_path / f"target{number}" / "f").exists()
