"""Owns the checks of keys and rights: does the site's own recovery key open the vault, can evidence be signed, who can
read the key files, and can the credentials at hand destroy the vault.

The last one can be told only in part without destroying. A store with object lock says until when its newest record is
locked. Else a probe of our own is written beside the vault's objects, and removed: a store that lets that happen lets
everything go. One that refuses it keeps the probe, under one name for ever.
"""

from __future__ import annotations

import stat
from pathlib import Path

from reopen.clock import to_text
from reopen.errors import NotFound, Refused, ReopenError, Transient
from reopen.ids import new_id
from reopen.protect.keys.trial import opens_roots, try_recovery_keys
from reopen.recover.readiness.model import UNKNOWN, Area, Check, Mark
from reopen.storage import ObjectStore, locking
from reopen.storage.base import PROBE_FOLDER
from reopen.vault import Vault
from reopen.vault.features import APPEND_ONLY, optional_features

EVIDENCE_ROLE = "verifier"
TRIED_PACKS = 4
"""Packs of which a frame is opened on a look of its own; a drill opens every one that it restores."""
DELETE_PROBE = f"{PROBE_FOLDER}ready-delete"
"""One name, so that a store that keeps it keeps one."""


def check_keys(vault: Vault | ReopenError, *, deep: bool) -> list[Check]:
    """The recovery key and the verifier's key of this site.

    :param deep: open frames of packs too, not the roots alone; that lists the vault and reads parts of its index.
    """
    if isinstance(vault, ReopenError):
        todo = "See the check of the vault."
        return [_check(name, Mark.WARN, _NOT_OPENED, todo) for name in ("recovery-key", "verifier-key")]
    return [_check_recovery_key(vault, deep=deep), _check_verifier_key(vault)]


def _check_recovery_key(vault: Vault, *, deep: bool) -> Check:
    todo = (
        "Bring a copy of the recovery key to this site; without it nothing here can be read. `reopen keys test` tells."
    )
    if not vault.keyring.can_read_content:
        return _check("recovery-key", Mark.FAIL, "no recovery key is at this site", todo)
    opened = [key for key in vault.keyring.recovery_keys if opens_roots(vault, key) == "ok"]
    if not opened:
        return _check("recovery-key", Mark.FAIL, "no recovery key at this site opens this vault", todo)
    named = ", ".join(key.id for key in opened)
    if not deep:
        return _check("recovery-key", Mark.OK, f"{named} opens the vault's roots")
    tried = try_recovery_keys(vault, sample=TRIED_PACKS)
    if not tried.ok:
        value = f"{len(tried.unopened)} of {len(tried.tried)} packs are opened by no key here"
        return _check("recovery-key", Mark.FAIL, value, "Run `reopen keys test` and `reopen verify --level content`.")
    return _check("recovery-key", Mark.OK, f"{named} opens the vault, and {len(tried.tried)} of {tried.packs} packs")


def _check_verifier_key(vault: Vault) -> Check:
    todo = "Bring the verifier's key to this site: evidence that nobody signed proves little."
    if not vault.keyring.has_role(EVIDENCE_ROLE):
        return _check("verifier-key", Mark.WARN, "no verifier's key is at this site", todo)
    try:
        key = vault.keyring.signer(EVIDENCE_ROLE)
    except ReopenError as error:
        return _check("verifier-key", Mark.WARN, error.message, error.hint or todo)
    return _check("verifier-key", Mark.OK, f"{key.id} can sign")


def check_key_files(folder: Path) -> Check:
    """Who but the owner can read or write the key files of this site."""
    world, group = [], []
    files = sorted(folder.glob("*.key"))
    for path in files:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o007:
            world.append(f"{path.name} {mode:04o}")
        elif mode & 0o077:
            group.append(f"{path.name} {mode:04o}")
    if world or group:
        # Everybody is an intruder's account too; a group is somebody's decision, and may be meant.
        mark = Mark.FAIL if world else Mark.WARN
        who = "everybody" if world else "a group"
        return _check("key-files", mark, f"open to {who}: {', '.join(world or group)}", f"chmod 600 {folder}/*.key")
    if not files:
        return _check("key-files", Mark.WARN, f"no key file is in {folder}", "Say where the keys are, in `keys`.")
    return _check("key-files", Mark.OK, f"{len(files)} files, their owner's alone")


def check_delete(vault: Vault | ReopenError) -> Check:
    """Whether the credentials at hand can destroy what is in the vault."""
    if isinstance(vault, ReopenError):
        return _check("vault-delete", Mark.WARN, _NOT_OPENED, "See the check of the vault.")
    if locking(vault.store) is not None:
        return _check_lock(vault)
    mark, value = try_delete(vault.store)
    todo = (
        "Keep the replica where these credentials may add and not delete: a bucket with object lock "
        "(?object_lock_days=30), or an account without that right."
    )
    promised = APPEND_ONLY in optional_features(vault)
    if promised and mark is not Mark.OK:
        value += "; the vault states append-only"
    return _check("vault-delete", mark, value, "" if mark is Mark.OK else todo)


def try_delete(store: ObjectStore) -> tuple[Mark, str]:
    """Write a probe beside the vault's objects, and see whether it can be removed."""
    try:
        store.put(DELETE_PROBE, [b"this may be removed\n"])
    except ReopenError as error:
        return Mark.WARN, f"{UNKNOWN}: no probe could be written ({error.message})"
    try:
        store.delete(DELETE_PROBE)
    except Refused:
        return Mark.OK, "a probe was written, and its removal refused"
    except ReopenError as error:
        return Mark.WARN, f"{UNKNOWN}: {error.message}"
    try:
        store.head(DELETE_PROBE)
    except NotFound:
        return Mark.WARN, "these credentials can delete"
    except Transient as error:
        return Mark.WARN, f"{UNKNOWN}: {error.message}"
    return Mark.OK, "a probe was written, and stays when it is removed"


def check_control(store: ObjectStore | ReopenError) -> Check:
    """Whether the control store takes records: no failover begins without."""
    todo = "Give the credentials at this site the right to write there: no failover begins without its log."
    if isinstance(store, ReopenError):
        return _check("control-write", Mark.WARN, f"{UNKNOWN}: not reached", todo)
    name = f"{PROBE_FOLDER}ready-{new_id()}"
    try:
        store.create(name, [b"this may be removed\n"])
    except ReopenError as error:
        return _check("control-write", Mark.FAIL, error.message, error.hint or todo)
    try:
        store.delete(name)
    except ReopenError as error:
        # Records are only ever added, so a store that keeps everything is a good home for the log.
        return _check("control-write", Mark.OK, f"a probe was written, and stays: {error.message}")
    return _check("control-write", Mark.OK, "a probe was written and removed")


def _check_lock(vault: Vault) -> Check:
    lock = locking(vault.store)
    newest = max(vault.records(), key=lambda record: record.committed_at, default=None)
    if lock is None or newest is None:
        return _check("vault-delete", Mark.WARN, f"{UNKNOWN}: there is no snapshot yet", "Replicate one.")
    until = lock.locked_until(newest.name)
    if until is None or until <= vault.clock.now():
        value = f"the newest snapshot ({newest.name}) is not locked"
        return _check("vault-delete", Mark.FAIL, value, "See that replication writes with ?object_lock_days.")
    return _check("vault-delete", Mark.OK, f"the newest snapshot is locked until {to_text(until)}")


_NOT_OPENED = f"{UNKNOWN}: the vault was not opened"


def _check(name: str, mark: Mark, value: str, what_to_do: str = "") -> Check:
    return Check(name=name, area=Area.SECURITY, verdict=mark, value=value, what_to_do=what_to_do)
