"""Owns what this machine remembers of trust statements: the newest one seen, by vault and place.

A store that shows a lower one later was rolled back. By place, because a replica lags and that is no roll-back. The
file is a memory of one reader: losing it loses the memory, never data.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from reopen.errors import Corrupt, Refused
from reopen.ids import new_id
from reopen.storage.canonical import decode, encode
from reopen.vault.trust import Trust


class TrustMemory:
    """The newest statements seen, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def seen(self, vault_id: str, url: str) -> int:
        """The highest number seen in this place; 0 when there is none.

        :raises Corrupt: the memory cannot be read.
        """
        return self._read(vault_id, url)[0]

    def remember(self, vault_id: str, url: str, trust: Trust) -> None:
        """Keep a statement that is newer than what is known. A home that takes no file costs the memory, not the
        command: the worst day may find a read-only disk.

        :raises Refused: another statement of this number was seen before: somebody hid it from a root, who made a
            second one.
        """
        number, digest = self._read(vault_id, url)
        if trust.number == number and number and trust.digest != digest:
            raise Refused(
                f"trust statement {number} in {url} is another one than this machine saw there before.",
                hint="The store may have hidden the first from whoever changed the keys. Compare with a replica; "
                "`reopen keys list` shows there what the first one said.",
            )
        if trust.number <= number:
            return
        path = self._path(vault_id, url)
        seen = {"kind": "trust-seen", "vault": vault_id, "number": trust.number, "digest": trust.digest}
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{new_id()}.new")
            temporary.write_bytes(encode(seen))
            temporary.replace(path)

    def _read(self, vault_id: str, url: str) -> tuple[int, str]:
        path = self._path(vault_id, url)
        try:
            seen = decode(path.read_bytes(), path.name)
            return int(seen["number"]), str(seen["digest"])
        except (FileNotFoundError, NotADirectoryError):
            return 0, ""
        except (Corrupt, KeyError, TypeError, ValueError, OSError) as error:
            raise Corrupt(
                f"{path} cannot be read.", hint="Move it aside: it is made again, and what it remembered is lost."
            ) from error

    def _path(self, vault_id: str, url: str) -> Path:
        place = "".join(letter if letter.isalnum() else "-" for letter in url)[-80:]
        return self._folder / f"{vault_id}{place}.trust.json"
