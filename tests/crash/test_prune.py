"""Prune that dies anywhere: every snapshot stays whole, and later runs finish it with nothing left over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.ids import seeded_random
from reopen.protect.prune import repack as prune_repack
from reopen.protect.prune.prune import plan_prune
from reopen.storage import ObjectStore
from reopen.vault import Vault, make_keys, packwriter
from reopen.vault.statements import list_packs, read_statements
from tests.aged import GRACE, AgedStore, expire, prune, prune_to_the_end
from tests.crash.crashes import Trees, crash_everywhere
from tests.kit import a_dataset, a_table, a_vault, reopened, snapshot
from tests.stores import MemoryStore
from tests.trees import grow, some_bytes

pytestmark = pytest.mark.slow


def used_vault(tmp_path: Path) -> tuple[AgedStore, Vault, Trees]:
    """A vault with packs that nobody needs, packs that are needed in part, and packs that are needed whole."""
    store = AgedStore()
    vault = a_vault(store, keys=make_keys(seeded_random(20261122)))
    trees = Trees(tmp_path)
    files: dict[str, bytes | str] = {f"{number:02}": some_bytes(5_000, number) for number in range(14)}
    files["t.csv"] = "x\n1\n"
    whole = grow(tmp_path / "whole", files)
    half = grow(tmp_path / "half", {name: content for name, content in files.items() if name > "08"})
    other = grow(tmp_path / "other", {"big": some_bytes(50_000, 99)})
    table = a_table()
    gone = [
        snapshot(vault, a_dataset("it", whole, table=table, pattern="*.csv")).record,
        snapshot(vault, a_dataset("gone", other)).record,
    ]
    for folder in (half, half):
        trees.expect(snapshot(vault, a_dataset("it", folder, table=table, pattern="*.csv")).record, folder)
    small = grow(tmp_path / "small", {f"s{number}": some_bytes(900, 200 + number) for number in range(5)})
    trees.expect(snapshot(vault, a_dataset("small", small)).record, small)
    expire(vault, gone)
    store.later()
    return store, vault, trees


def nothing_left_over(vault: Vault) -> None:
    """What is there is what records need, once."""
    names = [info.name for info in vault.store.list()]
    assert not [name for name in names if name.startswith(("tombstones/", "leases/", "probe/", "aside/"))]
    statements = read_statements(vault)
    # Two prunes at once may both cover a pack, which does no harm.
    assert {pack for item in statements for pack in item.packs} == {pack.hex() for pack in list_packs(vault)}
    index = {item.part.name for item in statements} | {item.parquet.name for item in statements}
    assert index == {name for name in names if name.startswith("index/")}
    tables = {
        part.name
        for record in vault.records()
        for table in (record.manifest, record.profile)
        if table is not None
        for part in table.parts
    }
    assert tables == {name for name in names if name.startswith(("manifests/", "profiles/"))}
    assert plan_prune(vault, max_unused_share=0).unused_bytes == 0


@pytest.mark.parametrize("phase", ["mark", "sweep", "sweep what is needed after all"])
def test_a_prune_that_dies_anywhere_loses_nothing_and_is_finished_later(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
    phase: str,
) -> None:
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 2)
    monkeypatch.setattr(prune_repack, "PACKS_PER_INDEX_PART", 2)
    base, vault, trees = used_vault(tmp_path)
    if phase != "mark":
        prune(vault)
        if phase == "sweep what is needed after all":
            # As if a snapshot of before the mark had committed since: what is marked is needed again.
            for name in base.names("tombstones/"):
                held = base.objects.pop(name)
                trees.expect(snapshot(vault, a_dataset("again", tmp_path / "other")).record, tmp_path / "other")
                base.objects[name] = held
        base.later()
        trial = base.clone()
        assert (prune(reopened(vault, trial)).held_packs > 0) == (phase != "sweep")

    def operate(store: ObjectStore) -> None:
        prune(reopened(vault, store), max_unused_share=0)

    def check(store: MemoryStore, finished: bool) -> None:
        trees.check(reopened(vault, store))
        if finished:
            assert isinstance(store, AgedStore)
            end = store.clone()
            prune_to_the_end(reopened(vault, end), end)
            trees.check(reopened(vault, end))
            nothing_left_over(reopened(vault, end))

    record_property("crash points", crash_everywhere(base, operate, check))
    assert base.ahead >= GRACE
