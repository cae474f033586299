"""Owns getting chunks out of packs: which ranges of which packs are read, and opening the frames in them.

Invariants
    I1  A chunk is handed on only after its id was derived again from its bytes and found equal: content that is wrong
        never reaches a target as right.
    I2  Reads are planned by pack and offset, neighbours together, so a restore reads each pack front to back, and each
        frame is read and opened once.
    I3  Memory is bounded by :data:`READ_BYTES_MAX` a reader, plus one frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reopen.errors import Corrupt, NotFound
from reopen.storage import ObjectStore
from reopen.vault import Vault
from reopen.vault.content import ChunkHasher, ContentKeys
from reopen.vault.index import NOT_FOUND, ChunkIndex, Ids, Located
from reopen.vault.pack import HEADER_BYTES, Slot, decode_slots, head_bytes
from reopen.vault.record import pack_name

READ_BYTES_MAX = 8 << 20
_GAP_BYTES_MAX = 256 << 10
"""Unneeded bytes between two frames that are read all the same: cheaper than a second request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Chunks to fetch, by pack and offset; arrays with one item a chunk. Can be pickled, and cut at any place.

    ``packs``: ids of the packs; ``at.pack`` counts in it.
    """

    packs: Sequence[bytes]
    ids: Ids
    at: Located

    def __len__(self) -> int:
        return len(self.ids)

    def join(self, more: Pieces) -> Pieces:
        """These chunks, then others."""
        columns = {
            name: np.concatenate((getattr(self.at, name), getattr(more.at, name)))
            for name in Located.__dataclass_fields__
        }
        columns["pack"][len(self) :] += len(self.packs)
        return Pieces(packs=[*self.packs, *more.packs], ids=np.concatenate((self.ids, more.ids)), at=Located(**columns))

    def slice(self, first: int, last: int) -> Pieces:
        """Some of the chunks, with only the packs that these need."""
        used, pack = np.unique(self.at.pack[first:last], return_inverse=True)
        columns = {name: getattr(self.at, name)[first:last] for name in Located.__dataclass_fields__}
        return Pieces(
            packs=[self.packs[number] for number in used.tolist()],
            ids=self.ids[first:last],
            at=Located(**(columns | {"pack": pack.astype(np.int64)})),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One range of one pack, and the chunks in it, as a slice of the pieces."""

    pack: int
    start: int
    length: int
    first: int
    last: int


def plan_fetch(
    index: ChunkIndex, ids: Ids, *, avoid: frozenset[bytes] = frozenset()
) -> tuple[Pieces, NDArray[np.int64], NDArray[np.int64]]:
    """Find chunks and order them for reading.

    :param ids: ``(n, 32)``, may repeat.
    :param avoid: packs that are read only for what no other has.
    :returns: the chunks that a present pack holds; for each of them its number in ``ids``; the numbers of the others.
    """
    if avoid:
        first, numbers, others = plan_fetch(index.restricted_to(index.counting_packs() - avoid), ids)
        second, more, lost = plan_fetch(index, ids[others])
        return first.join(second), np.concatenate((numbers, others[more])), others[lost]
    positions = index.find(ids)
    found, missing = np.flatnonzero(positions != NOT_FOUND), np.flatnonzero(positions == NOT_FOUND)
    located = index.locate(positions[found])
    order = np.lexsort((located.chunk_offset, located.frame_offset, located.pack))
    at = Located(**{name: getattr(located, name)[order] for name in Located.__dataclass_fields__})
    del located, positions
    numbers = found[order]
    return Pieces(packs=index.packs, ids=ids[numbers], at=at), numbers, missing


def plan_reads(at: Located) -> Iterator[Read]:
    """The ranges that hold chunks, neighbours together (I2)."""
    count = len(at.pack)
    if count == 0:
        return
    # A frame begins where pack or offset differ from the row before.
    new_frame = np.ones(count, dtype=np.bool_)
    new_frame[1:] = (np.diff(at.pack) != 0) | (np.diff(at.frame_offset) != 0)
    starts = np.flatnonzero(new_frame)
    packs, offsets = at.pack[starts].tolist(), at.frame_offset[starts].tolist()
    ends = (at.frame_offset[starts] + at.frame_length[starts]).tolist()
    borders = [*starts.tolist(), count]
    first = 0
    for frame in range(1, len(starts) + 1):
        if (
            frame < len(starts)
            and packs[frame] == packs[first]
            and offsets[frame] - ends[frame - 1] <= _GAP_BYTES_MAX
            and ends[frame] - offsets[first] <= READ_BYTES_MAX
        ):
            continue
        yield Read(
            pack=packs[first],
            start=offsets[first],
            length=ends[frame - 1] - offsets[first],
            first=borders[first],
            last=borders[frame],
        )
        first = frame


class Fetcher:
    """Reads, opens and checks chunks. Threads may share one: the keys it has unsealed serve them all."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._keys = ContentKeys(vault.id, vault.keyring)
        self._hasher = ChunkHasher(vault.roots.chunk_id_key())

    def fetch(self, pieces: Pieces) -> Iterator[tuple[int, list[memoryview | Corrupt]]]:
        """For each frame the number of its first chunk in ``pieces``, and of each chunk in it the bytes, or why they
        are not to be had. One damaged frame costs the chunks in it and no other.

        :raises Refused: no recovery key. :raises Transient: the store does not answer.
        """
        for read in plan_reads(pieces.at):
            yield from self._read(pieces, read)

    def _read(self, pieces: Pieces, read: Read) -> Iterator[tuple[int, list[memoryview | Corrupt]]]:
        pack_id = pieces.packs[read.pack].hex()
        try:
            data: memoryview | None = self._get(pack_id, read.start, read.length)
        except Corrupt:
            data = None  # Cut short somewhere: frame by frame tells where.
        rows = slice(read.first, read.last)
        at, ids = pieces.at, pieces.ids[rows].tobytes()
        offsets = at.frame_offset[rows].tolist()
        starts, lengths = at.chunk_offset[rows].tolist(), at.chunk_length[rows].tolist()
        hasher = self._hasher
        first, count = 0, len(offsets)
        while first < count:
            offset, last = offsets[first], first + 1
            while last < count and offsets[last] == offset:
                last += 1
            found: list[memoryview | Corrupt] = []
            try:
                raw = self._open(pieces, read, read.first + first, data, pack_id)
            except Corrupt as error:
                found = [error] * (last - first)
            else:
                for row in range(first, last):
                    chunk = raw[starts[row] : starts[row] + lengths[row]]
                    if hasher(chunk) == ids[32 * row : 32 * row + 32]:
                        found.append(chunk)
                    else:
                        found.append(Corrupt(f"a chunk in pack {pack_id} is not what its id says.", pack=pack_id))
            yield read.first + first, found
            first = last

    def _open(self, pieces: Pieces, read: Read, row: int, data: memoryview | None, pack_id: str) -> memoryview:
        """The raw bytes of the frame that a row lies in."""
        at = pieces.at
        offset, length, salt = int(at.frame_offset[row]), int(at.frame_length[row]), bytes(at.salt[row])
        stored = self._get(pack_id, offset, length) if data is None else data[offset - read.start :][:length]
        if not self._keys.knows(salt):
            try:
                self._keys.learn(read_slots(self._vault.store, pack_id, self._vault.id), pack_id)
            except (Corrupt, NotFound) as error:
                # Of a head that is damaged the slots before the damage are learnt. A pack that no key here opens costs
                # the files in it and no other.
                if not self._keys.knows(salt):
                    raise Corrupt(error.message, hint=error.hint, pack=pack_id) from error
        if not self._keys.knows(salt):
            raise Corrupt(
                f"pack {pack_id} lacks the key slot that the index names.", hint="Run `reopen repair`.", pack=pack_id
            )
        raw = self._keys.open(
            stored, salt, int(at.frame_counter[row]), int(at.frame_codec[row]), int(at.frame_raw_length[row]), pack_id
        )
        return memoryview(raw)

    def _get(self, pack_id: str, start: int, length: int) -> memoryview:
        try:
            return memoryview(self._vault.store.get_range(pack_name(pack_id), start, length))
        except NotFound as error:
            raise Corrupt(f"pack {pack_id} has gone from {self._vault.store.url}.", pack=pack_id) from error


def read_slots(store: ObjectStore, pack_id: str, vault_id: str) -> tuple[Slot, ...]:
    """The key slots in a pack's head."""
    name = pack_name(pack_id)
    header = store.get_range(name, 0, HEADER_BYTES)
    length = head_bytes(header, pack_id, vault_id)
    return decode_slots(store.get_range(name, 0, length), pack_id, vault_id)
