"""Owns the values of a check: what is wrong and where, which snapshots passed, and how much was seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from reopen.errors import Corrupt, NotFound, ReopenError
from reopen.protect.verify.packs import Level, Status

NEXT_HINT = "`reopen repair --from SITE` takes what is damaged from a replica, and rebuilds the index from the packs."
"""What to do about findings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. ``dataset``, ``snapshot`` and ``path`` name what it affects where that is known."""

    object: str
    status: Status
    detail: str
    dataset: str = ""
    snapshot: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotVerdict:
    """Whether one snapshot passed. ``state`` repeats the record's: an incomplete snapshot can be intact."""

    dataset: str
    snapshot: str
    seq: int
    state: str
    intact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """What a check saw and found. ``seconds`` is wall time; ``checked_bytes`` what was read and hashed. Of
    ``stored_bytes`` in packs (of those that were asked about) ``read_bytes`` were read; a sample reads not all."""

    level: Level
    checked_objects: int
    checked_bytes: int
    findings: tuple[Finding, ...]
    snapshots: tuple[SnapshotVerdict, ...]
    facts: int
    seconds: float
    sampled: bool = False
    stored_bytes: int = 0
    read_bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def problem(self) -> str:
        """What is wrong, in a line; empty when nothing is."""
        if not self.findings:
            return ""
        first, count = self.findings[0], len(self.findings)
        found = f"{first.object}: {first.status}: {first.detail.rstrip('.')}."
        return f"{count} finding{'s' if count > 1 else ''}, the first: {found}"


@dataclass(slots=True)
class Seen:
    """What a check has come across so far."""

    objects: int = 0
    size_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    def count(self, objects: int, size_bytes: int = 0) -> None:
        """So many objects and bytes were read."""
        self.objects += objects
        self.size_bytes += size_bytes

    def find(self, name: str, status: Status, detail: str, **place: str) -> None:
        """Something is wrong with an object."""
        self.findings.append(Finding(object=name, status=status, detail=detail, **place))

    def find_error(self, name: str, error: ReopenError, **place: str) -> None:
        """Reading an object failed; the error says how."""
        status: Status = (
            "missing"
            if isinstance(error, NotFound)
            else "digest_mismatch"
            if "digest" in error.message
            else "size_mismatch"
            if "size_bytes" in error.context
            else "undecodable"
        )
        if not isinstance(error, NotFound | Corrupt):
            status = "unreadable"
        self.find(str(error.context.get("object", name)), status, error.message, **place)
