"""Owns what this site remembers of the epoch log: the newest record it saw, and in which home.

A chain proves that nothing before its last record was changed, not that its last records are still there. An empty
folder (a disk that is not mounted, a wrong path in the settings) even reads as a log that has not begun: a fenced site
would count as primary, and a failover would begin epoch 1 again. So a log without the record seen last is refused.

The log has one memory in each site's home, wherever the log moves: a new home keeps the records of those before it. The
file is a memory of one reader: losing it loses the protection, never data.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reopen.errors import Corrupt, Refused
from reopen.ids import new_id
from reopen.storage.canonical import decode, encode

if TYPE_CHECKING:
    from reopen.control.records import Record

FILE_NAME = "epoch-log.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The newest record that was seen: its home, its number in the whole log, its digest, and the epoch that stood."""

    url: str
    number: int
    digest: str
    epoch: int


class LogMemory:
    """What was seen of one log, in one folder. Threads and processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def seen(self) -> Seen | None:
        """What was seen last; None when nothing was. Ask before the log is read: what another process appends and
        remembers in between is no loss.

        :raises Corrupt: the memory cannot be read.
        """
        try:
            found = decode(self._path.read_bytes(), self._path.name)
            return Seen(
                url=str(found["url"]),
                number=int(found["number"]),
                digest=str(found["digest"]),
                epoch=int(found["epoch"]),
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (Corrupt, KeyError, TypeError, ValueError, OSError) as error:
            raise Corrupt(
                f"{self._path} cannot be read. It is what this site remembers of the epoch log.",
                hint="Move it aside: it is made again, and what it remembered is lost. See first that the control "
                "store is the right one.",
            ) from error

    def check(self, seen: Seen | None, records: Sequence[Record], url: str) -> None:
        """Refuse records, read in ``url``, that do not hold what was seen.

        :raises Refused: the log is shorter.
        :raises Corrupt: another record has its number.
        """
        if seen is None:
            return
        before = f"this site saw record {seen.number} of epoch {seen.epoch} in {seen.url} before"
        hint = (
            "Mount the control store, or correct `control` in the settings; nothing was changed. Only when you made "
            f"sure that the log is truly gone, or that this is the right one, remove {self._path}: then this site "
            "believes what it reads."
        )
        if len(records) < seen.number:
            there = f"ends with record {len(records)}" if records else "is empty"
            raise Refused(f"the epoch log in {url} {there}, and {before}.", hint=hint, number=seen.number)
        if records[seen.number - 1].digest != seen.digest:
            raise Corrupt(
                f"record {seen.number} of the epoch log in {url} is another one, and {before}.",
                hint=hint,
                number=seen.number,
            )

    def remember(self, records: Sequence[Record], url: str) -> None:
        """Keep the last of these records, which were checked, when it is news. A home that takes no file costs the
        memory, not the command: the worst day may find a read-only disk."""
        if not records:
            return
        known = self.seen()
        # Another process may have seen more meanwhile.
        if known and (known.number > len(records) or (known.number, known.url) == (len(records), url)):
            return
        from reopen.control.rules import current_epoch

        seen = {
            "kind": "epoch-log-seen",
            "url": url,
            "number": len(records),
            "digest": records[-1].digest,
            "epoch": current_epoch(records),
        }
        temporary = self._path.with_suffix(f".{new_id()}.new")
        with contextlib.suppress(OSError):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("wb") as file:
                    file.write(encode(seen))
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self._path)
            finally:
                temporary.unlink(missing_ok=True)
