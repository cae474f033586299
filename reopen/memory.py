"""Owns the memory of what a text from outside was read as, so that a text that did not change is not read again.

Reading settings and contracts with all that makes their errors good takes longer than many a command; what they say
changes rarely. A memory is one file in the home of a site.

Invariants
    I1  What is recalled was made from these very inputs by this very code: both are in the key.
    I2  A memory may be lost, torn, or impossible to write at any time; that costs time and nothing else.
    I3  Nothing secret is put into it by those who use it.

A crash leaves a temporary file beside it, or nothing. Called by :mod:`reopen.config.remembered`
and :mod:`reopen.contracts.remembered`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blake3 import blake3

FOLDER = "cache"
"""Below a site's home."""


class Memory:
    """What one file remembers. Values are what JSON can hold.

    :param path: the file. It is only written where the folder above its own is there, because looking at settings
        must not make a home.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self, key: str) -> Any:
        """What was remembered under this key; None when it was not, or cannot be read (I2)."""
        try:
            head, _, value = self._path.read_bytes().partition(b"\n")
        except (OSError, ValueError):  # The latter: a name that no file can have.
            return None
        if head.decode("ascii", "replace") != _head(key, value):
            return None
        return json.loads(value)

    def remember(self, key: str, value: object) -> None:
        """Keep a value instead of what was there. A home that takes no file costs the memory, not the command (I2)."""
        text = json.dumps(value).encode()
        folder = self._path.parent
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        with contextlib.suppress(OSError):
            if not folder.parent.is_dir():
                return
            folder.mkdir(exist_ok=True)
            temporary.touch(mode=0o600)
            temporary.write_bytes(f"{_head(key, text)}\n".encode() + text)
            temporary.replace(self._path)


def key_of(*parts: str | bytes) -> str:
    """The key of these inputs: BLAKE3 (hex) over their lengths and bytes."""
    hasher = blake3()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()


def code_stamp(folders: Iterable[Path]) -> str:
    """What changes when the code (or any other file) in these folders does: names, sizes and times of the files, and
    the version of Python (I1)."""
    stamp = [sys.version]
    for folder in folders:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.stat()) for entry in entries if entry.is_file())
        stamp += [f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in found]
    return "\n".join(stamp)


def _head(key: str, value: bytes) -> str:
    """The first line of the file: the key, and the digest of the rest, so that a torn file is no memory."""
    return f"{key} {blake3(value).hexdigest()}"
