"""Owns what this machine remembers of trust statements: the highest number seen, by vault and place.

A store that shows a lower one later was rolled back. By place, because a replica lags and that is no roll-back. The
file is a memory of one reader: losing it loses the memory, never data.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from reopen.errors import Corrupt
from reopen.ids import new_id
from reopen.storage.canonical import decode, encode


class TrustMemory:
    """The highest numbers seen, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def seen(self, vault_id: str, url: str) -> int:
        """The highest number seen in this place; 0 when there is none.

        :raises Corrupt: the memory cannot be read.
        """
        path = self._path(vault_id, url)
        try:
            number = decode(path.read_bytes(), path.name)["number"]
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except (Corrupt, KeyError, OSError) as error:
            raise Corrupt(
                f"{path} cannot be read.", hint="Move it aside: it is made again, and what it remembered is lost."
            ) from error
        return int(number)

    def remember(self, vault_id: str, url: str, number: int) -> None:
        """Keep a number that is higher than what is known. A home that takes no file costs the memory, not the
        command: the worst day may find a read-only disk."""
        if number <= self.seen(vault_id, url):
            return
        path = self._path(vault_id, url)
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{new_id()}.new")
            temporary.write_bytes(encode({"kind": "trust-seen", "vault": vault_id, "number": number}))
            temporary.replace(path)

    def _path(self, vault_id: str, url: str) -> Path:
        place = "".join(letter if letter.isalnum() else "-" for letter in url)[-80:]
        return self._folder / f"{vault_id}{place}.trust.json"
