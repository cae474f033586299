"""Owns the compilation of ODCS quality rules: library metrics, SQL, custom (Great Expectations) and text.

Meanings, where the standard leaves them open
    - ``nullValues``, ``missingValues``, ``invalidValues`` count rows. ``percent`` is of all rows; of no rows, 0.
    - A null is not invalid: ``invalidValues`` leaves it to ``nullValues`` and ``required``.
    - ``duplicateValues`` counts the values (or combinations) that occur more than once, nulls left out; ``percent`` is
      of the distinct ones.
    - ``mustBeBetween`` excludes its ends, as the standard says; ``mustNotBeBetween`` is its opposite.
    - A SQL rule whose value is NULL is broken: nothing was measured.

Rules that ask for zero compile to Great Expectations' own expectations, all others to one measured value: the
``mostly`` of an expectation is a fraction and leaves nulls out, so that 41 percent of rows would be missed by rounding.

Pure: no engine, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from reopen.recover.checks.specs import Expectation, Measure, Rule, Spec, refused, skipped
from reopen.recover.checks.sql import identifier, literal

OPERATORS = {
    "mustBe": "=",
    "mustNotBe": "<>",
    "mustBeGreaterThan": ">",
    "mustBeGreaterOrEqualTo": ">=",
    "mustBeLessThan": "<",
    "mustBeLessOrEqualTo": "<=",
}
RANGES = ("mustBeBetween", "mustNotBeBetween")
METRICS = ("rowCount", "nullValues", "missingValues", "invalidValues", "duplicateValues")

_PLACEHOLDER = re.compile(r"\$?\{(object|table|model|schema|property|column)\}")
_ROW_COUNT_BOUNDS: dict[str, tuple[str, bool]] = {
    "mustBeGreaterThan": ("min_value", True),
    "mustBeGreaterOrEqualTo": ("min_value", False),
    "mustBeLessThan": ("max_value", True),
    "mustBeLessOrEqualTo": ("max_value", False),
}


class _NotCompilableError(Exception):
    """A rule that says too little or something impossible; the text says what. Never leaves this module."""


def compile_rule(definition: Mapping[str, Any], rule: Rule, *, view: str, physical: Callable[[str], str]) -> list[Spec]:
    """The specs of one quality rule: at least one.

    :param view: the table's view.
    :param physical: maps a property's name in the contract to the column's name in the data.
    """
    kind = definition.get("type") or _kind(definition)
    try:
        if kind == "library":
            return _library(definition, rule, view, physical)
        if kind == "sql":
            return [_sql(definition, rule, view)]
        if kind == "custom":
            return _custom(definition, rule)
    except _NotCompilableError as problem:
        return [refused(rule, kind, str(problem))]
    return [skipped(rule, "text", "a text is for people to check")]


def _kind(definition: Mapping[str, Any]) -> str:
    # The standard's default is `library`; but a rule that has neither metric nor operator can only be for people.
    if _metric(definition):
        return "library"
    if "query" in definition:
        return "sql"
    if "implementation" in definition:
        return "custom"
    return "library" if definition.keys() & {*OPERATORS, *RANGES} else "text"


def _metric(definition: Mapping[str, Any]) -> str | None:
    return definition.get("metric") or definition.get("rule")


def condition(definition: Mapping[str, Any], value: str) -> tuple[str, str]:
    """The operator of a rule as SQL over ``value``, and as words."""
    for name, sign in OPERATORS.items():
        if definition.get(name) is not None:
            return f"{value} {sign} {literal(definition[name])}", f"{sign} {definition[name]}"
    for name in RANGES:
        if definition.get(name) is not None:
            low, high = definition[name]
            inside = f"({value} > {literal(low)} AND {value} < {literal(high)})"
            if name == "mustBeBetween":
                return inside, f"between {low} and {high}"
            return f"NOT {inside}", f"not between {low} and {high}"
    raise _NotCompilableError(f"the rule has no operator; one of {', '.join([*OPERATORS, *RANGES])} is needed")


def _is_zero(definition: Mapping[str, Any]) -> bool:
    """Whether the rule allows no offender at all."""
    below_one = definition.get("mustBeLessThan") == 1 and definition.get("unit") != "percent"
    return definition.get("mustBe") == 0 or definition.get("mustBeLessOrEqualTo") == 0 or below_one


def _library(definition: Mapping[str, Any], rule: Rule, view: str, physical: Callable[[str], str]) -> list[Spec]:
    metric = _metric(definition)
    if metric not in METRICS:
        raise _NotCompilableError(f"there is no metric {metric!r}; known are {', '.join(METRICS)}")
    if metric == "rowCount":
        return [_row_count(definition, rule, view)]
    if metric == "duplicateValues":
        named = (definition.get("arguments") or {}).get("properties")
        columns = [physical(name) for name in named] if named else ([rule.column] if rule.column else [])
        if not columns:
            raise _NotCompilableError("duplicateValues of a schema needs `arguments.properties`")
        if _is_zero(definition) and len(columns) == 1:
            return [unique(rule, view, columns[0])]
        return [_duplicates(definition, rule, view, columns)]
    if rule.column is None:
        raise _NotCompilableError(f"{metric} is a metric of a property, not of a schema")
    return _row_metric(definition, rule, view, str(metric), rule.column)


def _row_count(definition: Mapping[str, Any], rule: Rule, view: str) -> Spec:
    if definition.get("unit") == "percent":
        raise _NotCompilableError("rowCount has no percent")
    _, words = condition(definition, "value")
    expected = f"rows {words}"
    if definition.get("mustBe") is not None:
        kwargs: dict[str, Any] = {"value": definition["mustBe"]}
        return Expectation(rule=rule, type="expect_table_row_count_to_equal", kwargs=kwargs, expected=expected)
    for name, (bound, strict) in _ROW_COUNT_BOUNDS.items():
        if definition.get(name) is not None:
            kwargs = {bound: definition[name], f"strict_{bound[:3]}": strict}
            return Expectation(rule=rule, type="expect_table_row_count_to_be_between", kwargs=kwargs, expected=expected)
    if definition.get("mustBeBetween") is not None:
        low, high = definition["mustBeBetween"]
        kwargs = {"min_value": low, "max_value": high, "strict_min": True, "strict_max": True}
        return Expectation(rule=rule, type="expect_table_row_count_to_be_between", kwargs=kwargs, expected=expected)
    return _measure(definition, rule, "rowCount", f"SELECT count(*) AS value FROM {identifier(view)}", what="rows")


def _measure(
    definition: Mapping[str, Any],
    rule: Rule,
    kind: str,
    sql: str,
    *,
    what: str,
    columns: tuple[str, ...] = (),
    offenders: str = "",
) -> Measure:
    test, words = condition(definition, "m.value")
    percent = definition.get("unit") == "percent"
    return Measure(
        rule=rule,
        type=kind,
        sql=sql,
        condition=test,
        columns=columns,
        expected=f"{what}{' in percent' if percent else ''} {words}",
        offenders=offenders,
        counts_offenders=bool(offenders) and not percent,
    )


def _row_metric(definition: Mapping[str, Any], rule: Rule, view: str, metric: str, column: str) -> list[Spec]:
    arguments = definition.get("arguments") or {}
    name = identifier(column)
    if metric == "nullValues":
        if _is_zero(definition):
            return [
                Expectation(
                    rule=rule,
                    type="expect_column_values_to_not_be_null",
                    kwargs={"column": column},
                    columns=(column,),
                    expected="no nulls",
                )
            ]
        bad, what = f"{name} IS NULL", "nulls"
    elif metric == "missingValues":
        bad, what = _missing(arguments, name), "missing values"
    else:
        if "validValues" not in arguments and "pattern" not in arguments:
            raise _NotCompilableError("invalidValues needs `arguments.validValues` or `arguments.pattern`")
        if _is_zero(definition):
            return _valid(arguments, rule, column)
        bad, what = _invalid(arguments, name), "invalid values"
    total = f"SELECT count(*) FILTER (WHERE {bad}) AS bad, count(*) AS n FROM {identifier(view)}"
    value = "coalesce(100.0 * bad / nullif(n, 0), 0)" if definition.get("unit") == "percent" else "bad"
    return [
        _measure(
            definition,
            rule,
            metric,
            f"SELECT {value} AS value FROM ({total})",
            what=what,
            columns=(column,),
            offenders=f"SELECT {name} FROM {identifier(view)} WHERE {bad}",
        )
    ]


def _missing(arguments: Mapping[str, Any], name: str) -> str:
    if not arguments.get("missingValues"):
        raise _NotCompilableError(
            "missingValues needs `arguments.missingValues`, the list of values that count as missing"
        )
    values = arguments["missingValues"]
    texts = ", ".join(literal(str(value)) for value in values if value is not None)
    tests = [f"CAST({name} AS VARCHAR) IN ({texts})"] if texts else []
    if None in values:
        tests.append(f"{name} IS NULL")
    return " OR ".join(tests)


def _valid(arguments: Mapping[str, Any], rule: Rule, column: str) -> list[Spec]:
    specs: list[Spec] = []
    if "validValues" in arguments:
        specs.append(in_set(rule, column, list(arguments["validValues"])))
    if "pattern" in arguments:
        specs.append(matches(rule, column, str(arguments["pattern"])))
    return specs


def in_set(rule: Rule, column: str, values: list[Any]) -> Expectation:
    """Every value is one of ``values``."""
    shown = ", ".join(str(value) for value in values[:8]) + (", …" if len(values) > 8 else "")
    return Expectation(
        rule=rule,
        type="expect_column_values_to_be_in_set",
        kwargs={"column": column, "value_set": values},
        columns=(column,),
        expected=f"one of {shown}",
    )


def matches(rule: Rule, column: str, pattern: str) -> Expectation:
    """Every value contains a match of a regular expression (anchors are the contract's business)."""
    return Expectation(
        rule=rule,
        type="expect_column_values_to_match_regex",
        kwargs={"column": column, "regex": pattern},
        columns=(column,),
        expected=f"matches {pattern}",
    )


def _invalid(arguments: Mapping[str, Any], name: str) -> str:
    tests = []
    if "validValues" in arguments:
        tests.append(f"{name} NOT IN ({', '.join(map(literal, arguments['validValues']))})")
    if "pattern" in arguments:
        tests.append(f"NOT regexp_matches({name}, {literal(str(arguments['pattern']))})")
    return f"{name} IS NOT NULL AND ({' OR '.join(tests)})"


def _duplicates(definition: Mapping[str, Any], rule: Rule, view: str, columns: list[str]) -> Spec:
    keys = ", ".join(map(identifier, columns))
    filled = " AND ".join(f"{identifier(column)} IS NOT NULL" for column in columns)
    groups = f"SELECT count(*) AS n FROM {identifier(view)} WHERE {filled} GROUP BY {keys}"
    repeated = "count(*) FILTER (WHERE n > 1)"
    percent = definition.get("unit") == "percent"
    value = f"coalesce(100.0 * {repeated} / nullif(count(*), 0), 0)" if percent else repeated
    return _measure(
        definition,
        rule,
        "duplicateValues",
        f"SELECT {value} AS value FROM ({groups})",
        what="duplicate values",
        columns=tuple(columns),
        offenders=f"SELECT {keys} FROM {identifier(view)} WHERE {filled} GROUP BY {keys} HAVING count(*) > 1",
    )


def unique(rule: Rule, view: str, column: str) -> Spec:
    """No value of a column occurs twice; nulls do not count."""
    if '"' in column:
        # The engine writes this expectation's own condition as text, and cannot read a quote back.
        return unique_together(rule, view, [column])
    return Expectation(
        rule=rule,
        type="expect_column_values_to_be_unique",
        kwargs={"column": column},
        columns=(column,),
        expected="no duplicates",
    )


def unique_together(rule: Rule, view: str, columns: list[str]) -> Spec:
    """No combination of values occurs twice. A ``GROUP BY``: the expectation's window over all rows needs more memory
    and more time."""
    return _duplicates({"mustBe": 0}, rule, view, columns)


def _sql(definition: Mapping[str, Any], rule: Rule, view: str) -> Spec:
    query = str(definition.get("query") or "").strip().rstrip(";").strip()
    if not query:
        raise _NotCompilableError("the rule has no query")
    names = {"property": rule.column, "column": rule.column}

    def replace(match: re.Match[str]) -> str:
        name = names.get(match[1], view)
        if name is None:
            raise _NotCompilableError(f"the query names {match[0]}, but the rule belongs to no property")
        return identifier(name)

    # The line break ends a comment that the query may end with.
    sql = f"SELECT ({_PLACEHOLDER.sub(replace, query)}\n) AS value"
    return _measure(definition, rule, "sql", sql, what="value")


def _custom(definition: Mapping[str, Any], rule: Rule) -> list[Spec]:
    engine = str(definition.get("engine") or "")
    if re.sub("[^a-z]", "", engine.lower()) not in ("greatexpectations", "gx"):
        return [skipped(rule, "custom", f"the engine {engine!r} is not run here; `greatExpectations` is")]
    body = definition.get("implementation")
    if isinstance(body, str):
        body = _parse(body)
    entries = body.get("expectations", [body]) if isinstance(body, Mapping) else body
    if not isinstance(entries, list) or not entries:
        raise _NotCompilableError("`implementation` is not an expectation: `type` and `kwargs` are needed")
    return [_expectation(entry, rule) for entry in entries]


def _parse(text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise _NotCompilableError(f"`implementation` is neither YAML nor JSON: {str(error).splitlines()[0]}") from error


def _expectation(entry: Any, rule: Rule) -> Expectation:
    name = (entry.get("type") or entry.get("expectation_type")) if isinstance(entry, Mapping) else None
    if not name:
        raise _NotCompilableError("`implementation` names no expectation `type`")
    kwargs = dict(entry.get("kwargs") or {})
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name)).lower()
    if rule.column and snake.startswith("expect_column_") and not kwargs.keys() & {"column", "column_A", "column_list"}:
        kwargs["column"] = rule.column
    columns = [kwargs.get("column"), kwargs.get("column_A"), kwargs.get("column_B"), *(kwargs.get("column_list") or ())]
    return Expectation(
        rule=rule,
        type=snake,
        kwargs=kwargs,
        columns=tuple(str(column) for column in columns if column is not None),
        expected=", ".join(f"{key} {value}" for key, value in sorted(kwargs.items()) if key != "column"),
    )
