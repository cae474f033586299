"""Owns the order of one validation: open the files, read every value, compare with the profile, run the contract.

Runs in the validator's child. Everything here is synchronous and keeps no state between datasets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import rfc8785

from reopen.clock import SYSTEM_CLOCK
from reopen.recover.checks import column_types, engine, profile
from reopen.recover.checks.compile import compile_schema
from reopen.recover.checks.model import (
    CheckKind,
    CheckResult,
    CheckStatus,
    Severity,
    Subject,
    ValidationResult,
    verdict,
)
from reopen.recover.checks.specs import Expectation, Measure, NotRun, Spec, TypeRule
from reopen.recover.checks.tables import (
    RestoredTable,
    create_view,
    describe,
    name_of,
    open_database,
    open_objects,
    open_table,
    partition_names,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from reopen.storage.reading import ReadOnlyObjects

_INTEGER_MAX = (1 << 53) - 1
"""Canonical JSON knows no larger integer; a larger one is written as text."""
_SAMPLE_MAX = 5
_VIEW = "__reopen_table"
"""The view that the compiled rules read: a name of ours, because the engine puts it into SQL comments unquoted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """One dataset to examine, as the child understands it. ``work`` is a folder of this dataset alone, where results
    are kept; ``spill`` takes what does not fit into memory and is removed by the parent."""

    subject: Subject
    folder: str
    profile: pa.Table | None
    related: Mapping[str, tuple[Subject, str]]
    memory_limit: str
    threads: int | None
    work: Path
    spill: Path
    versions: Mapping[str, str] = field(default_factory=dict)


def examine(request: Examination) -> ValidationResult:
    """Run every check of a dataset.

    :raises duckdb.Error: memory or disk ran out, or the request's memory limit is not one.
    :raises ReopenError: an object store that holds a folder does not answer: that says nothing about the data.
    """
    started = SYSTEM_CLOCK.elapsed_seconds()
    folders = [request.folder, *(folder for _, folder in request.related.values())]
    objects = open_objects(folders)
    con = open_database(
        memory_limit=request.memory_limit,
        threads=request.threads,
        temporary=request.spill,
        folders=folders,
        objects=objects,
    )
    try:
        checks, raw = _checks(con, request, objects)
    finally:
        con.close()
        if objects is not None and objects.trouble is not None:
            raise objects.trouble
    return ValidationResult(
        dataset=request.subject.dataset,
        status=verdict(checks),
        checks=tuple(checks),
        seconds=round(SYSTEM_CLOCK.elapsed_seconds() - started, 3),
        raw=raw,
        versions=request.versions,
    )


def _checks(
    con: duckdb.DuckDBPyConnection, request: Examination, objects: ReadOnlyObjects | None
) -> tuple[list[CheckResult], Path | None]:
    subject = request.subject
    table = open_table(con, subject, request.folder, objects)
    found = profile.scan(con, table)
    checks = [profile.readable_check(table, found)]
    checks += profile.compare(con, table, found, request.profile)
    names = _view_names(request)
    related, problems = _related_views(con, request, names, objects)
    specs = compile_schema(subject, related, view=_VIEW)
    if not table.files or found.damaged:
        # Rules over a part of a table would be neither true nor false: a row count, a key that points to a lost row.
        reason = "not run: the table's files cannot all be read" if table.files else "not run: there are no files"
        return [*checks, *problems, *(_not_run(spec, reason) for spec in specs)], None
    create_view(con, table, [_VIEW, *names[subject.dataset]], staged=request.spill / "staged.duckdb")
    if len(table.groups()) > 1:
        checks.append(_not_uniform(table))
    outcomes, raw = _run(con, request, table, specs)
    return [*checks, *problems, *outcomes], raw


def _view_names(request: Examination) -> dict[str, list[str]]:
    """The views of each dataset: one called like the dataset, and one like its table where that name is free."""
    own = request.subject
    related = {name: subject for name, (subject, _) in sorted(request.related.items()) if name != own.dataset}
    # DuckDB does not tell names apart by case.
    taken = {name.lower() for name in (own.dataset, *related)}
    names = {}
    for dataset, subject in [(own.dataset, own), *related.items()]:
        names[dataset] = [dataset]
        if subject.table.lower() not in taken:
            taken.add(subject.table.lower())
            names[dataset].append(subject.table)
    return names


def _related_views(
    con: duckdb.DuckDBPyConnection,
    request: Examination,
    names: Mapping[str, list[str]],
    objects: ReadOnlyObjects | None,
) -> tuple[dict[str, Subject], list[CheckResult]]:
    """Make the views of the related datasets. One that cannot be read becomes a problem and counts as not restored."""
    made: dict[str, Subject] = {}
    problems = []
    for name, (subject, folder) in sorted(request.related.items()):
        if name == request.subject.dataset:
            continue
        table = open_table(con, subject, folder, objects)
        reasons = [f"{file.path}: {file.error}" for file in table.files if file.error]
        if table.files and not reasons:
            create_view(con, table, names[name])
            made[name] = subject
            continue
        problems.append(
            CheckResult(
                rule=f"related/{name}",
                kind=CheckKind.INTEGRITY,
                type="related dataset",
                severity=Severity.ERROR if name in request.subject.depends_on else Severity.WARNING,
                status=CheckStatus.ERROR,
                message=f"{name} cannot be read: {reasons[0] if reasons else 'it has no files'}",
            )
        )
    return made, problems


def _run(
    con: duckdb.DuckDBPyConnection, request: Examination, table: RestoredTable, specs: list[Spec]
) -> tuple[list[CheckResult], Path]:
    columns = {name for name, _ in describe(con, _VIEW)}
    runnable = [spec for spec in specs if isinstance(spec, Expectation | Measure) and columns.issuperset(spec.columns)]
    keys = [name_of(entry) for entry in request.subject.schema.get("properties") or () if entry.get("primaryKey")]
    run = engine.run(
        con,
        runnable,
        view=_VIEW,
        keys=[key for key in keys if key in columns],
        classified=request.subject.classified,
        masked=not request.subject.show_failing_rows,
    )
    outcomes = {id(spec): outcome for spec, outcome in zip(runnable, run.outcomes, strict=True)}
    checks = []
    for spec in specs:
        if isinstance(spec, TypeRule):
            checks.append(_type_check(con, table, spec))
        elif isinstance(spec, NotRun):
            checks.append(_not_run(spec, ""))
        elif id(spec) in outcomes:
            checks.append(_from_outcome(spec, outcomes[id(spec)]))
        else:
            absent = sorted(set(spec.columns) - columns)
            checks.append(_not_run(spec, f"not run: the data has no column {', '.join(absent)}"))
    raw = request.work / "great-expectations.json"
    raw.write_bytes(rfc8785.dumps(_plain(run.raw)))
    return checks, raw


def _from_outcome(spec: Expectation | Measure, outcome: engine.Outcome) -> CheckResult:
    return CheckResult(
        rule=spec.rule.origin,
        kind=CheckKind.CONTRACT,
        type=spec.type,
        severity=spec.rule.severity,
        status=outcome.status,
        column=spec.rule.column,
        observed=outcome.observed,
        expected=spec.expected,
        unexpected_count=outcome.unexpected_count,
        sample=outcome.sample,
        message=outcome.message or (spec.rule.label if outcome.status is CheckStatus.FAIL else ""),
    )


def _not_run(spec: Spec, reason: str) -> CheckResult:
    """The check of a rule that was not run: for the spec's own reason where it has one."""
    status = spec.status if isinstance(spec, NotRun) else CheckStatus.ERROR
    return CheckResult(
        rule=spec.rule.origin,
        kind=CheckKind.CONTRACT,
        type="column type" if isinstance(spec, TypeRule) else spec.type,
        severity=spec.rule.severity,
        status=status,
        column=spec.rule.column,
        message=spec.reason if isinstance(spec, NotRun) else reason,
    )


def _not_uniform(table: RestoredTable) -> CheckResult:
    """Files of one table that hold different columns: allowed (columns are added over time), and worth a word."""
    groups = table.groups()
    common = set.intersection(*(set(columns) for columns, _ in groups))
    odd = sorted({f"{name} {kind}" for columns, _ in groups for name, kind in set(columns) - common})
    return CheckResult(
        rule="files/uniform",
        kind=CheckKind.CONTRACT,
        type="file columns",
        severity=Severity.WARNING,
        status=CheckStatus.FAIL,
        observed=f"{len(groups)} different sets of columns in {len(table.files)} files",
        expected="the same columns in every file",
        sample="; ".join(odd[:_SAMPLE_MAX]),
    )


def _type_check(con: duckdb.DuckDBPyConnection, table: RestoredTable, spec: TypeRule) -> CheckResult:
    """A column's type in every file that holds it."""
    wanted = spec.physical or spec.logical
    known = column_types.from_sql(con, spec.physical) if spec.physical else None
    held = [(file.path, kind) for file in table.readable for name, kind in file.columns if name == spec.column]
    wrong = [(path, kind) for path, kind in held if not _fits(spec, known, kind)]
    kinds = sorted({kind for _, kind in held})
    status, message = CheckStatus.PASS, ""
    if spec.physical and known is None:
        status, message = CheckStatus.ERROR, f"DuckDB, which reads the files, has no type {spec.physical!r}"
    elif not held and spec.column in partition_names(table):
        message = "read from the folders' names"
    elif not held:
        status, message = CheckStatus.FAIL, "the data has no such column"
    elif wrong:
        status = CheckStatus.FAIL
    return CheckResult(
        rule=spec.rule.origin,
        kind=CheckKind.CONTRACT,
        type="column type",
        severity=spec.rule.severity,
        status=status,
        column=spec.column,
        observed=", ".join(kinds),
        expected=wanted,
        unexpected_count=len(wrong) if wrong else None,
        sample="; ".join(f"{path}: {kind}" for path, kind in wrong[:_SAMPLE_MAX]),
        message=message,
    )


def _fits(spec: TypeRule, known: str | None, kind: str) -> bool:
    if known is None:
        return column_types.carries(spec.logical, kind)
    if "(" not in spec.physical and column_types.base(known) == "DECIMAL":
        # No precision was promised; DuckDB's default for the bare word must not become one.
        return column_types.base(kind) == "DECIMAL"
    if column_types.is_nested(known):
        return known == kind
    return column_types.same(known, kind)


def _plain(value: Any) -> Any:
    """A value that canonical JSON can hold: the engine's results carry dates, decimals, NaN and large integers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _INTEGER_MAX else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)
