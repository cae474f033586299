"""What differs between two snapshots."""

from __future__ import annotations

import os

import pyarrow as pa

from reopen.review.difference import DIFFERENCE, compare_snapshots, count_changes
from tests.review.history import Archive


def changes(table: pa.Table) -> dict[str, str]:
    return dict(zip(table.column("path").to_pylist(), table.column("change").to_pylist(), strict=True))


def test_added_removed_modified_and_metadata_are_told_apart(archive: Archive) -> None:
    archive.write("papers", {"gone": "1", "same": "2", "grown": "3", "touched": "4"})
    first = archive.snapshot("papers")
    archive.write("papers", {"gone": None, "new": "5", "grown": "33"})
    os.chmod(archive.folder / "data/papers/touched", 0o600)
    second = archive.snapshot("papers")
    found = compare_snapshots(archive.vault, first, second)
    assert found.schema == DIFFERENCE
    assert changes(found) == {"gone": "removed", "grown": "modified", "new": "added", "touched": "metadata"}
    assert count_changes(found) == {"added": 1, "removed": 1, "modified": 1, "metadata": 1}


def test_the_way_back_is_the_mirror_image(archive: Archive) -> None:
    archive.write("papers", {"one": "1"})
    first = archive.snapshot("papers")
    archive.write("papers", {"one": None, "two": "22"})
    second = archive.snapshot("papers")
    assert changes(compare_snapshots(archive.vault, second, first)) == {"one": "added", "two": "removed"}


def test_a_file_that_became_a_symlink_is_modified(archive: Archive) -> None:
    archive.write("papers", {"one": "1", "two": "1"})
    first = archive.snapshot("papers")
    (archive.folder / "data/papers/two").unlink()
    (archive.folder / "data/papers/two").symlink_to("one")
    second = archive.snapshot("papers")
    table = compare_snapshots(archive.vault, first, second)
    assert changes(table) == {"two": "modified"}
    assert table.column("type").to_pylist() == ["symlink"]


def test_snapshots_that_share_a_manifest_do_not_differ(archive: Archive) -> None:
    archive.write("papers", {"one": "1"})
    first, second = archive.snapshot("papers"), archive.snapshot("papers")
    assert compare_snapshots(archive.vault, first, second).num_rows == 0
