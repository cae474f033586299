"""Owns the opening of a vault: what of ``vault.json``, ``keys/`` and ``trust/`` is believed, and with which key.

Invariants
    O1  ``vault.json`` must agree with the pins in the local key files; any mismatch is fatal.
    O2  Of several keys of a role the newest that may sign is taken. One that is ending, that has ended or that has no
        certificate in this vault signs nothing.
    O3  Any one key that is whole opens the roots, whatever became of the others.
"""

from __future__ import annotations

from collections.abc import Mapping

from reopen.errors import Conflict, Corrupt, MadeByNewer, Refused
from reopen.vault.canonical import JsonObject, signed_message
from reopen.vault.keydocs import Certificate
from reopen.vault.keys import (
    FORMAT_VERSION,
    Grants,
    Keyring,
    Pins,
    Roots,
    roots_context,
    roots_from_bytes,
    verify_signature,
)
from reopen.vault.trust import Trust

FEATURES_KNOWN: frozenset[str] = frozenset()
OPENING_HINT = "`reopen repair --from SITE` takes it from a replica; until then --vault SITE reads the copies there."


def check_against_pins(body: JsonObject, signature: bytes, pins: Pins, url: str) -> None:
    """Refuse a ``vault.json`` that contradicts the key files, or that this program must not read."""
    hint = "Check that REOPEN_KEYS and the vault's URL belong together; if they do, the store was tampered with."
    if body.get("id") != pins.vault_id:
        raise Refused(
            f"the keys here belong to vault {pins.vault_id}, but {url} holds vault {body.get('id')}.", hint=hint
        )
    if body.get("root_public") != pins.root_public.hex() or not verify_signature(
        pins.root_public, signature, signed_message(body)
    ):
        raise Refused(f"vault.json in {url} is not signed by the root key that the key files pin.", hint=hint)
    if body.get("format") != FORMAT_VERSION or int(body["format"]) < pins.format_min:
        raise MadeByNewer(f"{url} has format {body.get('format')}; this version reads format {FORMAT_VERSION}.")
    unknown = set(body["features"]["required"]) - FEATURES_KNOWN
    if unknown:
        raise MadeByNewer(f"{url} needs features that this version does not know: {', '.join(sorted(unknown))}.")
    if body.get("recipients") != [recipient.id for recipient in pins.recipients]:
        raise Refused(f"the recovery recipients in {url} are not the ones that the key files pin.", hint=hint)


class NoRoots(Roots):
    """Of a vault that was opened with pins and no key: what is signed or named by its digest can be checked and copied;
    nothing that is sealed can be read."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(id_root=b"", meta_root=b"")

    def chunk_id_key(self) -> bytes:
        raise _refusal()

    def chunker_seed(self) -> int:
        raise _refusal()

    def directory_key(self) -> bytes:
        raise _refusal()

    def metadata_key(self, number: int) -> bytes:
        raise _refusal()


def _refusal() -> Refused:
    return Refused(
        "this reads the vault's tables, and no key of it is here.",
        hint="Run it where a key is kept; copying a vault needs none.",
    )


def open_roots(keyring: Keyring, roots_of: Mapping[str, bytes], url: str) -> Roots:
    """The roots, by whichever key here opens them (O3); none for a keyring that holds pins alone.

    :raises Corrupt: what is sealed or wrapped for the keys here is damaged. :raises Conflict: they are of no use here.
    """
    if not keyring.signing_keys and not keyring.recovery_keys:
        return NoRoots()
    failed: Corrupt | None = None
    for key in keyring.signing_keys:
        if key.id in roots_of:
            try:
                return key.unwrap(roots_of[key.id], keyring.pins.vault_id)
            except Corrupt as error:
                failed = error
    for recovery in keyring.recovery_keys:
        if recovery.id in roots_of:
            try:
                return roots_from_bytes(recovery.open(roots_of[recovery.id], roots_context(keyring.pins.vault_id)))
            except Corrupt as error:
                failed = error
    if failed is not None:
        raise failed
    raise Conflict(
        f"none of the keys here is listed in keys/ of the vault in {url}.",
        hint="If objects are missing there, `reopen repair --from SITE` takes them from a replica; if the key was "
        "removed, the recovery key still opens the vault.",
    )


def arrange(
    keyring: Keyring, certificates: Mapping[str, Certificate], trust: Trust, grants: Grants | None = None
) -> Keyring:
    """The keyring as this vault sees it (O2)."""
    newest_first = sorted(certificates.values(), key=lambda item: (item.created_at, item.id), reverse=True)
    barred = {key.id: "has no certificate in this vault" for key in keyring.signing_keys if key.id not in certificates}
    barred |= dict.fromkeys(trust.ending, "is ending, and begins nothing new")
    barred |= {key_id: f"ended: it was {ended.reason}" for key_id, ended in trust.ended.items()}
    return keyring.arranged([item.id for item in newest_first], barred, grants)
