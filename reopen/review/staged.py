"""Owns what the status says of staged versions: which are ready at which standby, and how old they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reopen.control.log import EpochLog
from reopen.errors import ReopenError
from reopen.recover.standby.records import newest_staged


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedStatus:
    """A version that is ready at a standby. ``age_seconds`` is how old what it stands for is; ``status`` that of its
    checks."""

    site: str
    version: str
    snapshot: str
    consistent_at: datetime
    age_seconds: float
    status: str
    validated_at: datetime


def staged_at_sites(log: EpochLog | None, now: datetime) -> dict[str, tuple[StagedStatus, ...]]:
    """What is staged, by dataset; nothing where the store cannot be read, of which the log's own error tells."""
    if log is None:
        return {}
    try:
        found = newest_staged(log.store)
    except ReopenError:
        return {}
    return {
        name: tuple(
            StagedStatus(
                site=item.site,
                version=item.version,
                snapshot=item.snapshot,
                consistent_at=item.consistent_at,
                age_seconds=(now - item.consistent_at).total_seconds(),
                status=item.status,
                validated_at=item.validated_at,
            )
            for item in versions
        )
        for name, versions in found.items()
    }
