"""Crash enumeration: an operation dies at its first mutation of the store, at its second, and so on to its end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from reopen.ids import seeded_random
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import ObjectStore
from reopen.vault import SnapshotRecord, Vault, make_keys
from tests.kit import a_vault, restore
from tests.stores import CrashAt, MemoryStore, Moment, SimulatedCrash, WatchedStore
from tests.trees import differences


class Trees:
    """Which tree each snapshot must restore to, kept beside the vault. Trees are told apart by folder."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._of: dict[str, Path] = {}
        self._restored = itertools.count()

    def expect(self, record: SnapshotRecord, tree: Path) -> None:
        """A snapshot of this tree was committed."""
        self._of[record.id] = tree

    def check(self, vault: Vault, otherwise: Path | None = None) -> None:
        """Every record there is restores to its tree, byte for byte, and the whole vault is without a finding.

        :param otherwise: the tree of a record that nobody announced: the one whose commit was interrupted.
        """
        assert vault.invalid_records() == []
        findings = verify_vault(vault, level=Level.CONTENT, record=False).findings
        assert not findings, findings
        for record in vault.records():
            tree = self._of.get(record.id, otherwise)
            assert tree is not None, "a snapshot that nobody took"
            target = self._work / f"restored-{next(self._restored)}"
            restore(vault, record, target)
            different = differences(tree, target)
            assert not different, different


def crash_everywhere(
    base: MemoryStore, operate: Callable[[ObjectStore], None], check: Callable[[MemoryStore, bool], None]
) -> int:
    """Run an operation on clones of a store, dying before each mutation in turn, and after the last: what a death after
    any other leaves is what one before the next leaves.

    :param check: called with the store as the crash left it and ``False``; then the operation runs again to its end,
        and it is called with ``True``.
    :returns: how many crash points were tried.
    """

    def dies(number: int, moment: Moment) -> bool:
        """Whether there was such a mutation to die at; if not, the operation came to its end."""
        store = base.clone()
        script = CrashAt(number, moment)
        try:
            operate(WatchedStore(store, script))
        except SimulatedCrash:
            assert script.crashed
        if script.crashed:
            frozen = dict(store.objects)
            check(store, False)
            assert store.objects == frozen, "checking changes nothing"
            operate(store)
        check(store, True)
        return script.crashed

    tried = 0
    while dies(tried, "before"):
        tried += 1
    # Threads may have brought the last mutation forward.
    return tried + dies(tried - 1, "after")


def small_vault() -> tuple[MemoryStore, Vault]:
    """A new vault in memory, and its store. Its keys come from a seed, so that files are cut the same in every run."""
    store = MemoryStore()
    return store, a_vault(store, keys=make_keys(seeded_random(20261122)))
