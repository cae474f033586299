"""Owns the optional features that a vault may state in its signed ``vault.json``: what older readers can pass over.

``append-only``   production can add to this vault and delete nothing; retention refuses rules that count there, since
                  whoever can add could use the counts up (``docs/0004-retention.md``)
``single-writer`` it was made in a store that cannot create exclusively (``docs/0006-stores.md``); for people: what a
                  store can do is asked of the store
"""

from __future__ import annotations

from reopen.errors import Corrupt
from reopen.vault.canonical import open_envelope, signed_message
from reopen.vault.create import VAULT_OBJECT
from reopen.vault.keys import verify_signature
from reopen.vault.vault import Vault

APPEND_ONLY = "append-only"


def optional_features(vault: Vault) -> frozenset[str]:
    """The optional features that the root key signed. Names that this program does not know are among them."""
    body, _, signature = open_envelope(vault.store.get(VAULT_OBJECT), VAULT_OBJECT, "vault")
    if not verify_signature(vault.keyring.pins.root_public, signature, signed_message(body)):
        # It was right when the vault was opened.
        raise Corrupt(f"{VAULT_OBJECT} in {vault.store.url} was changed.", object=VAULT_OBJECT)
    return frozenset(str(name) for name in body["features"]["optional"])
