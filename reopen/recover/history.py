"""Owns the history of recoveries as Parquet: what each one took, a row a dataset, for fits, trends and plain DuckDB.

One object a recovery at ``history/<number>.parquet`` in the control store, numbered as the evidence that it is made of.
It is a cache: evidence is signed and chained, this is neither, and any of it can be made again at any time.

    SELECT dataset, rta_seconds, verdict FROM read_parquet('history/*.parquet', union_by_name = true)

Invariants
    H1  Rows are a function of one record of evidence; writing them again writes the same values.
    H2  An object is written whole or not at all (the store's D1). What is missing is made again by
        :func:`complete_history`, which every recovery calls for those before it.
    H3  A column is never renamed or given another meaning; later versions add columns, and readers take their absence
        for null.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from reopen.control.records import StepOutcome, StepResult
from reopen.errors import Corrupt, TargetUnwritable
from reopen.recover.clocks import DatasetResult
from reopen.recover.evidence import Evidence, StoredEvidence, read_evidence
from reopen.recover.steps import Verb, step_id
from reopen.storage.base import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Mapping

HISTORY_PREFIX = "history"

_INSTANT = pa.timestamp("us", "UTC")

HISTORY = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("evidence", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("scenario", pa.string(), nullable=False),
        pa.field("started_at", _INSTANT, nullable=False),
        pa.field("finished_at", _INSTANT, nullable=False),
        pa.field("plan", pa.string(), nullable=False),
        pa.field("shape", pa.string(), nullable=False),
        pa.field("site", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("tier", pa.int32(), nullable=False),
        pa.field("snapshot", pa.string()),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("files", pa.int64(), nullable=False),
        pa.field("written_bytes", pa.int64()),
        pa.field("copied_bytes", pa.int64()),
        pa.field("restore_seconds", pa.float64()),
        pa.field("check_seconds", pa.float64()),
        pa.field("promote_seconds", pa.float64()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("checks_passed", pa.int32(), nullable=False),
        pa.field("checks_total", pa.int32(), nullable=False),
        pa.field("rta_seconds", pa.float64()),
        pa.field("rto_seconds", pa.float64(), nullable=False),
        pa.field("rpa_seconds", pa.float64()),
        pa.field("rpo_seconds", pa.float64(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("machine", pa.string(), nullable=False),
    ]
)
"""One row a dataset a recovery.

``kind`` is drill or failover, ``site`` where it was recovered to, ``bytes`` and ``files`` those of the recovery point.
``written_bytes`` came out of the vault, ``copied_bytes`` from what lay at the site; neither: it was staged.
``restore_seconds``, ``check_seconds`` (integrity, profile and contract) and ``promote_seconds`` (of the group, where it
has one) are the newest attempts of the steps, null where a step was not done; ``attempts`` counts those of the step
that was tried most often. ``rta_seconds`` and ``rpa_seconds`` are null where the dataset did not reopen. ``machine`` is
architecture and cores, because seconds of one machine say little about another.
"""


def history_name(number: int) -> str:
    """The object of a recovery, by the number of its evidence."""
    return f"{HISTORY_PREFIX}/{number:010d}.parquet"


def history_table(records: Iterable[StoredEvidence]) -> pa.Table:
    """The rows of some recoveries, in the schema :data:`HISTORY` (H1)."""
    rows = [row for record in records for row in _rows(record)]
    return pa.Table.from_pylist(rows, schema=HISTORY)


def write_history(store: ObjectStore, record: StoredEvidence) -> str:
    """Write the rows of one recovery; returns the object's name. What stood there is replaced (H2)."""
    name = history_name(record.number)
    buffer = io.BytesIO()
    pq.write_table(history_table([record]), buffer, compression="zstd")
    store.put(name, [buffer.getvalue()])
    return name


def complete_history(store: ObjectStore, records: Sequence[StoredEvidence], *, rebuild: bool = False) -> list[str]:
    """Write the history of those recoveries that have none, of all with ``rebuild``; returns the names written."""
    there = set() if rebuild else {info.name for info in store.list(f"{HISTORY_PREFIX}/")}
    return [write_history(store, record) for record in records if history_name(record.number) not in there]


def read_history(store: ObjectStore) -> pa.Table:
    """Every recovery that the control store knows, oldest first, in the schema :data:`HISTORY`.

    What has no object yet, or a damaged one, is made from its evidence; nothing is written.

    :raises Corrupt: the chain of evidence is broken.
    """
    names = {info.name for info in store.list(f"{HISTORY_PREFIX}/")}
    tables = []
    missing = []
    for record in read_evidence(store):
        table = _read(store, record.number) if history_name(record.number) in names else None
        if table is None:
            missing.append(record)
        else:
            tables.append(table)
    return pa.concat_tables([*tables, history_table(missing)]).sort_by(
        [("number", "ascending"), ("dataset", "ascending")]
    )


def read_rows(store: ObjectStore, name: str) -> pa.Table:
    """The rows of one object, in the schema; a column that its writer did not have is null (H3).

    :raises Corrupt: it is no such Parquet.
    """
    table = _columns(store, name)
    missing = [field for field in HISTORY if field.name not in table.column_names]
    for field in missing:
        table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(HISTORY.names)


def agrees(store: ObjectStore, record: StoredEvidence) -> bool:
    """Whether the object of a recovery says what its evidence says, in the columns that it has."""
    try:
        found = _columns(store, history_name(record.number))
    except Corrupt:
        return False
    return bool(found.equals(history_table([record]).select(found.column_names)))


def save_history(table: pa.Table, path: Path) -> None:
    """Write rows into one local Parquet file, for tools that read no folder.

    :raises TargetUnwritable: the file cannot be written.
    """
    try:
        pq.write_table(table, path, compression="zstd")
    except OSError as error:
        raise TargetUnwritable(
            f"{path} cannot be written: {error.strerror or error}.", hint="Name a file in a folder that can be written."
        ) from error


def _columns(store: ObjectStore, name: str) -> pa.Table:
    """The columns of one object that this version knows, in its types."""
    try:
        table = pq.read_table(pa.BufferReader(store.get(name)))
        known = [field for field in HISTORY if field.name in table.column_names]
        found = table.select([field.name for field in known]).cast(pa.schema(known)).combine_chunks()
        found.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Corrupt(
            f"{name} in {store.url} is no history: {error}.",
            hint="`reopen evidence history --rebuild` makes it anew.",
            object=name,
        ) from error
    return found


def _read(store: ObjectStore, number: int) -> pa.Table | None:
    """The rows of one recovery; None where its object cannot be used, so that its evidence is read instead."""
    try:
        found = read_rows(store, history_name(number))
    except Corrupt:
        return None
    return found if set(found.column("number").to_pylist()) <= {number} else None


def _rows(record: StoredEvidence) -> Iterable[dict[str, Any]]:
    evidence, measured = record.evidence, record.evidence.measured
    outcomes = {outcome.step: outcome for outcome in evidence.steps}
    for result in measured.datasets:
        restore = outcomes.get(step_id(Verb.RESTORE, result.name))
        yield {
            "number": record.number,
            "evidence": evidence.id,
            "kind": evidence.kind,
            "scenario": evidence.scenario,
            "started_at": measured.t_started,
            "finished_at": measured.t_finished,
            "plan": evidence.plan,
            "shape": evidence.shape,
            "site": evidence.planned.target_site,
            "dataset": result.name,
            "tier": result.tier,
            "snapshot": result.snapshot or None,
            "bytes": result.size_bytes,
            "files": result.files,
            "written_bytes": None if restore is None else restore.details.get("written_bytes"),
            "copied_bytes": None if restore is None else restore.details.get("copied_bytes"),
            "restore_seconds": _step_seconds(restore),
            "check_seconds": _step_seconds(outcomes.get(step_id(Verb.VALIDATE, result.name))),
            "promote_seconds": _step_seconds(outcomes.get(_promotion(evidence, result))),
            "attempts": _attempts(evidence, outcomes, result),
            "checks_passed": result.checks_passed,
            "checks_total": result.checks_total,
            "rta_seconds": _seconds(result.rta),
            "rto_seconds": _seconds(result.rto),
            "rpa_seconds": _seconds(result.rpa),
            "rpo_seconds": _seconds(result.rpo),
            "verdict": str(result.verdict),
            "reason": result.reason,
            "machine": machine_of(evidence),
        }


def machine_of(evidence: Evidence) -> str:
    """What a recovery ran on, as far as its seconds depend on it: for example ``x86_64, 8 cores``."""
    versions = evidence.versions
    return f"{versions.get('machine', 'unknown')}, {versions.get('cores', 'unknown')} cores"


def _promotion(evidence: Evidence, result: DatasetResult) -> str:
    """The promotion of a dataset, which is its group's where it has one."""
    return step_id(Verb.PROMOTE, evidence.planned.dataset(result.name).unit)


def _attempts(evidence: Evidence, outcomes: Mapping[str, StepOutcome], result: DatasetResult) -> int:
    own = (step_id(verb, result.name) for verb in (Verb.RESTORE, Verb.VALIDATE))
    steps = (*own, _promotion(evidence, result))
    return max((outcomes[step].attempt for step in steps if step in outcomes), default=0)


def _step_seconds(outcome: StepOutcome | None) -> float | None:
    if outcome is None or outcome.result is not StepResult.DONE:
        return None
    return _elapsed(outcome.started_at, outcome.finished_at)


def _elapsed(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()
