"""Owns reading packs again: what is wrong with each, as values that can come from another process or another machine.

The work is divided before it is done: :func:`group_packs` makes groups, :func:`check_packs` reads one group, and what
it returns is put together by whoever asked. Groups and findings are plain values that can be pickled; a worker
elsewhere opens the vault by itself.

Invariants
    I1  A pack is ``ok`` only when every byte of it was read in this call and has the digest that its name says; at
        level ``content`` also every chunk's id was derived again.
    I2  One damaged pack hides no other, and where its content can be opened, only the chunks that are hurt are named.
    I3  At level ``stored`` a pack is never in memory whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from reopen.errors import Corrupt, NotFound, ReopenError
from reopen.protect.stored import digest_of
from reopen.vault import Vault
from reopen.vault.record import pack_name

if TYPE_CHECKING:
    from reopen.vault.content import ContentKeys

Status = Literal["ok", "missing", "size_mismatch", "digest_mismatch", "undecodable", "unreadable", "invalid"]
Advance = Callable[[int], None]

GROUP_BYTES = 1 << 30
"""What one worker elsewhere reads at a time: seconds of work, so that a lost worker costs little."""


class Level(StrEnum):
    """How deep a check goes; each includes the one before."""

    STRUCTURE = "structure"
    STORED = "stored"
    CONTENT = "content"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackGroup:
    """Packs that one worker checks together: 32-byte ids with the sizes of the listing."""

    level: Level
    packs: tuple[tuple[bytes, int], ...]

    @property
    def size_bytes(self) -> int:
        """How much there is to read."""
        return sum(size for _, size in self.packs)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackFinding:
    """What reading one pack found, and when it began, by the clock of whoever read. ``bad_chunks``: the ids of its
    chunks that are not whole, and how; ``None`` when nobody can tell, so that all of them count. ``rows_digest``: of
    the index rows that its own directory makes, where it was opened (see ``row_digests``)."""

    pack: bytes
    status: Status
    detail: str = ""
    size_bytes: int = 0
    bad_chunks: tuple[tuple[bytes, Status], ...] | None = ()
    began_at: datetime | None = None
    rows_digest: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackFindings:
    """What reading one group found, a finding a pack, in the order of the group."""

    level: Level
    packs: tuple[PackFinding, ...]


def group_packs(packs: Mapping[bytes, int], level: Level, *, bytes_max: int = GROUP_BYTES) -> list[PackGroup]:
    """Packs in the order given, in groups of at most ``bytes_max`` (a larger pack is a group of its own)."""
    groups: list[PackGroup] = []
    members: list[tuple[bytes, int]] = []
    held = 0
    for pack, size in packs.items():
        if members and held + size > bytes_max:
            groups.append(PackGroup(level=level, packs=tuple(members)))
            members, held = [], 0
        members.append((pack, size))
        held += size
    return [*groups, PackGroup(level=level, packs=tuple(members))] if members else groups


def check_packs(
    vault: Vault, group: PackGroup, *, keys: ContentKeys | None = None, advance: Advance = lambda amount: None
) -> PackFindings:
    """Read every pack of a group as deep as it says (I1, I2).

    :param keys: content keys that several groups share in one process.
    :param advance: called with the bytes that were read.
    :raises Refused: level ``content`` without a recovery key.
    """
    if group.level is Level.CONTENT and keys is None:
        # Ciphers and compressors are for those who open packs.
        from reopen.vault.content import ContentKeys

        keys = ContentKeys(vault.id, vault.keyring)
    found = []
    for pack, size in group.packs:
        began_at = vault.clock.now()
        if group.level is Level.CONTENT and keys is not None:
            finding = _check_content(vault, pack, keys, advance)
        else:
            finding = _check_stored(vault, pack, size, advance)
        found.append(replace(finding, began_at=began_at))
    return PackFindings(level=group.level, packs=tuple(found))


def _check_stored(vault: Vault, pack: bytes, size_bytes: int, advance: Advance) -> PackFinding:
    """Hash the stored bytes, piece by piece (I3). Without opening it nobody can tell which of its frames is hurt."""
    try:
        digest = digest_of(vault.store, pack_name(pack.hex()), size_bytes, advance)
    except NotFound:
        return PackFinding(pack=pack, status="missing", detail="the pack is not there", bad_chunks=None)
    except ReopenError as error:
        return PackFinding(pack=pack, status="unreadable", detail=error.message, bad_chunks=None)
    if digest != pack.hex():
        detail = f"pack {pack.hex()} fails its digest."
        return PackFinding(pack=pack, status="digest_mismatch", detail=detail, size_bytes=size_bytes, bad_chunks=None)
    return PackFinding(pack=pack, status="ok", size_bytes=size_bytes)


def _check_content(vault: Vault, pack: bytes, keys: ContentKeys, advance: Advance) -> PackFinding:
    # Arrow and numpy take longer to import than a small vault to hash.
    from reopen.protect.verify.trace import row_digests
    from reopen.vault.packreader import check_content, check_stored, open_pack
    from reopen.vault.packwriter import index_rows

    keys.learn((), "")  # Refuses at once when no recovery key is here.
    name = pack.hex()
    try:
        data = vault.store.get(pack_name(name))
    except NotFound:
        return PackFinding(pack=pack, status="missing", detail="the pack is not there", bad_chunks=None)
    except ReopenError as error:
        return PackFinding(pack=pack, status="unreadable", detail=error.message, bad_chunks=None)
    advance(len(data))
    status: Status = "ok"
    detail = ""
    try:
        check_stored(name, data)
    except Corrupt as error:
        status, detail = "digest_mismatch", error.message
    rows_digest = None
    try:
        opened = open_pack(vault, name, data)
        rows_digest = row_digests(index_rows(pack, opened.slots, opened.directory))[pack]
        found = list(check_content(vault, opened, keys))
    except (Corrupt, NotFound) as error:
        if status == "ok":
            status, detail = "undecodable", error.message
        found = list(_by_index(vault, pack, data, keys))
    bad = tuple((chunk, _chunk_status(state)) for chunk, state in found if state != "ok")
    if bad and status == "ok":
        status, detail = "undecodable", f"{len(bad)} chunks do not open"
    return PackFinding(
        pack=pack, status=status, detail=detail, size_bytes=len(data), bad_chunks=bad, rows_digest=rows_digest
    )


def _by_index(vault: Vault, pack: bytes, data: bytes, keys: ContentKeys) -> Iterator[tuple[bytes, str]]:
    """A damaged pack's own directory does not open; the index parts that list it know where its frames lie (I2)."""
    import pyarrow as pa

    from reopen.protect.readable import readable_rows
    from reopen.vault.packreader import check_content_by_index

    rows = readable_rows(vault, covering=pack)
    column = rows.column("pack")
    rows = rows.filter(pa.compute.equal(column, pa.scalar(pack, pa.binary(32))))
    return check_content_by_index(vault, pack.hex(), data, rows, keys)


def _chunk_status(found: str) -> Status:
    return "digest_mismatch" if found == "digest_mismatch" else "undecodable"
