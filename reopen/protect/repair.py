"""Owns rebuilding what can be derived: index parts from packs, which describe themselves.

Nothing is destroyed: a damaged index part is copied to ``aside/`` before it is removed from ``index/``, where it would
stop every reader, and a new part covers its packs.

Invariants
    I1  Only packs whose directory opens and whose signature is right contribute rows.
    I2  What cannot be rebuilt (manifests, records, packs) is named with the place it can be copied back from.
"""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

from reopen.errors import Corrupt, NotFound, ReopenError
from reopen.progress import SILENT, Progress
from reopen.vault import Vault
from reopen.vault.indexparts import list_packs, read_statement, write_index_part
from reopen.vault.packreader import read_pack
from reopen.vault.packwriter import StoredPack, index_rows

PACKS_PER_PART_MAX = 1000
"""A statement lists its packs by id and must stay far below the cap of a stored document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairPlan:
    """What can be rebuilt. ``damaged`` lists index objects that are missing or wrong, ``packs`` the packs (32-byte
    ids) that no good index part covers."""

    vault: Vault
    damaged: tuple[str, ...]
    packs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairResult:
    """What was rebuilt. ``unreadable`` packs could not be opened and need a replica."""

    rebuilt_packs: int
    written_parts: tuple[str, ...]
    moved_aside: tuple[str, ...]
    unreadable: tuple[str, ...]


def plan_repair(vault: Vault) -> RepairPlan:
    """Find index parts that are missing or damaged, and packs that no index part covers."""
    covered: set[str] = set()
    damaged: list[str] = []
    for info in vault.store.list("index/"):
        if not info.name.endswith(".json"):
            continue
        try:
            statement = read_statement(vault, info.name)
        except (Corrupt, NotFound):
            damaged.append(info.name)
            continue
        try:
            vault.get_pinned(statement.parquet)
            covered |= set(statement.packs)
        except (Corrupt, NotFound):
            damaged.append(statement.parquet.name)
    packs = tuple(pack for pack in sorted(list_packs(vault)) if pack.hex() not in covered)
    return RepairPlan(vault=vault, damaged=tuple(damaged), packs=packs)


def execute_repair(plan: RepairPlan, *, progress: Progress = SILENT) -> RepairResult:
    """Write a new index part for every pack that lacks one, and take damaged statements out of the way.

    :raises Refused: no writer key here.
    """
    vault = plan.vault
    signer = vault.keyring.signer("writer")
    progress.start("read packs", len(plan.packs), "packs")
    stored, unreadable = [], []
    for pack_id in plan.packs:
        try:
            pack = read_pack(vault, pack_id.hex())
            rows = index_rows(pack_id, pack.slots, pack.directory)
            stored.append(StoredPack(id=pack_id, size_bytes=len(pack.data), rows=rows))
        except ReopenError:
            unreadable.append(pack_id.hex())
        progress.advance(1)
    progress.finish()
    written: list[str] = []
    aside: list[str] = []
    for name in plan.damaged:
        # A statement whose rows are gone would stop every reader: out of the way, kept, and its packs covered anew.
        # (Its rows cannot be written back under its digest: the encryption of a Parquet file is salted.)
        aside += _move_aside(vault, name)
    covered = _covered(vault)
    left = [pack for pack in stored if pack.id.hex() not in covered]
    for start in range(0, len(left), PACKS_PER_PART_MAX):
        packs = left[start : start + PACKS_PER_PART_MAX]
        # The name follows from the packs, so that two repairs at once write the same part.
        name = blake3(b"".join(pack.id for pack in packs)).hexdigest()[:16]
        written.append(write_index_part(vault, f"repair-{name}", packs, signer).name)
    return RepairResult(
        rebuilt_packs=len(stored), written_parts=tuple(written), moved_aside=tuple(aside), unreadable=tuple(unreadable)
    )


def _move_aside(vault: Vault, name: str) -> list[str]:
    stem = name.removesuffix(".parquet").removesuffix(".json")
    moved = []
    for present in (f"{stem}.json", f"{stem}.parquet"):
        try:
            data = vault.store.get(present)
        except NotFound:
            continue
        vault.store.put(f"aside/{present}", [data])
        vault.store.delete(present)
        moved.append(present)
    return moved


def _covered(vault: Vault) -> set[str]:
    return {
        pack
        for info in vault.store.list("index/")
        if info.name.endswith(".json")
        for pack in read_statement(vault, info.name).packs
    }
