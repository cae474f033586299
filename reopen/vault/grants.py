"""Owns grants: content keys of old slots, sealed again to a recovery key that was added after the slots were made.

``grants/<recipient id>-<16 hex>.json``, signed by the root, each for some hundred slots. A slot is named by its salt,
and travels with its frames when a pack is repacked, so a grant stays good.

Invariants
    G1  A grant says nothing about content: a wrong one opens no frame. Its signature keeps strangers from filling the
        folder with what every reader would have to try.
    G2  A damaged or unsigned document of grants costs the slots in it and stops nobody.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping
from datetime import datetime

from reopen.clock import to_text
from reopen.errors import Corrupt, NotFound, Refused
from reopen.storage import ObjectInfo, ObjectStore
from reopen.vault.canonical import JsonObject
from reopen.vault.keydocs import open_root_document
from reopen.vault.keys import SEALED_KEY_BYTES, Pins

PREFIX = "grants/"
SLOTS_PER_GRANT = 300
"""2.4 kB each in hex, so that a document stays well below the cap of 1 MiB."""
SALT_BYTES = 16
_NAME = re.compile(r"grants/([0-9a-f]{16})-[0-9a-f]{16}\.json")


class SlotGrants:
    """The grants in a store, read for a recovery key when its first slot is missing."""

    def __init__(self, store: ObjectStore, pins: Pins) -> None:
        self._store = store
        self._pins = pins
        self._of: dict[str, Mapping[bytes, bytes]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return SlotGrants, (self._store, self._pins)

    def find(self, salt: bytes, recovery_ids: Collection[str]) -> tuple[str, bytes] | None:
        """For a slot's salt, a recipient among these and the content key sealed to it; ``None`` when there is none."""
        for recovery_id in sorted(recovery_ids):
            sealed = self.of(recovery_id).get(salt)
            if sealed is not None:
                return recovery_id, sealed
        return None

    def of(self, recovery_id: str) -> Mapping[bytes, bytes]:
        """Every content key granted to a recovery key, sealed, by the salt of its slot."""
        with self._lock:
            if recovery_id not in self._of:
                self._of[recovery_id] = self._read(recovery_id)
            return self._of[recovery_id]

    def _read(self, recovery_id: str) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for info in self._store.list(f"{PREFIX}{recovery_id}-"):
            if _NAME.fullmatch(info.name):
                try:
                    found |= read_grant(self._store, info, self._pins)[1]
                except (Corrupt, NotFound, Refused):
                    continue  # G2; `reopen keys test` shows which packs do not open, `reopen keys reseal` grants anew.
        return found


def grant_name(recovery_id: str, grant_id: str) -> str:
    """Where a document of grants is stored."""
    return f"{PREFIX}{recovery_id}-{grant_id}.json"


def grant_body(
    vault_id: str, recovery_id: str, grant_id: str, slots: Mapping[bytes, bytes], at: datetime
) -> JsonObject:
    """The body of a document of grants, to be signed by the root. ``slots``: sealed content keys by salt."""
    return {
        "kind": "grant",
        "vault": vault_id,
        "id": grant_id,
        "recipient": recovery_id,
        "at": to_text(at),
        "slots": {salt.hex(): sealed.hex() for salt, sealed in sorted(slots.items())},
    }


def read_grant(store: ObjectStore, info: ObjectInfo, pins: Pins) -> tuple[str, dict[bytes, bytes]]:
    """The recipient of one document of grants, and the sealed content keys in it by salt.

    :raises Refused: the root did not sign it. :raises Corrupt: it is malformed or stands under another name.
    """
    body, _ = open_root_document(store, info, pins, ("grant",))
    try:
        recipient = str(body["recipient"])
        if info.name != grant_name(recipient, str(body["id"])):
            raise ValueError("it belongs under another name")
        slots = {bytes.fromhex(salt): bytes.fromhex(sealed) for salt, sealed in body["slots"].items()}
        if any(len(salt) != SALT_BYTES or len(sealed) != SEALED_KEY_BYTES for salt, sealed in slots.items()):
            raise ValueError("a slot has another size")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(f"{info.name} lacks or misspells a field: {error}.", object=info.name) from error
    return recipient, slots
