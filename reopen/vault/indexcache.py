"""Owns the local copy of index rows, so that the cost of a snapshot does not grow with the history of the vault.

A vault gains an index part with each snapshot that stores something. Parts are immutable, so what was read once, its
signature checked, need not be fetched, opened and decoded again. The rows lie in a few files of runs
(:mod:`reopen.vault.indexrun`), which are mapped, not read. New parts are gathered in memory; when there are enough they
become a file, and files of like size become one, so that each row is written a few times in the life of a vault and a
lookup asks a handful of files.

Invariants
    I1  A part counts only while its statement is in the vault's listing, and a chunk only while its pack is
        (:class:`reopen.vault.index.ChunkIndex`, I1): a stale copy makes no chunk appear that is gone.
    I2  A damaged file is not believed (:mod:`reopen.vault.indexrun`, I2), removed, and made anew. A wrong row would
        make a writer skip a chunk that nobody stored.
    I3  Losing files costs time, nothing else. So processes share the folder without waiting for each other: one that
        finds another one writing keeps what it read to itself; a file that was merged into another is removed while
        others may have it mapped. A disk that is full or denies costs no snapshot: :attr:`IndexCache.problem` tells.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from reopen.errors import Corrupt
from reopen.ids import new_id
from reopen.vault.indexmerge import write_run
from reopen.vault.indexrun import Run, RunPart, open_run

SAVE_AFTER_PARTS = 16
"""Fresh parts that are gathered before they become a file."""

SAVE_AFTER_ROWS = 1 << 20
"""Rows that are gathered in memory at most: about 80 MB."""

ROWS_WORTH_A_FILE = 1 << 16
"""Fresh rows that become a file after a reading, however few their parts are: of so many, reading them again the next
time takes longer than writing them once."""

GROWTH = 4
"""A file is merged with the smaller ones once they come to more than a fourth of it: each row is written about
log 4 of the vault's size times, and a hundred million chunks lie in at most a dozen files."""

DEAD_SHARE_MAX = 0.25
"""Share of a file's rows that may belong to parts which prune has replaced, before it is written without them."""

SUFFIX = ".run"


class IndexCache:
    """Index parts of vaults, in one folder. One process's memory of them; the files are shared."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.problem = ""
        """Why the files could not be read or written, the last time they could not; empty while all is well."""
        self._mapped: dict[str, dict[str, Run]] = {}
        self._unsaved: dict[str, list[Run]] = {}

    def runs(self, vault_id: str) -> list[Run]:
        """What is known of a vault: its files, mapped, and what this process has gathered. No part is in two of them
        that could be in one."""
        found = self._open_files(vault_id)
        return [*_needed(found), *self._unsaved.get(vault_id, [])]

    def parts(self, vault_id: str) -> dict[str, RunPart]:
        """The parts that are known, by the name of their statement."""
        return {part.name: part for run in self.runs(vault_id) for part in run.tables.parts}

    def add(self, vault_id: str, run: Run) -> None:
        """Remember freshly read parts; a large run becomes a file at once."""
        self._unsaved.setdefault(vault_id, []).append(run)
        if sum(map(len, self._unsaved[vault_id])) >= SAVE_AFTER_ROWS:
            self._save(vault_id)

    def settle(self, vault_id: str, live: Collection[str]) -> None:
        """After a reading: write what was gathered once it is enough, and merge files that have become many.

        :param live: names of the statements in the vault's listing; the rows of other parts are left out of new files.
        """
        unsaved = self._unsaved.get(vault_id, [])
        parts, rows = sum(len(run.tables.parts) for run in unsaved), sum(map(len, unsaved))
        if parts >= SAVE_AFTER_PARTS or rows >= ROWS_WORTH_A_FILE:
            self._save(vault_id)
        runs = list(self._open_files(vault_id).values())
        together = _to_merge(runs, live)
        if together:
            self._write(vault_id, together, lambda part: part.name in live)

    def _save(self, vault_id: str) -> None:
        unsaved = self._unsaved[vault_id]
        if any(map(len, unsaved)) and self._write(vault_id, unsaved, lambda part: True):
            self._unsaved[vault_id] = []

    def _write(self, vault_id: str, runs: list[Run], stays: Callable[[RunPart], bool]) -> bool:
        """Make one file of runs, and remove theirs; whether that was done (I3)."""
        folder = self._folder_of(vault_id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder) as is_alone:
                if is_alone:
                    self._write_alone(vault_id, folder, runs, stays)
                return is_alone
        except (Corrupt, OSError) as error:
            # A damaged file has been removed (I2) and its parts are read again next time; and a cache that cannot be
            # written costs time, not the snapshot (I3).
            self.problem = str(error)
            return False

    def _write_alone(self, vault_id: str, folder: Path, runs: list[Run], stays: Callable[[RunPart], bool]) -> None:
        for orphan in folder.glob("*.new"):
            orphan.unlink(missing_ok=True)  # Nobody else writes now: a process died over it.
        chosen = []
        for run in runs:
            kept = np.array([stays(part) for part in run.tables.parts], dtype=np.bool_)
            chosen.append((run, kept[run.tables.sources["part"]]))
        written = write_run(chosen, folder / f"{new_id()}{SUFFIX}")
        self._mapped.setdefault(vault_id, {})[str(written.path)] = written
        for run in runs:
            if run.path is not None:
                run.path.unlink(missing_ok=True)
                self._mapped[vault_id].pop(str(run.path), None)

    def _open_files(self, vault_id: str) -> dict[str, Run]:
        """Every file of the folder, mapped once; what was merged or removed meanwhile is let go."""
        known = self._mapped.get(vault_id, {})
        found: dict[str, Run] = {}
        for path in sorted(self._folder_of(vault_id).glob(f"*{SUFFIX}")):
            try:
                found[str(path)] = known.get(str(path)) or open_run(path)
            except FileNotFoundError:
                continue  # Merged into another by another process: what is in neither is read again.
            except (Corrupt, OSError) as error:
                self.problem = str(error)  # Damaged and removed (I2), or denied: what it held is read again (I3).
        self._mapped[vault_id] = found
        return found

    def _folder_of(self, vault_id: str) -> Path:
        return self._folder / f"index-{vault_id}"


def _needed(found: dict[str, Run]) -> list[Run]:
    """The files that are needed to have every part; two processes may have made files of the same parts."""
    covered: set[str] = set()
    needed = []
    for _, run in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
        names = {part.name for part in run.tables.parts}
        if not names <= covered:
            needed.append(run)
            covered |= names
    return needed


def _to_merge(runs: list[Run], live: Collection[str]) -> list[Run]:
    """The smallest files, as many as come to more than a fourth of the next; or one with many dead rows."""
    by_size = sorted(runs, key=len)
    together: list[Run] = []
    rows = 0
    for run in by_size:
        if together and len(run) > GROWTH * rows:
            break
        together.append(run)
        rows += len(run)
    if len(together) > 1:
        return together
    for run in by_size:
        sources = run.tables.sources
        dead = np.array([part.name not in live for part in run.tables.parts], dtype=np.bool_)
        if sources["rows"][dead[sources["part"]]].sum() > DEAD_SHARE_MAX * len(run):
            return [run]
    return []


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process writes in the folder, and none will until this is left."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
