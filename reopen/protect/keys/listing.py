"""Owns the view of a vault's keys: every key it ever had, and what holds of it now. Reads only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from reopen.vault import Vault
from reopen.vault.keys import ROLES
from reopen.vault.passphrase import passphrase_keys
from reopen.vault.trust import Trust

State = Literal["current", "unfinished", "ending", "rotated", "removed", "stolen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """One key of a vault.

    ``state``: ``current``; ``unfinished`` (a recovery key that nothing is sealed to yet: `keys add` died); ``ending``;
    or why it ended. ``here``: its file is at hand. ``used``: of the keys here it is the one that signs for its role.
    ``passphrase``: it also lies in the vault under a passphrase. ``follows``: the key that it replaced.
    """

    id: str
    role: str
    datasets: tuple[str, ...]
    created_at: datetime
    state: State
    here: bool
    used: bool
    passphrase: bool
    ended_at: datetime | None = None
    follows: str | None = None


def list_keys(vault: Vault) -> list[KeyRow]:
    """Every key, by role and age."""
    ring, trust = vault.keyring, vault.trust
    here = {key.id for key in ring.recovery_keys} | {key.id for key in ring.signing_keys}
    used = {ring.signer(role).id for role in ring.roles if role != "recovery"}
    sealed_to = {recipient.id for recipient in trust.recipients}
    stored = passphrase_keys(vault.store)
    rows = [
        KeyRow(
            id=key_id,
            role="recovery",
            datasets=("*",),
            created_at=listed.created_at,
            state=_recovery_state(key_id, sealed_to, trust, vault),
            here=key_id in here,
            used=key_id in here,
            passphrase=key_id in stored,
        )
        for key_id, listed in vault.key_documents.recipients.items()
    ]
    for certificate in vault.certificates.values():
        ended = trust.ended.get(certificate.id)
        rows.append(
            KeyRow(
                id=certificate.id,
                role=certificate.role,
                datasets=certificate.datasets,
                created_at=certificate.created_at,
                state=_reason(ended.reason) if ended else "ending" if certificate.id in trust.ending else "current",
                here=certificate.id in here,
                used=certificate.id in used,
                passphrase=False,
                ended_at=ended.at if ended else None,
                follows=certificate.follows,
            )
        )
    return sorted(rows, key=lambda row: (ROLES.index(row.role), row.created_at, row.id))


def _recovery_state(key_id: str, sealed_to: Collection[str], trust: Trust, vault: Vault) -> State:
    if key_id in sealed_to:
        return "current"
    first = {recipient.id for recipient in vault.keyring.pins.recipients}
    return "removed" if key_id in trust.removed or key_id in first else "unfinished"


def _reason(reason: str) -> State:
    return "stolen" if reason == "stolen" else "removed" if reason == "removed" else "rotated"
