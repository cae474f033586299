"""The nine contracts of the demo: they follow the standard, give the expected order, and are true of real data."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import pytest
from jsonschema import Draft201909Validator
from ruamel.yaml import YAML

from reopen.config import load_settings
from reopen.contracts import Contracts, Table, lint_contracts, load_contracts

ROOT = Path(__file__).resolve().parent.parent.parent
TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")


@pytest.fixture(scope="module")
def contracts() -> Contracts:
    settings = load_settings(ROOT / "reopen.toml")
    return load_contracts(settings.contracts, base=settings.base, sites=settings.sites, tiers=settings.tiers)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The generator's tables at a small scale, as views."""
    folder = tmp_path_factory.mktemp("tpch")
    tool = shutil.which("tpchgen-cli", path=sysconfig.get_path("scripts"))
    assert tool is not None, "tpchgen-cli comes with the extra `demo`"
    subprocess.run(
        [tool, "parquet", "-s", "0.01", "--output-dir", str(folder), "--parts", "1"], check=True, capture_output=True
    )
    with duckdb.connect() as connection:
        for table in TABLES:
            connection.execute(f"CREATE VIEW {table} AS FROM '{folder}/{table}/*.parquet'")
        yield connection


def test_there_are_nine_and_lint_has_nothing_to_say(contracts: Contracts) -> None:
    settings = load_settings(ROOT / "reopen.toml")
    assert sorted(contracts.datasets) == sorted([*TABLES, "documents"])
    assert lint_contracts(settings.contracts, base=settings.base, sites=settings.sites, tiers=settings.tiers) == ()


def test_they_carry_all_they_need_without_the_settings_defaults() -> None:
    sites = ("production", "standby")
    assert lint_contracts(ROOT / "data_contracts", base=ROOT, sites=sites, tiers={}) == ()


@pytest.mark.parametrize("name", [*TABLES, "documents"])
def test_each_is_valid_against_the_standard_s_own_schema(name: str) -> None:
    """With another YAML loader than ours, so that a mistake in ours does not hide one in the contract."""
    spec = find_spec("open_data_contract_standard")
    assert spec is not None
    assert spec.submodule_search_locations
    schema = json.loads((Path(spec.submodule_search_locations[0]) / "schema.json").read_text(encoding="utf-8"))
    document = YAML(typ="safe", pure=True).load(ROOT / "data_contracts" / f"{name}.odcs.yaml")
    assert [error.message for error in Draft201909Validator(schema).iter_errors(document)] == []


def test_the_reference_data_is_raised_to_tier_one_because_customers_need_it(contracts: Contracts) -> None:
    assert contracts.effective_tiers() == {
        "customer": 1,
        "documents": 3,
        "lineitem": 2,
        "nation": 1,
        "orders": 1,
        "part": 2,
        "partsupp": 2,
        "region": 1,
        "supplier": 2,
    }
    assert [(r.dataset, r.stated_tier, r.effective_tier, r.chain) for r in contracts.raised()] == [
        ("nation", 2, 1, ("customer", "nation")),
        ("region", 2, 1, ("customer", "nation", "region")),
    ]
    assert contracts.order() == (
        "region",
        "nation",
        "customer",
        "orders",
        "part",
        "supplier",
        "partsupp",
        "lineitem",
        "documents",
    )


def test_objectives_and_places_are_those_of_the_demo(contracts: Contracts) -> None:
    orders = contracts.datasets["orders"]
    assert (orders.objective.rpo, orders.objective.rto) == (timedelta(minutes=15), timedelta(minutes=15))
    assert orders.location("production").url == str(ROOT / ".reopen/demo/production/data/orders")
    assert orders.location("production").pattern == "*.parquet"
    documents = contracts.datasets["documents"]
    assert (documents.table, documents.location("standby").pattern) == (None, "**")
    assert contracts.datasets["customer"].table is not None
    for dataset in contracts.datasets.values():
        assert dataset.owner
        assert dataset.channels
        assert dataset.schedule
        assert dataset.drill_schedule
        assert dataset.retention.daily


def test_personal_data_is_classified(contracts: Contracts) -> None:
    table = contracts.datasets["customer"].table
    assert table is not None
    assert table.classified == ("c_name", "c_address", "c_phone")


@pytest.mark.parametrize("name", TABLES)
def test_the_contract_is_true_of_the_generator_s_data(
    name: str, contracts: Contracts, shop: duckdb.DuckDBPyConnection
) -> None:
    """Each column's type and each rule, put to DuckDB in the plainest way, apart from the compiler of checks."""
    table = contracts.datasets[name].table
    assert table is not None
    described = shop.execute(f"DESCRIBE {name}").fetchall()
    assert [(column["name"], column["physicalType"]) for column in table.schema["properties"]] == [
        (row[0], row[1]) for row in described
    ]
    for rule in broken_rules(table):
        assert shop.execute(rule).fetchall() == [(0,)], rule


def broken_rules(table: Table) -> Iterator[str]:
    """Queries that each count the rows that break a rule of the contract."""
    name = table.name
    for column in table.schema["properties"]:
        for condition in broken_conditions(column):
            yield f"SELECT count(*) FROM {name} WHERE {condition}"
        for relationship in column.get("relationships", []):
            other, _, key = relationship["to"].partition(".")
            yield f"SELECT count(*) FROM {name} WHERE {column['name']} NOT IN (SELECT {key} FROM {other})"
    for relationship in table.schema.get("relationships", []):
        other = relationship["to"][0].partition(".")[0]
        own = ", ".join(reference.partition(".")[2] for reference in relationship["from"])
        theirs = ", ".join(reference.partition(".")[2] for reference in relationship["to"])
        yield f"SELECT count(*) FROM {name} WHERE ({own}) NOT IN (SELECT ({theirs}) FROM {other})"
    keys = ", ".join(column["name"] for column in table.schema["properties"] if column.get("primaryKey"))
    yield f"SELECT count(*) - count(DISTINCT ({keys})) FROM {name}"
    for rule in table.schema["quality"]:
        if rule.get("type") == "sql":
            assert rule["mustBe"] == 0
            yield rule["query"].replace("{object}", name)
        elif rule["metric"] == "rowCount":
            yield f"SELECT greatest({rule['mustBeGreaterOrEqualTo']} - count(*), 0) FROM {name}"
        else:
            assert (rule["metric"], rule["arguments"]["properties"]) == ("duplicateValues", keys.split(", "))


def broken_conditions(column: dict[str, Any]) -> Iterator[str]:
    """What a row that breaks a column's promises looks like."""
    name = column["name"]
    options = column.get("logicalTypeOptions", {})
    yield f"{name} IS NULL"
    if "enum" in column:
        yield f"{name} NOT IN ({', '.join(repr(item['value']) for item in column['enum'])})"
    if "pattern" in options:
        yield f"NOT regexp_matches({name}, '{options['pattern']}')"
    comparisons = {
        "minimum": f"{name} <",
        "maximum": f"{name} >",
        "exclusiveMinimum": f"{name} <=",
        "minLength": f"length({name}) <",
        "maxLength": f"length({name}) >",
    }
    for option, comparison in comparisons.items():
        if option in options:
            yield f"{comparison} {options[option]!r}"
    assert set(options) <= {*comparisons, "pattern"}
