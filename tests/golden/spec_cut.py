"""How the page ``docs/vault-format.md`` tells a writer to cut files into chunks, written from that page alone.

No reader needs this; it shows that section 5 suffices. It imports nothing of Reopen's.
"""

from __future__ import annotations

import hashlib

MASK_64 = (1 << 64) - 1
MASKS = {  # Section 5.
    7: 0x18035100,
    8: 0x1800035300,
    9: 0x19000353000,
    10: 0x590003530000,
    11: 0xD90003530000,
    12: 0xD90103530000,
    13: 0xD90303530000,
    14: 0xD90313530000,
    15: 0xD90F03530000,
    16: 0xD90303537000,
    17: 0xD90703537000,
    18: 0xD90707537000,
    19: 0xD91707537000,
    20: 0xD91747537000,
    21: 0xD91767537000,
    22: 0xD93767537000,
    23: 0xD93777537000,
}


def cut(data: bytes, smallest: int, average: int, largest: int, seed: int) -> list[int]:
    """The chunk sizes of a file's bytes."""
    gear = [int.from_bytes(hashlib.md5(bytes([value]) * 64).digest()[:8], "big") ^ seed for value in range(256)]
    bits = average.bit_length() - 1
    sizes = []
    start = 0
    while start < len(data):
        sizes.append(_cut_one(data, start, (smallest, average, largest), gear, MASKS[bits + 1], MASKS[bits - 1]))
        start += sizes[-1]
    return sizes


def _cut_one(data: bytes, start: int, limits: tuple[int, int, int], gear: list[int], first: int, second: int) -> int:
    smallest, average, largest = limits
    left = len(data) - start
    if left <= smallest:
        return left
    end = min(left, largest)
    middle = min(end, average) // 2 * 2
    value = 0
    for position in range(smallest // 2 * 2, end // 2 * 2):
        value = (2 * value + gear[data[start + position]]) & MASK_64
        if value & (first if position < middle else second) == 0:
            return position
    return end
