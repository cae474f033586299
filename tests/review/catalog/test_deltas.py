"""What is noted of a version is what comparing whole manifests says, whatever was taken and expired in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reopen.review.catalog import versions
from reopen.review.catalog.file import open_in_memory
from reopen.review.catalog.tables import INNER, TABLES, WAITING
from reopen.review.catalog.versions import MANIFESTS, drop_records, load_waiting
from reopen.vault.tables import MANIFEST

Entries = Mapping[str, tuple[int, int]]
"""Content and mode by name; a content is as long as its number."""
NAMES = ("a", "b", "x/c", "x/d")

entries = st.dictionaries(st.sampled_from(NAMES), st.tuples(st.integers(0, 2), st.integers(0, 1)))
steps = st.lists(
    st.one_of(entries, entries, st.lists(st.integers(0, 9), min_size=1, max_size=3)), min_size=2, max_size=9
)
"""A manifest that is taken, or the numbers of snapshots that expire."""


def manifest(now: Entries, before: Entries) -> pa.Table:
    """The rows of one snapshot, with what it says of itself beside the one before, which may be gone by now."""
    rows = [
        {
            "path": name, "type": "file", "size_bytes": content, "mode": mode, "chunks": bytes([content]) * 32,
            "read_state": "ok", "mtime_s": 1_700_000_000, "change": change_of(before.get(name), (content, mode)),
        }
        for name, (content, mode) in sorted(now.items())
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=MANIFEST)


def change_of(before: tuple[int, int] | None, after: tuple[int, int]) -> str:
    if before is None:
        return "added"
    if before[0] != after[0]:
        return "modified"
    return "metadata" if before[1] != after[1] else "unchanged"


def expected(taken: Mapping[int, Entries], alive: list[int]) -> set[tuple[Any, ...]]:
    """By comparing whole manifests: each with the one before that is left, the first with what it was compared with."""
    rows: set[tuple[Any, ...]] = set()
    for at, number in enumerate(alive):
        now = taken[number]
        before = taken[alive[at - 1]] if at else taken.get(number - 1, {})
        for name, entry in now.items():
            change = change_of(before.get(name), entry)
            size_before = before[name][0] if at and name in before else None
            if change != "unchanged":
                grown = entry[0] if change == "added" else None if size_before is None else entry[0] - size_before
                rows.add((number, name, change, entry[0], size_before, grown))
        if at:
            gone = {name: before[name][0] for name in before.keys() - now}
            rows |= {(number, name, "removed", size, size, -size) for name, size in gone.items()}
    return rows


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_in_memory(Path(tmp_path_factory.mktemp("deltas"))) as connection:
        yield connection


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
@example(steps=[{"a": (1, 0)}, {"a": (2, 0), "b": (1, 0)}, [0]])
@example(steps=[{"a": (1, 0)}, {"a": (2, 0)}, {"a": (2, 1)}, {}, [1], [1]])
def test_changes_are_what_comparing_each_snapshot_with_the_one_before_says(
    catalog: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch, steps: list[Entries | list[int]]
) -> None:
    """D1 to D3, over manifests that are taken one by one and snapshots that expire among them."""
    monkeypatch.setattr(versions, "_parts", lambda pool, kind, record, places: iter([record]))
    for table in TABLES.keys() - {"meta"}:
        catalog.execute(f"DELETE FROM {INNER}.{table}")
    taken: dict[int, Entries] = {}
    alive: list[int] = []
    for step in steps:
        if isinstance(step, list):
            gone = {alive[number % len(alive)] for number in step if alive}
            drop_records(catalog, [f"record-{number}" for number in gone])
            alive = [number for number in alive if number not in gone]
        else:
            number = len(taken) + 1
            taken[number] = step
            alive.append(number)
            catalog.execute(
                f"""INSERT INTO {INNER}.records (name, dataset, vault, seq, snapshot, manifest_snapshot, series,
                    manifest_state) VALUES (?, 'papers', 'v', ?, ?, ?, 1, '{WAITING}')""",
                [f"record-{number}", number, f"s{number}", f"s{number}"],
            )
            rows = manifest(step, taken.get(number - 1, {}))
            assert load_waiting(catalog, MANIFESTS, lambda name, rows=rows: (rows, ())) == {}  # type: ignore[misc]
        if isinstance(step, list) or step is steps[-1]:
            found = catalog.execute(
                "SELECT seq, path, change, size_bytes, size_bytes_before, grown_bytes FROM changes"
            ).fetchall()
            assert len(found) == len(set(found))
            assert set(found) == expected(taken, alive)
