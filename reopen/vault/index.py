"""Owns finding a chunk: where each of many is stored, looked up in sorted runs.

An index part is two objects: ``index/<name>.parquet`` (encrypted rows of :data:`reopen.vault.tables.INDEX`) and
``index/<name>.json``, a signed statement that pins the Parquet file and lists the packs it covers. The statement is
written second: rows without a statement are not read, and the packs they cover are simply stored again. What was read
of parts lies in runs (:mod:`reopen.vault.indexrun`); how it gets there, and what stays, are
:mod:`reopen.vault.indexparts` and :mod:`reopen.vault.indexcache`.

Invariants
    I1  A row counts only when its pack is in the store's listing: ``find`` never returns a copy that is gone. Of
        several copies one is found whose pack prune has not marked, if there is one.
    I2  Lookups are vectorised over sorted 64-bit prefixes; equal prefixes are told apart by the whole id.
    I3  A damaged local copy never shows a chunk that is not there: its row counts as absent. Where absence would be
        believed as damage of the vault (``complete``), the copy is checked as a whole first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reopen.vault.indexrun import NUMBERS, Run, RunPart, make_run, prefixes_of, words_of
from reopen.vault.tables import INDEX

Ids = NDArray[np.uint8]
NOT_FOUND = -1

ABSENT, MARKED, PREFERRED = 0, 1, 2
"""What a source is worth: its pack is gone (or its part not trusted), is marked by prune, or is there to stay."""

_IDS_A_STEP = 1 << 14
"""Ids looked up at once. A lookup in a mapped file maps a few pages, which are let go after each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Where chunks are stored, one array an attribute, aligned with the ids asked for."""

    pack: NDArray[np.int64]
    """Number of the pack in :attr:`ChunkIndex.packs`."""
    salt: NDArray[Any]
    """Slot salts as ``V16``."""
    frame_offset: NDArray[np.int64]
    frame_length: NDArray[np.int64]
    frame_raw_length: NDArray[np.int64]
    frame_counter: NDArray[np.int64]
    frame_codec: NDArray[np.int64]
    chunk_offset: NDArray[np.int64]
    chunk_length: NDArray[np.int64]


class PackIds(Sequence[bytes]):
    """Pack ids by number, without an object each."""

    def __init__(self, ids: NDArray[Any]) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> PackIds: ...
    def __getitem__(self, at: int | slice) -> bytes | PackIds:
        return PackIds(self._ids[at]) if isinstance(at, slice) else self._ids[at].tobytes()


class ChunkIndex:
    """Chunk id to location, for the packs that are present. May be used by many threads, and pickled: runs that are
    mapped from files go as their names."""

    def __init__(self, table: pa.Table, present: Collection[bytes]) -> None:
        """An index in memory of rows (schema :data:`reopen.vault.tables.INDEX`)."""
        run = make_run([(RunPart(name="", digest="", writer=""), table)])
        self._set([(run, worth_of(run, present))], complete=False)

    @classmethod
    def of_runs(cls, runs: Sequence[tuple[Run, NDArray[np.uint8]]], *, complete: bool = False) -> ChunkIndex:
        """An index of runs, each with what its sources are worth (:func:`worth_of`).

        :param complete: everything that will be asked for should be there; what is not found is an alarm (I3).
        """
        index = cls.__new__(cls)
        index._set(list(runs), complete=complete)  # noqa: SLF001 - of its own class
        return index

    def _set(self, runs: list[tuple[Run, NDArray[np.uint8]]], *, complete: bool) -> None:
        # The largest first: most of what is asked for is there.
        self._runs = sorted(runs, key=lambda pair: -len(pair[0]))
        self._complete = complete
        self._first_row = np.cumsum([0, *(len(run) for run, _ in self._runs)])
        self._first_source = np.cumsum([0, *(len(run.tables.sources) for run, _ in self._runs)])
        self.packs: Sequence[bytes] = PackIds(
            np.concatenate([np.zeros(0, dtype="V32"), *(run.tables.sources["pack"] for run, _ in self._runs)])
        )
        """Pack ids by the numbers in :attr:`Located.pack`. One that several index parts list is there several times."""

    def __len__(self) -> int:
        """How many stored copies count."""
        return sum(int(run.tables.sources["rows"][worth > ABSENT].sum()) for run, worth in self._runs)

    def find(self, ids: Ids) -> NDArray[np.int64]:
        """For each id (``(n, 32)`` uint8) a position to hand to :meth:`locate`, or :data:`NOT_FOUND` (I2).

        :raises Corrupt: with ``complete``: something was not found, and a local copy of the index is damaged.
        """
        positions = np.full(len(ids), NOT_FOUND, dtype=np.int64)
        if not self._runs or len(ids) == 0:
            return positions
        prefixes = prefixes_of(ids)
        # In the order of the runs, so that a file is read forward and each page once.
        order = np.argsort(prefixes)
        words = words_of(ids)
        for start in range(0, len(order), _IDS_A_STEP):
            step = order[start : start + _IDS_A_STEP]
            positions[step] = self._find_sorted(prefixes[step], words[step, 1:])
        if self._complete and (positions == NOT_FOUND).any():
            for run, _ in self._runs:
                run.check_all()
        return positions

    def _find_sorted(self, wanted: NDArray[np.uint64], tails: NDArray[np.uint64]) -> NDArray[np.int64]:
        positions = np.full(len(wanted), NOT_FOUND, dtype=np.int64)
        best = np.full(len(wanted), ABSENT, dtype=np.uint8)
        for (run, worth), first_row in zip(self._runs, self._first_row[:-1], strict=True):
            asking = np.flatnonzero(best < PREFERRED)
            at = np.searchsorted(run.prefixes, wanted[asking])
            while len(asking):
                inside = at < len(run)
                asking, at = asking[inside], at[inside]
                alike = run.prefixes[at] == wanted[asking]
                asking, at = asking[alike], at[alike]
                worth_here = _worth_at(run, worth, at, tails[asking])
                better = worth_here > best[asking]
                best[asking[better]] = worth_here[better]
                positions[asking[better]] = first_row + at[better]
                still = best[asking] < PREFERRED
                asking, at = asking[still], at[still] + 1
            run.forget(len(wanted))
        return positions

    def counting_packs(self) -> frozenset[bytes]:
        """The packs whose rows count."""
        found: set[bytes] = set()
        for run, worth in self._runs:
            found.update(run.tables.sources["pack"][worth > ABSENT].tolist())
        return frozenset(found)

    def restricted_to(self, present: Collection[bytes]) -> ChunkIndex:
        """The same index, of these packs only: what prune has marked since is no place to rely on."""
        runs = [(run, np.where(worth_of(run, present) > ABSENT, worth, ABSENT)) for run, worth in self._runs]
        return ChunkIndex.of_runs(runs, complete=self._complete)

    def contains(self, chunk_id: bytes) -> bool:
        """Whether one chunk is stored in a present pack."""
        return bool(self.find(np.frombuffer(chunk_id, np.uint8).reshape(1, 32))[0] != NOT_FOUND)

    def locate(self, positions: NDArray[np.int64]) -> Located:
        """The locations at positions that :meth:`find` returned; none may be :data:`NOT_FOUND`.

        :raises Corrupt: a local copy of the index was damaged since.
        """
        count = len(positions)
        found = {name: np.zeros(count, dtype=np.int64) for name in Located.__dataclass_fields__ if name != "salt"}
        salts = np.zeros(count, dtype="V16")
        order = np.argsort(positions)
        for number, (run, _) in enumerate(self._runs):
            first, end = np.searchsorted(positions, self._first_row[number : number + 2], sorter=order)
            for start in range(first, end, _IDS_A_STEP):
                here = order[start : min(start + _IDS_A_STEP, end)]
                at = positions[here] - self._first_row[number]
                rows = run.rows[at]
                if not run.good_rows(at, rows).all():
                    raise run.distrust()
                run.forget(len(rows))
                sources = rows["source"]
                salts[here] = run.tables.sources["salt"][sources]
                found["pack"][here] = self._first_source[number] + sources
                for name in NUMBERS:
                    found[name][here] = rows[name]
        return Located(salt=salts, **found)


def _worth_at(
    run: Run, worth: NDArray[np.uint8], at: NDArray[np.int64], tails: NDArray[np.uint64]
) -> NDArray[np.uint8]:
    """What the rows at some positions are worth for the ids asked for: nothing where the id is another one."""
    result = np.full(len(at), ABSENT, dtype=np.uint8)
    rows = run.rows[at]
    same = np.flatnonzero((rows["tail"] == tails).all(axis=1))
    if len(same) == 0:
        return result
    rows = rows[same]
    good = run.good_rows(at[same], rows)
    if not good.all():
        # Not an error here (I3): what is not found is stored again.
        run.distrust()
    result[same[good]] = worth[rows["source"][good]]
    return result


def worth_of(
    run: Run,
    present: Collection[bytes],
    *,
    marked: Collection[bytes] = (),
    counts: Callable[[RunPart], bool] = lambda part: True,
) -> NDArray[np.uint8]:
    """What each source of a run is worth (I1).

    :param present: ids of the packs in the store's listing. :param marked: of these, what prune has marked.
    :param counts: whether the rows of an index part are to be found at all.
    """
    counted = np.array([counts(part) for part in run.tables.parts], dtype=np.bool_)
    there = (
        ABSENT if pack not in present else MARKED if pack in marked else PREFERRED for pack in run.tables.pack_ids()
    )
    worth = np.fromiter(there, dtype=np.uint8, count=len(run.tables.sources))
    if len(worth):
        worth[~counted[run.tables.sources["part"]]] = ABSENT
    return worth


def empty_index() -> ChunkIndex:
    """An index of nothing."""
    return ChunkIndex(INDEX.empty_table(), ())


def ids_array(ids: bytes) -> Ids:
    """Concatenated 32-byte ids as ``(n, 32)``."""
    return np.frombuffer(ids, np.uint8).reshape(-1, 32)
