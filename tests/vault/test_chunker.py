"""Where files are cut: held to the vectors and the rules of ``docs/vault-format.md``, section 5 and 18."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from reopen.vault import chunker
from reopen.vault.chunker import ChunkSizes, cut_stream
from tests.golden import spec_cut
from tests.vault.kit import noise

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "vault-format.md").read_text(encoding="utf-8")
SMALL = ChunkSizes(min_size=256, avg_size=1024, max_size=4096)
SEED = 0x0123456789ABCDEF


def vectors() -> Iterator[tuple[int, ChunkSizes, int, list[int]]]:
    """Length of the stream, sizes, seed and chunk sizes of every cut vector on the page."""
    for row in re.finditer(r"^\| (\d+) \| (\d+) / (\d+) / (\d+) \| `([0-9a-f]+)` \| ([\d ]+) \|$", PAGE, re.MULTILINE):
        sizes = ChunkSizes(min_size=int(row[2]), avg_size=int(row[3]), max_size=int(row[4]))
        yield int(row[1]), sizes, int(row[5], 16), [int(size) for size in row[6].split()]


VECTORS = list(vectors())


class Stream:
    """Bytes that arrive in pieces of any sizes."""

    def __init__(self, data: bytes, steps: Iterator[int]) -> None:
        self._data = data
        self._steps = steps
        self._at = 0

    def readinto(self, buffer: memoryview) -> int:
        """At most the next step's bytes."""
        count = min(len(buffer), next(self._steps), len(self._data) - self._at)
        buffer[:count] = self._data[self._at : self._at + count]
        self._at += count
        return count


def forever(*sizes: int) -> Iterator[int]:
    while True:
        yield from sizes


def cut(data: bytes, sizes: ChunkSizes, seed: int, steps: Iterator[int] | None = None) -> list[bytes]:
    """The chunks of some bytes."""
    return [bytes(chunk) for chunk in cut_stream(Stream(data, steps or forever(1 << 30)).readinto, sizes, seed)]


def test_the_page_has_its_vectors() -> None:
    assert len(VECTORS) == 6
    assert {sizes for _, sizes, _, _ in VECTORS} == {ChunkSizes(), SMALL}


@pytest.mark.parametrize(("length", "sizes", "seed", "expected"), VECTORS, ids=range(len(VECTORS)))
def test_cuts_are_those_of_the_page(length: int, sizes: ChunkSizes, seed: int, expected: list[int]) -> None:
    data = blake3(b"reopen cut vectors").digest(length=length)
    chunks = cut(data, sizes, seed)
    assert [len(chunk) for chunk in chunks] == expected
    assert b"".join(chunks) == data


@pytest.mark.parametrize(("length", "sizes", "seed", "expected"), VECTORS[4:], ids=range(2))
def test_the_page_s_rules_give_the_page_s_vectors(
    length: int, sizes: ChunkSizes, seed: int, expected: list[int]
) -> None:
    data = blake3(b"reopen cut vectors").digest(length=length)
    assert spec_cut.cut(data, sizes.min_size, sizes.avg_size, sizes.max_size, seed) == expected


@settings(max_examples=25)
@given(st.integers(0, 30_000), st.integers(0, 2**63 - 1), st.integers(0, 3))
def test_the_library_cuts_as_the_page_says(length: int, seed: int, kind: int) -> None:
    """Noise, text, one repeated byte, and odd sizes for the two-byte steps."""
    data = (noise(length, 1), b"a line of text\n" * (length // 15 + 1), bytes(length), noise(97) * (length // 97 + 1))[
        kind
    ]
    data = data[:length]
    sizes = ChunkSizes(min_size=257, avg_size=1024, max_size=4095)
    expected = spec_cut.cut(data, sizes.min_size, sizes.avg_size, sizes.max_size, seed)
    assert [len(chunk) for chunk in cut(data, sizes, seed)] == expected


@settings(max_examples=20)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=8))
def test_cuts_do_not_depend_on_how_bytes_arrive(steps: list[int]) -> None:
    data = noise(60_000)
    assert cut(data, SMALL, SEED, forever(*steps)) == cut(data, SMALL, SEED)


@pytest.mark.parametrize("block", [4096, 4097, 5000, 10_001, 1 << 20])
@pytest.mark.parametrize("make", [noise, bytes], ids=["noise", "zeros"])
def test_cuts_do_not_depend_on_the_block_they_are_read_in(
    block: int, make: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a chunk of the largest size ends with the block, and where a block is one such chunk."""
    data = make(50_001)
    whole = cut(data, SMALL, SEED)
    monkeypatch.setattr(chunker, "READ_BLOCK_BYTES", block)
    assert cut(data, SMALL, SEED) == whole


def test_another_seed_cuts_elsewhere() -> None:
    data = noise(200_000)
    cuts = []
    for seed in (0, 1, SEED):
        at, ends = 0, set()
        for chunk in cut(data, SMALL, seed):
            at += len(chunk)
            ends.add(at)
        cuts.append(ends - {len(data)})
    assert len(cuts[0] & cuts[1]) < 5
    assert len(cuts[0] & cuts[2]) < 5


def test_an_insertion_changes_the_chunks_around_it_only() -> None:
    data = noise(300_000)
    before = cut(data, SMALL, SEED)
    after = cut(data[:150_000] + b"inserted" + data[150_000:], SMALL, SEED)
    assert len(set(after) - set(before)) <= 4


def test_sizes_stay_within_their_limits() -> None:
    chunks = cut(noise(400_000), SMALL, SEED)
    assert all(SMALL.min_size <= len(chunk) <= SMALL.max_size for chunk in chunks[:-1])
    assert len(chunks[-1]) <= SMALL.max_size


@pytest.mark.parametrize("length", [0, 1, 255, 256])
def test_a_file_up_to_the_smallest_size_is_one_chunk_and_an_empty_one_none(length: int) -> None:
    assert cut(noise(length), SMALL, SEED) == ([noise(length)] if length else [])


def test_chunks_stay_valid_while_they_are_held() -> None:
    """The pipeline holds chunks of one block while the next is read."""
    data = noise(40 << 20)
    held = list(cut_stream(Stream(data, forever(1 << 30)).readinto, ChunkSizes(), SEED))
    assert b"".join(held) == data
