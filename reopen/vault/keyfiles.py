"""Owns the key files outside the vault: ``<role>-<key id>.key``, one key and its pins each.

Invariants
    F1  A key file is made with mode 0600, is durable when :func:`save_key` returns, and is never replaced.
    F2  A file that is not a key file is named in an error; no content of it makes the reader fail otherwise, wait or
        take more than :data:`KEY_FILE_BYTES_MAX` of memory.
    F3  The files of one folder agree about the vault, its root key and its first recipients. The greatest
        ``trust_min`` of them counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reopen.errors import Conflict, Corrupt, InvalidInput, NotFound, TargetUnwritable
from reopen.storage.canonical import RECORD_BYTES_MAX, JsonObject, decode, encode
from reopen.vault.keys import KEY_ID, ROLES, Keyring, Pins, RecoveryKey, SigningKey

KEY_FILE_SUFFIX = ".key"
KEY_FILE_BYTES_MAX = RECORD_BYTES_MAX

AnyKey = RecoveryKey | SigningKey


def save_key(folder: Path, key: AnyKey, pins: Pins) -> Path:
    """Write a key file ``<role>-<id>.key`` (F1); returns its path.

    :raises Conflict: there is one. :raises TargetUnwritable: the folder takes no file.
    """
    path = folder / f"{role_of(key)}-{key.id}{KEY_FILE_SUFFIX}"
    temporary = folder / f".{path.name}.new"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode_key(key, pins))
            file.flush()
            os.fsync(file.fileno())
        _move_new(temporary, path)
        _sync_folder(folder)
    except OSError as error:
        if isinstance(error, FileExistsError) and path.exists():
            hint = "Name another folder, or move that file elsewhere first."
            raise Conflict(f"{path} already exists; a key file is never replaced.", hint=hint, path=path) from error
        raise TargetUnwritable(
            f"{path} cannot be written: {error.strerror}.",
            hint="Name a folder that can be written to and has space; nothing was changed in the vault.",
            path=path,
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def load_keyring(folder: Path) -> Keyring:
    """Every key file in a folder as one keyring. Several keys of a role are fine: the vault tells which one signs.

    :raises NotFound: no folder, or no key in it.
    :raises InvalidInput: a file that is not a key file.
    :raises Conflict: keys of different vaults, or two files that differ about one key.
    """
    paths = sorted(folder.glob(f"*{KEY_FILE_SUFFIX}")) if folder.is_dir() else []
    if not paths:
        raise NotFound(
            f"there is no key file in {folder}.",
            hint="Copy the key files there, or set REOPEN_KEYS to the folder that holds them; with a passphrase, set "
            "REOPEN_PASSPHRASE_FILE. For a new vault, `reopen init` makes them.",
            path=folder,
        )
    pins: Pins | None = None
    keys: dict[str, AnyKey] = {}
    for path in paths:
        key, found = load_key(path)
        pins = found if pins is None else _agreed(pins, found, path, paths[0])
        if keys.setdefault(key.id, key) != key:
            raise Conflict(
                f"two files in {folder} differ about key {key.id}.",
                hint="One of them is damaged; keep the one that opens the vault.",
                path=path,
            )
    assert pins is not None
    return Keyring(
        pins,
        signing=[key for key in keys.values() if isinstance(key, SigningKey)],
        recovery=[key for key in keys.values() if isinstance(key, RecoveryKey)],
        notes=_open_to_others(paths),
    )


def load_key(path: Path) -> tuple[AnyKey, Pins]:
    """The key and the pins in one file. :raises InvalidInput: it is not a key file (F2)."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > KEY_FILE_BYTES_MAX:
            raise ValueError("not a regular file of a key file's size")
        return decode_key(path.read_bytes().strip(), path.name)
    except OSError as error:
        hint = "Give this user the right to read it; a key file belongs to whoever runs `reopen`, with mode 0600."
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", hint=hint, path=path) from error
    except (Corrupt, ValueError) as error:
        raise InvalidInput(
            f"{path} is not a key file that this version reads.",
            hint="Copy the key file again from where it is kept; it is one line of JSON.",
            path=path,
        ) from error


def encode_key(key: AnyKey, pins: Pins) -> bytes:
    """The bytes of a key file."""
    if isinstance(key, RecoveryKey):
        secret: JsonObject = {"mlkem768_seed": key.mlkem_seed.hex(), "x25519": key.x25519_private.hex()}
    else:
        secret = {"ed25519_seed": key.seed.hex(), "wrap_key": key.wrap_key.hex()}
    return encode(
        {
            "kind": "reopen-key",
            "version": 1,
            "role": role_of(key),
            "id": key.id,
            "pins": pins.to_json(),
            "secret": secret,
        }
    )


def decode_key(data: bytes, name: str) -> tuple[AnyKey, Pins]:
    """The key and the pins that :func:`encode_key` wrote.

    :raises Corrupt: no canonical JSON. :raises ValueError: not the document of a key.
    """
    document = decode(data, name)
    try:
        role, key_id, secret = document["role"], document["id"], document["secret"]
        pins = Pins.from_json(document["pins"])
        if document["kind"] != "reopen-key" or document["version"] != 1 or role not in ROLES:
            raise ValueError(f"role {role!r}, version {document['version']!r}")
        if not isinstance(key_id, str) or not re.fullmatch(KEY_ID, key_id):
            raise ValueError("a malformed key id")
        if role == "recovery":
            parts = _secrets(secret, {"mlkem768_seed": 64, "x25519": 32})
            return RecoveryKey(id=key_id, mlkem_seed=parts["mlkem768_seed"], x25519_private=parts["x25519"]), pins
        parts = _secrets(secret, {"ed25519_seed": 32, "wrap_key": 32})
        return SigningKey(id=key_id, role=role, seed=parts["ed25519_seed"], wrap_key=parts["wrap_key"]), pins
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a field is missing or malformed: {error}") from error


def role_of(key: AnyKey) -> str:
    """The role of a key of either kind."""
    return "recovery" if isinstance(key, RecoveryKey) else key.role


def _secrets(secret: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, bytes]:
    parts = {name: bytes.fromhex(secret[name]) for name in sizes}
    for name, value in parts.items():
        if len(value) != sizes[name]:
            raise ValueError(f"{name} has {len(value)} bytes instead of {sizes[name]}")
    return parts


def _agreed(pins: Pins, found: Pins, path: Path, first: Path) -> Pins:
    if (found.vault_id, found.root_public) != (pins.vault_id, pins.root_public):
        raise Conflict(
            f"{path} belongs to vault {found.vault_id}, but {first.name} to vault {pins.vault_id}.",
            hint="Keep the keys of one vault in one folder.",
            path=path,
        )
    if found.recipients != pins.recipients:
        raise Conflict(
            f"{path.name} and {first.name} pin different recovery recipients.",
            hint="One of them is damaged or was tampered with: key files of one vault pin the same first recipients.",
            path=path,
        )
    return replace(
        pins,
        trust_min=max(pins.trust_min, found.trust_min),
        format_min=max(pins.format_min, found.format_min),
    )


def _open_to_others(paths: list[Path]) -> list[str]:
    """A sentence for each key file that others than its owner may read or write. Where modes mean nothing (Windows,
    FAT) the files look open to all, and the sentence is true."""
    notes = []
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            notes.append(f"{path} can be read by others (mode {mode:04o}); `chmod 600` keeps it to you.")
    return notes


def _move_new(temporary: Path, path: Path) -> None:
    """Give the file its name, whole or not at all; a name that is taken is left alone."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # No hard links here (FAT, some network shares): between the two steps only another `save_key` of the same
        # random id could come.
        if path.exists():
            raise FileExistsError(path) from None
        temporary.rename(path)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Folders cannot be opened there; the file itself was flushed.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
