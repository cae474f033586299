"""Owns opening old packs to recovery keys that were added later: their content keys are sealed again, as grants.

Needs the root key, and a recovery key that opens the packs. Packs are not touched. A slot is granted once, however many
packs carry it; what is granted already is not granted again, so a run that died is finished by the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reopen.errors import Corrupt, NotFound, Refused
from reopen.ids import new_id
from reopen.progress import SILENT, Progress
from reopen.vault import Vault
from reopen.vault.canonical import seal_envelope
from reopen.vault.grants import SLOTS_PER_GRANT, SlotGrants, grant_body, grant_name
from reopen.vault.keys import Recipient
from reopen.vault.pack import Slot, slot_context
from reopen.vault.slots import list_pack_objects, read_heads, unseal_slot
from reopen.vault.trust import create_settled


@dataclass(frozen=True, slots=True, kw_only=True)
class ResealPlan:
    """Which slots (by salt) are not sealed to which recipient yet. ``packs``: how many packs lack a recipient;
    ``damaged``: packs whose head cannot be read."""

    vault: Vault
    missing: Mapping[str, Mapping[bytes, Slot]]
    packs: int
    damaged: tuple[str, ...]

    @property
    def grants(self) -> int:
        """How many content keys will be sealed."""
        return sum(len(slots) for slots in self.missing.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ResealResult:
    """What was granted. ``unopened``: slots that no recovery key here opens, so they stay as they are."""

    granted: int
    documents: int
    unopened: int


def plan_reseal(vault: Vault, *, progress: Progress = SILENT) -> ResealPlan:
    """Find the slots that some recovery recipient cannot open."""
    grants = SlotGrants(vault.store, vault.keyring.pins)
    missing: dict[str, dict[bytes, Slot]] = {recipient.id: {} for recipient in vault.recipients}
    lacking, damaged = 0, []
    packs = list_pack_objects(vault.store)
    progress.start("read key slots", len(packs), "packs")
    for head in read_heads(vault.store, packs, vault.id, progress=progress):
        if head.damage:
            damaged.append(head.id)
        lacks = False
        for slot in head.slots:
            sealed_to = {recipient for recipient, _ in slot.sealed}
            for recipient in missing.keys() - sealed_to:
                if slot.salt not in grants.of(recipient):
                    missing[recipient][slot.salt] = slot
                    lacks = True
        lacking += lacks
    progress.finish()
    return ResealPlan(vault=vault, missing=missing, packs=lacking, damaged=tuple(damaged))


def packs_lost_without(vault: Vault, recovery_id: str, *, progress: Progress = SILENT) -> int:
    """How many packs no other recovery recipient opens: what is lost with the file of this recovery key."""
    grants = SlotGrants(vault.store, vault.keyring.pins)
    others = {recipient.id for recipient in vault.recipients} - {recovery_id}
    packs = list_pack_objects(vault.store)
    progress.start("read key slots", len(packs), "packs")
    lost = 0
    for head in read_heads(vault.store, packs, vault.id, progress=progress):
        for slot in head.slots:
            sealed_to = {recipient for recipient, _ in slot.sealed}
            opens = recovery_id in sealed_to or slot.salt in grants.of(recovery_id)
            if opens and not sealed_to & others and grants.find(slot.salt, others) is None:
                lost += 1
                break
    progress.finish()
    return lost


def execute_reseal(plan: ResealPlan, *, progress: Progress = SILENT) -> ResealResult:
    """Seal what is missing.

    :raises Refused: no root key or no recovery key here.
    """
    vault = plan.vault
    root = vault.keyring.signer("root")
    if not vault.keyring.can_read_content:
        raise Refused(
            "sealing content keys again needs a recovery key that opens them, and none is here.",
            hint="Run it where the root key and the older recovery key are, for example with --keys FOLDER.",
        )
    granted = documents = unopened = 0
    recipients = {recipient.id: recipient for recipient in vault.recipients}
    progress.start("seal content keys", plan.grants, "slots")
    for recipient_id, slots in plan.missing.items():
        ordered = sorted(slots.items())
        for start in range(0, len(ordered), SLOTS_PER_GRANT):
            batch = dict(ordered[start : start + SLOTS_PER_GRANT])
            sealed = _seal_batch(vault, recipients[recipient_id], batch)
            progress.advance(len(batch))
            unopened += len(batch) - len(sealed)
            if sealed:
                grant_id = new_id(vault.random_bytes)
                body = grant_body(vault.id, recipient_id, grant_id, sealed, vault.clock.now())
                create_settled(vault.store, grant_name(recipient_id, grant_id), seal_envelope(body, root))
                granted, documents = granted + len(sealed), documents + 1
    progress.finish()
    return ResealResult(granted=granted, documents=documents, unopened=unopened)


def _seal_batch(vault: Vault, recipient: Recipient, slots: Mapping[bytes, Slot]) -> dict[bytes, bytes]:
    sealed: dict[bytes, bytes] = {}
    for salt, slot in slots.items():
        try:
            content_key = unseal_slot(vault.id, vault.keyring, slot, "at hand")
        except (Corrupt, NotFound):
            continue  # Counted; a recovery key that opens it may be elsewhere.
        sealed[salt] = recipient.seal(content_key, slot_context(vault.id, salt))
    return sealed
