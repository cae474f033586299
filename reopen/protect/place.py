"""Owns the view of one vault in two places: whoever trusts a vault trusts the same things of its replica."""

from __future__ import annotations

import copy

from reopen.storage import ObjectStore
from reopen.vault import Vault


def vault_at(vault: Vault, store: ObjectStore) -> Vault:
    """An open vault with the keys, the certificates and the trust of another, over another store.

    Nothing is read: what is in that store is believed by the signatures that are believed here. So a replica that is
    empty, or whose own ``vault.json`` is damaged, can be looked at.
    """
    other = copy.copy(vault)
    other.store = store
    return other
