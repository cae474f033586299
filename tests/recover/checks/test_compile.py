"""A contract's schema becomes specs; nothing that it states is dropped in silence. No engine runs here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reopen.recover.checks.compile import compile_schema
from reopen.recover.checks.model import CheckStatus, Severity
from reopen.recover.checks.quality import METRICS, OPERATORS
from reopen.recover.checks.specs import Expectation, Measure, NotRun, Spec, TypeRule
from tests.recover.checks.kit import CUSTOMERS_SCHEMA, subject

Schema = Mapping[str, Any]


def compiled(schema: Schema, related: Mapping[str, Schema] | None = None, **options: Any) -> list[Spec]:
    others = {name: subject(name, other) for name, other in (related or {}).items()}
    return compile_schema(subject("t", schema, **options), others, view="t")


def of_property(**entry: Any) -> list[Spec]:
    """The specs of one property, without the check of the column set."""
    return compiled({"name": "t", "properties": [{"name": "c", **entry}]})[1:]


def of_rule(rule: Mapping[str, Any], **entry: Any) -> Spec:
    (spec,) = of_property(quality=[rule], **entry)
    return spec


def measured(spec: Spec, rows: str) -> tuple[Any, bool]:
    """Run a measure over a table ``t`` given as SQL; its value, and whether the rule holds."""
    assert isinstance(spec, Measure)
    con = duckdb.connect()
    con.execute(f"CREATE TABLE t AS {rows}")
    (row,) = con.execute(f"SELECT m.value, {spec.condition} FROM ({spec.sql}) m").fetchall()
    return row[0], bool(row[1])


def expectation(spec: Spec) -> tuple[str, dict[str, Any]]:
    assert isinstance(spec, Expectation)
    return spec.type.removeprefix("expect_"), {key: value for key, value in spec.kwargs.items() if key != "column"}


def test_the_columns_are_those_of_the_contract_by_their_physical_names() -> None:
    (spec, *_) = compiled({"name": "t", "properties": [{"name": "a"}, {"name": "b", "physicalName": "B 2"}]})
    kind = "table_columns_to_match_set"
    assert expectation(spec) == (kind, {"column_set": ["a", "B 2"], "exact_match": True})


@pytest.mark.parametrize(
    ("entry", "kind", "kwargs"),
    [
        ({"required": True}, "column_values_to_not_be_null", {}),
        ({"unique": True}, "column_values_to_be_unique", {}),
        ({"enum": [{"value": 1}, {"value": 2}]}, "column_values_to_be_in_set", {"value_set": [1, 2]}),
        (
            {"logicalTypeOptions": {"minimum": 1}},
            "column_values_to_be_between",
            {"min_value": 1, "strict_min": False},
        ),
        (
            {"logicalTypeOptions": {"exclusiveMaximum": 9.5}},
            "column_values_to_be_between",
            {"max_value": 9.5, "strict_max": True},
        ),
        (
            {"logicalTypeOptions": {"minLength": 2}},
            "column_value_lengths_to_be_between",
            {"min_value": 2, "max_value": None},
        ),
        ({"logicalTypeOptions": {"pattern": "^a"}}, "column_values_to_match_regex", {"regex": "^a"}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_property_compiles_to_the_engines_expectation(
    entry: dict[str, Any], kind: str, kwargs: dict[str, Any]
) -> None:
    (spec,) = of_property(**entry)
    assert expectation(spec) == (kind, kwargs)


@pytest.mark.parametrize(
    ("logical", "text", "value"),
    [
        ("date", "2026-01-02", dt.date(2026, 1, 2)),
        ("timestamp", "2026-01-02T03:04:05Z", dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
    ],
)
def test_a_bound_in_time_is_compared_as_time(logical: str, text: str, value: object) -> None:
    specs = of_property(logicalType=logical, logicalTypeOptions={"minimum": text})
    assert expectation(specs[1])[1]["min_value"] == value


def test_a_bound_that_is_no_date_is_an_error_that_names_it() -> None:
    spec = of_property(logicalType="date", logicalTypeOptions={"minimum": "soon"})[1]
    assert isinstance(spec, NotRun)
    assert spec.status is CheckStatus.ERROR
    assert "'soon'" in spec.reason


def test_a_time_is_compared_in_sql() -> None:
    spec = of_property(logicalType="time", logicalTypeOptions={"exclusiveMaximum": "12:00:00"})[1]
    assert measured(spec, "SELECT TIME '11:59:59' AS c") == (0, True)
    assert measured(spec, "SELECT TIME '12:00:00' AS c") == (1, False)


def test_types_are_checked_in_full_by_physical_and_by_family_by_logical_type() -> None:
    specs = of_property(physicalType="DECIMAL(15,2)", logicalType="number")
    assert [(spec.physical, spec.logical) for spec in specs if isinstance(spec, TypeRule)] == [
        ("DECIMAL(15,2)", ""),
        ("", "number"),
    ]


@pytest.mark.parametrize("text", ["VARCHAR(25)", "varchar (25)", "CHAR(25)", "NVARCHAR(25)", "character varying(25)"])
def test_the_width_of_a_text_type_is_checked_on_the_values(text: str) -> None:
    (_, width) = of_property(physicalType=text)
    assert expectation(width) == ("column_value_lengths_to_be_between", {"min_value": None, "max_value": 25})


def test_a_single_primary_key_is_filled_in_and_unique() -> None:
    kinds = [expectation(spec)[0] for spec in of_property(primaryKey=True)]
    assert kinds == ["column_values_to_not_be_null", "column_values_to_be_unique"]


def test_a_compound_primary_key_is_unique_together_and_each_part_filled_in() -> None:
    properties = [
        {"name": "b", "primaryKey": True, "primaryKeyPosition": 2},
        {"name": "a", "primaryKey": True, "primaryKeyPosition": 1},
    ]
    (_, *nulls, key) = compiled({"name": "t", "properties": properties})
    assert [expectation(spec)[0] for spec in nulls] == ["column_values_to_not_be_null"] * 2
    assert isinstance(key, Measure)
    assert key.columns == ("a", "b")
    assert measured(key, "VALUES (1, 1), (1, 2) t(a, b)".join(["SELECT * FROM (", ")"])) == (0, True)
    assert measured(key, "SELECT * FROM (VALUES (1, 1), (1, 1)) t(a, b)") == (1, False)


def test_multiples_and_integer_formats_and_sizes_are_measured() -> None:
    (multiple,) = of_property(logicalTypeOptions={"multipleOf": 0.05})
    assert measured(multiple, "SELECT 0.15::DECIMAL(9,2) AS c UNION ALL SELECT 0.16 UNION ALL SELECT NULL") == (
        1,
        False,
    )
    (_, fits) = of_property(logicalType="integer", logicalTypeOptions={"format": "i16"})
    assert measured(fits, "SELECT unnest([32767, -32768])::BIGINT AS c") == (0, True)
    assert measured(fits, "SELECT unnest([32768, -32769])::BIGINT AS c") == (2, False)
    (_, unsigned) = of_property(logicalType="integer", logicalTypeOptions={"format": "u128"})
    assert measured(unsigned, "SELECT -1::BIGINT AS c") == (1, False)
    (_, *sizes) = of_property(
        logicalType="array", logicalTypeOptions={"minItems": 1, "maxItems": 2, "uniqueItems": True}
    )
    rows = "SELECT unnest([[], [1], [1, 1], [1, 2, 3]]) AS c"
    assert [measured(size, rows)[0] for size in sizes] == [1, 1, 1]


ROWS = "SELECT unnest([1, 1, 2, NULL]) AS c, unnest(['a', '', 'N/A', NULL]) AS w"


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ({"metric": "nullValues", "mustBeLessThan": 2}, 1),
        ({"metric": "nullValues", "mustBeLessOrEqualTo": 25, "unit": "percent"}, 25.0),
        ({"metric": "duplicateValues", "mustBeLessThan": 5}, 1),
        ({"metric": "duplicateValues", "mustBe": 50, "unit": "percent"}, 50.0),
        ({"metric": "invalidValues", "arguments": {"validValues": [1]}, "mustBeLessThan": 9}, 1),
        ({"metric": "missingValues", "arguments": {"missingValues": [None, 1]}, "mustBe": 3}, 3),
        ({"metric": "missingValues", "arguments": {"missingValues": ["", "N/A"]}, "mustBe": 0}, 0),
        ({"metric": "rowCount", "mustNotBe": 3}, 4),
    ],
    ids=str,
)
def test_a_metric_measures_what_the_standard_says(rule: dict[str, Any], value: object) -> None:
    found, holds = measured(of_rule(rule), ROWS)
    assert (found, holds) == (value, True)


def test_invalid_values_by_pattern_leave_nulls_to_other_rules() -> None:
    spec = of_property(
        physicalName="w",
        quality=[{"metric": "invalidValues", "arguments": {"pattern": "^[a-z]$"}, "mustBeLessThan": 3}],
    )[0]
    assert measured(spec, ROWS) == (2, True)


@pytest.mark.parametrize("metric", ["nullValues", "duplicateValues"])
def test_a_percentage_of_no_rows_is_zero(metric: str) -> None:
    spec = of_rule({"metric": metric, "mustBeLessOrEqualTo": 1, "unit": "percent"})
    assert measured(spec, f"SELECT * FROM ({ROWS}) WHERE false") == (0, True)


@pytest.mark.parametrize("percent", range(1, 100))
def test_a_percentage_at_its_limit_holds(percent: int) -> None:
    """A fraction of one, as the engine's `mostly` is, fails here for 41 of 100."""
    spec = of_rule({"metric": "nullValues", "mustBeLessOrEqualTo": percent, "unit": "percent"})
    assert measured(spec, f"SELECT CASE WHEN i >= {percent} THEN i END AS c FROM range(100) r(i)") == (percent, True)


@pytest.mark.parametrize(
    ("rule", "kind", "kwargs"),
    [
        ({"metric": "nullValues", "mustBe": 0}, "column_values_to_not_be_null", {}),
        ({"metric": "nullValues", "mustBeLessThan": 1}, "column_values_to_not_be_null", {}),
        ({"metric": "duplicateValues", "mustBe": 0}, "column_values_to_be_unique", {}),
        ({"metric": "rowCount", "mustBe": 5}, "table_row_count_to_equal", {"value": 5}),
        (
            {"metric": "rowCount", "mustBeGreaterThan": 5},
            "table_row_count_to_be_between",
            {"min_value": 5, "strict_min": True},
        ),
        (
            {"metric": "rowCount", "mustBeLessOrEqualTo": 5},
            "table_row_count_to_be_between",
            {"max_value": 5, "strict_max": False},
        ),
        (
            {"metric": "rowCount", "mustBeBetween": [1, 5]},
            "table_row_count_to_be_between",
            {"min_value": 1, "max_value": 5, "strict_min": True, "strict_max": True},
        ),
        (
            {"metric": "invalidValues", "arguments": {"validValues": ["a"]}, "mustBe": 0},
            "column_values_to_be_in_set",
            {"value_set": ["a"]},
        ),
    ],
    ids=str,
)
def test_a_rule_that_allows_nothing_is_the_engines_own(rule: dict[str, Any], kind: str, kwargs: dict[str, Any]) -> None:
    assert expectation(of_rule(rule)) == (kind, kwargs)


@pytest.mark.parametrize(
    ("operator", "held", "broken"),
    [
        ({"mustBe": 4}, 4, 5), ({"mustNotBe": 4}, 5, 4), ({"mustBeGreaterThan": 4}, 5, 4),
        ({"mustBeGreaterOrEqualTo": 4}, 4, 3), ({"mustBeLessThan": 4}, 3, 4), ({"mustBeLessOrEqualTo": 4}, 4, 5),
        ({"mustBeBetween": [1, 4]}, 3, 4), ({"mustNotBeBetween": [1, 4]}, 4, 3),
    ],
    ids=str,
)  # fmt: skip
def test_each_operator_of_a_sql_rule_holds_and_breaks(operator: dict[str, Any], held: int, broken: int) -> None:
    spec = of_rule({"type": "sql", "query": "SELECT max({property}) FROM ${object} AS o -- all", **operator})
    assert measured(spec, f"SELECT {held} AS c") == (held, True)
    assert measured(spec, f"SELECT {broken} AS c") == (broken, False)


def test_a_sql_rule_that_names_a_property_without_one_is_an_error() -> None:
    rule = {"type": "sql", "query": "SELECT count({property}) FROM {object}", "mustBe": 0}
    (spec,) = compiled({"name": "t", "quality": [rule]})
    assert isinstance(spec, NotRun)
    assert spec.status is CheckStatus.ERROR


@pytest.mark.parametrize(
    "implementation",
    [
        {"type": "expect_column_median_to_be_between", "kwargs": {"min_value": 1}},
        "expectation_type: ExpectColumnMedianToBeBetween\nkwargs: {min_value: 1}\n",
        '{"type": "ExpectColumnMedianToBeBetween", "kwargs": {"min_value": 1}}',
    ],
    ids=["a mapping", "YAML", "JSON"],
)
def test_a_custom_rule_of_great_expectations_is_taken_as_it_is(implementation: object) -> None:
    spec = of_rule({"type": "custom", "engine": "greatExpectations", "implementation": implementation})
    assert isinstance(spec, Expectation)
    assert (spec.type, spec.kwargs) == ("expect_column_median_to_be_between", {"min_value": 1, "column": "c"})


@pytest.mark.parametrize(
    ("rule", "status", "word"),
    [
        ({"type": "text", "description": "Amounts are gross."}, CheckStatus.SKIPPED, "people"),
        ({"description": "No type at all."}, CheckStatus.SKIPPED, "people"),
        ({"type": "custom", "engine": "soda", "implementation": "x"}, CheckStatus.SKIPPED, "soda"),
        ({"type": "custom", "engine": "gx", "implementation": "- : ["}, CheckStatus.ERROR, "YAML"),
        ({"type": "custom", "engine": "gx", "implementation": "nothing"}, CheckStatus.ERROR, "type"),
        ({"metric": "nullValues"}, CheckStatus.ERROR, "operator"),
        ({"metric": "median", "mustBe": 1}, CheckStatus.ERROR, "rowCount"),
        ({"metric": "invalidValues", "mustBe": 0}, CheckStatus.ERROR, "validValues"),
        ({"metric": "missingValues", "mustBe": 0}, CheckStatus.ERROR, "missingValues"),
        ({"metric": "rowCount", "mustBe": 1, "unit": "percent"}, CheckStatus.ERROR, "percent"),
        ({"type": "sql", "query": " ; ", "mustBe": 1}, CheckStatus.ERROR, "query"),
        ({"type": "sql", "query": "SELECT 1"}, CheckStatus.ERROR, "operator"),
    ],
    ids=str,
)
def test_a_rule_that_is_not_run_says_why(rule: dict[str, Any], status: CheckStatus, word: str) -> None:
    spec = of_rule(rule)
    assert isinstance(spec, NotRun)
    assert spec.status is status
    assert word in spec.reason


def test_a_quality_rule_keeps_its_severity_and_its_name() -> None:
    spec = of_rule({"id": "nn", "metric": "nullValues", "mustBe": 0, "severity": "warning"})
    assert (spec.rule.severity, spec.rule.label, spec.rule.origin) == (
        Severity.WARNING,
        "nn",
        "properties/c/quality/0",
    )


LINES: Schema = {
    "name": "lines",
    "properties": [{"name": "customer", "relationships": [{"to": "customers.id"}]}, {"name": "part"}],
}


@pytest.mark.parametrize(
    "to",
    [
        "customers.id",
        "crm.id",
        "shop.customers.id",
        "schema/cust_tbl/properties/cust_id",
        "crm.yaml#/schema/cust_tbl/properties/cust_id",
    ],
)
def test_a_foreign_key_finds_its_table_by_every_name_it_goes_by(to: str) -> None:
    schema = {"name": "lines", "properties": [{"name": "customer", "relationships": [{"to": to}]}]}
    target = {"id": "cust_tbl", "name": "customers", "properties": [{"id": "cust_id", "name": "id"}]}
    spec = compiled(schema, {"crm": target})[1]
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE t AS SELECT unnest([1, 2, 3, NULL]) AS customer;"
        "CREATE TABLE crm AS SELECT unnest([1, NULL]) AS id"
    )
    assert isinstance(spec, Measure)
    assert con.execute(spec.sql).fetchall() == [(2,)]
    assert sorted(con.execute(spec.offenders).fetchall()) == [(2,), (3,)]


def test_a_compound_foreign_key_ignores_rows_that_are_not_filled_in() -> None:
    schema = {
        "name": "lines",
        "properties": [{"name": "a"}, {"name": "b"}],
        "relationships": [{"from": ["lines.a", "lines.b"], "to": ["parts.x", "parts.y"]}],
    }
    spec = compiled(schema, {"parts": {"name": "parts", "properties": [{"name": "x"}, {"name": "y"}]}})[1]
    con = duckdb.connect()
    con.execute("CREATE TABLE t AS SELECT * FROM (VALUES (1, 1), (1, 2), (1, NULL)) v(a, b)")
    con.execute("CREATE TABLE parts AS SELECT * FROM (VALUES (1, 1), (2, 2), (NULL, 2)) v(x, y)")
    assert isinstance(spec, Measure)
    assert con.execute(spec.sql).fetchall() == [(1,)]


def test_a_foreign_key_to_the_own_table_reads_the_own_table() -> None:
    schema = {"name": "staff", "properties": [{"name": "id"}, {"name": "boss", "relationships": [{"to": "staff.id"}]}]}
    spec = compiled(schema)[1]
    assert measured(spec, "SELECT * FROM (VALUES (1, NULL), (2, 1), (3, 9)) v(id, boss)") == (1, False)


def test_a_foreign_key_to_a_dataset_that_had_to_be_there_first_is_an_error() -> None:
    (_, spec) = compiled(LINES, depends_on=("customers",))
    assert isinstance(spec, NotRun)
    assert (spec.status, spec.reason) == (CheckStatus.ERROR, "customers is not restored")


def test_a_foreign_key_to_a_dataset_that_comes_later_is_skipped_with_a_reason() -> None:
    (_, spec) = compiled(LINES)
    assert isinstance(spec, NotRun)
    assert spec.status is CheckStatus.SKIPPED
    assert "customers" in spec.reason


def test_a_foreign_key_of_unequal_width_is_an_error() -> None:
    schema = {"name": "t", "relationships": [{"from": ["t.a", "t.b"], "to": ["customers.id"]}]}
    (spec,) = compiled(schema, {"customers": CUSTOMERS_SCHEMA})
    assert isinstance(spec, NotRun)
    assert spec.status is CheckStatus.ERROR


def test_a_key_that_the_standard_adds_later_is_reported() -> None:
    specs = compiled({"name": "t", "properties": [{"name": "c", "monotonic": True}], "sealed": True})
    assert [spec.rule.origin for spec in specs if isinstance(spec, NotRun)] == ["properties/c/monotonic", "sealed"]


# Every rule is accounted for ------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab'\"{}", max_size=3)
operators: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from(sorted(OPERATORS)).flatmap(lambda name: st.fixed_dictionaries({name: st.integers(0, 100)})),
    st.sampled_from(["mustBeBetween", "mustNotBeBetween"]).map(lambda name: {name: [1, 2]}),
    st.just({}),
)
rules = st.builds(
    lambda operator, entry: {**entry, **operator},
    operators,
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["text", "library", "sql", "custom"]),
            "metric": st.sampled_from([*METRICS, "median"]),
            "unit": st.sampled_from(["rows", "percent"]),
            "query": st.sampled_from(["SELECT count(*) FROM {object}", "SELECT {property}", ""]),
            "engine": st.sampled_from(["greatExpectations", "soda"]),
            "implementation": st.sampled_from(["type: expect_column_to_exist", "", "[", "{}", "- 1"]),
            "arguments": st.sampled_from([{}, {"validValues": ["a'"]}, {"pattern": "a{2}"}, {"properties": ["p0"]}]),
        },
    ),
)
options = st.dictionaries(
    st.sampled_from(
        ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern",
         "multipleOf", "format", "timezone", "minItems", "uniqueItems", "required", "whatever"]
    ),
    st.integers(0, 9) | st.sampled_from(["2026-01-01", "x"]),
)  # fmt: skip
links = st.lists(st.sampled_from(["customers.id", "t.p0", "gone.x"]).map(lambda to: {"to": to}), max_size=2)
properties = st.fixed_dictionaries(
    {},
    optional={
        "required": st.booleans(),
        "unique": st.booleans(),
        "primaryKey": st.booleans(),
        "physicalType": st.sampled_from(["BIGINT", "VARCHAR(3)", "NO SUCH"]),
        "logicalType": st.sampled_from(["integer", "date", "timestamp", "time", "string", "object"]),
        "enum": st.lists(st.just({"value": "2026-01-01"}), min_size=1, max_size=2),
        "logicalTypeOptions": options,
        "relationships": links,
        "quality": st.lists(rules, max_size=2),
        "properties": st.just([{"name": "inner", "required": True}]),
        "description": st.just("words"),
        "novelty": st.just(1),
    },
)
schemas = st.builds(
    lambda entries, quality: {
        "name": "t",
        "properties": [{"name": f"p{number}", **entry} for number, entry in enumerate(entries)],
        "quality": quality,
    },
    st.lists(properties, max_size=3),
    st.lists(rules, max_size=2),
)


def stated(schema: Schema) -> set[str]:
    """Every rule of a schema by its path; written apart from the compiler, from the standard."""
    found = {f"quality/{number}" for number in range(len(schema["quality"]))}
    for entry in schema["properties"]:
        base = f"properties/{entry['name']}"
        for key in entry.keys() - {"name", "description"}:
            if key in ("relationships", "quality"):
                found |= {f"{base}/{key}/{number}" for number in range(len(entry[key]))}
            elif key == "logicalTypeOptions":
                found |= {f"{base}/{key}/{option}" for option in entry[key]}
            elif entry[key] is not False:
                found.add(f"{base}/{key}")
    return found


@given(schemas)
def test_every_rule_that_a_contract_states_leads_to_a_check_or_to_a_reason(schema: Schema) -> None:
    specs = compiled(schema, {"customers": CUSTOMERS_SCHEMA})
    accounted = {spec.rule.origin for spec in specs}
    missing = stated(schema) - accounted
    # A key's uniqueness may be accounted for by the rule that says the same, or by the compound key.
    for origin in sorted(missing):
        assert origin.endswith("/primaryKey"), origin
        own = origin.removesuffix("primaryKey")
        assert accounted & {"primaryKey", f"{own}unique", f"{own}required"}
    assert all(spec.reason for spec in specs if isinstance(spec, NotRun))
