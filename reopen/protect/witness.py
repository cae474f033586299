"""Owns what a reader remembers of a vault outside of it, so that a rolled-back vault is noticed.

Signatures prove who wrote a record, not that the newest ones are still there. So every reader keeps the newest record
it has seen of each dataset in a file of its own; one that is gone, and was not let go by an ``expired`` fact, is an
alarm that stops replication and retention.

The file is a cache of one reader: losing it loses the memory, never data.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from reopen.errors import Corrupt, Refused, TargetUnwritable
from reopen.ids import new_id
from reopen.protect.retain.stubs import read_stubs
from reopen.storage.canonical import decode, encode
from reopen.vault import Vault
from reopen.vault.record import parse_record_name


class Witness:
    """The newest records seen, by vault, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def missing(self, vault: Vault) -> list[str]:
        """Names of records that were seen and are gone without leave."""
        seen = self._read(vault)
        if not seen:
            return []
        present = {info.name for info in vault.store.list("snapshots/")}
        gone = [name for name in seen.values() if name not in present]
        if not gone:
            return []
        # After the listing: what expired between the two has its stub.
        stubs = read_stubs(vault)
        return sorted(name for name in gone if name not in stubs)

    def require_all(self, vault: Vault) -> None:
        """Refuse to go on with a vault that lost records."""
        missing = self.missing(vault)
        if missing:
            raise Refused(
                f"{vault.store.url} lacks {len(missing)} records that were seen in it before; the first is "
                f"{missing[0]}.",
                hint="Somebody rolled it back or removed them. `reopen repair --from SITE --dry-run` shows what a "
                "replica would bring back; nothing was changed.",
                object=missing[0],
            )

    def remember(self, vault: Vault) -> None:
        """Note the newest record of each dataset; an older memory of a dataset that is gone is kept."""
        newest: dict[str, tuple[int, str]] = {}
        for info in vault.store.list("snapshots/"):
            found = parse_record_name(info.name)
            if found and found[1] > newest.get(found[0], (0, ""))[0]:
                newest[found[0]] = found[1], info.name
        seen = self._read(vault)
        for dataset, (seq, name) in newest.items():
            before = parse_record_name(seen.get(dataset, ""))
            if before is None or before[1] <= seq:
                seen[dataset] = name
        self._write(self._path(vault), encode({"kind": "witness", "vault": vault.id, "seen": seen}))

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_suffix(f".{new_id()}.new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise TargetUnwritable(
                f"{path} cannot be written: {error.strerror}. It is this reader's witness of the vault.",
                hint="Make room or give write access there, then run the command again. What was done in the vault is "
                "done, and what the witness knew before is kept.",
                path=path,
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _read(self, vault: Vault) -> dict[str, str]:
        path = self._path(vault)
        if not path.exists():
            return {}
        try:
            return {str(dataset): str(name) for dataset, name in decode(path.read_bytes(), path.name)["seen"].items()}
        except (OSError, Corrupt, KeyError, AttributeError) as error:
            raise Corrupt(
                f"{path} cannot be read.", hint="Move it aside: it is rebuilt, and what it remembered is lost."
            ) from error

    def _path(self, vault: Vault) -> Path:
        # By place too: a replica lags behind its source, and that is no roll-back.
        place = "".join(letter if letter.isalnum() else "-" for letter in vault.store.url)[-80:]
        return self._folder / f"{vault.id}{place}.json"
