"""Owns tombstones: the signed list of packs and table parts that prune is about to remove.

``tombstones/<id>.json`` says: from now on nobody may begin to rely on these. A writer counts a marked pack as absent,
and a marked table part as one that it must write itself; who relied on them before the mark was made is waited for by
prune (``docs/0005-prune.md``). Restores and checks of committed snapshots go on reading what is marked.

Invariants
    I1  A mark is final: its tombstone stays until everything it names is gone. Were it taken back, a prune that had
        decided before could remove what a writer has begun to use since.
    I2  A tombstone that cannot be believed stops writers and prune: read as "nothing is marked", it would let a
        snapshot rely on packs that are about to go.
    I3  A writer lists tombstones *before* packs. A tombstone is removed after its packs, so one that is no longer seen
        has taken its packs out of the listing that follows.

Called by writers (what may be reused), by prune (what is due), by readers of the index (which copy to prefer).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reopen.clock import to_text
from reopen.errors import Corrupt, NotFound
from reopen.ids import new_id
from reopen.vault.canonical import JsonObject, open_envelope, seal_envelope
from reopen.vault.statements import list_packs
from reopen.vault.vault import Vault

TOMBSTONES = "tombstones/"
NAMES_PER_TOMBSTONE_MAX = 4000
"""Names of at most about 170 bytes stay below the cap of a stored document, 1 MiB."""

_NAME = re.compile(r"tombstones/([0-9a-f]{16})\.json")
_PACK_ID = re.compile(r"[0-9a-f]{64}")
_TABLE_PART = re.compile(r"(manifests|profiles)/key=\d+/dataset=[a-z0-9_-]+/snapshot=[0-9a-f]{16}/part-\d{5}\.parquet")
_HINT = (
    "Nobody knows what it marks, so nothing may be reused or removed. When no `reopen prune` is running, move it to "
    "aside/; the next prune marks again what is unused."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """One valid tombstone. ``packs`` are 32-byte ids, ``tables`` names of manifest and profile parts; ``marked_at`` is
    when it was written, by the store's clock."""

    name: str
    packs: tuple[bytes, ...]
    tables: tuple[str, ...]
    marked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Everything that is marked: packs (32-byte ids) and names of table parts."""

    packs: frozenset[bytes]
    tables: frozenset[str]


def marked_packs(vault: Vault) -> frozenset[bytes]:
    """The 32-byte ids of the packs that a tombstone names; list packs *after* this (I3).

    :raises Corrupt: a tombstone cannot be believed (I2).
    """
    return read_marks(vault).packs


def read_marks(vault: Vault) -> Marks:
    """Everything that is marked.

    :raises Corrupt: a tombstone cannot be believed (I2).
    """
    found = read_tombstones(vault)
    return Marks(
        packs=frozenset(pack for tombstone in found for pack in tombstone.packs),
        tables=frozenset(name for tombstone in found for name in tombstone.tables),
    )


def reusable_packs(vault: Vault) -> frozenset[bytes]:
    """The packs that a writer may rely on once its lease is durable: present and not marked.

    :raises Corrupt: a tombstone cannot be believed (I2).
    """
    marked = marked_packs(vault)
    # In this order (I3): a pack that was swept in between is missing here, and its tombstone may be gone already.
    return frozenset(list_packs(vault)) - marked


def read_tombstones(vault: Vault) -> list[Tombstone]:
    """Every tombstone, signature checked, by name.

    :raises Corrupt: one cannot be believed (I2).
    """
    found = []
    for info in vault.store.list(TOMBSTONES):
        try:
            found.append(_read(vault, info.name, info.modified_at))
        except NotFound:
            continue  # Swept since it was listed: what it named is gone.
        except Corrupt as error:
            raise Corrupt(error.message, hint=_HINT, object=info.name) from error
    return found


def write_tombstone(vault: Vault, *, packs: Sequence[bytes] = (), tables: Sequence[str] = ()) -> str:
    """Mark packs and table parts; durable on return. At most :data:`NAMES_PER_TOMBSTONE_MAX` names in all.

    :returns: the tombstone's name. :raises Refused: no retention key here.
    """
    assert 0 < len(packs) + len(tables) <= NAMES_PER_TOMBSTONE_MAX
    tombstone_id = new_id(vault.random_bytes)
    body: JsonObject = {
        "kind": "tombstone",
        "vault": vault.id,
        "id": tombstone_id,
        "at": to_text(vault.clock.now()),
        "packs": sorted(pack.hex() for pack in packs),
        "tables": sorted(tables),
    }
    name = f"{TOMBSTONES}{tombstone_id}.json"
    vault.store.create(name, [seal_envelope(body, vault.keyring.signer("retention"))])
    return name


def _read(vault: Vault, name: str, marked_at: datetime) -> Tombstone:
    body, signer, signature = open_envelope(vault.store.get(name), name, "tombstone")
    vault.check_signature(body, signer, signature, ("retention",), name)
    parsed = _NAME.fullmatch(name)
    if parsed is None or parsed[1] != body.get("id"):
        raise Corrupt(f"{name} holds the tombstone {body.get('id')}; it belongs under its own name.", object=name)
    packs = _matching(body.get("packs"), _PACK_ID, name)
    tables = _matching(body.get("tables"), _TABLE_PART, name)
    return Tombstone(
        name=name, packs=tuple(bytes.fromhex(pack) for pack in packs), tables=tuple(tables), marked_at=marked_at
    )


def _matching(values: object, pattern: re.Pattern[str], name: str) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(item, str) and pattern.fullmatch(item) for item in values):
        raise Corrupt(f"{name} names something that is neither a pack nor a part of a table.", object=name)
    return values
