"""What goes into the vault comes out: every kind of entry, every kind of name, with its metadata."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit import CHUNKS, a_dataset, a_vault, restore, rows_of, snapshot, statuses
from tests.trees import OLD_NS, age, describe, differences, grow, some_bytes

names = (
    st.one_of(
        st.binary(min_size=1, max_size=12).map(lambda raw: raw.replace(b"\0", b"_").replace(b"/", b"_")),
        st.text(min_size=1, max_size=12).map(
            lambda text: text.encode("utf-8", "replace").replace(b"\0", b"_").replace(b"/", b"_")
        ),
        st.sampled_from(
            [b"-rf", b"a b", b"line\nbreak", b"*.csv", b"\xff\xfe", b"'\"$`", "é".encode(), "e\u0301".encode()]
        ),
    )
    .map(lambda raw: raw[:255])
    .filter(lambda raw: raw not in (b".", b".."))
)
contents = st.one_of(
    st.binary(max_size=64),
    st.tuples(st.integers(0, 50_000), st.integers(0, 3)).map(lambda it: some_bytes(*it)),
    st.integers(0, 50_000).map(bytes),
)
moments = st.integers(-(10**18), 4 * 10**18)
modes = st.sampled_from([0o644, 0o600, 0o755, 0o400, 0o000, 0o4711])
files = st.tuples(st.just("file"), contents, modes, moments)
symlinks = st.tuples(st.just("symlink"), names, st.just(0), moments)
trees: Any = st.recursive(
    st.dictionaries(names, st.one_of(files, symlinks), max_size=5),
    lambda inner: st.dictionaries(names, st.one_of(files, inner), max_size=4),
    max_leaves=8,
)


def plant(folder: bytes, tree: dict[bytes, Any]) -> None:
    """Make a generated tree on disk; folders get an odd time of their own, after what they hold."""
    os.makedirs(folder, exist_ok=True)
    for name, entry in tree.items():
        path = os.path.join(folder, name)
        if isinstance(entry, dict):
            plant(path, entry)
            os.utime(path, ns=(OLD_NS - 7, OLD_NS - 7))
            continue
        kind, content, mode, moment_ns = entry
        if kind == "symlink":
            os.symlink(content, path)
        else:
            with open(path, "wb") as file:
                file.write(content)
            os.chmod(path, mode)
        os.utime(path, ns=(moment_ns, moment_ns), follow_symlinks=False)


@settings(max_examples=40)
@given(tree=trees)
def test_any_tree_comes_back_as_it_was(tree: dict[bytes, Any]) -> None:
    """Whatever the names, bytes, modes and times; a second restore over the first finds nothing to write."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        plant(os.fsencode(source), tree)
        vault = a_vault()
        record = snapshot(vault, a_dataset("any", source)).record
        restore(vault, record, target)
        assert differences(source, target) == []
        assert set(statuses(vault, record, target).values()) <= {"ok"}
        again = restore(vault, record, target)
        assert (again.written_files, again.written_bytes, again.unchanged_files) == (0, 0, again.files)


def round_trip(source: Path, target: Path) -> dict[str, dict[str, Any]]:
    """Through a vault and back; returns the manifest by path."""
    vault = a_vault()
    record = snapshot(vault, a_dataset("it", source)).record
    assert record.state == "complete"
    restore(vault, record, target)
    assert differences(source, target) == []
    return rows_of(vault, record)


def test_links_come_back_as_links(tmp_path: Path) -> None:
    """Dangling, to a folder, absolute, and to a name that is not UTF-8: never followed, never resolved."""
    source = grow(tmp_path / "source", {"folder/file": "x"})
    os.symlink("nowhere/at all", source / "dangling")
    os.symlink("folder", source / "to-folder")
    os.symlink("/etc/hostname", source / "absolute")
    os.symlink(b"\xff\xfe", os.fsencode(source) + b"/odd")
    age(source)
    rows = round_trip(source, tmp_path / "target")
    assert rows["to-folder"]["type"] == "symlink"
    assert "to-folder/file" not in rows


def test_empty_files_and_folders_come_back(tmp_path: Path) -> None:
    source = grow(tmp_path / "source", {"empty": "", "a/b/c": ""})
    (source / "nothing" / "below").mkdir(parents=True)
    age(source)
    rows = round_trip(source, tmp_path / "target")
    assert rows["nothing/below"]["type"] == "dir"


def test_odd_names_come_back_byte_for_byte(tmp_path: Path) -> None:
    """The two Unicode forms of one letter are two files; what is not UTF-8 keeps its bytes."""
    odd = [
        b"-n",
        b"a b ",
        b"tab\tand\nline",
        "\u00e9".encode(),
        "e\u0301".encode(),
        b"\xff\xfe\x80",
        b"n" * 255,
        b"...",
        b"\\x41",
    ]
    source = tmp_path / "source"
    source.mkdir()
    for name in odd:
        Path(os.fsdecode(os.path.join(os.fsencode(source), name))).write_bytes(b"held by " + name)
    age(source)
    rows = round_trip(source, tmp_path / "target")
    assert set(describe(tmp_path / "target")) == set(odd)
    assert rows["\\xff\\xfe\\x80"]["path_raw"] == b"\xff\xfe\x80"
    assert rows["\\x41"]["path_raw"] is None


def test_modes_and_times_to_the_nanosecond_come_back(tmp_path: Path) -> None:
    source = grow(tmp_path / "source", {"secret": "x", "program": "y", "folder/z": "z"})
    os.chmod(source / "secret", 0o400)
    os.chmod(source / "program", 0o4755)
    os.chmod(source / "folder", 0o2570)
    os.utime(source / "secret", ns=(0, 10**18 + 1))
    os.utime(source / "program", ns=(0, -1_500_000_000))
    rows = round_trip(source, tmp_path / "target")
    assert (rows["program"]["mtime_s"], rows["program"]["mtime_ns"]) == (-2, 500_000_000)
    assert rows["secret"]["mode"] == 0o400


def test_hard_links_come_back_as_one_file(tmp_path: Path) -> None:
    source = grow(tmp_path / "source", {"first": some_bytes(30_000), "other": "x"})
    (source / "sub").mkdir()
    os.link(source / "first", source / "sub" / "second")
    os.link(source / "first", source / "third")
    age(source)
    rows = round_trip(source, tmp_path / "target")
    assert len({rows[name]["link_group"] for name in ("first", "sub/second", "third")}) == 1
    assert (tmp_path / "target" / "third").stat().st_nlink == 3


def test_a_pipe_is_recorded_and_left_out(tmp_path: Path) -> None:
    source = grow(tmp_path / "source", {"file": "x"})
    os.mkfifo(source / "pipe")
    age(source)
    vault = a_vault()
    record = snapshot(vault, a_dataset("it", source)).record
    result = restore(vault, record, tmp_path / "target")
    assert record.state == "complete"
    assert rows_of(vault, record)["pipe"]["type"] == "special"
    assert result.left_out == 1
    assert not (tmp_path / "target" / "pipe").exists()
    assert statuses(vault, record, tmp_path / "target")["pipe"] == "ok"


def test_a_sparse_file_costs_the_vault_little(tmp_path: Path) -> None:
    """Holes come back as zeros, and equal chunks of zeros are stored once."""
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        file.truncate(40 << 20)
        file.seek(20 << 20)
        file.write(some_bytes(5000))
    age(source)
    vault = a_vault()
    record = snapshot(vault, a_dataset("it", source)).record
    restore(vault, record, tmp_path / "target")
    assert differences(source, tmp_path / "target") == []
    assert record.totals.new_raw_bytes < 100_000
    assert record.totals.stored_bytes < 50_000


@pytest.mark.parametrize(
    "size", [1, CHUNKS.min_size, CHUNKS.min_size + 1, CHUNKS.avg_size, CHUNKS.max_size, CHUNKS.max_size + 1]
)
@pytest.mark.parametrize("zeros", [False, True])
def test_files_at_the_borders_of_chunk_sizes_come_back(tmp_path: Path, size: int, zeros: bool) -> None:
    source = grow(tmp_path / "source", {"file": bytes(size) if zeros else some_bytes(size)})
    rows = round_trip(source, tmp_path / "target")
    sizes = rows["file"]["chunk_sizes"]
    assert (sizes is None) == (len(rows["file"]["chunks"]) == 32)


def test_folders_that_nobody_may_write_are_filled_before_they_are_closed(tmp_path: Path) -> None:
    source = grow(tmp_path / "source", {"a/b/file": "x"})
    os.chmod(source / "a" / "b", 0o500)
    os.chmod(source / "a", 0o500)
    round_trip(source, tmp_path / "target")
    assert stat.S_IMODE((tmp_path / "target" / "a").stat().st_mode) == 0o500
