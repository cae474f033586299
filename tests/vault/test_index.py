"""Finding chunks: the index in memory against a dict; I1 and I2 are the invariants of :mod:`reopen.vault.index`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from reopen.vault.index import NOT_FOUND, ChunkIndex, empty_index, ids_array
from reopen.vault.tables import INDEX

# Ids from few prefixes, so that many share their first eight bytes and some their first thirty-one.
IDS = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 5)).map(
    lambda parts: bytes([parts[0]]) * 8 + bytes([parts[1]]) * 23 + bytes([parts[2]])
)
PACKS = st.integers(0, 4).map(lambda number: bytes([number]) * 32)
ROWS = st.lists(st.tuples(IDS, PACKS), max_size=60)


def table(rows: list[tuple[bytes, bytes]], parts: int = 1) -> pa.Table:
    """Index rows whose numbers tell which row they are, in some parts."""
    count = len(rows)
    numbers = list(range(count))
    columns = {
        "chunk_id": [chunk for chunk, _ in rows],
        "pack": [pack for _, pack in rows],
        "slot_salt": [number.to_bytes(16, "big") for number in numbers],
        "frame_codec": [number % 2 for number in numbers],
    }
    for name in INDEX.names:
        columns.setdefault(name, numbers)
    whole = pa.table({name: pa.array(columns[name], INDEX.field(name).type) for name in INDEX.names}, schema=INDEX)
    step = max(1, -(-count // parts))
    return pa.concat_tables([whole.slice(start, step) for start in range(0, max(count, 1), step)])


def joined(ids: list[bytes]) -> np.ndarray:
    return ids_array(b"".join(ids))


@settings(max_examples=80)
@given(ROWS, st.sets(PACKS), st.lists(IDS, max_size=30), st.integers(1, 4))
def test_the_index_finds_what_a_dict_finds(
    rows: list[tuple[bytes, bytes]], present: set[bytes], wanted: list[bytes], parts: int
) -> None:
    """I1, I2: equal prefixes, repeated ids, copies in several packs, packs that are absent."""
    model: dict[bytes, set[int]] = {}
    for number, (chunk, pack) in enumerate(rows):
        if pack in present:
            model.setdefault(chunk, set()).add(number)
    index = ChunkIndex(table(rows, parts), present)
    assert len(index) == sum(map(len, model.values()))
    positions = index.find(joined(wanted))
    assert [position != NOT_FOUND for position in positions] == [chunk in model for chunk in wanted]
    found = [chunk for chunk in wanted if chunk in model]
    located = index.locate(positions[positions != NOT_FOUND])
    for at, chunk in enumerate(found):
        number = int(located.frame_counter[at])
        assert number in model[chunk]
        assert index.packs[located.pack[at]] == rows[number][1]
        assert bytes(located.salt[at]) == number.to_bytes(16, "big")
        for name in ("frame_offset", "frame_length", "frame_raw_length", "chunk_offset", "chunk_length"):
            assert getattr(located, name)[at] == number
        assert located.frame_codec[at] == number % 2
    for chunk in set(wanted):
        assert index.contains(chunk) is (chunk in model)


def test_an_empty_index_finds_nothing() -> None:
    for index in (empty_index(), ChunkIndex(table([(b"i" * 32, b"p" * 32)]), ())):
        assert len(index) == 0
        assert not index.contains(b"i" * 32)
        assert index.find(joined([b"i" * 32])).tolist() == [NOT_FOUND]
        assert index.find(joined([])).tolist() == []
        assert len(index.locate(np.zeros(0, dtype=np.int64)).pack) == 0


def test_ids_at_the_ends_of_the_order_are_found() -> None:
    ids = [bytes(32), b"\xff" * 32, b"\x00" * 31 + b"\x01", b"\x7f" + b"\xff" * 31, b"\x80" + bytes(31)]
    index = ChunkIndex(table([(chunk, b"p" * 32) for chunk in ids]), {b"p" * 32})
    assert (index.find(joined(ids)) != NOT_FOUND).all()
    assert not index.contains(b"\xff" * 31 + b"\xfe")


def test_many_chunks_are_found_at_once() -> None:
    generator = np.random.default_rng(1)
    ids = generator.integers(0, 256, size=(50_000, 32), dtype=np.uint8)
    rows = [(chunk.tobytes(), b"p" * 32) for chunk in ids]
    index = ChunkIndex(table(rows, 3), {b"p" * 32})
    order = generator.permutation(len(ids))
    located = index.locate(index.find(ids[order]))
    assert (located.frame_counter == order).all()
