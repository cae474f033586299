"""Owns changing the keys of a vault: adding, removing and rotating them. Every change needs the root key.

Order, and why
    1. key file             a key that the vault knows and nobody has would be worse than none
    2. ``keys/<id>.json``   the roots for it; from here on it opens the vault, and a signing key may sign
    3. trust statement      a recipient is sealed to from here on; a rotated key begins to end (:mod:`.keyending`)

A crash leaves a key file that the vault does not know, or a recipient that nobody seals to yet. Run again with the same
folder, the command goes on with that key instead of making another.

Invariants
    C1  At no point does a key that opened the vault cease to open it.
    C2  Content is always sealed to at least one recipient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reopen.errors import Conflict, InvalidInput, NotFound, Refused
from reopen.progress import SILENT, Progress
from reopen.protect.keys.ending import EndKeyResult, execute_end_key, newest_trust, plan_end_key
from reopen.vault import Vault, save_key
from reopen.vault.canonical import JsonObject, seal_envelope
from reopen.vault.keydocs import Certificate, certificate_body, key_name, recipient_body
from reopen.vault.keyfiles import KEY_FILE_SUFFIX, AnyKey, load_key, role_of
from reopen.vault.keys import RecoveryKey, SigningKey
from reopen.vault.record import DATASET_NAME
from reopen.vault.trust import RECIPIENTS_MAX, Trust, create_settled, store_trust

ADDABLE_ROLES = ("writer", "verifier", "retention", "recovery")
EVERY_DATASET = ("*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddKeyPlan:
    """A key to add. ``unfinished``: one that an earlier run made in that folder and the vault does not count yet."""

    vault: Vault
    role: str
    datasets: tuple[str, ...]
    folder: Path
    unfinished: AnyKey | None
    follows: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedKey:
    """A key that counts now. ``path``: its file, or None where an earlier run saved it elsewhere."""

    id: str
    role: str
    path: Path | None
    trust_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RotatePlan:
    """A signing key to be followed by a new one. ``successor``: one that an earlier run has certified."""

    old: Certificate
    add: AddKeyPlan
    successor: str | None
    reason: str
    others: tuple[Vault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateResult:
    """The new key, and how far the old one's end came."""

    old: str
    new: AddedKey
    end: EndKeyResult


def plan_add_key(
    vault: Vault, role: str, folder: Path, *, datasets: Sequence[str] = (), follows: str | None = None
) -> AddKeyPlan:
    """Check that a key can be added.

    :param datasets: what a signing key is for; none stands for all.
    :param follows: the key that it replaces.
    :raises InvalidInput: a role or name that there is not. :raises Refused: no root key here.
    """
    vault.keyring.signer("root")
    if role not in ADDABLE_ROLES:
        raise InvalidInput(
            f"a key of role {role!r} cannot be added.",
            hint=f"There are {', '.join(ADDABLE_ROLES)}; the root key is the one that was made with the vault.",
        )
    wrong = [name for name in datasets if not DATASET_NAME.fullmatch(name)]
    if wrong:
        hint = "Write lower-case letters, digits, - and _, as in the contract's name."
        raise InvalidInput(f"{wrong[0]!r} is no name of a dataset.", hint=hint)
    if datasets and role == "recovery":
        hint = "Leave out --dataset; writer, verifier and retention keys can be for some."
        raise InvalidInput("a recovery key opens everything; it cannot be for some datasets.", hint=hint)
    trust = newest_trust(vault)
    if role == "recovery" and len(trust.recipients) >= RECIPIENTS_MAX:
        hint = "Take one away first: `reopen keys list` shows them, `reopen keys remove KEY_ID` ends one."
        raise Refused(f"there are {RECIPIENTS_MAX} recovery keys, and no pack has room for more.", hint=hint)
    return AddKeyPlan(
        vault=vault,
        role=role,
        datasets=tuple(sorted(set(datasets))) or EVERY_DATASET,
        folder=folder,
        unfinished=_unfinished(vault, trust, role, folder),
        follows=follows,
    )


def execute_add_key(plan: AddKeyPlan) -> AddedKey:
    """Make the key, or finish the one that was begun, and let it count.

    :raises Conflict: somebody else changed the keys meanwhile. :raises TargetUnwritable: the folder takes no file.
    """
    vault, key = plan.vault, plan.unfinished
    if key is None:
        if plan.role == "recovery":
            key = RecoveryKey.generate(vault.random_bytes)
        else:
            key = SigningKey.generate(plan.role, vault.random_bytes)
        # The statement that is there, not one that is still to come: were this run to die, the file would be below
        # what it pins, and nothing in the folder would open the vault.
        pins = replace(vault.keyring.pins, trust_min=newest_trust(vault).number)
        save_key(plan.folder, key, pins)
    trust = newest_trust(vault)
    if isinstance(key, RecoveryKey):
        recipient = key.recipient()
        if key.id not in vault.key_documents.recipients:
            _store_document(vault, recipient_body(recipient, vault.roots, vault.id, vault.clock.now()))
        following = replace(
            trust.following(), recipients=(*trust.recipients, recipient), removed=trust.removed - {key.id}
        )
        trust = store_trust(vault.store, following, vault.keyring.signer("root"), vault.id, vault.clock.now())
    else:
        body = certificate_body(
            key,
            vault.roots,
            vault.id,
            vault.clock.now(),
            datasets=plan.datasets,
            follows=plan.follows,
            random_bytes=vault.random_bytes,
        )
        _store_document(vault, body)
    path = plan.folder / f"{plan.role}-{key.id}{KEY_FILE_SUFFIX}"
    return AddedKey(id=key.id, role=plan.role, path=path, trust_number=trust.number)


def plan_rotate(
    vault: Vault,
    role: str,
    folder: Path,
    *,
    key_id: str | None = None,
    stolen: bool = False,
    others: Sequence[Vault] = (),
) -> RotatePlan:
    """Choose the key that is followed by a new one.

    :param key_id: which; needed where there are several of the role.
    :raises NotFound: there is none. :raises Conflict: there are several, or it has ended.
    """
    trust = newest_trust(vault)
    held = [item for item in vault.certificates.values() if item.role == role and item.id not in trust.ended]
    if key_id is None:
        # A key that was made to follow another which has not ended is this command's own, begun and not done.
        begun = {item.id for item in held if item.follows in {other.id for other in held}}
        held = [item for item in held if item.id not in begun]
        if len(held) > 1:
            raise Conflict(
                f"there are {len(held)} {role} keys: {', '.join(sorted(item.id for item in held))}.",
                hint="Name the one to rotate with --key.",
            )
    else:
        held = [item for item in vault.certificates.values() if item.id == key_id]
    if not held:
        raise NotFound(f"there is no {role} key {key_id or ''}to rotate.", hint="`reopen keys list` shows the keys.")
    old = held[0]
    if old.role != role:
        hint = f"Name its role (--role {old.role}), or another key: `reopen keys list` shows them."
        raise InvalidInput(f"key {old.id} is a {old.role} key, not a {role} key.", hint=hint)
    reason = "stolen" if stolen else "rotated"
    plan_end_key(vault, old.id, reason=reason)
    successors = [
        item.id for item in vault.certificates.values() if item.follows == old.id and item.id not in trust.ended
    ]
    datasets = () if old.datasets == EVERY_DATASET else old.datasets
    return RotatePlan(
        old=old,
        add=plan_add_key(vault, role, folder, datasets=datasets, follows=old.id),
        successor=min(successors, default=None),
        reason=reason,
        others=tuple(others),
    )


def execute_rotate(plan: RotatePlan, *, progress: Progress = SILENT) -> RotateResult:
    """Make the new key and end the old one, as far as nothing is under way with it."""
    vault = plan.add.vault
    if plan.successor is None:
        new = execute_add_key(plan.add)
    else:
        path = plan.add.folder / f"{plan.old.role}-{plan.successor}{KEY_FILE_SUFFIX}"
        number = newest_trust(vault).number
        new = AddedKey(id=plan.successor, role=plan.old.role, path=path if path.exists() else None, trust_number=number)
    end = plan_end_key(vault, plan.old.id, reason=plan.reason, successor=new.id, others=plan.others)
    return RotateResult(old=plan.old.id, new=new, end=execute_end_key(end, progress=progress))


def rotate_metadata_key(vault: Vault) -> int:
    """Let new tables be encrypted with the next metadata key; returns its number. Old tables stay readable."""
    root = vault.keyring.signer("root")
    trust = newest_trust(vault)
    following = replace(trust.following(), metadata_key=trust.metadata_key + 1)
    store_trust(vault.store, following, root, vault.id, vault.clock.now())
    return following.metadata_key


def remove_recipient(vault: Vault, key_id: str) -> int:
    """Seal nothing more to a recovery key; returns the statement's number. It goes on opening what it could open.

    :raises NotFound: nothing is sealed to it. :raises Refused: it is the only one (C2).
    """
    root = vault.keyring.signer("root")
    trust = newest_trust(vault)
    left = tuple(recipient for recipient in trust.recipients if recipient.id != key_id)
    if len(left) == len(trust.recipients):
        raise NotFound(f"nothing is sealed to a recovery key {key_id}.", hint="`reopen keys list` shows the keys.")
    if not left:
        raise Refused(
            f"{key_id} is the only recovery key: without it nothing could ever be restored.",
            hint="Add another one first: `reopen keys add --role recovery --to FOLDER`, then `reopen keys reseal`.",
        )
    following = replace(trust.following(), recipients=left, removed=trust.removed | {key_id})
    return store_trust(vault.store, following, root, vault.id, vault.clock.now()).number


def _unfinished(vault: Vault, trust: Trust, role: str, folder: Path) -> AnyKey | None:
    """A key of this role in the folder that the vault does not count yet."""
    counted = set(vault.certificates) | {recipient.id for recipient in trust.recipients} | trust.removed
    counted |= {recipient.id for recipient in vault.keyring.pins.recipients}
    for path in sorted(folder.glob(f"{role}-*{KEY_FILE_SUFFIX}")) if folder.is_dir() else []:
        key, pins = load_key(path)
        if pins.vault_id == vault.id and role_of(key) == role and key.id not in counted:
            return key
    return None


def _store_document(vault: Vault, body: JsonObject) -> None:
    name = key_name(body["id"])
    create_settled(vault.store, name, seal_envelope(body, vault.keyring.signer("root")))
