"""What tests of prune need: a store whose clock a test moves, snapshots that expired, and prune run to its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from reopen.protect.prune.prune import GRACE_SECONDS, PruneResult, execute_prune, plan_prune
from reopen.protect.retain.stubs import stub_body
from reopen.storage import Piece
from reopen.vault import SnapshotRecord, Vault
from tests.stores import MemoryStore

GRACE = timedelta(seconds=GRACE_SECONDS)


class AgedStore(MemoryStore):
    """A store in memory whose own clock is ahead of the machine's by :attr:`ahead`. Nobody's clock but the store's."""

    def __init__(
        self,
        url: str = "test-memory://vault",
        objects: dict[str, tuple[bytes, datetime]] | None = None,
        ahead: timedelta = timedelta(),
    ) -> None:
        super().__init__(url, objects)
        self.ahead = ahead

    def clone(self, url: str = "") -> AgedStore:
        return AgedStore(url or self.url, self.objects, self.ahead)

    def later(self, step: timedelta = GRACE) -> None:
        """Let time pass at the store."""
        self.ahead += step

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        size_bytes = super().put(name, pieces)
        self.objects[name] = self.objects[name][0], self.now()
        return size_bytes

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        size_bytes = super().create(name, pieces)
        self.objects[name] = self.objects[name][0], self.now()
        return size_bytes


def expire(vault: Vault, records: Iterable[SnapshotRecord]) -> None:
    """Let records go as retention does: the signed fact first, then the record."""
    for record in records:
        vault.record_fact("expired", dataset=record.dataset, snapshot=record.id, body=stub_body(record, ("test",)))
        vault.store.delete(record.name)


def prune(vault: Vault, **options: float | int | None) -> PruneResult:
    """Plan a prune and carry it out."""
    return execute_prune(plan_prune(vault, **options))  # type: ignore[arg-type]


def prune_to_the_end(vault: Vault, store: AgedStore) -> None:
    """Prune, a day a run, until a run finds nothing to do."""
    for _ in range(8):
        store.later()
        before = set(store.objects)
        result = prune(vault)
        assert result.unreadable == ()
        if set(store.objects) == before and result.marked_packs == 0:
            return
    raise AssertionError("prune goes on for ever")
