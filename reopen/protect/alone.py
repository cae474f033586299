"""Owns how a writer makes sure that it is alone, in a store that cannot create exclusively.

There of two racers for one name both win, so a lease's name reserves nothing. What such a store still has is its
listing, which shows every write that returned (D4). That is enough for mutual exclusion, as in Lamport's bakery: each
writer first puts an announcement under a name of its own and only then lists. Of two writers at least the later to put
sees the other, and gives way. Both may give way; both never go on.

Invariants
    I1  A writer goes on only if a listing taken after its own announcement was durable shows no other living one and no
        living lease.
    I2  An announcement is renewed with the lease and dies with it: after ``LEASE_SECONDS`` by the store's clock.
    I3  Where create is not exclusive a void is written only when nothing that its dead writer sent can still arrive:
        :data:`VOID_SECONDS` after the last renewal. Sooner, void and record could replace each other.

A crash leaves an announcement. For a quarter of an hour the next writer is refused, and told so; then it removes it.
"""

from __future__ import annotations

from datetime import timedelta

from reopen.errors import Refused, ReopenError
from reopen.storage import proven
from reopen.storage.patience import RETRY_SECONDS_MAX, WRITE_SECONDS_MAX
from reopen.vault import Vault

FOLDER = "alone/"

LEASE_SECONDS = 900
"""As in :mod:`reopen.protect.lease`, which cannot be imported here: it imports this."""

VOID_SECONDS = LEASE_SECONDS + WRITE_SECONDS_MAX + RETRY_SECONDS_MAX
"""A writer may send its record until its lease is over; the last try of that write begins within the patience of the
store and ends within the limit of one write."""


def must_be_alone(vault: Vault) -> bool:
    """Whether this vault's store serves one writer at a time only."""
    return not proven(vault.store).exclusive_create


def void_seconds(vault: Vault) -> float:
    """How old, in seconds, a lease must be before its snapshot may be voided (I3)."""
    return VOID_SECONDS if must_be_alone(vault) else LEASE_SECONDS


def announcement_name(snapshot: str) -> str:
    """Where a writer announces itself, from the id of its snapshot."""
    return f"{FOLDER}{snapshot}.json"


def stay_alone(vault: Vault, snapshot: str) -> None:
    """After this writer's announcement is durable: give way when anybody else is at work (I1).

    :raises Refused: somebody is; the announcement was taken back.
    """
    own = announcement_name(snapshot)
    others = [info for prefix in (FOLDER, "leases/") for info in vault.store.list(prefix) if info.name != own]
    now = vault.store.now() if others else None
    for info in others:
        assert now is not None
        age_seconds = (now - info.modified_at).total_seconds()
        if age_seconds < LEASE_SECONDS:
            vault.store.delete(own)
            left_seconds = timedelta(seconds=int(LEASE_SECONDS - age_seconds))
            raise Refused(
                f"{vault.store.url} cannot create exclusively and serves one writer at a time; another is at work, or "
                f"died less than 15 minutes ago ({info.name}).",
                hint=f"Wait for it; what a dead one left counts no more in {left_seconds} (h:mm:ss).",
                object=info.name,
            )
        if info.name.startswith(FOLDER) and age_seconds > VOID_SECONDS:
            vault.store.delete(info.name)


def withdraw(vault: Vault, snapshot: str) -> None:
    """Take the announcement back; a store that does not answer leaves it to expire (I2)."""
    try:
        vault.store.delete(announcement_name(snapshot))
    except ReopenError:
        return  # It only delays the next writer.
