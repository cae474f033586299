"""Owns trying recovery keys: does each one that is here open this vault? Reads only, signs nothing, needs no other key.

Of the newest pack and a random sample, each key unseals every slot and opens one frame, and the chunks' ids are
derived again. That is the way of a restore, without the restore: what it shows is that the key, the roots, the slots,
grants and content belong together. It says nothing about the bytes it did not read; that is ``verify``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reopen.errors import Corrupt, NotFound, Refused
from reopen.ids import RandomBytes
from reopen.progress import SILENT, Progress
from reopen.storage import ObjectInfo
from reopen.vault import Vault
from reopen.vault.content import ChunkHasher, ContentKeys
from reopen.vault.keys import Keyring, RecoveryKey, roots_context
from reopen.vault.record import pack_name
from reopen.vault.slots import PackHead, list_pack_objects, read_head

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE_PACKS = 16

Roots = Literal["ok", "not sealed", "damaged"]
Opened = Literal["ok", "not sealed", "damaged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackTried:
    """What became of one pack with one key; ``detail`` says why it did not open."""

    pack: str
    status: Opened
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTried:
    """What one recovery key opens."""

    key: str
    roots: Roots
    packs: tuple[PackTried, ...]

    @property
    def opened(self) -> int:
        """How many of the packs tried it opened."""
        return sum(pack.status == "ok" for pack in self.packs)

    @property
    def works(self) -> bool:
        """Whether it opened everything that was tried."""
        return self.roots == "ok" and self.opened == len(self.packs)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTestResult:
    """What the keys here open. ``packs``: in the vault; ``tried``: ids of those that were tried; ``unopened``: those
    that no key here opened."""

    keys: tuple[KeyTried, ...]
    packs: int
    tried: tuple[str, ...]
    unopened: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every pack that was tried is opened by some key here."""
        return not self.unopened and any(key.roots == "ok" for key in self.keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """One frame of a pack, and the chunks in it: id, offset in the raw bytes, length."""

    stored: bytes
    salt: bytes
    counter: int
    codec: int
    raw_length: int
    chunks: tuple[tuple[bytes, int, int], ...]


def try_recovery_keys(vault: Vault, *, sample: int | None = SAMPLE_PACKS, progress: Progress = SILENT) -> KeyTestResult:
    """Try every recovery key here on the newest pack and a random sample.

    :param sample: how many packs; None takes all.
    :raises Refused: no recovery key is here.
    """
    if not vault.keyring.can_read_content:
        raise Refused(
            "there is no recovery key to try.",
            hint="Name the folder that holds it with --keys, or set REOPEN_KEYS or REOPEN_PASSPHRASE_FILE.",
        )
    started = vault.clock.elapsed_seconds()
    packs = list_pack_objects(vault.store)
    index = _Index(vault)
    chosen = _choose(packs, sample, vault.random_bytes)
    chosen.sort(key=lambda info: index.part_of(info.name.rpartition("/")[2]))
    tried: dict[str, list[PackTried]] = {key.id: [] for key in vault.keyring.recovery_keys}
    progress.start("try recovery keys", len(chosen), "packs")
    for info in chosen:
        for key, found in _try_pack(vault, info, index).items():
            tried[key].append(found)
        progress.advance(1)
    progress.finish()
    opened = {pack.pack for packs_of in tried.values() for pack in packs_of if pack.status == "ok"}
    names = tuple(info.name.rpartition("/")[2] for info in chosen)
    return KeyTestResult(
        keys=tuple(
            KeyTried(key=key.id, roots=opens_roots(vault, key), packs=tuple(tried[key.id]))
            for key in vault.keyring.recovery_keys
        ),
        packs=len(packs),
        tried=names,
        unopened=tuple(name for name in names if name not in opened),
        seconds=vault.clock.elapsed_seconds() - started,
    )


def _choose(packs: Sequence[ObjectInfo], sample: int | None, random_bytes: RandomBytes) -> list[ObjectInfo]:
    if not packs or sample is None or len(packs) <= sample:
        return list(packs)
    newest = max(packs, key=lambda info: (info.modified_at, info.name))
    others = [info for info in packs if info is not newest]
    # A random order by random keys: the generator that tests hand in gives bytes.
    others.sort(key=lambda info: random_bytes(8))
    return [newest, *others[: sample - 1]]


def opens_roots(vault: Vault, key: RecoveryKey) -> Roots:
    """Whether a recovery key opens the vault's roots: one object, no listing."""
    sealed = vault.key_documents.roots.get(key.id)
    if sealed is None:
        return "not sealed"
    try:
        plain = key.open(sealed, roots_context(vault.id))
    except Corrupt:
        return "damaged"
    return "ok" if plain == vault.roots.id_root + vault.roots.meta_root else "damaged"


def _try_pack(vault: Vault, info: ObjectInfo, index: _Index) -> dict[str, PackTried]:
    pack_id = info.name.rpartition("/")[2]
    keys = vault.keyring.recovery_keys
    try:
        head = read_head(vault.store, info, vault.id)
        frame = _any_frame(vault, head, index)
    except (Corrupt, NotFound) as error:
        return {key.id: PackTried(pack=pack_id, status="damaged", detail=error.message) for key in keys}
    return {key.id: _try_frame(vault, key, head, frame) for key in keys}


def _try_frame(vault: Vault, key: RecoveryKey, head: PackHead, frame: _Frame) -> PackTried:
    alone = Keyring(vault.keyring.pins, recovery=[key])
    alone.grants = vault.keyring.grants
    content = ContentKeys(vault.id, alone)
    hasher = ChunkHasher(vault.roots.chunk_id_key())
    try:
        content.learn(head.slots, head.id)
        if not content.knows(frame.salt):
            raise Corrupt("the pack lacks the slot that the index names.")
        raw = memoryview(content.open(frame.stored, frame.salt, frame.counter, frame.codec, frame.raw_length, head.id))
    except NotFound as error:
        return PackTried(pack=head.id, status="not sealed", detail=error.message)
    except Corrupt as error:
        return PackTried(pack=head.id, status="damaged", detail=error.message)
    wrong = [name for name, offset, length in frame.chunks if hasher(raw[offset : offset + length]) != name]
    if wrong:
        return PackTried(pack=head.id, status="damaged", detail=f"{len(wrong)} chunks are not what their ids say")
    return PackTried(pack=head.id, status="ok")


class _Index:
    """Which index part covers a pack, and the rows of the part that was asked for last."""

    def __init__(self, vault: Vault) -> None:
        from reopen.vault.statements import IndexStatement, read_statement

        self._vault = vault
        self._of: dict[str, IndexStatement] = {}
        self._last: tuple[str, pa.Table] | None = None
        for info in vault.store.list("index/"):
            if not info.name.endswith(".json"):
                continue
            try:
                statement = read_statement(vault, info.name)
            except (Corrupt, NotFound):
                continue  # Another part may cover its packs; else their own directories do.
            self._of |= dict.fromkeys(statement.packs, statement)

    def part_of(self, pack_id: str) -> str:
        """The name of the part that covers a pack: packs in this order read each part once."""
        return self._of[pack_id].part.name if pack_id in self._of else ""

    def rows(self, pack_id: str) -> pa.Table | None:
        """The rows of a pack; None when no good part has any."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from reopen.vault.indexparts import read_rows

        statement = self._of.get(pack_id)
        if statement is None:
            return None
        if self._last is None or self._last[0] != statement.part.name:
            try:
                self._last = statement.part.name, read_rows(self._vault, statement)
            except (Corrupt, NotFound):
                return None
        rows = self._last[1]
        rows = rows.filter(pc.equal(rows.column("pack"), pa.scalar(bytes.fromhex(pack_id), pa.binary(32))))
        return rows if rows.num_rows else None


def _any_frame(vault: Vault, head: PackHead, index: _Index) -> _Frame:
    """Some frame of a pack, found by the index; by the pack's own directory where no index part covers it."""
    rows = index.rows(head.id)
    if rows is None:
        return _frame_of_whole(vault, head)
    offsets = sorted(set(rows.column("frame_offset").to_pylist()))
    offset = offsets[int.from_bytes(vault.random_bytes(8), "little") % len(offsets)]
    chunks = [row for row in rows.to_pylist() if row["frame_offset"] == offset]
    first = chunks[0]
    return _Frame(
        stored=vault.store.get_range(pack_name(head.id), offset, first["frame_length"]),
        salt=first["slot_salt"],
        counter=first["frame_counter"],
        codec=first["frame_codec"],
        raw_length=first["frame_raw_length"],
        chunks=tuple((row["chunk_id"], row["chunk_offset"], row["chunk_length"]) for row in chunks),
    )


def _frame_of_whole(vault: Vault, head: PackHead) -> _Frame:
    from reopen.vault.packreader import read_pack

    pack = read_pack(vault, head.id)
    frames = pack.directory.frames
    number = int.from_bytes(vault.random_bytes(8), "little") % len(frames)
    frame = frames[number]
    borders = [*frames["first_chunk"].tolist(), len(pack.directory.chunks)]
    chunks = pack.directory.chunks[borders[number] : borders[number + 1]]
    start = int(frame["offset"])
    return _Frame(
        stored=pack.data[start : start + int(frame["stored_length"])],
        salt=pack.slots[int(frame["slot"])].salt,
        counter=int(frame["counter"]),
        codec=int(frame["codec"]),
        raw_length=int(frame["raw_length"]),
        chunks=tuple((row["id"].tobytes(), int(row["offset"]), int(row["length"])) for row in chunks),
    )
