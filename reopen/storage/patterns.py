"""Owns which names a file pattern means, for names that no folder holds. Pure; the same as ``Path.glob`` finds."""

from __future__ import annotations

from fnmatch import fnmatchcase


def matches(name: str, pattern: str) -> bool:
    """Whether a name with ``/`` is one that a pattern means: ``*`` and ``?`` stay within a segment, ``**`` stands for
    any number of them, ``[x]`` for one character."""
    return _match(pattern.split("/"), name.split("/"))


def _match(patterns: list[str], parts: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_match(patterns[1:], parts[at:]) for at in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _match(patterns[1:], parts[1:])
