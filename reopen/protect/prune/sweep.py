"""Owns the sweep: removing what was marked long enough ago, and the leftovers of crashes.

Order (P7 of ``docs/0005-prune.md``), each step durable before the next
    1. needed frames of marked packs that were not moved are moved (their packs go in a later run)
    2. marked table parts that no record names are removed
    3. new index parts cover the packs that stay of the parts which name packs that go
    4. those old parts are removed: the statement, then its Parquet file
    5. the packs are removed
    6. tombstones of which nothing is left are removed

Invariants
    I1  The survey is taken after every lease that might not have seen the tombstones is over.
    I2  A marked pack with needed frames goes only when each of them lies byte for byte in an unmarked pack that
        retention signed, in place for the grace; both packs are read for it, here and now.
    I3  Every step may be the last: the next run finds what is left and goes on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reopen.errors import Corrupt, NotFound, Refused, VaultUnwritable
from reopen.progress import SILENT, Progress
from reopen.protect.prune.frames import frame_identity
from reopen.protect.prune.parts import replace_parts
from reopen.protect.prune.repack import Repacked, checked_pack, repack
from reopen.protect.prune.survey import Survey, old_enough
from reopen.storage import ObjectInfo
from reopen.vault import Vault
from reopen.vault.pack import Directory
from reopen.vault.packreader import OpenPack, signer_of
from reopen.vault.record import pack_name
from reopen.vault.statements import list_packs

_HOLDERS_OPEN_MAX = 2


@dataclass(slots=True, kw_only=True)
class Swept:
    """What a sweep did, counted as it goes on.

    ``freed_bytes``: of everything that was removed. ``locked``: objects that the bucket's object lock keeps for now.
    ``held``: marked packs that a snapshot needs after all; they go when their frames have been elsewhere for the grace.
    ``unreadable``: marked packs that stay because they cannot be read, with the reason.
    """

    packs: int = 0
    objects: int = 0
    locked: int = 0
    freed_bytes: int = 0
    held: int = 0
    unreadable: dict[bytes, str] = field(default_factory=dict)
    rescued: list[Repacked] = field(default_factory=list)


def sweep(
    vault: Vault, found: Survey, due: Collection[str], done: Swept, *, grace_seconds: float, progress: Progress = SILENT
) -> None:
    """Remove what the tombstones in ``due`` name, and what nothing refers to.

    :param found: a survey taken after every lease of before was over (I1).
    :param due: names of tombstones that are older than the grace; none removes leftovers only.
    :param done: is added to, so that it says what was done also when the sweep ends early.
    :raises NotFound: another prune removed an index part since the survey: survey again.
    """
    _Sweep(vault, found, due, done, grace_seconds, progress).run()


class _Sweep:
    def __init__(
        self,
        vault: Vault,
        found: Survey,
        due: Collection[str],
        done: Swept,
        grace_seconds: float,
        progress: Progress,
    ) -> None:
        self._vault = vault
        self._found = found
        self._due = [tombstone for tombstone in found.tombstones if tombstone.name in due]
        self._grace_seconds = grace_seconds
        self._progress = progress
        self.done = done

    def run(self) -> None:
        leaving = self._leaving()
        tables = self._tables()
        self._progress.start("sweep", len(leaving) + len(tables), "objects")
        tables = {name: size for name, size in tables.items() if self._remove(name, size)}
        self._rewrite_index(leaving)
        self._remove_leftovers()
        number = self._found.number()
        for pack in sorted(leaving):
            if self._remove(pack_name(pack.hex()), int(self._found.sizes[number[pack]])):
                self.done.packs += 1
            else:
                leaving.discard(pack)
        self._remove_tombstones(leaving, tables)
        self._progress.finish()

    def _leaving(self) -> set[bytes]:
        """The packs that go; what is needed of the others is moved on the way."""
        found = self._found
        named = {pack for tombstone in self._due for pack in tombstone.packs}
        in_need = np.bincount(found.frames.pack[found.frames.needed], minlength=len(found.packs)) > 0
        moved = MovedFrames(self._vault, found, grace_seconds=self._grace_seconds)
        leaving, rescue = set(), []
        self.done.held = 0
        for number, pack_id in enumerate(found.packs):
            if pack_id not in named:
                continue
            if not in_need[number]:
                leaving.add(pack_id)
                continue
            try:
                pack = checked_pack(self._vault, pack_id)
            except (Corrupt, NotFound) as error:
                self.done.unreadable[pack_id] = error.message
                continue
            where = moved.of(pack)
            if where.all_settled:
                leaving.add(pack_id)
                continue
            self.done.held += 1
            if where.missing.any():
                rescue.append(pack_id)
        if rescue:
            origins = dict(zip(found.packs, found.origins, strict=True))
            self.done.rescued.append(
                repack(
                    self._vault, rescue, lambda pack: moved.of(pack).missing, origins=origins, progress=self._progress
                )
            )
        return leaving

    def _tables(self) -> dict[str, int]:
        named = {name for tombstone in self._due for name in tombstone.tables}
        return {info.name: info.size_bytes for info in self._found.unreferenced if info.name in named}

    def _rewrite_index(self, leaving: set[bytes]) -> None:
        present = {pack.hex() for pack in self._found.packs}
        stays = present - {pack.hex() for pack in leaving}
        affected = [item for item in self._found.statements if not set(item.packs) <= stays]
        if affected:
            # Another prune may have removed some since the survey; a new part must not list them.
            stays &= {pack.hex() for pack in list_packs(self._vault)}
            replace_parts(self._vault, self._found, affected, stays)
        removed = []
        for item in affected:
            # The statement first: without it nobody looks for the Parquet file.
            if self._remove(item.part.name, item.part.size):
                removed.append(item)
            else:
                # What it lists stays as long as it does; its replacement is found again by the next run.
                leaving -= {bytes.fromhex(pack) for pack in item.packs}
        for item in removed:
            self._remove(item.parquet.name, item.parquet.size)

    def _remove_leftovers(self) -> None:
        """Parquet files of the index whose statement never came, and probes: of crashes long ago."""
        for info in self._vault.store.list("probe/"):
            if self._is_old(info):
                self._remove(info.name, info.size_bytes)
        for info in self._found.loose_rows:
            if self._is_old(info):
                self._remove_loose(info)

    def _remove_loose(self, info: ObjectInfo) -> None:
        """Remove rows that never counted, unless they begin to count at this very moment.

        Their writer looks for its rows after it has created the statement, and prune for the statement after it has
        removed the rows: so one of the two sees the other.
        """
        statement = info.name.removesuffix(".parquet") + ".json"
        try:
            data = self._vault.store.get(info.name)
        except NotFound:
            return  # Another prune was faster.
        self._remove(info.name, info.size_bytes)
        if any(found.name == statement for found in self._vault.store.list(statement)):
            self._vault.store.put(info.name, [data])

    def _is_old(self, info: ObjectInfo) -> bool:
        return old_enough(info.modified_at, self._found.now, self._grace_seconds)

    def _remove_tombstones(self, leaving: set[bytes], tables: Collection[str]) -> None:
        found = self._found
        packs_left = set(found.packs) - leaving
        tables_left = (found.named_tables | {info.name for info in found.unreferenced}) - set(tables)
        for tombstone in self._due:
            if not packs_left & set(tombstone.packs) and not tables_left & set(tombstone.tables):
                self._remove(tombstone.name, 0)

    def _remove(self, name: str, size_bytes: int) -> bool:
        """Remove an object; whether it is gone. One that is still locked in its bucket goes in a later run."""
        self._progress.advance(1)
        try:
            self._vault.store.delete(name)
        except VaultUnwritable:
            raise
        except Refused:
            self.done.locked += 1
            return False
        self.done.objects += 1
        self.done.freed_bytes += size_bytes
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Of one pack's frames: ``missing`` are needed and lie nowhere else; ``all_settled``: all that are needed lie
    elsewhere, and have for the grace."""

    missing: NDArray[np.bool_]
    all_settled: bool


class MovedFrames:
    """Finds the other copy of frames and compares them, bytes, slots and chunks (I2)."""

    def __init__(self, vault: Vault, found: Survey, *, grace_seconds: float, leave_out: Collection[bytes] = ()) -> None:
        """
        :param leave_out: packs besides the marked ones that do not count as a place where a frame stays.
        """
        self._vault = vault
        self._found = found
        self._grace_seconds = grace_seconds
        frames = found.frames
        stays = ~found.marked & ~np.array([pack in leave_out for pack in found.packs], dtype=np.bool_)
        held = np.flatnonzero(stays[frames.pack])
        order = held[np.argsort(frames.identity[held], kind="stable")]
        self._identity = frames.identity[order]
        self._pack = frames.pack[order]
        self._open: OrderedDict[int, _Holder | None] = OrderedDict()

    def of(self, pack: OpenPack) -> Whereabouts:
        """Where the needed frames of a pack are besides in it."""
        needed = needed_frames(self._found, pack.directory)
        frames = pack.directory.frames
        identity = identities(pack)
        settled = self._found.is_safe(pack.directory.chunks["id"])
        missing = np.zeros(len(frames), dtype=np.bool_)
        for number in np.flatnonzero(needed).tolist():
            holder = self._holder(pack, number, int(identity[number]))
            missing[number] = holder is None
            settled &= holder is not None and old_enough(
                self._found.modified_at[holder], self._found.now, self._grace_seconds
            )
        return Whereabouts(missing=missing, all_settled=settled)

    def _holder(self, pack: OpenPack, number: int, identity: int) -> int | None:
        start, end = (
            np.searchsorted(self._identity, np.uint64(identity), "left"),
            np.searchsorted(self._identity, np.uint64(identity), "right"),
        )
        # The oldest that is right: it has been in place the longest.
        for holder in sorted(self._pack[start:end].tolist(), key=lambda at: self._found.modified_at[at]):
            opened = self._opened(holder)
            if self._found.packs[holder].hex() != pack.id and opened is not None and opened.holds(pack, number):
                return int(holder)
        return None

    def _opened(self, number: int) -> _Holder | None:
        if number not in self._open:
            self._open[number] = self._read(number)
            if len(self._open) > _HOLDERS_OPEN_MAX:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]

    def _read(self, number: int) -> _Holder | None:
        try:
            pack = checked_pack(self._vault, self._found.packs[number])
        except (Corrupt, NotFound):
            return None  # What cannot be read holds nothing that could be relied on.
        # A writer may have copied the frame truly and state its place falsely in the index; retention did neither.
        return _Holder(pack) if self._vault.certificates[signer_of(pack)].role == "retention" else None


class _Holder:
    def __init__(self, pack: OpenPack) -> None:
        self._pack = pack
        slots, frames = pack.slots, pack.directory.frames
        self._of = {(slots[int(f["slot"])].salt, int(f["counter"])): at for at, f in enumerate(frames)}

    def holds(self, source: OpenPack, number: int) -> bool:
        """Whether the frame with this number in ``source`` is here, the same in everything that opens it."""
        theirs = source.directory.frames[number]
        slot = source.slots[int(theirs["slot"])]
        at = self._of.get((slot.salt, int(theirs["counter"])))
        if at is None:
            return False
        ours = self._pack.directory.frames[at]
        return (
            self._pack.slots[int(ours["slot"])] == slot
            and (ours["codec"], ours["raw_length"]) == (theirs["codec"], theirs["raw_length"])
            and _bytes_of(self._pack, at) == _bytes_of(source, number)
            and _chunks_of(self._pack.directory, at) == _chunks_of(source.directory, number)
        )


def needed_frames(found: Survey, directory: Directory) -> NDArray[np.bool_]:
    """The frames of a pack that a record needs a chunk of, by the pack's own directory."""
    frame_of_chunk = directory.frame_of_chunk()
    needed = np.zeros(len(directory.frames), dtype=np.bool_)
    needed[frame_of_chunk[found.is_needed(directory.chunks["id"])]] = True
    return needed


def identities(pack: OpenPack) -> NDArray[np.uint64]:
    """Slot salt and counter of each frame, as in :func:`reopen.protect.prune.frames.frame_identity`."""
    salts = np.frombuffer(b"".join(slot.salt for slot in pack.slots), np.uint8).reshape(-1, 16)
    frames = pack.directory.frames
    return frame_identity(salts[frames["slot"]], frames["counter"].astype(np.uint64))


def _bytes_of(pack: OpenPack, number: int) -> bytes:
    frame = pack.directory.frames[number]
    return pack.data[int(frame["offset"]) : int(frame["offset"]) + int(frame["stored_length"])]


def _chunks_of(directory: Directory, number: int) -> bytes:
    first = directory.frames["first_chunk"]
    end = int(first[number + 1]) if number + 1 < len(first) else len(directory.chunks)
    return directory.chunks[int(first[number]) : end].tobytes()
