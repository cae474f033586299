"""Rows that a recovery point lacks are counted from the profiles that were taken while the tables were captured."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reopen.contracts.model import Dataset
from reopen.recover.loss import LossCounter
from reopen.recover.outlook import Loss
from reopen.recover.points import RecoveryPoint
from reopen.vault import SnapshotRecord, Vault
from tests.kit import a_dataset, a_table, a_vault, snapshot


def write(folder: Path, **rows: int | None) -> None:
    """Parquet files of so many rows, a few to a row group; None removes one."""
    folder.mkdir(exist_ok=True)
    for name, count in rows.items():
        path = folder / f"{name}.parquet"
        if count is None:
            path.unlink()
            continue
        pq.write_table(pa.table({"id": range(count), "word": ["x"] * count}), path, row_group_size=7)


@pytest.fixture
def orders(tmp_path: Path) -> Dataset:
    folder = tmp_path / "orders"
    write(folder, kept=30, changed=10, dropped=5)
    return a_dataset("orders", folder, pattern="*.parquet", table=a_table())


def point_at(record: SnapshotRecord) -> RecoveryPoint:
    return RecoveryPoint(
        snapshot=record.id, seq=record.seq, consistent_at=record.consistent_at, record_digest="00", state=record.state,
        files=record.totals.files, size_bytes=record.totals.size_bytes, selector="latest",
    )  # fmt: skip


def lost(vault: Vault, since: SnapshotRecord) -> Loss:
    return LossCounter(vault, {"production": vault})(since.dataset, point_at(since))


def test_rows_of_added_changed_and_removed_files_are_counted(tmp_path: Path, orders: Dataset) -> None:
    vault = a_vault()
    before = snapshot(vault, orders).record
    write(tmp_path / "orders", changed=25, added=40, dropped=None)
    after = snapshot(vault, orders).record

    found = lost(vault, before)

    assert (found.files, found.removed, found.unknown) == (2, 1, "")
    assert found.rows == (25 - 10) + 40 - 5, "and none of the file that did not change"
    assert (found.against, found.site) == (after.id, "production")
    sizes = [(tmp_path / "orders" / f"{name}.parquet").stat().st_size for name in ("changed", "added")]
    assert found.size_bytes == sum(sizes)


def test_a_table_that_shrank_lost_fewer_rows_than_none(tmp_path: Path, orders: Dataset) -> None:
    vault = a_vault()
    before = snapshot(vault, orders).record
    write(tmp_path / "orders", changed=2)
    snapshot(vault, orders)

    assert lost(vault, before).rows == -8


def test_nothing_is_lost_of_the_newest(tmp_path: Path, orders: Dataset) -> None:
    vault = a_vault()

    found = lost(vault, snapshot(vault, orders).record)

    assert (found.files, found.removed, found.size_bytes, found.rows) == (0, 0, 0, 0)


def test_rows_are_unknown_and_files_are_not_where_one_of_the_two_has_no_profile(
    tmp_path: Path, orders: Dataset
) -> None:
    vault = a_vault()
    files_only = a_dataset("orders", tmp_path / "orders", pattern="*.parquet")
    before = snapshot(vault, files_only).record
    assert before.profile is None
    write(tmp_path / "orders", added=4)
    assert snapshot(vault, orders).record.profile is not None

    found = lost(vault, before)

    assert (found.files, found.rows) == (1, None)
