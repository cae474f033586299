"""What changed, by folder."""

from __future__ import annotations

import pyarrow as pa

from reopen.protect.manifest import changes_by_folder


def test_changes_are_counted_by_first_folder_the_most_changed_first() -> None:
    rows = [
        ("top.txt", "added", 10),
        ("a/one", "modified", 1),
        ("a/deep/two", "modified", 2),
        ("a/three\nwith a line", "modified", 4),
        ("a/four", "added", 100),
        ("b/same", "unchanged", 1000),
    ]
    names = ("path", "change", "size_bytes")
    manifest = pa.table({name: [row[number] for row in rows] for number, name in enumerate(names)})
    assert changes_by_folder(manifest).to_pylist() == [
        {"folder": "a", "change": "modified", "entries": 3, "size_bytes": 7},
        {"folder": "", "change": "added", "entries": 1, "size_bytes": 10},
        {"folder": "a", "change": "added", "entries": 1, "size_bytes": 100},
    ]


def test_nothing_changed_is_an_empty_table() -> None:
    manifest = pa.table({"path": ["a"], "change": ["unchanged"], "size_bytes": [1]})
    assert changes_by_folder(manifest).num_rows == 0
