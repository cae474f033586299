"""The vault: a self-describing, sealed, signed set of objects in any store. ``docs/vault-format.md`` is the
specification.

Heavy modules (Arrow, numpy) are imported where they are used, so that opening a vault to list its snapshots is quick.
"""

from __future__ import annotations

from reopen.vault.create import NewKeys, Parameters, create_vault, make_keys
from reopen.vault.keyfiles import load_keyring, save_key
from reopen.vault.keys import Keyring
from reopen.vault.record import ContractRef, Fact, SnapshotRecord, TableRef, Totals
from reopen.vault.vault import Vault

__all__ = [
    "ContractRef",
    "Fact",
    "Keyring",
    "NewKeys",
    "Parameters",
    "SnapshotRecord",
    "TableRef",
    "Totals",
    "Vault",
    "create_vault",
    "load_keyring",
    "make_keys",
    "save_key",
]
