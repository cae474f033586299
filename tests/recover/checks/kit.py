"""Owns what the tests of the checks build with: small datasets, their files, and their profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from reopen.contracts.model import Dataset, Location, Objective, SourceKind, Table, TableFormat, Temperature
from reopen.recover.checks import tables
from reopen.recover.checks.model import CheckResult, Subject, ValidationResult

ORDERS = pa.table(
    {
        "id": pa.array([1, 2, 3, 4], pa.int64()),
        "customer": pa.array([10, 10, 20, None], pa.int64()),
        "status": pa.array(["new", "paid", "paid", "sent"]),
        "amount": pa.array([1.5, 2.5, 3.5, 4.5], pa.float64()).cast(pa.decimal128(12, 2)),
        "mail": pa.array(["a@example.org", "b@example.org", "c@example.org", None]),
    }
)
CUSTOMERS = pa.table({"id": pa.array([10, 20], pa.int64()), "name": pa.array(["Ada", "Bo"])})

ORDERS_SCHEMA: dict[str, Any] = {
    "name": "orders",
    "properties": [
        {"name": "id", "logicalType": "integer", "physicalType": "BIGINT", "primaryKey": True, "required": True},
        {"name": "customer", "physicalType": "BIGINT", "relationships": [{"to": "customers.id"}]},
        {"name": "status", "physicalType": "VARCHAR", "enum": [{"value": "new"}, {"value": "paid"}, {"value": "sent"}]},
        {"name": "amount", "physicalType": "DECIMAL(12,2)", "logicalType": "number"},
        {"name": "mail", "physicalType": "VARCHAR"},
    ],
}
CUSTOMERS_SCHEMA: dict[str, Any] = {
    "name": "customers",
    "properties": [{"name": "id", "physicalType": "BIGINT"}, {"name": "name", "physicalType": "VARCHAR"}],
}


def dataset(
    name: str,
    schema: Mapping[str, Any] | None,
    *,
    format: TableFormat = TableFormat.PARQUET,  # noqa: A002 (the name that the model has)
    pattern: str = "**",
    classified: tuple[str, ...] = (),
    depends_on: tuple[str, ...] = (),
    show_failing_rows: bool = True,
) -> Dataset:
    """A dataset with one location; ``schema`` is its ODCS schema object, ``None`` when it is not a table."""
    table = None
    if schema is not None:
        table = Table(
            name=str(schema["name"]),
            format=format,
            schema=schema,
            classified=classified,
            show_failing_rows=show_failing_rows,
        )
    return Dataset(
        name=name,
        contract_path=Path(f"{name}.odcs.yaml"),
        contract_id=name,
        contract_version="1.0.0",
        contract_digest="0" * 64,
        kind=SourceKind.FILES,
        tier=1,
        depends_on=depends_on,
        temperature=Temperature.COLD,
        objective=Objective(rpo=timedelta(minutes=15), rto=timedelta(hours=1)),
        locations={"production": Location(site="production", url=f"data/{name}", pattern=pattern)},
        table=table,
    )


def subject(name: str, schema: Mapping[str, Any], **options: Any) -> Subject:
    """The subject of :func:`dataset`."""
    made = Subject.of(dataset(name, schema, **options))
    assert made is not None
    return made


def write(folder: Path, files: Mapping[str, pa.Table | str | bytes]) -> str:
    """Write Parquet files (from Arrow tables) and text files below a folder; returns the folder as text."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            with path.open("wb") as file:
                pq.write_table(content, file)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


def database(work: Path, folders: Sequence[str], **options: Any) -> duckdb.DuckDBPyConnection:
    """A database as the child opens it."""
    settings = {"memory_limit": "256MB", "threads": 1, **options}
    return tables.open_database(temporary=work / "spill", folders=folders, **settings)


def profile_of(rows: Sequence[tuple[Any, ...]], source: str = "parquet footer") -> pa.Table:
    """A profile from rows of ``(path, column, type, rows, nulls, min, max)``."""
    fields = [("path", pa.string()), ("column", pa.string()), ("type", pa.string()), ("rows", pa.int64())]
    fields += [("nulls", pa.int64()), ("min", pa.string()), ("max", pa.string()), ("source", pa.string())]
    values = [(*row, source) for row in rows]
    columns = [pa.array([value[index] for value in values], kind) for index, (_, kind) in enumerate(fields)]
    return pa.table(columns, names=[name for name, _ in fields])


def by_rule(checks: ValidationResult | Sequence[CheckResult]) -> dict[str, list[CheckResult]]:
    """Checks by their rule, in order."""
    found: dict[str, list[CheckResult]] = {}
    for check in checks.checks if isinstance(checks, ValidationResult) else checks:
        found.setdefault(check.rule, []).append(check)
    return found
