"""Owns getting chunks out of packs: every needed range of every pack is read once, by a pool of threads.

Invariants
    I1  A chunk is handed on only after its id was derived again from its bytes and found equal: content that is wrong
        never reaches a target as right.
    I2  Reads are planned by pack and offset, neighbours together, so a restore reads each pack front to back.
    I3  Memory is bounded by :data:`READ_BYTES_MAX` a thread, plus one frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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

Receive = Callable[[int, memoryview], None]
"""Called with the number of a wanted chunk (its position in the ids given) and its raw bytes, from many threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """One range of one pack, and the wanted chunks in it, as a slice of the plan's order."""

    pack: int
    start: int
    length: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPlan:
    """Which ranges will be read. ``missing`` lists positions of wanted ids that no present pack holds."""

    ids: Ids
    order: NDArray[np.int64]
    located: Located
    packs: Sequence[bytes]
    reads: tuple[_Read, ...]
    missing: NDArray[np.int64]

    @property
    def read_bytes(self) -> int:
        """Bytes that will be read from the store."""
        return sum(read.length for read in self.reads)


def plan_fetch(index: ChunkIndex, ids: Ids) -> FetchPlan:
    """Plan the reads for chunks; ``ids`` is ``(n, 32)`` and may repeat."""
    positions = index.find(ids)
    found = np.flatnonzero(positions != NOT_FOUND)
    located = index.locate(positions[found])
    order = np.lexsort((located.chunk_offset, located.frame_offset, located.pack))
    return FetchPlan(
        ids=ids,
        order=found[order],
        located=_reorder(located, order),
        packs=index.packs,
        reads=tuple(_make_reads(_reorder(located, order))),
        missing=np.flatnonzero(positions == NOT_FOUND),
    )


def execute_fetch(vault: Vault, plan: FetchPlan, receive: Receive, *, workers: int) -> dict[int, Corrupt]:
    """Read, open, check and hand on every chunk of the plan that is whole.

    :returns: what is damaged: the numbers of wanted chunks that were not handed on, each with the reason. One damaged
        frame costs the files in it and no other.
    :raises Refused: no recovery key.
    :raises Transient: the store does not answer.
    """
    damaged = {int(at): Corrupt("no pack in the vault holds it") for at in plan.missing}
    if not plan.reads:
        return damaged
    fetcher = _Fetcher(vault, plan, receive)
    with ThreadPoolExecutor(workers, thread_name_prefix="reopen-fetch") as pool:
        jobs: deque[Future[dict[int, Corrupt]]] = deque()
        try:
            for read in plan.reads:
                jobs.append(pool.submit(fetcher.run, read))
                while len(jobs) > 2 * workers:
                    damaged |= jobs.popleft().result()
            while jobs:
                damaged |= jobs.popleft().result()
        finally:
            for job in jobs:
                job.cancel()
    return damaged


class _Fetcher:
    def __init__(self, vault: Vault, plan: FetchPlan, receive: Receive) -> None:
        self._vault = vault
        self._plan = plan
        self._receive = receive
        self._keys = ContentKeys(vault.id, vault.keyring)
        self._hasher = ChunkHasher(vault.roots.chunk_id_key())

    def run(self, read: _Read) -> dict[int, Corrupt]:
        """Hand on the whole chunks of one range; returns the damaged ones."""
        plan, at = self._plan, self._plan.located
        pack_id = plan.packs[read.pack].hex()
        try:
            data = self._get(pack_id, read.start, read.length)
        except Corrupt:
            data = None  # Cut short somewhere: frame by frame tells where.
        damaged: dict[int, Corrupt] = {}
        first = read.first
        while first < read.last:
            offset, last = int(at.frame_offset[first]), first + 1
            while last < read.last and int(at.frame_offset[last]) == offset:
                last += 1
            try:
                length = int(at.frame_length[first])
                stored = self._get(pack_id, offset, length) if data is None else data[offset - read.start :][:length]
                raw = memoryview(self._open(first, stored, pack_id))
            except Corrupt as error:
                damaged |= {int(plan.order[row]): error for row in range(first, last)}
            else:
                damaged |= self._hand_on(range(first, last), raw, pack_id)
            first = last
        return damaged

    def _hand_on(self, rows: range, raw: memoryview, pack_id: str) -> dict[int, Corrupt]:
        plan, at = self._plan, self._plan.located
        damaged: dict[int, Corrupt] = {}
        for row in rows:
            start, wanted = int(at.chunk_offset[row]), int(plan.order[row])
            chunk = raw[start : start + int(at.chunk_length[row])]
            if self._hasher(chunk) == plan.ids[wanted].tobytes():
                self._receive(wanted, chunk)
            else:
                damaged[wanted] = Corrupt(f"a chunk in pack {pack_id} is not what its id says.", pack=pack_id)
        return damaged

    def _get(self, pack_id: str, start: int, length: int) -> memoryview:
        try:
            return memoryview(self._vault.store.get_range(pack_name(pack_id), start, length))
        except NotFound as error:
            raise Corrupt(f"pack {pack_id} has gone from {self._vault.store.url}.", pack=pack_id) from error

    def _open(self, row: int, stored: memoryview, pack_id: str) -> bytes:
        at = self._plan.located
        salt = bytes(at.salt[row])
        if not self._keys.knows(salt):
            self._keys.learn(read_slots(self._vault.store, pack_id, self._vault.id), pack_id)
        if not self._keys.knows(salt):
            raise Corrupt(
                f"pack {pack_id} lacks the key slot that the index names.", hint="Run `reopen repair`.", pack=pack_id
            )
        return self._keys.open(
            stored, salt, int(at.frame_counter[row]), int(at.frame_codec[row]), int(at.frame_raw_length[row]), pack_id
        )


def read_slots(store: ObjectStore, pack_id: str, vault_id: str) -> tuple[Slot, ...]:
    """The key slots in a pack's head."""
    name = pack_name(pack_id)
    header = store.get_range(name, 0, HEADER_BYTES)
    length = head_bytes(header, pack_id, vault_id)
    return decode_slots(store.get_range(name, 0, length), pack_id, vault_id)


def _make_reads(at: Located) -> Iterator[_Read]:
    count = len(at.pack)
    if count == 0:
        return
    # A frame begins where pack or offset differ from the row before.
    new_frame = np.ones(count, dtype=np.bool_)
    new_frame[1:] = (np.diff(at.pack) != 0) | (np.diff(at.frame_offset) != 0)
    starts = np.flatnonzero(new_frame)
    packs, offsets = at.pack[starts].tolist(), at.frame_offset[starts].tolist()
    ends = (at.frame_offset[starts] + at.frame_length[starts]).tolist()
    first = 0
    for frame in range(1, len(starts) + 1):
        if (
            frame < len(starts)
            and packs[frame] == packs[first]
            and offsets[frame] - ends[frame - 1] <= _GAP_BYTES_MAX
            and ends[frame] - offsets[first] <= READ_BYTES_MAX
        ):
            continue
        yield _Read(
            pack=packs[first],
            start=offsets[first],
            length=ends[frame - 1] - offsets[first],
            first=int(starts[first]),
            last=int(starts[frame]) if frame < len(starts) else count,
        )
        first = frame


def _reorder(located: Located, order: NDArray[np.int64]) -> Located:
    return Located(**{name: getattr(located, name)[order] for name in Located.__dataclass_fields__})
