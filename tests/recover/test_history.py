"""The history of recoveries is Parquet that plain DuckDB reads, and a cache of the evidence (H1, H2, H3)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reopen.errors import Corrupt, ReopenError, VaultUnwritable
from reopen.recover.drill import DrillResult, drill_folder, execute_drill
from reopen.recover.evidence import read_evidence
from reopen.recover.history import HISTORY, agrees, complete_history, history_name, read_history, read_rows
from reopen.recover.plan import plan_drill
from reopen.storage.local import LocalStore
from tests.recover.business import NOON, TIERS, FakeVerbs, context_of, contracts_of, fail_over, vault_of
from tests.recover.test_decisions import grouped


def drilled(
    root: Path, store: LocalStore, identifier: str, verbs: FakeVerbs | None = None, **changes: Any
) -> DrillResult:
    scratch = str(root / "scratch")
    plan = plan_drill(
        contracts_of(), vault_of(), source_site="production", target_site="standby",
        scratch=drill_folder(scratch, identifier), started_at=NOON,
    )  # fmt: skip
    context = context_of(verbs or FakeVerbs(), **changes)
    return execute_drill(plan, context, store, scratch=scratch, identifier=identifier, workers=1)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "control")


def test_every_recovery_leaves_a_row_a_dataset_that_plain_duckdb_reads_with_a_glob(
    tmp_path: Path, store: LocalStore
) -> None:
    verbs = FakeVerbs()
    verbs.failing_checks.add("papers")
    drilled(tmp_path, store, "first")
    drilled(tmp_path, store, "second", verbs, versions={"machine": "x86_64", "cores": "8"})
    fail_over(store, context_of(FakeVerbs()))

    rows = duckdb.execute(
        f"""SELECT kind, verdict, count(*), count(promote_seconds), min(restore_seconds) > 0, max(machine)
        FROM read_parquet('{tmp_path}/control/history/*.parquet')
        GROUP BY number, kind, verdict ORDER BY number, verdict"""
    ).fetchall()

    count = len(TIERS)
    unknown = "unknown, unknown cores"
    assert rows == [
        ("drill", "met", count, 0, True, unknown),
        ("drill", "failed", 1, 0, True, "x86_64, 8 cores"),
        ("drill", "met", count - 1, 0, True, "x86_64, 8 cores"),
        ("failover", "met", count, count, True, unknown),
    ]


def test_a_row_has_the_clocks_of_the_evidence(tmp_path: Path, store: LocalStore) -> None:
    result = drilled(tmp_path, store, "one")

    row = next(row for row in read_history(store).to_pylist() if row["dataset"] == "customer")

    measured = next(found for found in result.measured.datasets if found.name == "customer")
    assert measured.rta is not None
    assert (row["rta_seconds"], row["rto_seconds"]) == (measured.rta.total_seconds(), 3600)
    assert (row["bytes"], row["files"], row["attempts"], row["evidence"]) == (1000, 3, 1, "one")
    assert row["started_at"] == result.measured.t_started


def test_what_did_not_reopen_has_no_clock(tmp_path: Path, store: LocalStore) -> None:
    verbs = FakeVerbs()
    verbs.failing_checks.add("customer")
    drilled(tmp_path, store, "one", verbs)

    rows = {row["dataset"]: row for row in read_history(store).to_pylist()}

    assert rows["customer"]["rta_seconds"] is None
    assert rows["customer"]["restore_seconds"] > 0
    assert rows["customer"]["check_seconds"] is None
    assert (rows["orders"]["restore_seconds"], rows["orders"]["verdict"]) == (
        rows["orders"]["restore_seconds"],
        "failed",
    )


def test_what_is_missing_or_damaged_is_read_from_the_evidence_and_made_again(tmp_path: Path, store: LocalStore) -> None:
    for identifier in ("a", "b", "c"):
        drilled(tmp_path, store, identifier)
    whole = read_history(store)
    store.delete(history_name(1))
    store.put(history_name(2), [b"not Parquet"])

    assert read_history(store).equals(whole)
    assert complete_history(store, read_evidence(store)) == [history_name(1)]
    with pytest.raises(Corrupt):
        read_rows(store, history_name(2))
    assert len(complete_history(store, read_evidence(store), rebuild=True)) == 3
    assert read_rows(store, history_name(2)).num_rows == len(TIERS)
    assert read_history(store).equals(whole)


def test_the_next_recovery_makes_what_an_earlier_one_could_not(tmp_path: Path, store: LocalStore) -> None:
    drilled(tmp_path, store, "a")
    store.delete(history_name(1))

    drilled(tmp_path, store, "b")

    assert sorted(info.name for info in store.list("history/")) == [history_name(1), history_name(2)]


class NoHistory(LocalStore):
    """A store that takes everything but history."""

    def put(self, name: str, pieces: Any) -> int:
        if name.startswith("history/"):
            raise VaultUnwritable("the disk is full.")
        return super().put(name, pieces)


def test_a_history_that_cannot_be_written_fails_no_recovery_and_is_told(tmp_path: Path) -> None:
    store = NoHistory(tmp_path / "control")

    result = drilled(tmp_path, store, "a")

    assert result.passed
    assert result.problems == ("the history could not be written: the disk is full.",)
    assert len(read_evidence(store)) == 1
    assert read_history(store).num_rows == len(TIERS)


def test_history_of_an_earlier_version_lacks_columns_and_is_read_with_nulls(tmp_path: Path, store: LocalStore) -> None:
    drilled(tmp_path, store, "a")
    (record,) = read_evidence(store)
    table = read_rows(store, history_name(1)).drop_columns(["written_bytes", "copied_bytes", "promote_seconds"])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    store.put(history_name(1), [buffer.getvalue()])

    found = read_history(store)

    assert found.schema == HISTORY
    assert found.column("promote_seconds").null_count == len(TIERS)
    assert agrees(store, record)


def test_history_that_says_something_else_than_its_evidence_does_not_agree(tmp_path: Path, store: LocalStore) -> None:
    drilled(tmp_path, store, "a")
    (record,) = read_evidence(store)
    assert agrees(store, record)
    table = read_rows(store, history_name(1))
    quick = table.set_column(
        table.schema.get_field_index("rta_seconds"), "rta_seconds", pa.array([0.1] * len(table), pa.float64())
    )
    buffer = io.BytesIO()
    pq.write_table(quick, buffer)
    store.put(history_name(1), [buffer.getvalue()])

    assert not agrees(store, record)


def test_a_broken_chain_has_no_history(tmp_path: Path, store: LocalStore) -> None:
    for identifier in ("a", "b"):
        drilled(tmp_path, store, identifier)
    store.delete("evidence/0000000001.json")

    with pytest.raises(ReopenError):
        read_history(store)


def test_members_of_a_group_have_the_seconds_of_its_promotion(store: LocalStore) -> None:
    fail_over(store, context_of(FakeVerbs()), grouped(customer="sales", orders="sales"))

    rows = {row["dataset"]: row for row in read_history(store).to_pylist()}

    assert rows["customer"]["promote_seconds"] == rows["orders"]["promote_seconds"] > 0
    assert all(row["promote_seconds"] is not None for row in rows.values())
