"""Runs in files: what is written is found again, and what is damaged is never taken for something else.

I1 to I3 are the invariants of :mod:`reopen.vault.indexrun`.
"""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reopen.errors import Corrupt
from reopen.vault import index as indexmodule
from reopen.vault import indexrun as runmodule
from reopen.vault.index import ChunkIndex, ids_array, worth_of
from reopen.vault.indexrun import HEAD, ROW, layout, make_run, open_run
from tests.vault.indexrows import Row, a_part, a_row, a_run, looked_up, table, written

ROWS: list[Row] = [a_row(number, pack=number % 4) for number in range(24)]
IDS = [chunk for chunk, _, _ in ROWS]
TRUTH = [(pack, number) for _, pack, number in ROWS]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with 24 rows of two parts and four packs."""
    at = tmp_path / "one.run"
    written(a_run({"a": ROWS[:9], "b": ROWS[9:]}), at)
    return at


def test_what_is_written_is_found_again(path: Path) -> None:
    run = open_run(path)
    assert looked_up([run], IDS) == TRUTH
    assert looked_up([run], [a_row(number)[0] for number in range(24, 99)]) == [None] * 75
    assert run.tables.parts == (a_part("a"), a_part("b"))
    assert len(run.tables.sources) == 9 + 12, "each slot of a pack in a part: of 3 salts and 4 packs"
    assert (run.prefixes[:-1] <= run.prefixes[1:]).all(), "I1"
    run.check_all()


def test_each_change_of_a_bit_is_refused_or_hides_rows_but_shows_none_wrong(path: Path) -> None:
    """I2, at every byte of the file: the head, the digest, parts, sources, prefixes, rows; padding says nothing."""
    whole = path.read_bytes()
    _, _, rows, sources, parts_bytes = HEAD.unpack_from(whole)
    places = layout(rows, sources, parts_bytes)
    refused = hidden = same = 0
    said = [
        *range(places.tables_end),
        *range(places.prefixes, places.prefixes + 8 * rows),
        *range(places.rows, places.end),
    ]
    padding = [places.tables_end, places.rows - 1]
    for at in [*said, *padding]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            found = looked_up([open_run(path)], IDS)
        except Corrupt:
            refused += 1
            assert not path.exists(), "what is not believed is removed"
            continue
        assert all(row in (None, truth) for row, truth in zip(found, TRUTH, strict=True))
        hidden += None in found
        same += None not in found
    assert refused == places.tables_end
    assert hidden == rows * (8 + ROW.itemsize), "no bit of a row can change unnoticed"
    assert same == len(padding)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.9999])
def test_a_file_that_was_cut_short_is_refused(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(Corrupt, match="damaged and was removed"):
        open_run(path)
    assert not path.exists()


def test_a_hole_of_zeros_shows_nothing(path: Path) -> None:
    """What a power cut can leave of a file whose length was already on the disk."""
    run = open_run(path)
    zero = bytes(32)
    whole = path.read_bytes()
    first = whole.index(run.rows[:1].tobytes())
    path.write_bytes(whole[:first] + bytes(len(whole) - first))
    assert looked_up([open_run(path)], [*IDS, zero]) == [None] * 25
    prefixes = whole.index(run.prefixes[:2].tobytes())
    path.write_bytes(whole[:prefixes] + bytes(len(whole) - prefixes))
    assert looked_up([open_run(path)], [*IDS, zero]) == [None] * 25


def test_rows_of_another_file_in_their_place_are_not_believed(path: Path, tmp_path: Path) -> None:
    """A block that was written to the wrong place: right in itself, of the same length and ids, and of other packs."""
    other = tmp_path / "other.run"
    written(a_run({"a": [(chunk, bytes([9]) * 32, number) for chunk, _, number in ROWS]}), other)
    mine, theirs = open_run(path).rows.tobytes(), open_run(other).rows.tobytes()
    assert len(mine) == len(theirs)
    path.write_bytes(path.read_bytes().replace(mine, theirs))
    assert looked_up([open_run(path)], IDS) == [None] * 24
    assert not path.exists()


def test_a_check_of_everything_finds_what_lookups_would_miss(path: Path) -> None:
    """A prefix that changed hides its row: nobody who asks for another id would ever see it."""
    whole = bytearray(path.read_bytes())
    at = whole.index(open_run(path).prefixes[3:5].tobytes())
    whole[at + 7] ^= 0x80
    path.write_bytes(bytes(whole))
    run = open_run(path)
    with pytest.raises(Corrupt, match="damaged and was removed"):
        run.check_all()
    assert not path.exists()


def test_who_needs_all_is_told_that_the_local_copy_is_damaged_and_not_the_vault(path: Path) -> None:
    """I3 of the index: to a restore, a chunk that is not found is a lost file."""
    whole = bytearray(path.read_bytes())
    whole[-ROW.itemsize + 3] ^= 1
    path.write_bytes(bytes(whole))
    run = open_run(path)
    present = {pack for _, pack, _ in ROWS}
    index = ChunkIndex.of_runs([(run, worth_of(run, present))], complete=True)
    with pytest.raises(Corrupt, match="local copy of the index") as failed:
        index.find(ids_array(b"".join(IDS)))
    assert "Run it again" in (failed.value.hint or "")


def test_who_needs_all_gets_a_true_no_from_a_whole_copy(path: Path) -> None:
    run = open_run(path)
    index = ChunkIndex.of_runs([(run, worth_of(run, set()))], complete=True)
    assert (index.find(ids_array(b"".join(IDS))) == -1).all()
    assert run.is_whole
    assert path.exists()


def test_damage_after_a_lookup_does_not_reach_the_reader(path: Path) -> None:
    run = open_run(path)
    index = ChunkIndex.of_runs([(run, worth_of(run, {pack for _, pack, _ in ROWS}))])
    positions = index.find(ids_array(b"".join(IDS)))
    with path.open("r+b") as file:  # In place, as a failing disk does it: the file stays mapped.
        file.seek(-5, 2)
        file.write(b"\xff\xff\xff\xff\xff")
    with pytest.raises(Corrupt, match="local copy of the index"):
        index.locate(positions)


@pytest.mark.parametrize(
    ("column", "value"), [("frame_offset", 1 << 32), ("frame_offset", -1), ("frame_length", -1), ("frame_codec", -1)]
)
def test_a_row_that_cannot_be_true_counts_as_absent(column: str, value: int) -> None:
    """I3: an index part is signed, but its numbers are somebody's."""
    rows = table(ROWS)
    at = rows.schema.get_field_index(column)
    values = rows.column(at).to_pylist()
    values[5] = value
    field = rows.schema.field(at)
    run = make_run([(a_part("a"), rows.set_column(at, field, pa.array(values, field.type)))])
    found = looked_up([run], IDS)
    assert found == [None if number == 5 else truth for number, truth in enumerate(TRUTH)]
    assert len(run) == 23


def test_a_mapped_run_goes_to_another_process_as_its_name(path: Path) -> None:
    run = open_run(path)
    sent = pickle.dumps(run)
    assert len(sent) < 500
    assert looked_up([pickle.loads(sent)], IDS) == TRUTH
    path.unlink()
    assert looked_up([pickle.loads(sent)], IDS) == TRUTH, "merged into another meanwhile: this process has it open"


def test_an_index_goes_to_another_process(path: Path) -> None:
    fresh = a_run({"c": [a_row(99, pack=1)]})
    present = {pack for _, pack, _ in ROWS}
    index = ChunkIndex.of_runs([(run, worth_of(run, present)) for run in (open_run(path), fresh)])
    again: ChunkIndex = pickle.loads(pickle.dumps(index))
    ids = ids_array(b"".join([*IDS, a_row(99)[0], bytes(32)]))
    assert (again.find(ids) == index.find(ids)).all()
    assert np.flatnonzero(again.find(ids) == -1).tolist() == [25]
    assert list(again.packs) == list(index.packs)


def test_an_index_is_used_by_many_threads_and_processes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small steps, and pages let go after each: threads read what another one has just let go."""
    monkeypatch.setattr(indexmodule, "_IDS_A_STEP", 3)
    monkeypatch.setattr(runmodule, "_FORGET_AFTER_ROWS", 1)
    run = open_run(path)
    index = ChunkIndex.of_runs([(run, worth_of(run, {pack for _, pack, _ in ROWS}))])
    ids = ids_array(b"".join([*IDS, bytes(32)]))
    expected = index.find(ids).tolist()
    assert expected.count(-1) == 1
    with ThreadPoolExecutor(8) as threads:
        assert all(found.tolist() == expected for found in threads.map(index.find, [ids] * 200))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        assert process.submit(index.find, ids).result().tolist() == expected
