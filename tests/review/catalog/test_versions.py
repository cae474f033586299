"""Intervals say what the manifests say, whenever they were taken and whatever expired since."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest

from reopen.review.catalog.file import open_in_memory
from reopen.review.catalog.sync import execute_refresh, plan_refresh
from reopen.review.catalog.tables import INNER, OPEN
from reopen.review.difference import compare_snapshots
from tests.review.catalog.kept import entries_in, entries_of, sources
from tests.review.history import Archive

VIEWS = ("snapshots", "entries", "changes", "largest_files", "churn_by_folder", "growth", "lost_now")


def refresh(connection: duckdb.DuckDBPyConnection, archive: Archive) -> None:
    execute_refresh(connection, plan_refresh(connection, sources(archive.vault)))


def check(connection: duckdb.DuckDBPyConnection, archive: Archive) -> None:
    """Every snapshot as its manifest has it, and the invariants of the stored table."""
    records = archive.vault.records()
    listed = connection.execute("SELECT snapshot FROM snapshots ORDER BY dataset, seq").fetchall()
    assert [snapshot for (snapshot,) in listed] == [record.id for record in records]
    for record in records:
        assert entries_of(connection, record.id) == entries_in(archive.vault, record)
    positions = f"SELECT position FROM {INNER}.records r WHERE r.series = v.series UNION ALL SELECT {OPEN}"
    wrong = connection.execute(
        f"""SELECT count(*) FROM {INNER}.versions v WHERE first_position >= end_position
        OR first_position NOT IN ({positions}) OR end_position NOT IN ({positions})"""
    ).fetchall()
    assert wrong == [(0,)], "T1"


def rows(connection: duckdb.DuckDBPyConnection, view: str) -> list[str]:
    return sorted(str(row) for row in connection.execute(f"FROM {view}").fetchall())


@pytest.mark.parametrize("seed", [2])
def test_a_history_that_grew_and_expired_piece_by_piece_reads_as_one_that_is_taken_at_once(
    archive: Archive, tmp_path: Path, seed: int
) -> None:
    """Random edits, snapshots, refreshes and expiries from a seed; after each refresh entries are those of the
    manifests, and at the end every view gives what a fresh catalog gives."""
    draw = random.Random(seed)
    names = ["a", "b", "sub/c", "sub/d", "\\xff"]
    with open_in_memory(tmp_path) as connection:
        for _ in range(8):
            there = {name for name in names if (archive.folder / "data/papers" / name).exists()}
            edits: dict[str, str | None] = {
                name: None if name in there and draw.random() < 0.4 else str(draw.random())
                for name in draw.sample(names, draw.randint(0, 3))
            }
            archive.write("papers", {"always": "here"} | edits)
            archive.snapshot("papers")
            records = archive.vault.records("papers")
            if draw.random() < 0.5 and len(records) > 2:
                archive.vault.store.delete(draw.choice(records).name)
            if draw.random() < 0.6:
                refresh(connection, archive)
                check(connection, archive)
        refresh(connection, archive)
        check(connection, archive)
        assert plan_refresh(connection, sources(archive.vault)).waiting == 0
        with open_in_memory(tmp_path) as fresh:
            refresh(fresh, archive)
            check(fresh, archive)
            assert {view: rows(connection, view) for view in VIEWS} == {view: rows(fresh, view) for view in VIEWS}
        for before, after in pairwise(archive.vault.records()):
            sql = "SELECT path, change, type FROM changes WHERE snapshot = ?"
            found = connection.execute(sql, [after.id]).fetchall()
            compared = compare_snapshots(archive.vault, before, after).select(["path", "change", "type"])
            assert sorted(found) == sorted(tuple(row.values()) for row in compared.to_pylist())


def test_an_entry_that_stays_as_it_is_costs_one_row(archive: Archive, tmp_path: Path) -> None:
    archive.write("papers", {"one": "1", "two": "2"})
    archive.snapshot("papers")
    for number in range(4):
        archive.write("papers", {"two": str(number) * 9})
        archive.snapshot("papers")
    with open_in_memory(tmp_path) as connection:
        refresh(connection, archive)
        found = connection.execute(
            f"SELECT path, count(*) FROM {INNER}.versions GROUP BY path ORDER BY path"
        ).fetchall()
        assert found == [("one", 1), ("two", 5)]


def test_a_snapshot_that_turns_up_between_others_is_put_where_it_belongs(archive: Archive, tmp_path: Path) -> None:
    """A replica that was cut off brings an earlier record (V2)."""
    for text in ("1", "22", "333"):
        archive.write("papers", {"one": text})
        archive.snapshot("papers")
    record = archive.vault.records("papers")[1]
    data = archive.vault.store.get(record.name)
    archive.vault.store.delete(record.name)
    with open_in_memory(tmp_path) as connection:
        refresh(connection, archive)
        archive.vault.store.create(record.name, [data])
        refresh(connection, archive)
        check(connection, archive)
        found = connection.execute("SELECT size_bytes FROM history('one')").fetchall()
        assert found == [(1,), (2,), (3,)]


def test_a_manifest_that_was_damaged_is_taken_when_it_is_whole_again(archive: Archive, tmp_path: Path) -> None:
    for text in ("1", "22", "333"):
        archive.write("papers", {"one": text})
        archive.snapshot("papers")
    record = archive.vault.records("papers")[1]
    part = Path(archive.vault.store.url) / record.manifest.parts[0].name
    data = part.read_bytes()
    part.write_bytes(data[:-9])
    with open_in_memory(tmp_path) as connection:
        refresh(connection, archive)
        found = connection.execute("SELECT entries_state FROM snapshots ORDER BY seq").fetchall()
        assert found == [("loaded",), ("unreadable",), ("loaded",)]
        assert entries_of(connection, record.id) == set()
        part.write_bytes(data)
        refresh(connection, archive)
        check(connection, archive)


def test_profiles_are_those_of_each_snapshot(archive: Archive, tmp_path: Path) -> None:
    for text in ("id\n1\n", "id\n1\n2\n", "id\n1\n2\n"):
        archive.write("sales", {"a.csv": text})
        archive.snapshot("sales", table=True)
    with open_in_memory(tmp_path) as connection:
        refresh(connection, archive)
        found = connection.execute("SELECT seq, column_name, rows FROM profiles ORDER BY seq").fetchall()
        assert found == [(1, "id", 1), (2, "id", 2), (3, "id", 2)]
