"""Merging runs into files against a dict; I1 to I3 are the invariants of :mod:`reopen.vault.indexmerge`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reopen.errors import Corrupt
from reopen.vault import indexmerge
from reopen.vault.indexmerge import write_run
from reopen.vault.indexrun import Run, open_run
from tests.vault.indexrows import Row, a_row, a_run, looked_up, written

# Ids of which many share their first eight bytes, and some are in several runs.
IDS = st.tuples(st.integers(0, 4), st.integers(0, 3)).map(lambda parts: bytes([parts[0]]) * 8 + bytes([parts[1]]) * 24)
ROW = st.tuples(IDS, st.integers(0, 2).map(lambda number: bytes([number]) * 32))
RUNS = st.lists(st.lists(ROW, max_size=25), min_size=1, max_size=4)


def every_source(run: Run) -> np.ndarray:
    return np.ones(len(run.tables.sources), dtype=np.bool_)


@settings(max_examples=60)
@given(RUNS, st.sets(st.integers(0, 3)), st.integers(1, 9), st.lists(IDS, max_size=20))
def test_a_merged_file_finds_what_a_dict_finds(
    rows: list[list[tuple[bytes, bytes]]], dropped: set[int], rows_a_step: int, wanted: list[bytes]
) -> None:
    """Pieces of any size; parts that are left out; the same chunk in several runs, packs and parts."""
    runs: list[tuple[Run, bool]] = []
    model: dict[bytes, set[tuple[bytes, int]]] = {}
    number = 0
    for at, some in enumerate(rows):
        numbered: list[Row] = []
        for chunk, pack in some:
            numbered.append((chunk, pack, number))
            if at not in dropped:
                model.setdefault(chunk, set()).add((pack, number))
            number += 1
        runs.append((a_run({f"part {at}": numbered}), at not in dropped))
    before, indexmerge.ROWS_A_STEP = indexmerge.ROWS_A_STEP, rows_a_step
    try:
        with tempfile.TemporaryDirectory() as folder:
            chosen = [(run, np.full(len(run.tables.sources), stays)) for run, stays in runs]
            merged = write_run(chosen, Path(folder) / "merged.run")
            merged.check_all()
            assert len(merged) == sum(len(found) for found in model.values())
            for chunk, row in zip(wanted, looked_up([merged], wanted), strict=True):
                assert row in model[chunk] if chunk in model else row is None
            kept = {part.name for part in merged.tables.parts}
            assert kept >= {f"part {at}" for at, some in enumerate(rows) if some and at not in dropped}
            assert not kept & {f"part {at}" for at, some in enumerate(rows) if some and at in dropped}
    finally:
        indexmerge.ROWS_A_STEP = before


def test_files_are_merged_into_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexmerge, "ROWS_A_STEP", 50)
    rows = [a_row(number, pack=number % 5) for number in range(400)]
    runs = [written(a_run({f"p{at}": rows[at::3]}), tmp_path / f"{at}.run") for at in range(3)]
    merged = write_run([(run, every_source(run)) for run in runs], tmp_path / "all.run")
    assert looked_up([merged], [chunk for chunk, _, _ in rows]) == [(pack, number) for _, pack, number in rows]
    assert [part.name for part in merged.tables.parts] == ["p0", "p1", "p2"]
    assert len({open_run(path).prefixes.tobytes() for path in tmp_path.glob("*.run")}) == 4


@pytest.mark.parametrize("where", ["row", "prefix", "order"])
def test_damage_gets_no_new_check(tmp_path: Path, where: str) -> None:
    """I1: the damaged file is removed, the others stay, nothing is written."""
    rows = [a_row(number) for number in range(40)]
    good, bad = (
        written(a_run({name: rows[at::2]}), tmp_path / f"{name}.run") for at, name in enumerate(("good", "bad"))
    )
    data = bytearray((tmp_path / "bad.run").read_bytes())
    at = data.index(bad.prefixes[5:7].tobytes())
    if where == "row":
        data[data.index(bad.rows[5:6].tobytes()) + 30] ^= 4
    elif where == "prefix":
        data[at] ^= 1
    else:
        # Two rows change places, each of them right in itself.
        data[at : at + 16] = bad.prefixes[[6, 5]].tobytes()
        at = data.index(bad.rows[5:7].tobytes())
        data[at : at + 2 * bad.rows.itemsize] = bad.rows[[6, 5]].tobytes()
    (tmp_path / "bad.run").write_bytes(bytes(data))
    bad = open_run(tmp_path / "bad.run")
    with pytest.raises(Corrupt, match="damaged and was removed"):
        write_run([(run, every_source(run)) for run in (good, bad)], tmp_path / "all.run")
    assert [path.name for path in tmp_path.iterdir()] == ["good.run"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I2."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        written(a_run({"a": [a_row(1)]}), tmp_path / "a.run")
    assert list(tmp_path.iterdir()) == []
