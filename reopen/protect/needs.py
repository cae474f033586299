"""Owns what each verb demands of a store, in one place, and the refusal that says why.

A store is asked, not believed: :func:`reopen.storage.proven` tries exclusive create where a server decides. It is asked
where it matters and not only when the vault is made, because a replica on another store has the same ``vault.json`` and
may become the primary.

``docs/0006-stores.md`` has the table of stores; ``reopen init`` and ``reopen status`` show what a store can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reopen.errors import Refused
from reopen.storage import Capabilities, ObjectStore, locking, proven
from reopen.vault import Vault
from reopen.vault.create import SINGLE_WRITER
from reopen.vault.features import optional_features

ELSEWHERE = (
    "Use a local folder, an SFTP server, or an object store with conditional writes (S3, GCS, Azure, Ceph ≥ 16)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a verb demands. ``reason`` says what would happen without exclusive create; empty: it does without."""

    exclusive_create: bool
    reason: str = ""
    hint: str = ELSEWHERE


NEEDS: Mapping[str, Need] = {
    # One writer at a time does without: it makes sure that it is alone (reopen.protect.alone).
    "snapshot": Need(exclusive_create=False),
    "verify": Need(exclusive_create=False),
    "restore": Need(exclusive_create=False),
    # What is copied is named by its digest, or is the same whoever copies it; two runs at once write the same bytes.
    "replicate": Need(exclusive_create=False),
    "repair": Need(exclusive_create=False),
    # Facts have random names; two of one name do not happen.
    "retain": Need(exclusive_create=False),
    "prune": Need(
        exclusive_create=True,
        reason="a dead writer cannot be kept from committing what relies on removed packs",
        hint="Keep everything here, or move the vault to a store with conditional writes.",
    ),
    "snapshots by several writers at once": Need(
        exclusive_create=True, reason="two writers could each replace the other's record"
    ),
    "the epoch log": Need(exclusive_create=True, reason="two sites could both become primary"),
}
"""Every verb that changes or reads a vault, and what it needs."""


def require(store: ObjectStore, verb: str) -> None:
    """Refuse a verb that the store cannot serve safely.

    :raises Refused: with the reason, and where it would work.
    """
    need = NEEDS[verb]
    if need.exclusive_create and not proven(store).exclusive_create:
        raise Refused(f"{store.url} does not honour exclusive create, so {need.reason}.", hint=need.hint, verb=verb)


def refused_verbs(capabilities: Capabilities) -> tuple[str, ...]:
    """What a store with these capabilities does not serve, for people."""
    return tuple(verb for verb, need in NEEDS.items() if need.exclusive_create and not capabilities.exclusive_create)


def store_notes(capabilities: Capabilities, days: float | None = None) -> tuple[str, ...]:
    """What people should know of a store, in words; empty when it can do everything that anybody asked for.

    :param days: for how long its objects are locked; ``None`` without object lock.
    """
    notes = []
    if not capabilities.exclusive_create:
        notes.append(f"one writer at a time; refused: {', '.join(refused_verbs(capabilities))}")
    if days is not None:
        notes.append(f"locked for {days:g} days")
    return tuple(notes)


def lock_days(store: ObjectStore) -> float | None:
    """For how many days a store locks what a snapshot needs; ``None`` without object lock."""
    found = locking(store)
    return None if found is None else found.lock_period.total_seconds() / 86_400


def notes_of(vault: Vault) -> tuple[str, ...]:
    """:func:`store_notes` of a vault's store, from what the vault states and the store is known to do. Asks no server,
    since asking writes."""
    known = vault.store.capabilities
    stated = SINGLE_WRITER in optional_features(vault)
    return store_notes(replace(known, exclusive_create=known.exclusive_create and not stated), lock_days(vault.store))
