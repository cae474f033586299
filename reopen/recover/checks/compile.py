"""Owns the compilation of a contract's schema to specs: properties, their options, keys and relationships.

Every rule that a schema object states leads to at least one spec, a runnable one or one that says why it is not run
(I1): nothing is dropped in silence. What describes and does not bind (names, tags, lineage, examples) is no rule;
:data:`DESCRIPTIVE` lists those keys, so that a key the standard adds later is reported until someone decides.

Foreign keys point to other datasets. One that is not among the restored ones is an ``error`` when the contract depends
on it (it had to be there first) and is skipped with a reason when it does not: tier one is promoted before tier two is
restored, and a wish to point there must not hold it back.

Pure: no engine, no I/O. :func:`compile_schema` is called in the validator's child, and may be called anywhere.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reopen.recover.checks.model import Severity, Subject
from reopen.recover.checks.quality import compile_rule, in_set, matches, unique, unique_together
from reopen.recover.checks.specs import Expectation, Measure, Rule, Spec, TypeRule, refused, skipped
from reopen.recover.checks.sql import identifier, literal

DESCRIPTIVE = frozenset(
    {
        "id", "name", "physicalName", "description", "businessName", "deprecated", "synonyms", "tags", "examples",
        "authoritativeDefinitions", "customProperties", "semanticType", "classification", "encryptedName",
        "transformSourceObjects", "transformLogic", "transformDescription", "criticalDataElement", "context",
        "dataGranularityDescription", "partitioned", "partitionKeyPosition", "primaryKeyPosition",
    }
)  # fmt: skip
"""Keys of a property or schema object that state no rule."""

_INTEGER_FORMATS = {f"{sign}{bits}": (sign, bits) for sign in "iu" for bits in (8, 16, 32, 64, 128)}
_ORDERED = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_SIZED = {"minItems": ("len({0}) < {1}", "at least"), "maxItems": ("len({0}) > {1}", "at most")}
_WIDTH = re.compile(
    r"(?:VAR|N|NVAR|CHARACTER VARYING|B?P?)?CHAR(?:ACTER)?(?:\s+VARYING)?\s*\(\s*(\d+)\s*\)", re.IGNORECASE
)


def compile_schema(subject: Subject, related: Mapping[str, Subject], *, view: str) -> list[Spec]:
    """The specs of a table's contract, in the order of the contract.

    :param related: the other restored datasets by name; the view of each is called like the dataset.
    :param view: the name of the table's own view.
    """
    schema = subject.schema
    properties = [entry for entry in schema.get("properties") or () if isinstance(entry, Mapping)]
    names = {str(entry["name"]): _column(entry) for entry in properties}

    def physical(name: str) -> str:
        return names.get(name, name)

    specs: list[Spec] = []
    if properties:
        specs.append(_column_set(properties))
    keys = _key_columns(properties)
    for entry in properties:
        specs += _Property(entry, subject, related, view, keys, physical).compile()
    if len(keys) > 1:
        rule = Rule(origin="primaryKey", label="primary key")
        specs.append(unique_together(rule, view, keys))
    for number, entry in enumerate(schema.get("relationships") or ()):
        rule = Rule(origin=f"relationships/{number}", label=f"foreign key {number}")
        specs.append(_foreign_key(rule, entry, None, subject, related, view))
    for number, entry in enumerate(schema.get("quality") or ()):
        specs += compile_rule(entry, _quality_rule(entry, f"quality/{number}", None), view=view, physical=physical)
    known = {"properties", "relationships", "quality", "physicalType", "logicalType"} | DESCRIPTIVE
    for key in sorted(schema.keys() - known):
        specs.append(skipped(Rule(origin=key, label=key), key, "this version does not know what it means"))
    return specs


def _column(entry: Mapping[str, Any]) -> str:
    return str(entry.get("physicalName") or entry["name"])


def _key_columns(properties: list[Mapping[str, Any]]) -> list[str]:
    keys = [entry for entry in properties if entry.get("primaryKey")]
    return [_column(entry) for entry in sorted(keys, key=lambda entry: int(entry.get("primaryKeyPosition") or 0))]


def _column_set(properties: list[Mapping[str, Any]]) -> Expectation:
    columns = [_column(entry) for entry in properties]
    return Expectation(
        rule=Rule(origin="properties", label="columns"),
        type="expect_table_columns_to_match_set",
        kwargs={"column_set": columns, "exact_match": True},
        expected=f"the {len(columns)} columns of the contract",
    )


def _quality_rule(entry: Mapping[str, Any], origin: str, column: str | None) -> Rule:
    label = str(entry.get("id") or entry.get("name") or entry.get("metric") or entry.get("type") or origin)
    return Rule(origin=origin, label=label, severity=Severity.parse(entry.get("severity")), column=column)


class _Property:
    """The compilation of one property; lives for one call."""

    def __init__(
        self,
        entry: Mapping[str, Any],
        subject: Subject,
        related: Mapping[str, Subject],
        view: str,
        keys: list[str],
        physical: Callable[[str], str],
    ) -> None:
        self.entry = entry
        self.subject = subject
        self.related = related
        self.view = view
        self.keys = keys
        self.physical = physical
        self.name = str(entry["name"])
        self.column = _column(entry)

    def compile(self) -> list[Spec]:
        """All specs of the property."""
        return [*self._type(), *self._presence(), *self._values(), *self._options(), *self._links(), *self._rest()]

    def _rule(self, key: str, label: str | None = None) -> Rule:
        return Rule(origin=f"properties/{self.name}/{key}", label=label or f"{self.name} {key}", column=self.column)

    def _type(self) -> Iterator[Spec]:
        physical, logical = self.entry.get("physicalType"), self.entry.get("logicalType")
        if physical:
            yield TypeRule(rule=self._rule("physicalType"), column=self.column, physical=str(physical))
            if width := _WIDTH.fullmatch(str(physical).strip()):
                # DuckDB and Parquet know no width; the promise is kept by looking at the values.
                yield self._lengths(self._rule("physicalType"), None, int(width[1]))
        if logical:
            yield TypeRule(rule=self._rule("logicalType"), column=self.column, logical=str(logical))

    def _presence(self) -> Iterator[Spec]:
        # `required: false` and the like are what the standard assumes anyway: they allow, and bind nobody.
        required, is_unique, is_key = (bool(self.entry.get(key)) for key in ("required", "unique", "primaryKey"))
        if required or is_key:
            yield Expectation(
                rule=self._rule("required" if required else "primaryKey"),
                type="expect_column_values_to_not_be_null",
                kwargs={"column": self.column},
                columns=(self.column,),
                expected="no nulls",
            )
        if is_unique or self.keys == [self.column]:
            yield unique(self._rule("unique" if is_unique else "primaryKey"), self.view, self.column)

    def _values(self) -> Iterator[Spec]:
        if allowed := self.entry.get("enum"):
            try:
                values = [self._value(member["value"]) for member in allowed]
            except ValueError as error:
                yield refused(self._rule("enum"), "enum", f"it holds no {self.entry.get('logicalType')}: {error}")
            else:
                yield in_set(self._rule("enum"), self.column, values)

    def _options(self) -> Iterator[Spec]:
        options = dict(self.entry.get("logicalTypeOptions") or {})
        low_high = {key: options.pop(key) for key in _ORDERED if key in options}
        for strict, key in (
            (False, "minimum"),
            (True, "exclusiveMinimum"),
            (False, "maximum"),
            (True, "exclusiveMaximum"),
        ):
            if key in low_high:
                yield self._bound(key, low_high[key], strict=strict)
        lengths = {key: options.pop(key) for key in ("minLength", "maxLength") if key in options}
        for key, value in lengths.items():
            rule = self._rule(f"logicalTypeOptions/{key}")
            yield self._lengths(rule, *((value, None) if key == "minLength" else (None, value)))
        if "pattern" in options:
            yield matches(self._rule("logicalTypeOptions/pattern"), self.column, str(options.pop("pattern")))
        if "multipleOf" in options:
            step = options.pop("multipleOf")
            bad = f"{identifier(self.column)} % {literal(step)} <> 0"
            yield self._row_rule("logicalTypeOptions/multipleOf", bad, f"multiples of {step}")
        for key, value in options.items():
            yield self._other_option(key, value)

    def _bound(self, key: str, value: Any, *, strict: bool) -> Spec:
        rule = self._rule(f"logicalTypeOptions/{key}")
        side = "min" if "inimum" in key else "max"
        sign = {("min", False): "≥", ("min", True): ">", ("max", False): "≤", ("max", True): "<"}[side, strict]
        try:
            bound = self._value(value)
        except ValueError as error:
            return refused(rule, key, f"{value!r} is not a {self.entry.get('logicalType')}: {error}")
        if isinstance(bound, dt.time):
            # The engine's bounds are numbers and dates; a time is compared in SQL.
            broken = {"≥": "<", ">": "<=", "≤": ">", "<": ">="}[sign]
            bad = f"{identifier(self.column)} {broken} CAST({literal(bound.isoformat())} AS TIME)"
            return self._row_rule(f"logicalTypeOptions/{key}", bad, f"{sign} {value}")
        return Expectation(
            rule=rule,
            type="expect_column_values_to_be_between",
            kwargs={"column": self.column, f"{side}_value": bound, f"strict_{side}": strict},
            columns=(self.column,),
            expected=f"{sign} {value}",
        )

    def _value(self, value: Any) -> Any:
        """A value of the contract as the engine compares it with the column."""
        if not isinstance(value, str):
            return value
        match self.entry.get("logicalType"):
            case "date":
                return dt.datetime.fromisoformat(value).date()
            case "timestamp":
                return dt.datetime.fromisoformat(value)
            case "time":
                return dt.time.fromisoformat(value)
        return value

    def _lengths(self, rule: Rule, low: int | None, high: int | None) -> Expectation:
        return Expectation(
            rule=rule,
            type="expect_column_value_lengths_to_be_between",
            kwargs={"column": self.column, "min_value": low, "max_value": high},
            columns=(self.column,),
            expected=f"at least {low} characters" if high is None else f"at most {high} characters",
        )

    def _row_rule(self, key: str, bad: str, expected: str) -> Measure:
        """A rule that no row may break, written as the SQL of a row that does."""
        name = identifier(self.column)
        where = f"FROM {identifier(self.view)} WHERE {name} IS NOT NULL AND {bad}"
        return Measure(
            rule=self._rule(key),
            type=key.rsplit("/", 1)[-1],
            sql=f"SELECT count(*) AS value {where}",
            condition="m.value = 0",
            columns=(self.column,),
            expected=expected,
            offenders=f"SELECT {name} {where}",
            counts_offenders=True,
        )

    def _other_option(self, key: str, value: Any) -> Spec:
        path = f"logicalTypeOptions/{key}"
        name = identifier(self.column)
        if key in _SIZED and isinstance(value, int):
            test, words = _SIZED[key]
            return self._row_rule(path, test.format(name, value), f"{words} {value} items")
        if key == "uniqueItems" and value:
            return self._row_rule(path, f"len({name}) <> len(list_distinct({name}))", "no item twice")
        if key == "format" and value in _INTEGER_FORMATS and self.entry.get("logicalType") == "integer":
            sign, bits = _INTEGER_FORMATS[value]
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if sign == "i" else (0, (1 << bits) - 1)
            bad = f"({name} < CAST('{low}' AS {_wide(low)}) OR {name} > CAST('{high}' AS {_wide(high)}))"
            return self._row_rule(path, bad, f"fits {value}")
        return skipped(self._rule(path), key, "it describes how the value is written; the column's type is checked")

    def _links(self) -> Iterator[Spec]:
        for number, entry in enumerate(self.entry.get("relationships") or ()):
            rule = self._rule(f"relationships/{number}", f"{self.name} → {entry.get('to')}")
            yield _foreign_key(rule, entry, self.column, self.subject, self.related, self.view)

    def _rest(self) -> Iterator[Spec]:
        for number, entry in enumerate(self.entry.get("quality") or ()):
            rule = _quality_rule(entry, f"properties/{self.name}/quality/{number}", self.column)
            yield from compile_rule(entry, rule, view=self.view, physical=self.physical)
        nested = {"properties", "items", "map", "vector"} & self.entry.keys()
        for key in sorted(nested):
            yield skipped(self._rule(key), key, "rules inside a nested column are not run; its own type is checked")
        known = {
            "physicalType", "logicalType", "required", "unique", "primaryKey", "enum", "logicalTypeOptions",
            "relationships", "quality", *nested, *DESCRIPTIVE,
        }  # fmt: skip
        for key in sorted(self.entry.keys() - known):
            yield skipped(self._rule(key), key, "this version does not know what it means")


def _wide(value: int) -> str:
    return "UHUGEINT" if value >= 1 << 127 else "HUGEINT"


def _foreign_key(
    rule: Rule,
    entry: Mapping[str, Any],
    column: str | None,
    subject: Subject,
    related: Mapping[str, Subject],
    view: str,
) -> Spec:
    """Every key that is filled in exists in the table it points to."""
    targets = entry["to"] if isinstance(entry.get("to"), list) else [entry.get("to")]
    if column is None:
        sources = entry["from"] if isinstance(entry.get("from"), list) else [entry.get("from")]
        columns = [_resolve(str(source), subject, {})[1] for source in sources]
    else:
        columns = [column]
    if len(columns) != len(targets):
        return refused(rule, "foreign key", f"it maps {len(columns)} columns to {len(targets)}")
    resolved = [_resolve(str(target), subject, related) for target in targets]
    dataset = resolved[0][0]
    if any(other != dataset for other, _ in resolved):
        return refused(rule, "foreign key", "its columns point to more than one table")
    expected = f"in {', '.join(map(str, targets))}"
    if dataset is None:
        table = _split(str(targets[0]))[0]
        if table in subject.depends_on:
            return refused(rule, "foreign key", f"{table} is not restored")
        return skipped(rule, "foreign key", f"{table} is not among the restored datasets, nor a dependency")
    other = view if dataset == subject.dataset else dataset
    return _inclusion(rule, view, columns, other, [name for _, name in resolved], expected)


def _inclusion(rule: Rule, view: str, columns: list[str], other: str, keys: list[str], expected: str) -> Measure:
    filled = " AND ".join(f"{identifier(column)} IS NOT NULL" for column in columns)
    present = " AND ".join(f"{identifier(key)} IS NOT NULL" for key in keys)
    own, theirs = ", ".join(map(identifier, columns)), ", ".join(map(identifier, keys))
    left = own if len(columns) == 1 else f"({own})"
    # NOT IN over filled keys is a hash anti join in every engine that was tried; NOT EXISTS was not (27 s in SQLite).
    missing = (
        f"{left} NOT IN (SELECT {theirs if len(keys) == 1 else f'({theirs})'} FROM {identifier(other)} WHERE {present})"
    )
    where = f"FROM {identifier(view)} WHERE {filled} AND {missing}"
    return Measure(
        rule=rule,
        type="foreign key",
        sql=f"SELECT count(*) AS value {where}",
        condition="m.value = 0",
        columns=tuple(columns),
        expected=expected,
        offenders=f"SELECT DISTINCT {own} {where}",
        counts_offenders=True,
    )


def _split(reference: str) -> tuple[str, str]:
    """Table and column that a reference names: ``customer.c_custkey`` or ``[file#/]schema/<id>/properties/<id>``."""
    local = reference.rsplit("#", 1)[-1].strip("/")
    if "/" in local:
        parts = local.split("/")
        return (parts[1] if len(parts) > 1 else ""), parts[-1]
    table, _, column = local.rpartition(".")
    return table.rsplit(".", 1)[-1], column


def _resolve(reference: str, subject: Subject, related: Mapping[str, Subject]) -> tuple[str | None, str]:
    """The dataset and the column in the data that a reference means; no dataset when none of those given has it."""
    table, column = _split(reference)
    for name, candidate in [(subject.dataset, subject), *related.items()]:
        schema = candidate.schema
        own_names = {name, candidate.table, schema.get("id"), schema.get("name"), schema.get("physicalName")}
        if table in own_names:
            for entry in schema.get("properties") or ():
                if column in (entry.get("id"), entry["name"]):
                    return name, _column(entry)
            return name, column
    return None, column
