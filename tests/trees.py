"""Trees of files for tests: making them, ageing them, and telling where two differ, metadata included."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

OLD_NS = 1_700_000_000_123_456_789
"""An instant long before any test; a file this old is not read again when nothing else changed."""


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def grow(root: Path, files: Mapping[str, bytes | str], *, old: bool = True) -> Path:
    """Write files below a folder (making folders on the way); returns the folder.

    :param old: give everything an old modification time, so that an unchanged file is not read again.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    if old:
        age(root)
    return root


def age(root: Path, ns: int = OLD_NS) -> None:
    """Give every entry below a folder the same old modification time."""
    for name in _names(os.fsencode(root)):
        os.utime(os.path.join(os.fsencode(root), name), ns=(ns, ns), follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """What must come back of an entry. ``linked`` holds the other names of the same file."""

    kind: str
    content: bytes
    mode: int
    mtime_ns: int
    owner: tuple[int, int]
    linked: tuple[bytes, ...]


def describe(root: Path | str | bytes) -> dict[bytes, Entry]:
    """Every entry below a folder except special files, which a snapshot records and does not keep."""
    base = os.fsencode(root)
    names = list(_names(base))
    by_inode: dict[tuple[int, int], list[bytes]] = {}
    for name in names:
        status = os.lstat(os.path.join(base, name))
        by_inode.setdefault((status.st_dev, status.st_ino), []).append(name)
    entries = {}
    for name in names:
        path = os.path.join(base, name)
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            kind, content = "file", _digest(path)
        elif stat.S_ISDIR(status.st_mode):
            kind, content = "dir", b""
        elif stat.S_ISLNK(status.st_mode):
            kind, content = "symlink", os.readlink(path)
        else:
            continue
        linked = tuple(sorted(set(by_inode[status.st_dev, status.st_ino]) - {name}))
        entries[name] = Entry(
            kind, content, stat.S_IMODE(status.st_mode), status.st_mtime_ns, (status.st_uid, status.st_gid), linked
        )
    return entries


def differences(source: Path | str | bytes, target: Path | str | bytes, *, metadata: bool = True) -> list[str]:
    """Where two trees differ, in words; empty when they are the same.

    :param metadata: compare modes, times, owners and hard links too, not only names, kinds and bytes.
    """
    left, right = describe(source), describe(target)
    found = []
    for name in sorted(left.keys() | right.keys()):
        shown = name.decode("utf-8", "backslashreplace")
        if name not in right:
            found.append(f"{shown}: missing")
        elif name not in left:
            found.append(f"{shown}: not in the source")
        else:
            fields: Iterable[str] = Entry.__slots__ if metadata else ("kind", "content")
            found += [
                f"{shown}: {field} is {getattr(right[name], field)!r} instead of {getattr(left[name], field)!r}"
                for field in fields
                if getattr(left[name], field) != getattr(right[name], field)
            ]
    return found


def _names(root: bytes) -> Iterable[bytes]:
    """Names below a folder, what a folder holds before the folder: so that ageing the one does not touch the other."""
    for folder, folders, files in os.walk(root, topdown=False):
        base = folder[len(root) :].lstrip(b"/")
        for name in (*files, *folders):
            yield os.path.join(base, name)


def _digest(path: bytes) -> bytes:
    hasher = blake3()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.digest()
