"""Owns the safety of names from a manifest: they are data from outside and must not lead out of the target.

A name is refused when it is empty, absolute, has an empty, ``.`` or ``..`` segment or a NUL, is longer than
:data:`NAME_BYTES_MAX`, stands twice, or lies below a name that is not a folder.
"""

from __future__ import annotations

from collections.abc import Iterable

from reopen.errors import Refused

NAME_BYTES_MAX = 64 << 10


def check_names(entries: Iterable[tuple[bytes, str]]) -> None:
    """Check all names of a manifest, given with their types, before anything is written.

    :raises Refused: naming the first name that is not safe and why.
    """
    seen: dict[bytes, str] = {}
    for name, kind in entries:
        reason = _fault(name)
        if reason is None and name in seen:
            reason = "stands in the manifest twice"
        if reason is not None:
            raise _refusal(name, reason)
        seen[name] = kind
    for name in seen:
        parent = name.rpartition(b"/")[0]
        # Every proper prefix that is an entry must be a folder: a symlink there would lead the write elsewhere.
        while parent:
            if seen.get(parent, "dir") != "dir":
                raise _refusal(name, f"lies below {parent.decode('utf-8', 'backslashreplace')!r}, which is no folder")
            parent = parent.rpartition(b"/")[0]


def _fault(name: bytes) -> str | None:
    if not name:
        return "is empty"
    if len(name) > NAME_BYTES_MAX:
        return f"has {len(name)} bytes"
    if b"\0" in name:
        return "has a NUL"
    if name.startswith(b"/"):
        return "is absolute"
    segments = name.split(b"/")
    if b".." in segments or b"." in segments or b"" in segments:
        return "has an empty, '.' or '..' segment"
    return None


def _refusal(name: bytes, reason: str) -> Refused:
    return Refused(
        f"the name {name[:200].decode('utf-8', 'backslashreplace')!r} in the manifest {reason}; nothing was restored.",
        hint="No honest snapshot holds it. Verify the vault, and restore another snapshot or --path what you need.",
    )
