"""Owns the key slots of stored packs: which packs are sealed to whom, and getting at a slot's content key."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from reopen.errors import Corrupt, NotFound
from reopen.progress import SILENT, Progress
from reopen.storage import ObjectInfo, ObjectStore
from reopen.vault.keys import Keyring
from reopen.vault.pack import HEADER_BYTES, Slot, decode_slots, head_bytes, slot_context
from reopen.vault.record import PACK_NAME

HEAD_GUESS_BYTES = 8 << 10
"""Enough for the head of a pack of one slot and six recipients, in one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackHead:
    """What a pack's head says. ``damage``: why it cannot be read; then it has no slots."""

    id: str
    size_bytes: int
    slots: tuple[Slot, ...] = ()
    damage: str = ""


def unseal_slot(vault_id: str, keyring: Keyring, slot: Slot, name: str) -> bytes:
    """A slot's content key, by whichever recovery key here opens it: as it was sealed, or by a later grant.

    :param name: of the pack, for messages.
    :raises NotFound: it is sealed to none of them. :raises Corrupt: what is sealed to them is damaged.
    """
    held = {key.id: key for key in keyring.recovery_keys}

    def ways() -> Iterator[tuple[str, bytes]]:
        yield from slot.sealed
        granted = keyring.grants.find(slot.salt, held) if keyring.grants is not None else None
        if granted is not None:
            yield granted

    failed: Corrupt | None = None
    for recipient, sealed in ways():
        if recipient in held:
            try:
                return held[recipient].open(sealed, slot_context(vault_id, slot.salt))
            except Corrupt as error:
                failed = error
    raise failed or NotFound(
        f"pack {name} is not sealed to any recovery key that is here.",
        hint=f"It needs one of: {', '.join(item for item, _ in slot.sealed)}. With one of these and the root key, "
        "`reopen keys reseal` opens it to recovery keys that came later.",
        pack=name,
    )


def list_pack_objects(store: ObjectStore) -> list[ObjectInfo]:
    """Every pack as the listing shows it."""
    return [info for info in store.list("packs/") if PACK_NAME.fullmatch(info.name)]


def read_head(store: ObjectStore, info: ObjectInfo, vault_id: str) -> PackHead:
    """The slots of one pack.

    :raises NotFound: it has gone. :raises Corrupt: it is not a pack of this vault.
    """
    pack_id = info.name.rpartition("/")[2]
    if info.size_bytes < HEADER_BYTES:
        raise Corrupt(f"pack {pack_id} has {info.size_bytes} bytes, which no pack has.", pack=pack_id)
    head = store.get_range(info.name, 0, min(info.size_bytes, HEAD_GUESS_BYTES))
    length = head_bytes(head[:HEADER_BYTES], pack_id, vault_id)
    if length > info.size_bytes:
        raise Corrupt(f"pack {pack_id} ends inside its key slots.", pack=pack_id)
    if length > len(head):
        head = store.get_range(info.name, 0, length)
    return PackHead(id=pack_id, size_bytes=info.size_bytes, slots=decode_slots(head[:length], pack_id, vault_id))


def read_heads(
    store: ObjectStore, packs: Iterable[ObjectInfo], vault_id: str, *, progress: Progress = SILENT
) -> Iterator[PackHead]:
    """The heads of packs, in their order; one that is damaged is told in its place, one that has gone is left out."""

    def read(info: ObjectInfo) -> PackHead | None:
        try:
            return read_head(store, info, vault_id)
        except NotFound:
            return None
        except Corrupt as error:
            return PackHead(id=info.name.rpartition("/")[2], size_bytes=info.size_bytes, damage=error.message)
        finally:
            progress.advance(1)

    with ThreadPoolExecutor(4 * (os.cpu_count() or 1), thread_name_prefix="reopen-heads") as pool:
        yield from (head for head in pool.map(read, packs) if head is not None)
