"""Owns the safety of names from a manifest: they are data from outside and must not lead out of the target.

A name is refused when it is empty, absolute, has an empty, ``.`` or ``..`` segment or a NUL, is longer than
:data:`NAME_BYTES_MAX`, stands twice, or lies below a name that is not a folder. Two names that the target's file system
takes for one are refused too: the second would replace the first.

A manifest of a million names is checked in about a second: what is searched is joined names, not one name at a time.
"""

from __future__ import annotations

import operator
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from reopen.errors import Refused

NAME_BYTES_MAX = 64 << 10
FOLDER_NAME_BYTES_MAX = 1 << 30
"""All folders' names together: a name of n segments has n folders above it, so a few hostile megabytes of names would
otherwise grow to any amount of memory."""

_BATCH_NAMES = 100_000
_UNSAFE = tuple(
    before + segment + after for segment in (b"", b".", b"..") for before in (b"\0", b"/") for after in (b"\0", b"/")
)
"""What joined names (each between two NULs) hold only when a segment is empty, ``.`` or ``..``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folding:
    """What a file system takes for the same name: letters that differ in case, or in how Unicode composes them."""

    case: bool = False
    composition: bool = False

    def __bool__(self) -> bool:
        return self.case or self.composition

    def key(self, name: bytes) -> bytes:
        """Equal for names that are one to the file system, at least for those that any known one folds."""
        text = name.decode("utf-8", "surrogateescape")
        if self.composition:
            text = unicodedata.normalize("NFD", text)
        if self.case:
            text = text.casefold()
        return text.encode("utf-8", "surrogateescape")


def check_names(names: Sequence[bytes], is_folder: Sequence[bool]) -> set[bytes]:
    """Check all names of a manifest before anything is written.

    :param is_folder: for each name whether its entry is a folder.
    :returns: every folder that the names need, those that have no entry of their own included.
    :raises Refused: naming the first name that is not safe and why.
    """
    for start in range(0, len(names), _BATCH_NAMES):
        batch = names[start : start + _BATCH_NAMES]
        if _is_suspicious(batch):
            for name in batch:
                reason = _fault(name)
                if reason is not None:
                    raise _refusal(name, reason)
    _check_unique(names)
    folders = folders_above(names)
    for name, folder in zip(names, is_folder, strict=True):
        # Every proper prefix that is an entry must be a folder: a symlink there would lead the write elsewhere.
        if not folder and name in folders:
            below = next(other for other in names if other.startswith(name + b"/"))
            raise _refusal(below, f"lies below {name[:200].decode('utf-8', 'backslashreplace')!r}, which is no folder")
    folders.update(name for name, folder in zip(names, is_folder, strict=True) if folder)
    return folders


def folders_above(names: Iterable[bytes]) -> set[bytes]:
    """Every folder that leads to one of the names.

    :raises Refused: their names take more than :data:`FOLDER_NAME_BYTES_MAX` together.
    """
    folders: set[bytes] = set()
    last, total = b"", 0
    for name in names:
        parent = name.rpartition(b"/")[0]
        if parent == last:
            continue  # Names come sorted, so most have the parent of the one before.
        last = parent
        while parent and parent not in folders:
            folders.add(parent)
            total += len(parent)
            if total > FOLDER_NAME_BYTES_MAX:
                raise _refusal(name, f"makes the folders' names longer than {FOLDER_NAME_BYTES_MAX} bytes together")
            parent = parent.rpartition(b"/")[0]
    return folders


def check_folding(names: Iterable[bytes], folding: Folding) -> None:
    """Check that the target's file system keeps all names apart, before anything is written.

    :param names: of entries and of the folders above them.
    :raises Refused: naming the first two that it takes for one.
    """
    if not folding:
        return
    seen: dict[bytes, bytes] = {}
    for name in names:
        other = seen.setdefault(folding.key(name), name)
        if other != name:
            raise Refused(
                f"{_shown(other)} and {_shown(name)} are two names in the snapshot and one in the target, whose file "
                "system does not tell them apart; nothing was restored.",
                hint="Restore to a file system that tells upper and lower case apart, or one of the two with --path.",
            )


def _is_suspicious(names: Sequence[bytes]) -> bool:
    if max(map(len, names)) > NAME_BYTES_MAX:
        return True
    joined = b"\0".join((b"", *names, b""))
    return joined.count(b"\0") != len(names) + 1 or any(unsafe in joined for unsafe in _UNSAFE)


def _check_unique(names: Sequence[bytes]) -> None:
    if all(map(operator.lt, names, islice(names, 1, None))):
        return  # As an honest writer sorts them.
    ordered = sorted(names)
    for name, following in zip(ordered, islice(ordered, 1, None), strict=False):
        if name == following:
            raise _refusal(name, "stands in the manifest twice")


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
        f"the name {_shown(name)} in the manifest {reason}; nothing was restored.",
        hint="No honest snapshot holds it. Verify the vault, and restore another snapshot or --path what you need.",
    )


def _shown(name: bytes) -> str:
    return repr(name[:200].decode("utf-8", "backslashreplace"))
