"""Every fault of a contract has a message of its own, with file, line, path, bad value and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from reopen.contracts import ContractError, Severity
from tests.contracts.samples import GOOD, Folder, line_of, named

SLA = "slaProperties:\n"
TIER = "{property: tier, value: 1, vendor: reopen}"


@pytest.mark.parametrize(
    ("old", "new", "fragment", "path", "message"),
    [
        # The standard
        ("apiVersion: v3.2.0", "apiVersion: v2.2.2", "apiVersion", "apiVersion", "'v2.2.2' is not a supported version"),
        ("apiVersion: v3.2.0", "apiVersion: v9.0.0", "apiVersion", "apiVersion", "allowed: v3.2.0, v3.1.0, v3.0.2"),
        ("apiVersion: v3.2.0\n", "", "kind", "apiVersion", "The version of the standard is missing."),
        ("version: 1.2.0\n", "", "apiVersion", "", "The key 'version' is missing."),
        ("status: active", "statuss: active", "statuss", "statuss", "The key 'statuss' is unknown here; allowed: "),
        ("kind: DataContract", "kind: Contract", "kind", "kind", "'Contract' is not allowed here; allowed: DataC"),
        ("type: local", "type: lokal", "type: lokal", "servers[0].type", "'lokal' is not allowed here; allowed: api"),
        ("    path: prod", "    pth: x\n    path: prod", "pth", "servers[0].pth", "The key 'pth' is unknown here"),
        ("required: true", "required: yes", "yes", "schema[0].properties[0].required", "'yes' has the wrong type"),
        ("value: 15,", "value: [15],", "[15]", "slaProperties[0].value", "allowed: string, number, integer"),
        ("unit: m", "unit: 3", "unit: 3", "slaProperties[0].unit", "3 has the wrong type; allowed: string."),
        (
            "        physicalType: BIGINT",
            "        physicalTyp: BIGINT",
            "physicalTyp:",
            "schema[0].properties[0].physicalTyp",
            "The key 'physicalTyp' is unknown here",
        ),
        (
            "        logicalType: integer\n",
            "",
            "- name: o_id",
            "schema[0].properties[0]",
            "The key 'logicalType' is missing.",
        ),
        (
            "mustBeGreaterThan: 0",
            "mustBeGreaterThan: 0, mustBe: 3",
            "metric",
            "schema[0].quality[0]",
            "A quality rule has 2 operators (mustBe, mustBeGreaterThan); it needs exactly one of",
        ),
        (", mustBeGreaterThan: 0", "", "metric", "schema[0].quality[0]", "A quality rule has no operator"),
        (
            "metric: rowCount",
            "metric: invalidValues, arguments: {validVals: [1]}",
            "validVals",
            "schema[0].quality[0].arguments.validVals",
            "The metric 'invalidValues' has no argument 'validVals'; allowed: pattern, validValues.",
        ),
        (
            "mailto:oncall@example.org",
            "slack://anna:hunter2@T1/B2",
            "- {channel: oncall",
            "support[0].url",
            "The URL carries a secret, and a contract is read by many.",
        ),
        (
            "mailto:oncall@example.org",
            "https://hooks.slack.com/services/T1/B2/hunter2",
            "- {channel: oncall",
            "support[0].url",
            "The URL carries a secret",
        ),
        # Names
        ("name: orders\n", "name: Orders!\n", "Orders!", "name", "'Orders!' is a bad dataset name; allowed: [a-z]"),
        # Our properties
        (
            TIER,
            "{property: tier, value: 0, vendor: reopen}",
            "value: 0",
            "customProperties[0].value",
            "0 is a bad tier",
        ),
        (
            TIER,
            "{property: tier, value: '1', vendor: reopen}",
            "tier",
            "customProperties[0].value",
            "'1' is a bad tier",
        ),
        (TIER, "{property: tier, value: true, vendor: reopen}", "tier", "customProperties[0].value", "True is a bad t"),
        (
            TIER,
            TIER + "\n  - {property: temperature, value: wram, vendor: reopen}",
            "wram",
            "customProperties[1].value",
            "'wram' is a bad temperature; allowed: cold, warm, hot.",
        ),
        (
            TIER,
            TIER + "\n  - {property: approval, value: maybe, vendor: reopen}",
            "maybe",
            "customProperties[1].value",
            "'maybe' is a bad approval; allowed: required, none.",
        ),
        (
            TIER,
            TIER + "\n  - {property: automaticFailover, value: 'yes', vendor: reopen}",
            "'yes'",
            "customProperties[1].value",
            "'yes' is a bad automaticFailover; allowed: true, false.",
        ),
        (
            TIER,
            TIER + "\n  - {property: sourceKind, value: oracle, vendor: reopen}",
            "oracle",
            "customProperties[1].value",
            "'oracle' is a bad source kind; allowed: files.",
        ),
        (
            TIER,
            TIER + "\n  - {property: dependOn, value: [a], vendor: reopen}",
            "dependOn",
            "customProperties[1].property",
            "'dependOn' is no property of vendor reopen; allowed: ",
        ),
        (
            TIER,
            TIER + "\n  - {property: exclude, value: '*.tmp', vendor: reopen}",
            "exclude",
            "customProperties[1].value",
            "exclude must be a list of texts, not '*.tmp'.",
        ),
        (
            TIER,
            TIER + "\n  - {property: include, value: [3], vendor: reopen}",
            "include",
            "customProperties[1].value[0]",
            "include must be a list of texts, and 3 is not one.",
        ),
        (
            TIER,
            TIER + "\n  - {vendor: reopen, property: tier, value: 1}",
            "{vendor",
            "customProperties[1].property",
            "'tier' is stated twice",
        ),
        # Service levels
        ("unit: m", "unit: parsec", "parsec", "slaProperties[0].unit", "the unit 'parsec' is unknown"),
        ("unit: m", "unit: M", "unit: M", "slaProperties[0].unit", "'15 M' is a bad duration: the unit 'M' could be"),
        (", unit: m", "", "recoveryPoint", "slaProperties[0].value", "15 is a bad duration: it has no unit."),
        (
            "value: 15",
            "value: 0",
            "value: 0",
            "slaProperties[0].value",
            "'0 m' is a bad duration: it must be above zero",
        ),
        (
            "value: 15",
            "value: soon",
            "soon",
            "slaProperties[0].value",
            "'soon m' is a bad duration: it is not a number",
        ),
        (
            "value: 15",
            "value: null",
            "null",
            "slaProperties[0].value",
            "'None m' is a bad duration: it is not a number",
        ),
        (
            "'*/5 * * * *'",
            "'61 * * * *'",
            "61 *",
            "slaProperties[2].schedule",
            "'61 * * * *' is a bad cron expression: bad minute.",
        ),
        ("'*/5 * * * *'", "hourly", "hourly", "slaProperties[2].schedule", "it has 1 field instead of 5"),
        ("'*/5 * * * *'", "'0 0 31 2 *'", "31 2", "slaProperties[2].schedule", "is a bad cron expression"),
        (
            SLA,
            SLA + "  - {property: recoveryPointObjective, value: 1, unit: h}\n",
            "value: 15",
            "slaProperties[1].property",
            "The service level 'recoveryPointObjective' is stated twice; the first is on line",
        ),
        (
            SLA,
            SLA + "  - {property: retention, value: 7, unit: d, customProperties: "
            "[{property: keep, value: {dayly: 7}, vendor: reopen}]}\n",
            "dayly",
            "slaProperties[0].customProperties[0].value.dayly",
            "'dayly' is no retention rule; allowed: last, hourly, daily",
        ),
        (
            SLA,
            SLA + "  - {property: retention, value: 7, unit: d, customProperties: "
            "[{property: keep, value: {daily: 0}, vendor: reopen}]}\n",
            "daily",
            "slaProperties[0].customProperties[0].value.daily",
            "0 is no count for 'daily'; allowed: whole numbers from 1, -1 for all",
        ),
        (
            SLA,
            SLA + "  - {property: retention, value: 7, unit: d, customProperties: "
            "[{property: keep, value: {within_daily: 0d}, vendor: reopen}]}\n",
            "within_daily",
            "slaProperties[0].customProperties[0].value.within_daily",
            "'0d' is a bad duration: it must be above zero",
        ),
        # Places
        (
            "server: standby",
            "server: stanby",
            "servers:",
            "servers",
            "has no server for the site 'standby'; servers: p",
        ),
        (
            "type: local\n    path: standby/orders/*.parquet\n    format: parquet",
            "type: duckdb\n    database: x.db",
            "type: duckdb",
            "servers[1].type",
            "A server of type 'duckdb' cannot be protected yet; allowed: local, s3, custom.",
        ),
        (
            "path: standby/",
            "path: production/",
            "- server: standby",
            "servers[1]",
            "The sites 'production' and 'standby' sha",
        ),
        (
            "format: parquet\nschema",
            "format: csv\nschema",
            "format: csv",
            "servers[1].format",
            "The sites state different formats (production: parquet, standby: csv).",
        ),
    ],
)
def test_a_fault_is_told_with_its_place_and_its_value(
    folder: Folder, old: str, new: str, fragment: str, path: str, message: str
) -> None:
    problem = folder.only_after(old, new)
    assert problem.file == folder.path / "orders.odcs.yaml"
    assert problem.path == path
    assert message in problem.message
    assert problem.hint
    assert problem.line == line_of(GOOD.replace(old, new, 1), fragment)
    with pytest.raises(ContractError) as caught:
        folder.load()
    assert str(problem) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("apiVersion: [v3\nkind: x\n", 2, "The file is not YAML: did not find expected ',' or ']'"),
        ("", None, "The file is empty."),
        ("- a\n- b\n", 1, "The file is not a mapping of keys to values."),
        ("a: 1\nb: 2\na: 3\n", 3, "The key 'a' is written twice; the first is on line 1."),
        ("a: &x\n  - *x\n", 1, "An alias refers to a node that contains it."),
        ("a: 1\nb: !!python/name:os.system x\n", 2, "is not allowed"),
        ("a: .inf\n", 1, "'.inf' is not a valid float."),
        ("? [a]\n: 1\n", 1, "A key is not plain text."),
        ("a: 1\n---\nb: 1\n", 2, "The file is not YAML"),
    ],
)
def test_a_file_that_is_no_document_says_so(folder: Folder, text: str, line: int | None, message: str) -> None:
    folder.write({"orders": text})
    problem = folder.only()
    assert (problem.file, problem.line) == (folder.path / "orders.odcs.yaml", line)
    assert message in problem.message


def test_a_file_that_is_not_text_says_so(folder: Folder) -> None:
    folder.write({"orders": ""})
    (folder.path / "orders.odcs.yaml").write_bytes(b"\xff\xfe\x00")
    assert folder.only().message == "The file is not UTF-8 text."


def test_a_missing_tier_says_where_to_put_it(folder: Folder) -> None:
    problem = folder.only_after(f"customProperties:\n  - {TIER}\n", "")
    assert problem.message == "Dataset 'orders' has no tier; allowed: whole numbers from 1 (reopens first) to 9."
    assert "customProperties" in problem.hint


def test_a_missing_objective_names_both_places_where_it_can_stand(folder: Folder) -> None:
    problem = folder.only_after("  - {property: recoveryTimeObjective, value: 1, unit: h}\n", "")
    assert problem.line == line_of(GOOD, "slaProperties")
    assert "'orders' has no recoveryTimeObjective, and tier 1 has no default for it" in problem.message
    assert "recoveryTimeObjective" in problem.hint
    assert "'rto' under [tiers.1]" in problem.hint


def test_two_servers_for_a_site_are_refused_with_their_lines(folder: Folder) -> None:
    text = GOOD.replace("schema:", "  - {server: standby, type: local, path: other, format: parquet}\nschema:", 1)
    folder.write({"orders": text})
    problem = folder.only()
    lines = f"(lines {line_of(text, 'server: standby')}, {line_of(text, '{server: standby')})"
    assert problem.message == f"2 servers belong to the site 'standby' {lines}."


def test_two_tables_in_a_contract_are_refused(folder: Folder) -> None:
    problem = folder.only_after("slaProperties", "  - {name: other}\nslaProperties")
    assert (problem.path, problem.message) == ("schema[1]", "The contract describes 2 tables; a dataset has one.")


def test_a_duplicate_name_names_both_files(folder: Folder) -> None:
    folder.write({"a": GOOD, "b": GOOD.replace("production/", "p/").replace("standby/", "s/")})
    problem = folder.only()
    assert (problem.file.name, problem.line, problem.path) == ("b.odcs.yaml", line_of(GOOD, "name: orders"), "name")
    assert str(folder.path / "a.odcs.yaml") in problem.message
    assert str(folder.path / "b.odcs.yaml") in problem.message


def test_an_unknown_dependency_suggests_the_nearest_name(folder: Folder) -> None:
    text = named("orders", depends_on=("custmer",))
    folder.write({"orders": text, "customer": named("customer")})
    problem = folder.only()
    assert (problem.line, problem.path) == (line_of(text, "dependsOn"), "customProperties[1].value[0]")
    assert "'custmer', which no contract describes; allowed: customer." in problem.message
    assert problem.hint.startswith("Did you mean 'customer'?")


def test_a_cycle_is_spelled_out(folder: Folder) -> None:
    folder.write(
        {
            "a": named("a", depends_on=("b",)),
            "b": named("b", depends_on=("c",)),
            "c": named("c", depends_on=("a",)),
        }
    )
    problem = folder.only()
    assert problem.file.name == "a.odcs.yaml"
    assert "in a cycle: a -> b -> c -> a." in problem.message


def test_a_dataset_that_needs_itself_is_refused(folder: Folder) -> None:
    folder.write({"orders": named("orders", depends_on=("orders",))})
    assert folder.only().message == "The dataset 'orders' depends on itself."


def test_a_broken_file_does_not_make_its_dependants_look_wrong(folder: Folder) -> None:
    folder.write({"orders": named("orders", depends_on=("customer",)), "customer": "a: [\n"})
    assert folder.only().file.name == "customer.odcs.yaml"
    folder.write({"customer": named("customer").replace("kind: DataContract", "kind: Wrong")})
    assert folder.only().file.name == "customer.odcs.yaml"


def test_all_problems_of_all_files_are_told_at_once_in_order(folder: Folder) -> None:
    bad = (
        named("b")
        .replace("value: 15", "value: x")
        .replace("unit: h", "unit: q")
        .replace("tier, value: 1", "tier, value: 0")
    )
    folder.write({"a": "a: [\n", "b": bad, "c": named("c", depends_on=("zzz",))})
    with pytest.raises(ContractError) as caught:
        folder.load()
    places = [(problem.file.name[0], problem.path) for problem in caught.value.problems]
    assert places == [
        ("a", ""),
        ("b", "slaProperties[0].value"),
        ("b", "slaProperties[1].unit"),
        ("b", "customProperties[0].value"),
        ("c", "customProperties[1].value[0]"),
    ]
    assert caught.value.exit_code == 2
    listed = caught.value.as_dict()["problems"]
    assert isinstance(listed, list)
    assert listed[1]["line"] == line_of(bad, "value: x")


def test_a_missing_folder_and_an_empty_one_have_messages_of_their_own(folder: Folder) -> None:
    assert folder.only().message == "The folder of contracts does not exist."
    folder.write({})
    problem = folder.only()
    assert (problem.file, problem.line) == (folder.path, None)
    assert problem.message == "There is no contract in this folder."
    folder.path.rmdir()
    folder.path.write_text("")
    assert folder.only().message == "The folder of contracts is not a folder."


@pytest.mark.parametrize(
    ("old", "new", "fragment", "message"),
    [
        ("value: 5, unit: m", "value: 1, unit: h", "frequency", "Snapshots every 1h cannot keep a recovery point"),
        ("team:\n  name: checkout\n", "", "apiVersion", "The contract names no owner"),
        ("scheduler: cron", "scheduler: airflow", "airflow", "The scheduler 'airflow' is not driven by Reopen"),
        (
            SLA,
            SLA + "  - {property: recoveryPointObjectiv, value: 1, unit: m}\n",
            "recoveryPointObjectiv,",
            "The service level 'recoveryPointObjectiv' is not read",
        ),
        (
            SLA,
            SLA + "  - {property: retention, value: 90, unit: d, customProperties: "
            "[{property: keep, value: {daily: 7}, vendor: reopen}]}\n",
            "keep",
            "The rules keep snapshots for about 7d, and the contract promises 90d.",
        ),
        (
            TIER,
            TIER + "\n  - {property: dependson, value: [a]}",
            "dependson",
            "'dependson' is no property of vendor reopen",
        ),
        (
            "        classification",
            "        relationships: [{to: customer.c_id}]\n        classification",
            "customer.c_id",
            "The foreign key refers to the table 'customer', which no contract describes.",
        ),
    ],
)
def test_advice_is_a_warning_and_does_not_stop_loading(
    folder: Folder, old: str, new: str, fragment: str, message: str
) -> None:
    problem = folder.only_after(old, new, Severity.WARNING)
    assert message in problem.message
    assert problem.line == line_of(GOOD.replace(old, new, 1), fragment)
    assert list(folder.load().datasets) == ["orders"]


def with_foreign_key(target: str, *, depends_on: tuple[str, ...] = ()) -> str:
    key = f"        relationships: [{{to: {target}}}]\n        classification"
    return named("orders", depends_on=depends_on).replace("        classification", key)


def test_a_foreign_key_to_a_dataset_that_is_not_in_depends_on_is_a_warning(folder: Folder) -> None:
    text = with_foreign_key("customer.o_id")
    folder.write({"orders": text, "customer": named("customer")})
    problem = folder.only(Severity.WARNING)
    assert (problem.line, problem.path) == (
        line_of(text, "customer.o_id"),
        "schema[0].properties[1].relationships[0].to",
    )
    assert problem.message == "A foreign key refers to the dataset 'customer', which is not in dependsOn."
    folder.write({"orders": with_foreign_key("customer.o_id", depends_on=("customer",))})
    assert folder.lint() == ()


def test_a_foreign_key_to_a_column_that_is_not_there_is_an_error(folder: Folder) -> None:
    folder.write({"orders": with_foreign_key("customer.nope", depends_on=("customer",)), "customer": named("customer")})
    assert "refers to customer.nope, and that table has no such column; allowed: o_id" in folder.only().message


def test_a_dependency_that_may_take_longer_than_its_dependant_is_a_warning(folder: Folder) -> None:
    slow = named("customer").replace("value: 1, unit: h", "value: 2, unit: h")
    folder.write({"orders": named("orders", depends_on=("customer",)), "customer": slow})
    message = "The dataset 'orders' must run again in 1h and depends on 'customer', which may take 2h."
    assert folder.only(Severity.WARNING).message == message


def test_datasets_that_share_a_place_are_refused_and_nested_ones_warned_of(folder: Folder) -> None:
    part = named("part").replace("path: standby/part/", "path: standby/orders/")
    folder.write({"orders": GOOD, "part": part})
    assert "The datasets 'orders' and 'part' share the place" in folder.only().message
    folder.write({"part": part.replace("path: standby/orders/", "path: standby/orders/deep/")})
    assert "'orders' and 'part' lie inside each other at 'standby'." in folder.only(Severity.WARNING).message


def test_a_yaml_file_with_another_ending_is_named_since_it_is_not_read(folder: Folder) -> None:
    folder.write({"orders": GOOD})
    (folder.path / "part.yaml").write_text(GOOD)
    problem = folder.only(Severity.WARNING)
    assert problem.file == Path(folder.path / "part.yaml")
    assert "is not read" in problem.message


@pytest.mark.parametrize(
    "url", ["https://hooks.slack.com/services/${HOOK}", "slack://bot:${TOKEN}@T1", "json://a@host"]
)
def test_a_secret_that_stands_in_the_environment_may_be_named(folder: Folder, url: str) -> None:
    folder.write({"orders": GOOD.replace("mailto:oncall@example.org", url)})
    assert folder.load().datasets["orders"].channels[0].url == url
