"""Owns where a large file is cut: FastCDC (2020, normalised chunking 1) with a seeded gear table.

Files up to ``min_size`` are one chunk. The cut of a file does not depend on how its bytes arrive: a block is cut, every
chunk but the last is final, the last is carried into the next block.

The gear table is pyfastcdc's default table, each entry XORed with the seed as that library does it; the cut vectors
in ``docs/vault-format.md`` pin it, and ``tests/vault/test_chunker.py`` holds the library to them.
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

READ_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSizes:
    """Smallest, average (a power of two) and largest chunk, in bytes. Parameters of the vault, never changed."""

    min_size: int = 256 << 10
    avg_size: int = 1 << 20
    max_size: int = 4 << 20


ReadInto = Callable[[memoryview], int]


class Blocks:
    """Buffers to read into, used again once nobody holds a view of them: a fresh one costs the kernel a page fault for
    every 4 KiB, which was a third of the time of a first snapshot. Safe to use from many threads."""

    def __init__(self) -> None:
        self._free: deque[mmap.mmap] = deque()

    def lend(self) -> memoryview:
        """A buffer of :data:`READ_BLOCK_BYTES`; it comes back by itself when the last view of it is gone."""
        # Whoever opens a vault imports this module for its sizes, and numpy takes longer than copying a small vault.
        import numpy as np

        try:
            storage = self._free.pop()
        except IndexError:
            storage = mmap.mmap(-1, READ_BLOCK_BYTES)
        # Every view refers to this array, and to the memory only through it: when it goes, nobody reads any more.
        array = np.frombuffer(storage, np.uint8)
        weakref.finalize(array, self._free.append, storage).atexit = False
        return array.data


def cut_stream(readinto: ReadInto, sizes: ChunkSizes, seed: int, blocks: Blocks | None = None) -> Iterator[memoryview]:
    """The chunks of a stream, in order, as views that stay valid for as long as they are held.

    :param readinto: fills a buffer and returns how many bytes it wrote; 0 is the end of the stream.
    :param blocks: where buffers come from; its own if there is none.
    """
    # Imported here, as numpy above, for whoever only needs the sizes.
    from pyfastcdc import FastCDC

    blocks = blocks or Blocks()
    cutter = FastCDC(sizes.avg_size, min_size=sizes.min_size, max_size=sizes.max_size, normalized_chunking=1, seed=seed)
    carried = memoryview(b"")
    ended = False
    while not ended:
        # Another buffer a block: chunks of the block before may still be on their way through the pipeline.
        block = blocks.lend()
        block[: len(carried)] = carried
        filled, ended = _fill(readinto, block, len(carried))
        data = block[:filled].toreadonly()
        start = 0
        for chunk in cutter.cut_buf(data):
            end = chunk.offset + chunk.length
            # A chunk of the largest size is final wherever the block ends; any other may grow with the next block.
            if end == filled and not ended and chunk.length < sizes.max_size:
                break
            yield data[chunk.offset : end]
            start = end
        carried = data[start:]


def _fill(readinto: ReadInto, block: memoryview, filled: int) -> tuple[int, bool]:
    while filled < len(block):
        count = readinto(block[filled:])
        if count == 0:
            return filled, True
        filled += count
    return filled, False
