"""Retention that dies anywhere: what must stay stays, what is gone has its stub, and the next run finishes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.contracts import RetentionRule
from reopen.protect.retain import retain as retain_module
from reopen.protect.retain.holds import place_hold, release_hold
from reopen.protect.retain.retain import execute_retain, plan_retain
from reopen.protect.retain.stubs import read_stubs
from reopen.protect.witness import Witness
from reopen.storage import ObjectStore
from reopen.vault import SnapshotRecord
from tests.crash.crashes import Trees, crash_everywhere, small_vault
from tests.kit import reopened
from tests.protect.histories import DAY, a_history, retain
from tests.stores import MemoryStore

Property = Callable[[str, object], None]
RULES = {"one": RetentionRule(daily=2, within=2 * DAY), "two": RetentionRule(last=2)}


def test_retention_that_dies_anywhere_loses_nothing_that_stays_and_is_finished_by_the_next(
    tmp_path: Path, record_property: Property, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two datasets in batches of two; one snapshot that the rules would let go is held. The deleted records own the
    manifest of those that stay."""
    monkeypatch.setattr(retain_module, "BATCH", 2)
    base, vault = small_vault()
    trees = Trees(tmp_path)
    records: dict[str, SnapshotRecord] = {}
    for name in RULES:
        history = a_history(vault, tmp_path / name, [9, 8, 7, 3, 1], name)
        records |= {record.name: record for record in history}
        for record in history:
            trees.expect(record, tmp_path / name)
    held = next(record for record in records.values() if record.dataset == "two" and record.seq == 2)
    place_hold(vault, "two", held, "case 4711")
    witness = Witness(tmp_path / "witness")
    witness.remember(vault)
    made = plan_retain(vault, RULES)
    going = {item.record.name for dataset in made.datasets for item in dataset.expiring}
    assert len(going) == 7
    staying = records.keys() - going
    assert held.name in staying
    others = {name: value for name, value in base.objects.items() if not name.startswith("snapshots/")}

    def operate(store: ObjectStore) -> None:
        result = execute_retain(plan_retain(reopened(vault, store), RULES, witness=witness))
        assert result.failed == {}

    def check(store: MemoryStore, finished: bool) -> None:
        now = reopened(vault, store)
        present = set(store.names("snapshots/"))
        assert staying <= present <= records.keys()
        stubs = read_stubs(now)
        assert records.keys() - present <= stubs.keys() <= going
        assert others.items() <= store.objects.items()
        assert witness.missing(now) == []
        trees.check(now)
        if finished:
            assert present == staying
            assert [dataset.expiring for dataset in plan_retain(now, RULES).datasets] == [(), ()]

    record_property("crash points", crash_everywhere(base, operate, check))


def test_a_hold_or_a_release_that_dies_anywhere_is_done_or_not(tmp_path: Path, record_property: Property) -> None:
    """A hold of which nobody was told may stand twice after the second try; each is released by its name."""
    base, vault = small_vault()
    history = a_history(vault, tmp_path / "it", [9, 8, 1])

    def operate(store: ObjectStore) -> None:
        opened = reopened(vault, store)
        hold = place_hold(opened, "it", history[1], "case 4711").hold
        release_hold(opened, hold.id, "settled")
        place_hold(opened, "it", history[2], "case 4712")

    def check(store: MemoryStore, finished: bool) -> None:
        present = set(store.names("snapshots/"))
        assert present == {record.name for record in history}
        if finished:
            gone = retain(reopened(vault, store.clone()), RetentionRule(last=1))
            assert history[2].id not in gone
            assert history[0].id in gone

    record_property("crash points", crash_everywhere(base, operate, check))
