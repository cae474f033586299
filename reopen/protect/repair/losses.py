"""Owns what damage costs: for each snapshot the files that cannot be restored any more, and how many still can.

A loss is named file by file. Where the recovery key is at hand, packs that are lost are opened, and only files with a
chunk that does not open count; without it a damaged pack counts whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reopen.protect.verify.packs import Level, check_packs, group_packs
from reopen.vault import Vault

if TYPE_CHECKING:
    import pyarrow as pa

    from reopen.protect.repair.survey import Survey
    from reopen.protect.verify.trace import Damage


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotLoss:
    """What a snapshot has lost. ``paths`` are all the entries that cannot be restored. ``manifest_lost``: the list of
    its entries itself is gone, so nothing of it restores and the paths are not known."""

    dataset: str
    snapshot: str
    seq: int
    files: int
    paths: tuple[str, ...] = ()
    manifest_lost: bool = False

    @property
    def files_left(self) -> int:
        """How many files a restore will still give."""
        return 0 if self.manifest_lost else self.files - len(self.paths)


def losses_of(
    vault: Vault, replica: Vault | None, found: Survey, level: Level, *, rows: pa.Table | None = None
) -> tuple[SnapshotLoss, ...]:
    """The files of each snapshot that are lost once everything in a survey that can be had again is back; nothing where
    no key reads tables.

    :param found: ``bad_packs`` are those that stay damaged.
    :param rows: the index rows there are; without them those that there will be.
    """
    if not vault.keyring.roles:
        return ()
    from reopen.protect.repair.survey import manifest_to_be, rows_to_be
    from reopen.protect.verify.trace import good_index, hurt_paths

    if rows is None:
        rows = rows_to_be(vault, replica, found)
    good = good_index(rows, found.packs, _damage(vault, found, level))
    losses: list[SnapshotLoss] = []
    paths_of: dict[str, tuple[str, ...] | None] = {}
    for record in found.records:
        owner = record.manifest.snapshot
        if owner not in paths_of:
            manifest = manifest_to_be(vault, replica, record)
            paths_of[owner] = None if manifest is None else tuple(hurt_paths(manifest, good))
        paths = paths_of[owner]
        if paths is None or paths:
            losses.append(
                SnapshotLoss(
                    dataset=record.dataset,
                    snapshot=record.id,
                    seq=record.seq,
                    files=record.totals.files,
                    paths=paths or (),
                    manifest_lost=paths is None,
                )
            )
    return tuple(losses)


def _damage(vault: Vault, found: Survey, level: Level) -> Damage:
    from reopen.protect.verify.trace import Damage

    bad = found.bad_packs
    if level is Level.STRUCTURE or not vault.keyring.can_read_content:
        return Damage(packs=frozenset(bad))
    packs, chunks = set(), {}
    for group in group_packs(dict.fromkeys(sorted(bad), 0), Level.CONTENT, bytes_max=0):
        (finding,) = check_packs(vault, group).packs
        if finding.bad_chunks is None:
            packs.add(finding.pack)
        else:
            chunks[finding.pack] = frozenset(chunk for chunk, _ in finding.bad_chunks)
    return Damage(packs=frozenset(packs), chunks=chunks)
