"""Vaults with a history: one real snapshot, and records that a writer with a valid key could have written since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reopen.contracts import RetentionRule
from reopen.ids import new_id
from reopen.protect.retain.retain import RetainPlan, execute_retain, plan_retain
from reopen.protect.snapshot import create_record
from reopen.vault import SnapshotRecord, Vault
from tests.kit import a_dataset, reopened, snapshot
from tests.trees import grow

NOW = datetime.now(UTC)
"""Stores in memory have the machine's clock; times of snapshots are told from it."""

DAY = timedelta(days=1)


def first(vault: Vault, folder: Path, name: str = "it", files: dict[str, bytes | str] | None = None) -> SnapshotRecord:
    """A real snapshot of a small tree."""
    return snapshot(vault, a_dataset(name, grow(folder, files or {"a": "first", "b/c": "second"}))).record


def add(vault: Vault, after: SnapshotRecord, days_ago: float, **changes: Any) -> SnapshotRecord:
    """Commit a record that follows ``after``, stands for a time so many days ago, and shares its manifest."""
    at = NOW - timedelta(days=days_ago)
    made = replace(
        after,
        seq=changes.pop("seq", after.seq + 1),
        id=new_id(),
        prev=after.digest,
        heads={after.dataset: f"{after.seq:010d}-{after.id}"},
        scan_started_at=at,
        scan_ended_at=at,
        consistent_at=at,
        committed_at=at,
        **changes,
    )
    return create_record(vault, made)


def a_history(vault: Vault, folder: Path, days_ago: Sequence[float], name: str = "it") -> list[SnapshotRecord]:
    """Snapshots of so many days ago, in this order. The very first, real one is at the beginning, from long before."""
    records = [first(vault, folder, name)]
    early = create_early(vault, records[0], max(days_ago) + 1000)
    records = [early]
    for days in days_ago:
        records.append(add(vault, records[-1], days))
    return records


def create_early(vault: Vault, record: SnapshotRecord, days_ago: float) -> SnapshotRecord:
    """Replace the real record by one of the same content from days ago: tests need its manifest, not its date."""
    at = NOW - timedelta(days=days_ago)
    vault.store.delete(record.name)
    early = replace(record, scan_started_at=at, scan_ended_at=at, consistent_at=at, committed_at=at, heads={})
    return create_record(vault, early)


def plan(vault: Vault, rule: RetentionRule, name: str = "it", **options: Any) -> RetainPlan:
    """A plan by one rule for one dataset, over the vault opened afresh."""
    return plan_retain(reopened(vault), {name: rule}, **options)


def retain(vault: Vault, rule: RetentionRule, name: str = "it", **options: Any) -> list[str]:
    """Plan and carry out; ids of what went, by ``seq``."""
    expired = execute_retain(plan(vault, rule, name, **options)).expired
    return [item.record.id for item in sorted(expired, key=lambda item: item.record.seq)]


def reasons(made: RetainPlan) -> dict[str, tuple[str, ...]]:
    """Why each snapshot is kept, by id; what goes is left out."""
    return {item.record.id: item.reasons for dataset in made.datasets for item in dataset.decisions if item.keep}


def verified(vault: Vault, record: SnapshotRecord, result: str = "ok", level: str = "stored") -> None:
    """State the outcome of a check."""
    body = {"level": level, "result": result, "record": record.digest, "proven_indexes": []}
    vault.record_fact("verified", dataset=record.dataset, snapshot=record.id, body=body)
