"""Owns Great Expectations: the only file that imports it, inside functions, because that costs seconds and 190 MB.

It runs specs in two passes. The first asks only for true or false. The second runs again only what failed, and asks for
counts and a sample: a dataset that is well pays for one pass, and one that is not shows why.

Invariants
    I1  As many outcomes as specs, in their order. What the engine did not answer for is an ``error``.
    I2  ``success = False`` with an exception is an ``error``, not a ``fail``: the engine says false for both.
    I3  Nothing that shows a value of a classified column leaves: neither in an outcome nor in the raw results.
    I4  Unless the contract says otherwise, values of failing rows are masked in both: columns, counts and NULLs stay
        (:mod:`reopen.recover.checks.mask`).

Called by :mod:`reopen.recover.checks.examine`, in the validator's child.
"""

from __future__ import annotations

import gc
import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reopen.recover.checks.deferred import deferred
from reopen.recover.checks.mask import mask_exceptions, mask_measure, mask_result, mask_text, mask_value
from reopen.recover.checks.model import CheckStatus
from reopen.recover.checks.specs import Expectation, Measure
from reopen.recover.checks.tables import short

if TYPE_CHECKING:
    import duckdb

SAMPLE_ROWS_MAX = 5
_KEY = "reopen"
"""Under this key an expectation's ``meta`` carries the number of its spec; results come back in another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the engine says about one spec."""

    status: CheckStatus
    observed: str = ""
    unexpected_count: int | None = None
    sample: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The outcomes in the order of the specs (I1), and the engine's own results of each pass as plain values."""

    outcomes: tuple[Outcome, ...]
    raw: Mapping[str, Any] = field(default_factory=dict)


def load() -> None:
    """Import the engine now, so that the first dataset does not wait for it."""
    # Thousands of classes are made and none is garbage: looking for it meanwhile takes a tenth of the time. What is
    # loaded stays, so it is left out of every later look too.
    collects = gc.isenabled()
    gc.disable()
    try:
        with deferred("altair", "scipy.stats"):
            import great_expectations  # noqa: F401
    finally:
        if collects:
            gc.freeze()
            gc.enable()
    logging.getLogger("great_expectations").setLevel(logging.ERROR)


def versions() -> dict[str, str]:
    """Versions of what decides over results."""
    names = ("great-expectations", "duckdb", "sqlalchemy")
    return {name: importlib.metadata.version(name) for name in names}


def run(
    con: duckdb.DuckDBPyConnection,
    specs: Sequence[Expectation | Measure],
    *,
    view: str,
    keys: Sequence[str] = (),
    classified: Sequence[str] = (),
    masked: bool = True,
) -> Run:
    """Run specs over a view of a connection.

    :param keys: the columns that name a row; samples quote them beside an offending value.
    :param classified: columns whose values are not shown.
    :param masked: show no value of a failing row (I4).
    """
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    from reopen.recover.checks import dialect

    with dialect.lent(con, "restored") as url:
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        source = context.data_sources.add_sql(name="restored", connection_string=url)
        asset = source.add_table_asset(name=view, table_name=view)
        batch = asset.add_batch_definition_whole_table("all").get_batch()
        outcomes: dict[int, Outcome] = {}
        questions = _questions(specs, classified)
        expectations: dict[int, Any] = {}
        for number in questions:
            built = _build(number, specs[number])
            if isinstance(built, Outcome):
                outcomes[number] = built
            else:
                expectations[number] = built
        first = _validate(batch, "verdict", list(expectations.values()), "BOOLEAN_ONLY")
        for number, result in first.items():
            if masked:
                mask_exceptions(result)
            status, message = _status(result)
            outcomes[number] = Outcome(status=status, message=message)
        failed = [number for number in first if outcomes[number].status is CheckStatus.FAIL]
        second: dict[int, dict[str, Any]] = {}
        for hidden in (False, True):
            chosen = [expectations[number] for number in failed if questions[number].hidden is hidden]
            second |= _validate(batch, "explanation", chosen, _summary(keys, classified, hidden=hidden))
        for number, result in second.items():
            spec, hidden = specs[number], questions[number].hidden
            if masked:
                mask_result(result)
            if isinstance(spec, Measure):
                outcomes[number] = _explain_measure(con, spec, hidden=hidden, masked=masked)
            else:
                outcomes[number] = _explain(result, hidden=hidden)
            if hidden:
                _withhold(result)
    nothing = Outcome(status=CheckStatus.ERROR, message="the engine gave no result")
    asked_by = {asker: number for number, question in questions.items() for asker in question.askers}
    return Run(
        outcomes=tuple(outcomes.get(asked_by[number], nothing) for number in range(len(specs))),
        raw={
            "verdict": [first[number] for number in sorted(first)],
            "explanation": [second[number] for number in sorted(second)],
        },
    )


@dataclass(slots=True, kw_only=True)
class _Question:
    """What one or more specs ask for. A suite drops an expectation that equals another one, so it is put once."""

    askers: list[int]
    hidden: bool


def _questions(specs: Sequence[Expectation | Measure], classified: Sequence[str]) -> dict[int, _Question]:
    """The different questions, by the number of the first spec that asks."""
    questions: dict[int, _Question] = {}
    seen: dict[str, int] = {}
    for number, spec in enumerate(specs):
        named = {*spec.columns, spec.rule.column}
        hidden = any(column in named for column in classified)
        kind, kwargs = _configuration(spec)
        first = seen.setdefault(f"{kind} {sorted(kwargs.items())!r}", number)
        question = questions.setdefault(first, _Question(askers=[], hidden=False))
        question.askers.append(number)
        question.hidden = question.hidden or hidden
    return questions


def _summary(keys: Sequence[str], classified: Sequence[str], *, hidden: bool) -> dict[str, Any]:
    """How the second pass reports. SUMMARY counts in the database and fetches a few; COMPLETE would fetch them all."""
    form: dict[str, Any] = {"result_format": "SUMMARY", "partial_unexpected_count": 0 if hidden else SAMPLE_ROWS_MAX}
    shown = [key for key in keys if key not in classified]
    return form if hidden or not shown else {**form, "unexpected_index_column_names": shown}


def _build(number: int, spec: Expectation | Measure) -> Any:
    """The engine's object for a spec, or the outcome ``error`` when it refuses to make one."""
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    kind, kwargs = _configuration(spec)
    meta = {_KEY: number, "rule": spec.rule.origin}
    try:
        return ExpectationConfiguration(type=kind, kwargs=kwargs, meta=meta).to_domain_obj()
    except (GreatExpectationsError, ValueError, TypeError, KeyError) as error:
        return Outcome(status=CheckStatus.ERROR, message=f"{kind} cannot be made: {short(error)}")


def _configuration(spec: Expectation | Measure) -> tuple[str, dict[str, Any]]:
    """An expectation's type and arguments. A measure becomes a query for rows that returns one when it is broken."""
    if isinstance(spec, Expectation):
        return spec.type, dict(spec.kwargs)
    sql = f"SELECT m.value FROM ({spec.sql}) AS m WHERE m.value IS NULL OR NOT ({spec.condition})"
    # The engine formats the text, so braces of the rule are doubled. It also wants to see {batch}, but a table put in
    # for it cannot be given an alias, which SQL rules do; so the rules name the view and a comment holds the word.
    escaped = sql.replace("{", "{{").replace("}", "}}")
    return "unexpected_rows_expectation", {"unexpected_rows_query": "/* {batch} */ " + escaped}


def _validate(batch: Any, name: str, expectations: list[Any], result_format: Any) -> dict[int, dict[str, Any]]:
    import great_expectations as gx

    if not expectations:
        return {}
    suite = gx.ExpectationSuite(name=name)
    for expectation in expectations:
        suite.add_expectation(expectation)
    validated = batch.validate(suite, result_format=result_format)
    results = [result.to_json_dict() for result in validated.results]
    return {int(result["expectation_config"]["meta"][_KEY]): result for result in results}


def _status(result: Mapping[str, Any]) -> tuple[CheckStatus, str]:
    """Pass, fail or error (I2), and the exception's message."""
    info = result.get("exception_info") or {}
    # One failure gives the flat form; several metrics that failed give one entry each, under the metric's name.
    entries = [info] if "raised_exception" in info else [entry for entry in info.values() if isinstance(entry, dict)]
    raised = [entry for entry in entries if entry.get("raised_exception")]
    if raised:
        return CheckStatus.ERROR, _cause(str(raised[0].get("exception_message") or ""))
    return (CheckStatus.PASS if result.get("success") else CheckStatus.FAIL), ""


def _cause(message: str) -> str:
    # SQLAlchemy puts the exception's class in front and SQL and parameters behind; the middle is what DuckDB said.
    text = message.split("[SQL:")[0].strip()
    marker = text.find("Error: ")
    return short(text[text.rfind(" ", 0, marker - 1) + 1 :] if 0 < marker < 200 else text)


def _explain(result: Mapping[str, Any], *, hidden: bool) -> Outcome:
    status, message = _status(result)
    body = result.get("result") or {}
    count = body.get("unexpected_count")
    if count is not None:
        observed = f"{count} of {body.get('element_count')} rows"
    else:
        observed = "withheld" if hidden else _shown(body.get("observed_value"))
    details = (body.get("details") or {}).get("mismatched") if not hidden else None
    if details:
        observed = "; ".join(f"{what}: {', '.join(map(str, names))}" for what, names in sorted(details.items()))
    rows = body.get("partial_unexpected_index_list") or body.get("partial_unexpected_list") or []
    return Outcome(
        status=status,
        observed=observed,
        unexpected_count=count,
        sample="" if hidden else "; ".join(map(_shown, rows[:SAMPLE_ROWS_MAX])),
        message=message,
    )


def _explain_measure(con: duckdb.DuckDBPyConnection, spec: Measure, *, hidden: bool, masked: bool) -> Outcome:
    """The value of a broken rule and its first offenders. The engine keeps neither."""
    import duckdb

    try:
        value = con.execute(spec.sql).fetchall()[0][0]
        rows: list[tuple[Any, ...]] = []
        if spec.offenders and not hidden:
            rows = con.execute(f"SELECT * FROM ({spec.offenders}) LIMIT {SAMPLE_ROWS_MAX}").fetchall()
    except duckdb.Error as error:
        return Outcome(
            status=CheckStatus.FAIL, message=f"no sample: {mask_text(short(error)) if masked else short(error)}"
        )
    if masked:
        value, rows = mask_measure(value), [tuple(map(mask_value, found)) for found in rows]
    shown = "withheld" if hidden and not spec.counts_offenders else _shown(value)
    return Outcome(
        status=CheckStatus.FAIL,
        observed=shown,
        unexpected_count=int(value) if spec.counts_offenders and value is not None else None,
        sample="; ".join(", ".join(map(_shown, found)) for found in rows),
    )


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(part)}" for key, part in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return "NULL" if value is None else str(value)[:120]


def _withhold(result: dict[str, Any]) -> None:
    """Leave only counts in the raw result of a classified column (I3)."""
    body = result.get("result") or {}
    result["result"] = {key: value for key, value in body.items() if key.endswith(("_count", "_percent"))}
