"""Owns putting a recovery key under a passphrase in the vault, and taking it out again. Needs the root key."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reopen.errors import NotFound, Refused
from reopen.vault import Vault
from reopen.vault.canonical import seal_envelope
from reopen.vault.keys import RecoveryKey
from reopen.vault.passphrase import make_passphrase, passphrase_body, passphrase_keys, passphrase_name
from reopen.vault.trust import create_settled


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPassphrase:
    """A recovery key that lies in the vault under a passphrase. The passphrase is nowhere else."""

    key: str
    name: str
    passphrase: str


def store_passphrase(vault: Vault, key_id: str | None = None) -> StoredPassphrase:
    """Seal a recovery key here under a fresh passphrase and store it. Earlier passphrases stay good.

    :param key_id: which; not needed where one is here.
    :raises Refused: no root key or no recovery key is here, or several.
    """
    root = vault.keyring.signer("root")
    key = _chosen(vault, key_id)
    passphrase = make_passphrase(vault.random_bytes)
    # Bound to no statement: on the worst day a replica that lags may be all there is, and this the only key.
    pins = replace(vault.keyring.pins, trust_min=0)
    body = passphrase_body(key, pins, passphrase, at=vault.clock.now(), random_bytes=vault.random_bytes)
    name = passphrase_name(key.id, body["id"])
    create_settled(vault.store, name, seal_envelope(body, root))
    return StoredPassphrase(key=key.id, name=name, passphrase=passphrase)


def forget_passphrases(vault: Vault, key_id: str | None = None) -> tuple[str, ...]:
    """Remove what lies in this store under a passphrase, of one recovery key or of all; returns the objects' names.

    :raises Refused: no root key here. :raises NotFound: there is none.
    """
    vault.keyring.signer("root")
    stored = passphrase_keys(vault.store)
    names = [name for key, of_key in stored.items() for name in of_key if key_id in (None, key)]
    if not names:
        hint = "Nothing is left to forget there; a replica has passphrases of its own (--vault SITE)."
        raise NotFound(f"no recovery key lies in {vault.store.url} under a passphrase.", hint=hint)
    for name in names:
        vault.store.delete(name)
    return tuple(names)


def _chosen(vault: Vault, key_id: str | None) -> RecoveryKey:
    held = [key for key in vault.keyring.recovery_keys if key_id in (None, key.id)]
    if len(held) == 1:
        return held[0]
    if held:
        raise Refused(
            f"there are {len(held)} recovery keys here: {', '.join(key.id for key in held)}.",
            hint="Name one with --key.",
        )
    raise Refused(
        f"recovery key {key_id} is not here." if key_id else "no recovery key is here.",
        hint="Name the folder that holds it with --keys.",
    )
