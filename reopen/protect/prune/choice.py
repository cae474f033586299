"""Owns the choice of what prune does with each pack. Pure: a survey in, choices out.

Invariants
    I1  What is marked already, younger than the grace, or of a snapshot under way is left alone.
    I2  A pack is marked for removal only when no frame in it is needed, or every needed one was moved already.
    I3  A choice that turns out stale is safe: what is needed after all is moved before its pack goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from reopen.protect.prune.survey import Survey, old_enough

MAX_UNUSED_SHARE = 0.05
"""Unused bytes that may stay in packs, as a share of the needed ones: the last few per cent cost the most to get."""

SMALL_PACK_SHARE = 0.25
"""Below this share of a full pack a pack is small: every snapshot ends with one."""

SMALL_PACKS_MIN = 8
"""So many small packs of one writer are joined; fewer would be read and written again at every run."""


class PackToDo(StrEnum):
    """What prune does with a pack."""

    KEEP = "keep"
    DELETE = "delete"
    REPACK = "repack"
    MARKED = "marked"


class RepackReason(StrEnum):
    """Why a pack is repacked."""

    NONE = ""
    WASTE = "partly unused"
    SMALL = "small"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackChoice:
    """One pack and what becomes of it. ``needed_bytes`` and ``unused_bytes`` are of its frames, as they are stored."""

    id: bytes
    size_bytes: int
    needed_bytes: int
    unused_bytes: int
    todo: PackToDo
    reason: RepackReason = RepackReason.NONE

    @property
    def waste(self) -> float:
        """The share of the pack that is unused."""
        return self.unused_bytes / self.size_bytes if self.size_bytes else 0.0


def choose(
    found: Survey,
    *,
    grace_seconds: float,
    pack_bytes: int,
    max_unused_share: float,
    repack_max_bytes: int | None,
) -> tuple[PackChoice, ...]:
    """What to do with every pack, aligned with the survey's.

    :param pack_bytes: size of a full pack.
    :param repack_max_bytes: at most so many bytes of packs are read to be repacked; ``None``: no limit.
    """
    needed, unused = _bytes_by_pack(found)
    free = _free(found, grace_seconds)
    delete = free & (needed == 0)
    stays = ~found.marked & ~delete
    budget = _Budget(repack_max_bytes)
    waste = _wasteful(found, free & ~delete, needed, unused, stays, max_unused_share, budget)
    small = _small(found, free & ~delete & ~waste, pack_bytes, budget)
    choices = []
    for number, pack in enumerate(found.packs):
        todo, reason = PackToDo.KEEP, RepackReason.NONE
        if found.marked[number]:
            todo = PackToDo.MARKED
        elif delete[number]:
            todo = PackToDo.DELETE
        elif waste[number]:
            todo, reason = PackToDo.REPACK, RepackReason.WASTE
        elif small[number]:
            todo, reason = PackToDo.REPACK, RepackReason.SMALL
        choices.append(
            PackChoice(
                id=pack,
                size_bytes=int(found.sizes[number]),
                needed_bytes=int(needed[number]),
                unused_bytes=int(unused[number]),
                todo=todo,
                reason=reason,
            )
        )
    return tuple(choices)


class _Budget:
    """How many bytes may still be repacked."""

    def __init__(self, size_bytes: int | None) -> None:
        self._left_bytes = size_bytes

    def take(self, size_bytes: int) -> bool:
        if self._left_bytes is None:
            return True
        if size_bytes > self._left_bytes:
            return False
        self._left_bytes -= size_bytes
        return True


def _bytes_by_pack(found: Survey) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each pack the stored bytes of its needed frames, and of the others; what was moved is not needed any more."""
    frames, count = found.frames, len(found.packs)
    needed = frames.needed & ~moved_frames(found)
    of_needed = np.bincount(frames.pack, weights=frames.stored_length * needed, minlength=count).astype(np.int64)
    of_all = np.bincount(frames.pack, weights=frames.stored_length, minlength=count).astype(np.int64)
    return of_needed, of_all - of_needed


def moved_frames(found: Survey) -> NDArray[np.bool_]:
    """Frames that lie in another pack as well, which is unmarked and newer: there they were moved to. A guess that the
    sweep checks byte by byte."""
    frames = found.frames
    if len(frames.pack) == 0:
        return np.zeros(0, dtype=np.bool_)
    by_age = sorted(range(len(found.packs)), key=lambda n: (not found.marked[n], found.modified_at[n], found.packs[n]))
    rank = np.zeros(len(found.packs), dtype=np.int64)
    rank[by_age] = np.arange(len(by_age))
    order = np.lexsort((rank[frames.pack], frames.identity))
    is_last = np.append(frames.identity[order][1:] != frames.identity[order][:-1], True)
    # The last of each group of equal frames is where it stays, if prune has not marked that pack too.
    group = np.concatenate(([0], np.cumsum(is_last)[:-1]))
    keeper = frames.pack[order][is_last]
    moved = np.zeros(len(order), dtype=np.bool_)
    moved[order] = ~is_last & ~found.marked[keeper][group]
    return moved


def _free(found: Survey, grace_seconds: float) -> NDArray[np.bool_]:
    old = [old_enough(modified_at, found.now, grace_seconds) for modified_at in found.modified_at]
    return np.array(old, dtype=np.bool_) & ~found.marked & ~found.under_way


def _wasteful(
    found: Survey,
    free: NDArray[np.bool_],
    needed: NDArray[np.int64],
    unused: NDArray[np.int64],
    stays: NDArray[np.bool_],
    max_unused_share: float,
    budget: _Budget,
) -> NDArray[np.bool_]:
    """The most wasteful packs, until what is left unused is tolerable."""
    chosen = np.zeros(len(found.packs), dtype=np.bool_)
    left_bytes = int(unused[stays].sum()) - int(needed[stays].sum() * max_unused_share)
    candidates = np.flatnonzero(free & (unused > 0))
    share = unused[candidates] / np.maximum(found.sizes[candidates], 1)
    for number in candidates[np.argsort(-share, kind="stable")].tolist():
        if left_bytes <= 0:
            break
        if budget.take(int(found.sizes[number])):
            chosen[number] = True
            left_bytes -= int(unused[number])
    return chosen


def _small(found: Survey, free: NDArray[np.bool_], pack_bytes: int, budget: _Budget) -> NDArray[np.bool_]:
    """Small packs of one writer, where there are enough to join."""
    chosen = np.zeros(len(found.packs), dtype=np.bool_)
    by_origin: dict[str, list[int]] = {}
    for number in np.flatnonzero(free & (found.sizes < pack_bytes * SMALL_PACK_SHARE)).tolist():
        if found.origins[number]:
            by_origin.setdefault(found.origins[number], []).append(number)
    for numbers in by_origin.values():
        chosen[_affordable(found, numbers, budget)] = True
    return chosen


def _affordable(found: Survey, numbers: Sequence[int], budget: _Budget) -> list[int]:
    if len(numbers) < SMALL_PACKS_MIN:
        return []
    taken = [number for number in numbers if budget.take(int(found.sizes[number]))]
    return taken if len(taken) > 1 else []
