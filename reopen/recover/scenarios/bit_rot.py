"""Owns the drill of bit rot: a byte of one pack is wrong, in memory over the replica's store, and what then happens is
what would happen if the medium had lost it: it is found, repaired from another site's vault, or said to be lost.

Invariant
    B1  The store below is only read. What a repair writes stays in memory, and goes with the drill.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from reopen.clock import SYSTEM_CLOCK
from reopen.errors import Conflict, Corrupt, NotFound, ReopenError
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.verify.packs import Level, PackGroup, check_packs
from reopen.recover.context import RecoveryContext
from reopen.recover.plan import RecoveryPlan
from reopen.recover.scenarios.model import Arranged, Findings, pick
from reopen.recover.scenarios.pieces import record_of
from reopen.recover.steps import Outcomes
from reopen.storage import Capabilities, ObjectInfo, ObjectStore, Piece
from reopen.vault import Vault
from reopen.vault.index import NOT_FOUND
from reopen.vault.indexparts import load_index
from reopen.vault.record import pack_name
from reopen.vault.tables import chunk_layout

SCHEME = "overlay"
FLIP = 0x01
"""One bit of the byte: the least that a medium can get wrong."""


class OverlayStore:
    """A store over another one: writes stay in memory, and bytes can be made to rot (B1)."""

    def __init__(self, below: ObjectStore) -> None:
        self._below = below
        self._written: dict[str, tuple[bytes, datetime]] = {}
        self._deleted: set[str] = set()
        self._rotten: dict[str, int] = {}
        self._lock = threading.Lock()

    def rot(self, name: str, offset: int) -> None:
        """From now on a bit of this byte of an object is read wrong, until the object is written anew."""
        self._rotten[name] = offset

    @property
    def url(self) -> str:
        # Not a local path, so that nobody takes a way around this store.
        return f"{SCHEME}://{self._below.url.replace('://', '/')}"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(exclusive_create=True)

    def get(self, name: str) -> bytes:
        if name in self._written:
            return self._written[name][0]
        self._refuse_deleted(name)
        return self._turned(name, 0, self._below.get(name))

    def get_range(self, name: str, start: int, length: int) -> bytes:
        if name in self._written:
            data = self._written[name][0][start : start + length]
            if len(data) != length:
                raise Corrupt(f"{name} in {self.url} ends before byte {start + length}.", object=name)
            return data
        self._refuse_deleted(name)
        return self._turned(name, start, self._below.get_range(name, start, length))

    def head(self, name: str) -> ObjectInfo:
        if name in self._written:
            data, at = self._written[name]
            return ObjectInfo(name=name, size_bytes=len(data), modified_at=at)
        self._refuse_deleted(name)
        return self._below.head(name)

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        data = b"".join(bytes(piece) for piece in pieces)
        with self._lock:
            self._written[name] = (data, self.now())
            self._deleted.discard(name)
        return len(data)

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        if any(info.name == name for info in self.list(name)):
            raise Conflict(f"{name} is in {self.url} already.", object=name)
        return self.put(name, pieces)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        found = {
            info.name: info
            for info in self._below.list(prefix)
            if info.name not in self._deleted and info.name not in self._written
        }
        found |= {name: self.head(name) for name in self._written if name.startswith(prefix)}
        yield from (found[name] for name in sorted(found))

    def delete(self, name: str) -> None:
        with self._lock:
            self._written.pop(name, None)
            self._deleted.add(name)

    def now(self) -> datetime:
        # Not the store's below: some find out their time by writing (B1).
        return SYSTEM_CLOCK.now()

    def _refuse_deleted(self, name: str) -> None:
        if name in self._deleted:
            raise NotFound(f"{name} is not in {self.url}.", object=name)

    def _turned(self, name: str, start: int, data: bytes) -> bytes:
        offset = self._rotten.get(name)
        if offset is None or not start <= offset < start + len(data):
            return data
        turned = bytearray(data)
        turned[offset - start] ^= FLIP
        return bytes(turned)


@dataclass(frozen=True, slots=True, kw_only=True)
class BitRot:
    """Lets a byte of a pack rot that a recovery point of the plan needs.

    ``vault`` is open on ``overlay``, and the context's verbs work on it. ``other`` is the same vault at another site,
    which a repair may take from; None where there is none.
    """

    vault: Vault
    overlay: OverlayStore
    other: Vault | None
    seed: int
    unreachable: Mapping[str, str] = field(default_factory=dict)
    """Why other sites' vaults could not be opened, by site."""

    def __call__(self, plan: RecoveryPlan, context: RecoveryContext) -> Arranged:
        """Let the byte rot, look whether that is found, and repair it, before the first step."""
        aim = self._aim(plan)
        if aim is None:
            problem = "no recovery point of the plan has a stored byte that could rot"
            return Arranged(context=context, findings=lambda outcomes: Findings(problem=problem))
        dataset, pack, offset = aim
        name = pack_name(pack.hex())
        size_bytes = self.overlay.head(name).size_bytes
        self.overlay.rot(name, offset)
        found = self._status(pack, size_bytes)
        facts: dict[str, Any] = {
            "seed": self.seed,
            "dataset": dataset,
            "object": name,
            "byte": offset,
            "found": found,
            "repaired_from": None,
            "unreachable": dict(self.unreachable),
        }
        if self.other is not None:
            facts |= self._repair(pack, size_bytes)

        def findings(outcomes: Outcomes) -> Findings:
            if found == "ok":
                return Findings(facts=facts, problem=f"the wrong byte in {name} was not found")
            if facts["repaired_from"] is None:
                hurt = sorted(step for step, outcome in outcomes.items() if outcome.details.get("error") == "corrupt")
                return Findings(facts=facts | {"failed_because_of_it": hurt})
            return Findings(facts=facts)

        return Arranged(context=context, findings=findings)

    def _aim(self, plan: RecoveryPlan) -> tuple[str, bytes, int] | None:
        """Which dataset, pack and byte: in the middle of a frame that the dataset's recovery point needs."""
        with_point = [dataset for dataset in plan.datasets if dataset.point is not None]
        index = load_index(self.vault)
        # From the drawn one on: a dataset of empty files has no byte that could rot.
        start = pick(self.seed, "dataset", len(with_point)) if with_point else 0
        for dataset in (*with_point[start:], *with_point[:start]):
            record = record_of(self.vault, dataset)
            if record is None:
                continue
            places = index.find(chunk_layout(self.vault.manifest(record))[0])
            places = np.unique(places[places != NOT_FOUND])
            if not len(places):
                continue
            drawn = places[pick(self.seed, "chunk", len(places))]
            at = index.locate(np.array([drawn], dtype=np.int64))
            offset = int(at.frame_offset[0]) + int(at.frame_length[0]) // 2
            return dataset.name, index.packs[int(at.pack[0])], offset
        return None

    def _status(self, pack: bytes, size_bytes: int) -> str:
        group = PackGroup(level=Level.STORED, packs=((pack, size_bytes),))
        return str(check_packs(self.vault, group).packs[0].status)

    def _repair(self, pack: bytes, size_bytes: int) -> dict[str, Any]:
        """Repair the vault over the overlay from the other site, as `reopen repair --from` would."""
        assert self.other is not None
        try:
            result = execute_repair(plan_repair(self.vault, self.other, Level.STORED))
        except ReopenError as error:
            return {"repair_failed": error.message}
        mended = self._status(pack, size_bytes) == "ok"
        return {
            "repaired_from": self.other.store.url if mended else None,
            "restored_objects": list(result.restored),
            "found_after": self._status(pack, size_bytes),
        }
