"""A snapshot that dies anywhere leaves every earlier one whole, commits all or nothing, and is simply taken again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.storage import ObjectStore
from reopen.vault import packwriter
from tests.crash.crashes import Trees, crash_everywhere, small_vault
from tests.kit import a_dataset, a_table, reopened, snapshot
from tests.stores import MemoryStore
from tests.trees import age, grow, some_bytes

FILES: dict[str, bytes | str] = {"a": some_bytes(100_000, 1), "b/c": some_bytes(3_000, 2), "d": b"", "t.csv": "x\n1\n"}


def changed(source: Path) -> None:
    (source / "a").write_bytes(some_bytes(60_000, 3))
    (source / "b" / "c").unlink()
    grow(source, {"e/f": some_bytes(9_000, 4)})
    age(source)


def unchanged(source: Path) -> None:
    """Nothing happens between the two snapshots."""


@pytest.mark.parametrize("between", [None, changed, unchanged], ids=["first", "changed", "unchanged"])
def test_a_snapshot_that_dies_anywhere_commits_all_or_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
    between: Callable[[Path], None] | None,
) -> None:
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 2)
    source = grow(tmp_path / "source", FILES)
    dataset = a_dataset("it", source, table=a_table(), pattern="*.parquet")
    base, vault = small_vault()
    trees = Trees(tmp_path)
    before = 0
    if between is not None:
        earlier = grow(tmp_path / "earlier", FILES)
        trees.expect(snapshot(vault, a_dataset("it", earlier, table=a_table(), pattern="*.parquet")).record, earlier)
        before = 1
        # The same files as the earlier ones by name and bytes; the first snapshot of the real source settles them.
        trees.expect(snapshot(vault, dataset).record, earlier)
        before = 2
        between(source)
    committed: set[str] = {record.id for record in vault.records()}

    def operate(store: ObjectStore) -> None:
        snapshot(reopened(vault, store), dataset, workers=1)

    def check(store: MemoryStore, finished: bool) -> None:
        now = reopened(vault, store)
        trees.check(now, otherwise=source)
        fresh = [record for record in now.records() if record.id not in committed]
        assert len(now.records()) == before + len(fresh)
        # The commit is one step: a crash after it leaves the record, and taking the snapshot again adds another.
        assert len(fresh) in ((1, 2) if finished else (0, 1))
        assert [record.seq for record in now.records()] == sorted({record.seq for record in now.records()})
        if finished:
            assert fresh[-1].state == "complete"

    record_property("crash points", crash_everywhere(base, operate, check))


def test_what_a_dead_snapshot_stored_is_not_stored_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs that its signed index parts list are found by the next snapshot."""
    from tests.stores import CrashAt, SimulatedCrash, WatchedStore

    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 1)
    dataset = a_dataset("it", grow(tmp_path / "source", FILES))
    base, vault = small_vault()
    crash = CrashAt(7, "before")
    with pytest.raises(SimulatedCrash):
        snapshot(reopened(vault, WatchedStore(base, crash)), dataset, workers=1)
    flushed = [name for name in base.names("index/") if name.endswith(".json")]
    assert len(flushed) == 2
    record = snapshot(vault, dataset).record
    total = sum(len(content) for content in FILES.values())
    assert record.totals.new_raw_bytes < total - 40_000
