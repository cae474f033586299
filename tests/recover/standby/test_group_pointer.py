"""A consistency group switches at once for whoever reads ``serving.json`` or ``serving.duckdb`` (F8, V2)."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reopen.contracts.load import Contracts
from reopen.contracts.model import Location, Table, TableFormat
from reopen.recover.clocks import Verdict
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.storage.local import LocalStore
from tests.recover.business import FakeVault, a_proof, a_snapshot, fail_over, plan_of
from tests.recover.standby.test_pointer import Town, WritingVerbs

GROUP = ("customer", "nation")
COLUMNS = [{"name": "key", "logicalType": "integer", "physicalType": "BIGINT"}]


class TableVerbs(WritingVerbs):
    """Verbs whose tables say which snapshot they are of."""

    def restore(self, dataset: PlannedDataset) -> Any:
        restored = super().restore(dataset)
        assert dataset.point is not None
        pq.write_table(pa.table({"key": [dataset.point.seq]}), Path(dataset.target_url) / "a.parquet")
        return restored


def of_tables(town: Town) -> Contracts:
    changed = {}
    for name, dataset in town.contracts.datasets.items():
        locations = {
            site: Location(site=site, url=location.url, pattern="*.parquet")
            for site, location in dataset.locations.items()
        }
        group = "sales" if name in GROUP else ""
        changed[name] = replace(
            dataset, locations=locations, consistency_group=group,
            table=Table(
                name=name, format=TableFormat.PARQUET, schema={"name": name, "properties": COLUMNS}
            ),
        )  # fmt: skip
    return Contracts(datasets=changed)


def move(town: Town, seq: int, source: str, target: str) -> None:
    names = list(town.contracts.datasets)
    vault = FakeVault(
        snapshots=[a_snapshot(name, number) for name in names for number in range(1, seq + 1)],
        verified=[a_proof(name, seq) for name in names],
    )
    plan: RecoveryPlan = plan_of(town.contracts, vault, source_site=source, target_site=target)
    context = replace(town.context, verbs=TableVerbs(town.publisher))
    assert fail_over(LocalStore(town.folder / "control"), context, plan, seed=seq).verdict is not Verdict.FAILED


class Reader(threading.Thread):
    """Reads the pointer of a site over and over, as consumers do, and notes every answer that it got."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._scratch = scratch
        self.over = threading.Event()
        self.by_file: set[tuple[int, ...]] = set()
        self.by_views: set[tuple[int, ...]] = set()

    def run(self) -> None:
        while not self.over.is_set():
            self.by_file.add(self._file())
            self.by_views.add(self._views())

    def _file(self) -> tuple[int, ...]:
        datasets = json.loads((self._folder / "serving.json").read_text())["datasets"]
        # Ten digits of a version's name are the number of its snapshot.
        return tuple(int(Path(datasets[name]["url"]).name[:10]) if name in datasets else 0 for name in GROUP)

    def _views(self) -> tuple[int, ...]:
        # The bytes of one open: DuckDB keeps a database open in a process by its path.
        copy = self._scratch / "serving.duckdb"
        copy.write_bytes((self._folder / "serving.duckdb").read_bytes())
        with duckdb.connect(str(copy), read_only=True) as con:
            views = {
                row[0] for row in con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
            }
            return tuple(
                con.execute(f"SELECT key FROM {name}").fetchall()[0][0] if name in views else 0 for name in GROUP
            )


def test_whoever_reads_the_pointer_while_a_group_switches_sees_all_of_it_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is laid beside the evidence costs more than the moves.
    monkeypatch.setattr("reopen.recover.record._complete_history", lambda store: None)
    monkeypatch.setattr("reopen.recover.record._write_report", lambda store, stored: None)
    town = Town(tmp_path)
    town.contracts = of_tables(town)
    town.publisher._contracts = town.contracts
    move(town, 1, "production", "standby")
    scratch = tmp_path / "reader"
    scratch.mkdir()
    reader = Reader(tmp_path / "standby/serving", scratch)
    reader.start()
    try:
        move(town, 2, "standby", "production")
        move(town, 3, "production", "standby")
    finally:
        last = reader._file(), reader._views()
        reader.over.set()
        reader.join()

    assert last == ((3, 3), (3, 3))
    assert (1, 1) in reader.by_file
    for seen in (reader.by_file, reader.by_views):
        assert seen <= {(1, 1), (0, 0), (3, 3)}, "a mixture"
