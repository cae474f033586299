"""What a correct folder of contracts becomes."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.contracts import (
    Channel,
    ContractError,
    Location,
    Objective,
    RetentionRule,
    SourceKind,
    TableFormat,
    Temperature,
)
from reopen.contracts.servers import split_glob
from tests.contracts.samples import GOOD, Folder, Promise, named

KEEP = (
    "{property: retention, value: 35, unit: d, customProperties: "
    "[{property: keep, value: {last: 3, daily: 7, weekly: 5, within: 2d}, vendor: reopen}]}"
)


def test_a_contract_becomes_a_dataset_with_everything_it_promises(folder: Folder) -> None:
    folder.write({"orders": GOOD})
    dataset = folder.load().datasets["orders"]
    assert (dataset.name, dataset.contract_id, dataset.contract_version) == ("orders", "orders", "1.2.0")
    assert dataset.contract_path == folder.path / "orders.odcs.yaml"
    assert dataset.objective == Objective(rpo=timedelta(minutes=15), rto=timedelta(hours=1))
    assert (dataset.frequency, dataset.schedule) == (timedelta(minutes=5), "*/5 * * * *")
    assert (dataset.tier, dataset.kind, dataset.temperature) == (1, SourceKind.FILES, Temperature.COLD)
    assert dataset.location("standby") == Location(
        site="standby", url=str(folder.base / "standby/orders"), pattern="*.parquet"
    )
    assert dataset.owner == "checkout"
    assert dataset.channels == (Channel(name="oncall", tool="email", url="mailto:oncall@example.org"),)
    assert dataset.table is not None
    assert (dataset.table.name, dataset.table.format) == ("orders", TableFormat.PARQUET)
    assert dataset.table.classified == ("o_customer",)
    assert dataset.description == "Every order placed in the shop."
    assert folder.lint() == ()


def test_the_schema_stays_plain_data(folder: Folder) -> None:
    folder.write(
        {"orders": GOOD.replace("physicalType: BIGINT", "physicalType: BIGINT\n        description: 2026-01-01")}
    )
    table = folder.load().datasets["orders"].table
    assert table is not None
    assert type(table.schema) is dict
    assert table.schema["properties"][0]["description"] == "2026-01-01"
    assert table.schema["quality"] == [{"id": "rows", "metric": "rowCount", "mustBeGreaterThan": 0}]


def test_the_name_wins_over_the_id(folder: Folder) -> None:
    folder.write({"a": GOOD.replace("id: orders", "id: 53581432-6c55-4ba2-a65f-72344a91553a")})
    assert list(folder.load().datasets) == ["orders"]
    folder.write({"a": GOOD.replace("name: orders\n", "", 1)})
    assert list(folder.load().datasets) == ["orders"]


def test_a_silent_contract_takes_the_promises_of_its_tier(folder: Folder) -> None:
    folder.tiers[1] = Promise(rpo=timedelta(hours=2), rto=timedelta(hours=3), temperature="warm")
    text = GOOD.replace("  - {property: recoveryTimeObjective, value: 1, unit: h}\n", "")
    folder.write({"orders": text})
    dataset = folder.load().datasets["orders"]
    assert dataset.objective == Objective(rpo=timedelta(minutes=15), rto=timedelta(hours=3))
    assert dataset.temperature is Temperature.WARM
    assert dataset.retention.is_empty


def test_a_dataset_asks_for_approval_where_its_contract_or_its_tier_says_so(folder: Folder) -> None:
    def asks(*properties: str) -> bool:
        added = "".join(f"  - {{property: {text}, vendor: reopen}}\n" for text in properties)
        folder.write({"orders": GOOD + added})
        return folder.load().datasets["orders"].approval

    assert not asks()
    assert asks("approval, value: required")
    folder.tiers[1] = Promise(approval=True)
    assert asks()
    assert not asks("approval, value: none"), "the contract has the last word"


def test_failing_over_by_itself_must_be_allowed_in_the_contract(folder: Folder) -> None:
    folder.write({"orders": GOOD})
    assert not folder.load().datasets["orders"].automatic_failover
    folder.write({"orders": GOOD + "  - {property: automaticFailover, value: true, vendor: reopen}\n"})
    assert folder.load().datasets["orders"].automatic_failover


def test_values_of_failing_rows_are_shown_only_where_the_contract_says_so(folder: Folder) -> None:
    for text, shows in (("", False), ("  - {property: showFailingRows, value: true, vendor: reopen}\n", True)):
        folder.write({"orders": GOOD + text})
        table = folder.load().datasets["orders"].table
        assert table is not None
        assert table.show_failing_rows is shows


def test_a_contract_without_retention_takes_the_rules_of_its_tier(folder: Folder) -> None:
    folder.tiers[1] = Promise(retention={"daily": 7, "within": timedelta(days=2)})
    folder.write({"orders": GOOD})
    assert folder.load().datasets["orders"].retention == RetentionRule(daily=7, within=timedelta(days=2))
    folder.write({"orders": GOOD.replace("slaProperties:\n", f"slaProperties:\n  - {KEEP}\n")})
    assert folder.load().datasets["orders"].retention.daily == 7
    assert folder.load().datasets["orders"].retention.weekly == 5


def test_our_properties_are_read_and_those_of_other_vendors_are_left(folder: Folder) -> None:
    folder.write(
        {
            "orders": GOOD
            + "  - {property: temperature, value: hot, vendor: reopen}\n"
            + "  - {property: include, value: ['*.parquet'], vendor: reopen}\n"
            + "  - {property: exclude, value: ['*.tmp', '/old/'], vendor: reopen}\n"
            + "  - {property: tier, value: gold, vendor: somebody-else}\n"
            + "  - {property: colour, value: red}\n"
        }
    )
    dataset = folder.load().datasets["orders"]
    assert dataset.temperature is Temperature.HOT
    assert (dataset.include, dataset.exclude, dataset.tier) == (("*.parquet",), ("*.tmp", "/old/"), 1)
    assert folder.lint() == ()


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        ("{property: retention, value: 35, unit: d}", RetentionRule(within=timedelta(days=35))),
        (
            KEEP,
            RetentionRule(last=3, daily=7, weekly=5, within=timedelta(days=2)),
        ),
        (
            KEEP.replace("weekly: 5", "quarterly: -1, within_monthly: 2y, within_yearly: 10y"),
            RetentionRule(
                last=3,
                daily=7,
                quarterly=-1,
                within=timedelta(days=2),
                within_monthly=timedelta(days=730),
                within_yearly=timedelta(days=3650),
            ),
        ),
    ],
)
def test_retention_is_a_period_or_restic_s_rules(folder: Folder, entry: str, rule: RetentionRule) -> None:
    folder.write({"orders": GOOD.replace("slaProperties:\n", f"slaProperties:\n  - {entry}\n")})
    assert folder.load().datasets["orders"].retention == rule
    assert folder.lint() == ()


def test_a_drill_has_its_own_schedule(folder: Folder) -> None:
    entry = "{property: restoreDrill, value: 7, unit: d, scheduler: cron, schedule: 0 3 * * 0}"
    folder.write({"orders": GOOD.replace("slaProperties:\n", f"slaProperties:\n  - {entry}\n")})
    assert folder.load().datasets["orders"].drill_schedule == "0 3 * * 0"


@pytest.mark.parametrize(
    ("path", "table_format", "expected"),
    [
        ("data/o/*.parquet", "parquet", ("data/o", "*.parquet")),
        ("data/o/**/part-?.csv", "csv", ("data/o", "**/part-?.csv")),
        ("data/o", "parquet", ("data/o", "**/*.parquet")),
        ("data/o/", "mixed", ("data/o", "**")),
        ("data/o/one.csv", "csv", ("data/o", "one.csv")),
        ("data/o/one.csv", "mixed", ("data/o/one.csv", "**")),
        ("/*.csv", "csv", ("/", "*.csv")),
        ("*.csv", "csv", ("", "*.csv")),
        ("s3://bucket/o/*.parquet", "parquet", ("s3://bucket/o", "*.parquet")),
        ("s3://bucket/*.parquet", "parquet", ("s3://bucket", "*.parquet")),
        ("s3://bucket/o/", "parquet", ("s3://bucket/o", "**/*.parquet")),
    ],
)
def test_a_path_is_a_folder_and_a_pattern(path: str, table_format: str, expected: tuple[str, str]) -> None:
    assert split_glob(path, table_format) == expected


def test_a_site_is_found_by_the_server_s_name_and_else_by_its_environment(folder: Folder) -> None:
    text = GOOD.replace("server: standby\n", "server: replica\n    environment: standby\n")
    folder.write({"orders": text.replace("type: local\n    path: standby", "type: s3\n    location: s3://dr/standby")})
    location = folder.load().datasets["orders"].location("standby")
    assert (location.url, location.pattern) == ("s3://dr/standby/orders", "*.parquet")


def test_a_team_without_a_name_is_called_after_its_owner(folder: Folder) -> None:
    members = "team:\n  members:\n    - {username: bo}\n    - {username: ada, role: Owner}\n"
    folder.write({"orders": GOOD.replace("team:\n  name: checkout\n", members)})
    assert folder.load().datasets["orders"].owner == "ada"
    folder.write({"orders": GOOD.replace("team:\n  name: checkout\n", "team:\n  - {username: ada, role: owner}\n")})
    assert folder.load().datasets["orders"].owner == "ada"


def test_public_columns_are_not_classified_and_nested_ones_count_for_their_column(folder: Folder) -> None:
    nested = (
        "        classification: public\n"
        "      - name: o_address\n"
        "        logicalType: object\n"
        "        physicalName: address\n"
        "        properties:\n"
        "          - {name: street, logicalType: string, classification: restricted}\n"
    )
    folder.write({"orders": GOOD.replace("        classification: restricted\n", nested)})
    table = folder.load().datasets["orders"].table
    assert table is not None
    assert table.classified == ("address",)


def test_contracts_know_order_tiers_and_why_something_was_raised(folder: Folder) -> None:
    folder.write(
        {
            "orders": named("orders", depends_on=("customer",)),
            "customer": named("customer", depends_on=("nation",), tier=2),
            "nation": named("nation", tier=3),
            "archive": named("archive", tier=3),
        }
    )
    contracts = folder.load()
    assert list(contracts.datasets) == ["archive", "customer", "nation", "orders"]
    assert contracts.effective_tiers() == {"archive": 3, "customer": 1, "nation": 1, "orders": 1}
    assert contracts.order() == ("nation", "customer", "orders", "archive")
    assert [(r.dataset, r.stated_tier, r.effective_tier, r.needed_by, r.chain) for r in contracts.raised()] == [
        ("customer", 2, 1, ("orders",), ("orders", "customer")),
        ("nation", 3, 1, ("orders",), ("orders", "customer", "nation")),
    ]


def in_group(text: str, group: str) -> str:
    return text + f"  - {{property: consistencyGroup, value: {group}, vendor: reopen}}\n"


def test_members_of_a_consistency_group_open_in_one_tier_and_so_does_what_they_need(folder: Folder) -> None:
    folder.write(
        {
            "orders": in_group(named("orders"), "sales"),
            "lineitem": in_group(named("lineitem", depends_on=("part",), tier=3), "sales"),
            "part": named("part", tier=2),
        }
    )
    contracts = folder.load()
    assert contracts.groups() == {"sales": ("lineitem", "orders")}
    assert contracts.effective_tiers() == {"lineitem": 1, "orders": 1, "part": 1}
    assert [(r.dataset, r.needed_by) for r in contracts.raised()] == [("lineitem", ("orders",)), ("part", ("orders",))]


def test_a_group_that_cannot_open_at_once_is_refused_with_what_stands_between(folder: Folder) -> None:
    folder.write(
        {
            "orders": in_group(named("orders", depends_on=("audit",)), "sales"),
            "lineitem": in_group(named("lineitem"), "sales"),
            "audit": named("audit", depends_on=("lineitem",)),
        }
    )
    with pytest.raises(ContractError) as caught:
        folder.load()
    assert "'sales' cannot open at once: 'audit' needs one of its datasets" in str(caught.value)


@pytest.mark.parametrize(
    ("group", "message"),
    [("part", "'part' has the name of a dataset that is not in it"), ("'Big Sales'", "is a bad consistency group")],
)
def test_a_group_s_name_is_no_other_dataset_s_and_is_a_name(folder: Folder, group: str, message: str) -> None:
    folder.write(
        {
            "orders": in_group(named("orders"), group),
            "lineitem": in_group(named("lineitem"), group),
            "part": named("part"),
        }
    )
    with pytest.raises(ContractError) as caught:
        folder.load()
    assert message in str(caught.value)


def test_the_digest_changes_with_any_byte_and_with_any_dataset(folder: Folder) -> None:
    folder.write({"orders": GOOD})
    first = folder.load().digest
    assert folder.load().digest == first
    folder.write({"orders": GOOD + "# a remark\n"})
    second = folder.load().digest
    folder.write({"part": named("part")})
    assert len({first, second, folder.load().digest}) == 3


def test_contracts_and_their_errors_cross_process_borders(folder: Folder) -> None:
    folder.write({"orders": GOOD})
    contracts = folder.load()
    assert pickle.loads(pickle.dumps(contracts)) == contracts
    folder.write({"orders": GOOD.replace("unit: m", "unit: q")})
    with pytest.raises(ContractError) as caught:
        folder.load()
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


def test_relative_paths_count_from_the_base_and_not_from_the_current_folder(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder.write({"orders": GOOD.replace("path: standby/orders", "path: ../elsewhere/orders")})
    monkeypatch.chdir(tmp_path_factory.mktemp("other"))
    assert Path(folder.load().datasets["orders"].location("standby").url) == folder.base.parent / "elsewhere/orders"
