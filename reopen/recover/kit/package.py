"""Owns the kit as a package: its files, the manifest that lists and signs them, and what is wrong with a copy.

A kit is a folder or a zip file of the same names. ``manifest.json`` is canonical JSON
``{"body": {"files": [{"blake3", "name", "sha256", "size"}], "format": 1, "inputs", "kind": "kit", "made_at", "plan",
"shared", "site", "version"}, "signature": {"key", "value"} | null}``; the signature is Ed25519 of the site's verifier
key over ``reopen/v1/kit`` NUL canonical body. ``SHA256SUMS`` says the same of every file to the tool that every system
has.

Invariants
    K1  Nothing secret is in it: :func:`make_kit` refuses a file that holds a private key of ours, or looks like one.
    K2  A copy in a store is one object, replaced whole.
    K3  Equal inputs and an equal time give equal bytes.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from blake3 import blake3

from reopen.clock import from_text, to_text
from reopen.errors import Corrupt, Internal, NotFound, TargetUnwritable
from reopen.ids import new_id
from reopen.recover.context import Sign
from reopen.recover.evidence import VerifySignature
from reopen.storage.canonical import decode, encode

FORMAT = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
REQUIREMENTS = "requirements.txt"
PACKAGES = "packages/"
"""Whoever keeps a copy may fetch the reader's packages into this folder of it: those whose digests REQUIREMENTS has."""
SIGNED_PREFIX = b"reopen/v1/kit\0"
BYTES_MAX = 64 << 20
"""A kit is some hundred kilobytes; whatever is larger is none."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_PRIVATE = re.compile(
    rb'"secret"\s*:\s*\{|"(?:mlkem768_seed|wrap_key|ed25519_private)"\s*:\s*"[0-9a-f]{64}|-----BEGIN [A-Z ]*PRIVATE KEY'
)


class Defect(StrEnum):
    """What can be wrong with a copy."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    CHANGED = "changed"
    STRANGE = "not of it"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad signature"
    OUTDATED = "outdated"


@dataclass(frozen=True, slots=True, kw_only=True)
class KitProblem:
    """One defect: of which file (empty: of the kit), and what was found."""

    name: str
    defect: Defect
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """A kit. ``files`` are by name and without manifest and sums; ``inputs`` is the digest of what it was made of."""

    made_at: datetime
    site: str
    version: str
    plan: str
    inputs: str
    files: Mapping[str, bytes]
    manifest: bytes
    key: str | None
    """The key that signed it; None where nobody did."""


def make_kit(
    files: Mapping[str, bytes],
    *,
    made_at: datetime,
    site: str,
    version: str,
    plan: str,
    inputs: str,
    sign: Sign | None,
    shared: str = "",
) -> Kit:
    """List and sign the files.

    :param shared: the digest of that part of the inputs which is the same at every site; empty where nobody compares.
    :raises Internal: a file holds what looks like a private key (K1).
    """
    for name, data in files.items():
        if _PRIVATE.search(data):
            raise Internal(f"{name} holds what looks like a private key; it is not put into a kit.")
    body = {
        "files": [
            {
                "blake3": blake3(files[name]).hexdigest(),
                "name": name,
                "sha256": hashlib.sha256(files[name]).hexdigest(),
                "size": len(files[name]),
            }
            for name in sorted(files)
        ],
        "format": FORMAT,
        "inputs": inputs,
        "kind": "kit",
        "made_at": to_text(made_at),
        "plan": plan,
        "shared": shared,
        "site": site,
        "version": version,
    }
    key, value = (None, "") if sign is None else sign(SIGNED_PREFIX + encode(body))
    signature = None if key is None else {"key": key, "value": value}
    return Kit(
        made_at=made_at, site=site, version=version, plan=plan, inputs=inputs, files=dict(files),
        manifest=encode({"body": body, "signature": signature}), key=key,
    )  # fmt: skip


def contents(kit: Kit) -> dict[str, bytes]:
    """Every file of a kit by name, manifest and sums too."""
    listed = {**kit.files, MANIFEST: kit.manifest}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(listed.items()))
    return {**listed, SUMS: sums.encode()}


def to_zip(kit: Kit) -> bytes:
    """The kit as one file (K3)."""
    at = max(kit.made_at, datetime(1980, 1, 1, tzinfo=kit.made_at.tzinfo)).timetuple()[:6]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(contents(kit).items()):
            entry = zipfile.ZipInfo(name, date_time=at)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def save_kit(kit: Kit, path: Path) -> None:
    """Write a kit: one file where the name ends with ``.zip``, else a folder. What stood there of a kit is replaced.

    :raises TargetUnwritable: it cannot be written.
    """
    try:
        if path.suffix == ".zip":
            _replace(path, to_zip(kit))
            return
        before, made = _listed_in(path), contents(kit)
        # The manifest last: what it lists is there.
        for name, data in sorted(made.items(), key=lambda item: item[0] == MANIFEST):
            target = path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _replace(target, data)
        # What only the kit before had would be taken for a part of this one, such as a contract that is gone.
        for name in before - made.keys():
            (path / name).unlink(missing_ok=True)
    except OSError as error:
        raise TargetUnwritable(
            f"{path} cannot be written: {error.strerror}.", hint="Name a folder or a .zip file that can be written."
        ) from error


def _listed_in(folder: Path) -> set[str]:
    """The names in the manifest of the kit that stands in a folder; none where there is no kit that can be read."""
    try:
        body, _ = _manifest({MANIFEST: (folder / MANIFEST).read_bytes()})
    except (OSError, Corrupt):
        return set()
    names = {item["name"] for item in body["files"] if isinstance(item, dict) and isinstance(item.get("name"), str)}
    return {name for name in names if _NAME.fullmatch(name)}


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that whoever reads it sees the old one or the new one; a full disk leaves nothing beside it."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is there and no file", str(path))
    beside = path.with_name(f".{path.name}.{new_id()}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_copy(path: Path) -> dict[str, bytes]:
    """The files of a kit in a folder or zip file, as they are there.

    :raises NotFound: there is none. :raises Corrupt: the zip file cannot be read.
    """
    if path.is_dir():
        found = sorted(item for item in path.rglob("*") if item.is_file())
        return {item.relative_to(path).as_posix(): item.read_bytes() for item in found}
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFound(f"there is no kit at {path}: {error.strerror}.", hint="`reopen kit --to` writes one.") from error
    return read_zip(data, str(path))


def read_zip(data: bytes, name: str) -> dict[str, bytes]:
    """The files of a zipped kit.

    :raises Corrupt: it cannot be read, or is none.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > BYTES_MAX:
                raise Corrupt(f"{name} is larger than any kit.", object=name)
            return {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError) as error:
        raise Corrupt(f"{name} is no kit: {error}.", hint="`reopen kit --store` makes it anew.", object=name) from error


def inspect_copy(
    copy: Mapping[str, bytes], *, verify: VerifySignature | None, inputs: str, shared: str = "", site: str = ""
) -> tuple[KitProblem, ...]:
    """Everything that is wrong with a copy; empty when nothing is.

    :param verify: checks the signature; None looks at none.
    :param inputs: the digest of what a kit would be made of now; empty where nobody compares.
    :param shared: the same of what every site has alike, which is compared with a kit that another one than ``site``
        made: its settings, keys and paths are its own.
    """
    try:
        body, signature = _manifest(copy)
    except Corrupt as error:
        return (KitProblem(name=MANIFEST, defect=Defect.UNREADABLE, detail=error.message),)
    except NotFound as error:
        return (KitProblem(name=MANIFEST, defect=Defect.MISSING, detail=error.message),)
    return (
        *_inspect_files(copy, body["files"]),
        *_inspect_signature(body, signature, verify),
        *(_inspect_inputs(body, "inputs", inputs) if body.get("site") == site or not shared else ()),
        *(_inspect_inputs(body, "shared", shared) if body.get("site") != site and shared else ()),
    )


def made_at_of(copy: Mapping[str, bytes]) -> datetime | None:
    """When a copy says that it was made; None where it does not say."""
    try:
        body, _ = _manifest(copy)
        return from_text(str(body["made_at"]))
    except (Corrupt, NotFound, ValueError, KeyError):
        return None


def _manifest(copy: Mapping[str, bytes]) -> tuple[dict[str, Any], Any]:
    if MANIFEST not in copy:
        raise NotFound("it has no manifest.")
    value = decode(copy[MANIFEST], MANIFEST)
    body = value.get("body")
    if not isinstance(body, dict) or body.get("kind") != "kit" or not isinstance(body.get("files"), list):
        raise Corrupt("it is no manifest of a kit.")
    if body.get("format") != FORMAT:
        raise Corrupt(f"it has format {body.get('format')}; this version reads {FORMAT}.")
    return body, value.get("signature")


def _inspect_files(copy: Mapping[str, bytes], listed: Sequence[Any]) -> Iterable[KitProblem]:
    names = set()
    for item in listed:
        name = str(item.get("name")) if isinstance(item, dict) else ""
        names.add(name)
        data = copy.get(name)
        if data is None or not _NAME.fullmatch(name):
            yield KitProblem(name=name, defect=Defect.MISSING, detail="the manifest lists it, and it is not there")
        elif (blake3(data).hexdigest(), hashlib.sha256(data).hexdigest()) != (item.get("blake3"), item.get("sha256")):
            yield KitProblem(name=name, defect=Defect.CHANGED, detail="it is not what the manifest lists")
    known = set(re.findall(rb"--hash=sha256:([0-9a-f]{64})", copy.get(REQUIREMENTS, b"")))
    for name in sorted(set(copy) - names - {MANIFEST, SUMS}):
        if not name.startswith(PACKAGES):
            yield KitProblem(name=name, defect=Defect.STRANGE, detail="the manifest does not list it")
        elif hashlib.sha256(copy[name]).hexdigest().encode() not in known:
            yield KitProblem(name=name, defect=Defect.STRANGE, detail=f"{REQUIREMENTS} has no such digest")


def _inspect_signature(body: Mapping[str, Any], signature: Any, verify: VerifySignature | None) -> Iterable[KitProblem]:
    if signature is None:
        yield KitProblem(name=MANIFEST, defect=Defect.UNSIGNED, detail="the site that made it had no verifier's key")
        return
    if verify is None:
        return
    try:
        key, value = str(signature["key"]), bytes.fromhex(signature["value"])
        good = verify(key, SIGNED_PREFIX + encode(dict(body)), value)
    except (KeyError, TypeError, ValueError):
        good, key = False, "?"
    if not good:
        yield KitProblem(name=MANIFEST, defect=Defect.BAD_SIGNATURE, detail=f"it is not what key {key} signed")


def _inspect_inputs(body: Mapping[str, Any], member: str, expected: str) -> Iterable[KitProblem]:
    if expected and body.get(member) != expected:
        detail = "settings, contracts, keys, the role or the software changed since it was made"
        yield KitProblem(name="", defect=Defect.OUTDATED, detail=detail)
