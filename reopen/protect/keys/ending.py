"""Owns the end of a signing key: from "it begins nothing" over its closing list to "it has ended".

Order, and why
    1. statement "ending"   from here on no snapshot begins with the key
    2. leases               what had begun is waited for: it will be on the list, so nobody said "done" in vain
    3. closing list         what the key signed, in every vault that is at hand
    4. statement "ended"    pins the list; from here on only what is on it is believed
    5. a second look        what came between 3 and 4 is named, so that it can be done again

A crash after 1 leaves a key that begins nothing and signs no less believed; after 3 a list that nobody pins. Running it
again finishes. A stolen key skips 1 and 2: what is under way then fails before its commit, by the writer's own check.

Invariants
    E1  Nothing that a key signed before it ended loses its belief, also where a replica alone still has it: the list is
        made from all vaults together.
    E2  A document that cannot be read where a list is made would be off the list for ever, even when it is mended
        later: a key is not ended over such, unless it was stolen.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta

from blake3 import blake3

from reopen.errors import Conflict, Corrupt, InvalidInput, NotFound, Refused
from reopen.progress import SILENT, Progress
from reopen.protect.lease import LEASE_SECONDS
from reopen.vault import Vault
from reopen.vault.canonical import RECORD_BYTES_MAX, decode, signed_message
from reopen.vault.keydocs import Certificate
from reopen.vault.keys import verify_signature
from reopen.vault.record import PACK_NAME, Part
from reopen.vault.trust import (
    REASONS,
    ClosingLists,
    Ended,
    Trust,
    closing_name,
    create_settled,
    encode_closing,
    read_trust,
    store_trust,
)

NOT_LISTED = ("keys/", "trust/", "grants/", "passphrases/", "leases/", "alone/", "probe/", "aside/", "vault.json")
"""What no ended key is asked about: the root's own documents, leases (believed all the same), and what is no document
of the vault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndKeyPlan:
    """Which key ends, why, and which key follows it. ``others``: vaults whose documents go on the list as well."""

    vault: Vault
    others: tuple[Vault, ...]
    certificate: Certificate
    reason: str
    successor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndKeyResult:
    """How far it came. ``waiting``: leases that are not done yet; while there are some the key is ending and has not
    ended. ``signed``: how many documents of the key are believed; ``packs``: how many packs were there; ``late``:
    names of what it signed after its list was made, which nobody believes; ``unreadable``: what may have been its."""

    ended: bool
    trust_number: int
    waiting: tuple[str, ...] = ()
    signed: int = 0
    packs: int = 0
    late: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(slots=True)
class _Signed:
    """What one key signed: digests of stored bytes, by object name, and of packs."""

    documents: dict[str, set[bytes]] = field(default_factory=dict)
    packs: set[bytes] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)

    def digests(self) -> set[bytes]:
        return self.packs.union(*self.documents.values())


def plan_end_key(
    vault: Vault, key_id: str, *, reason: str, successor: str | None = None, others: Sequence[Vault] = ()
) -> EndKeyPlan:
    """Check that a signing key can be ended.

    :param reason: one of ``rotated``, ``removed``, ``stolen``.
    :param others: the replicas: what only they still have goes on the list too (E1).
    :raises NotFound: no such key. :raises Conflict: it has ended. :raises Refused: it is the root key, or none is here.
    """
    if reason not in REASONS:
        raise InvalidInput(f"{reason!r} is no reason for the end of a key; there are {', '.join(REASONS)}.")
    vault.keyring.signer("root")
    certificate = vault.certificates.get(key_id)
    if certificate is None:
        raise NotFound(f"there is no signing key {key_id} in this vault.", hint="`reopen keys list` shows them.")
    if certificate.role == "root":
        raise Refused(
            "the root key cannot be ended: every key file pins it.",
            hint="If it was stolen, make a new vault with `reopen init` elsewhere and restore into it.",
        )
    ended = newest_trust(vault).ended.get(key_id)
    if ended is not None:
        hint = "Nothing is left to do; `reopen keys list` shows what became of each key."
        raise Conflict(f"key {key_id} has ended: it was {ended.reason}.", hint=hint, key=key_id)
    return EndKeyPlan(vault=vault, others=tuple(others), certificate=certificate, reason=reason, successor=successor)


def execute_end_key(plan: EndKeyPlan, *, progress: Progress = SILENT) -> EndKeyResult:
    """End the key, or say what is still under way with it.

    :raises Refused: documents that may be the key's cannot be read (E2).
    :raises Conflict: somebody else changed the keys meanwhile.
    """
    vault, key_id, stolen = plan.vault, plan.certificate.id, plan.reason == "stolen"
    root = vault.keyring.signer("root")
    trust = newest_trust(vault)
    if key_id not in trust.ending and not stolen:
        following = replace(trust.following(), ending=trust.ending | {key_id})
        trust = store_trust(vault.store, following, root, vault.id, vault.clock.now())
    waiting = () if stolen else tuple(_living_leases(vault, key_id))
    if waiting:
        return EndKeyResult(ended=False, trust_number=trust.number, waiting=waiting)
    everywhere = (vault, *plan.others)
    found = _collect(everywhere, plan.certificate, progress)
    if found.unreadable and not stolen:
        raise Refused(
            f"{len(found.unreadable)} documents cannot be read, so nobody knows whether key {key_id} signed them; the "
            f"first is {min(found.unreadable)}.",
            hint="`reopen repair --from SITE` takes them from a replica, or moves them aside; then run this again.",
        )
    closing = _store_list(vault, key_id, found.digests())
    ended = Ended(at=vault.clock.now(), reason=plan.reason, successor=plan.successor, closing=closing)
    following = replace(trust.following(), ending=trust.ending - {key_id}, ended={**trust.ended, key_id: ended})
    trust = store_trust(vault.store, following, root, vault.id, vault.clock.now())
    late = _collect(everywhere, plan.certificate, SILENT)
    missed = [name for name, digests in late.documents.items() if not digests <= found.documents.get(name, set())]
    return EndKeyResult(
        ended=True,
        trust_number=trust.number,
        signed=len(found.documents),
        packs=len(found.packs),
        late=tuple(sorted(missed)),
        unreadable=tuple(sorted(found.unreadable)),
    )


def relist(vault: Vault, key_id: str, *, others: Sequence[Vault] = (), progress: Progress = SILENT) -> EndKeyResult:
    """Make the closing list of an ended key anew: what was on it, where it can still be read, and what is there now.

    For a list that was lost, and for a replica that was not at hand when the key ended. Whatever was signed with the
    key meanwhile is believed from then on, so it is never done for a stolen key.

    :raises Conflict: the key has not ended. :raises Refused: it was stolen, or documents cannot be read (E2).
    """
    root = vault.keyring.signer("root")
    trust = newest_trust(vault)
    ended, certificate = trust.ended.get(key_id), vault.certificates.get(key_id)
    if ended is None or certificate is None:
        raise Conflict(f"key {key_id} has not ended, so it has no list.", hint="`reopen keys list` shows the keys.")
    if ended.reason == "stolen":
        raise Refused(
            f"key {key_id} was stolen: what is there now may be the thief's.",
            hint="`reopen repair --from SITE` takes the list from a replica; nobody else can tell what the key signed "
            "before.",
        )
    found = _collect((vault, *others), certificate, progress)
    if found.unreadable:
        raise Refused(
            f"{len(found.unreadable)} documents cannot be read; the first is {min(found.unreadable)}.",
            hint="`reopen repair --from SITE` takes them from a replica, or moves them aside; then run this again.",
        )
    closing = _store_list(vault, key_id, found.digests() | _still_listed(vault, ended))
    following = replace(trust.following(), ended={**trust.ended, key_id: replace(ended, closing=closing)})
    number = store_trust(vault.store, following, root, vault.id, vault.clock.now()).number
    return EndKeyResult(ended=True, trust_number=number, signed=len(found.documents), packs=len(found.packs))


def newest_trust(vault: Vault) -> Trust:
    """The newest statement in the vault's store: what a change of keys starts from."""
    return read_trust(vault.store, vault.keyring.pins, metadata_key=vault.trust.metadata_key, seen=vault.trust.number)


def _store_list(vault: Vault, key_id: str, digests: set[bytes]) -> Part:
    """A closing list, durable before anything pins it."""
    data = encode_closing(digests)
    digest = blake3(data).hexdigest()
    name = closing_name(key_id, digest)
    create_settled(vault.store, name, data)
    return Part(name=name, size=len(data), digest=digest)


def _still_listed(vault: Vault, ended: Ended) -> set[bytes]:
    try:
        return set(ClosingLists(vault.store).read(ended))
    except Refused:
        return set()  # It is lost or damaged: that is what the new one is for.


def _living_leases(vault: Vault, key_id: str) -> Iterable[str]:
    """Names of the leases that the key holds and that have not run out by the store's clock."""
    leases = list(vault.store.list("leases/"))
    if not leases:
        return
    now = vault.store.now()
    for info in leases:
        if now - info.modified_at >= timedelta(seconds=LEASE_SECONDS):
            continue  # Dead: its writer must not commit any more.
        try:
            signer = _signer_of(vault.store.get(info.name), info.name)
        except NotFound:
            continue  # Released meanwhile.
        except Corrupt:
            continue  # It says nothing that can be believed, so nobody is waited for.
        if signer == key_id:
            yield info.name


def _signer_of(data: bytes, name: str) -> str:
    signature = decode(data, name).get("signature")
    return str(signature.get("signer")) if isinstance(signature, dict) else ""


def _collect(vaults: Sequence[Vault], certificate: Certificate, progress: Progress) -> _Signed:
    found = _Signed()
    names: list[tuple[Vault, str, int]] = []
    for vault in vaults:
        for info in vault.store.list():
            pack = PACK_NAME.fullmatch(info.name)
            if pack is not None:
                found.packs.add(bytes.fromhex(pack[1]))
            elif info.name.endswith(".json") and not info.name.startswith(NOT_LISTED):
                names.append((vault, info.name, info.size_bytes))
    progress.start("read what the key signed", len(names), "objects")
    read: set[str] = set()

    def look(item: tuple[Vault, str, int]) -> tuple[str, bytes | None, bool]:
        vault, name, size_bytes = item
        try:
            if size_bytes > RECORD_BYTES_MAX:
                return name, None, False
            data = vault.store.get(name)
            is_theirs = _is_signed_by(data, name, certificate)
        except NotFound:
            return name, None, True  # Gone since it was listed: there is nothing to believe or not.
        except Corrupt:
            return name, None, False
        finally:
            progress.advance(1)
        return name, blake3(data).digest() if is_theirs else None, True

    with ThreadPoolExecutor(4 * (os.cpu_count() or 1), thread_name_prefix="reopen-keys") as pool:
        for name, digest, readable in pool.map(look, names):
            if digest is not None:
                found.documents.setdefault(name, set()).add(digest)
            if readable:
                read.add(name)
            else:
                found.unreadable.add(name)
    progress.finish()
    # A good copy in another vault says what the damaged one said.
    found.unreadable -= read
    return found


def _is_signed_by(data: bytes, name: str, certificate: Certificate) -> bool:
    document = decode(data, name)
    body, signature = document.get("body"), document.get("signature")
    if not isinstance(body, dict) or not isinstance(signature, dict) or not isinstance(body.get("kind"), str):
        raise Corrupt(f"{name} is not a signed document.", object=name)
    if signature.get("signer") != certificate.id:
        return False
    try:
        value = bytes.fromhex(signature["value"])
    except (KeyError, TypeError, ValueError):
        return False
    return verify_signature(certificate.public, value, signed_message(body))
