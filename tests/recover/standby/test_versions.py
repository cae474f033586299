"""Names and places of versions, and which datasets are kept warm (V1)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reopen.contracts.load import Contracts
from reopen.contracts.model import Temperature
from reopen.errors import Refused
from reopen.recover.standby.records import Related, Staged, Standby
from reopen.recover.standby.versions import (
    check_movable,
    effective_temperatures,
    is_staged_name,
    is_version,
    marked_versions,
    version_name,
    version_of,
    version_url,
)
from tests.recover.business import NOON, a_dataset, contracts_of, plan_of, snapshot_id, target_of, vault_of

ID = "0123456789abcdef"


def test_a_name_is_never_one_that_was_promoted() -> None:
    taken = {f"0000000007-{ID}", f"0000000007-{ID}-2"}
    assert version_name(7, ID) == f"0000000007-{ID}"
    assert version_name(7, ID, taken=taken) == f"0000000007-{ID}-3"
    assert version_name(7, ID, epoch=4, taken=taken) == f"0000000007-{ID}-e4"
    assert version_name(7, ID, epoch=4, taken={f"0000000007-{ID}-e4"}) == f"0000000007-{ID}-e4-2"


def test_names_of_versions_are_told_from_all_others() -> None:
    for name in (f"0000000007-{ID}", f"0000000007-{ID}-3", f"0000000007-{ID}-e4", f"0000000007-{ID}-e4-2"):
        assert is_version(name)
        assert is_staged_name(name) is ("-e" not in name)
    for name in ("kept-epoch-1", ".lock", f"7-{ID}", f"0000000007-{ID}.promoted", ""):
        assert not is_version(name)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/srv/the data/orders", "/srv/the data/.reopen-versions/sales/v"),
        ("/srv/orders/", "/srv/.reopen-versions/sales/v"),
        ("s3://bucket/base/orders", "s3://bucket/base/.reopen-versions/sales/v"),
        ("s3://bucket/orders/", "s3://bucket/.reopen-versions/sales/v"),
        ("s3://bucket", "s3://bucket/.reopen-versions/sales/v"),
    ],
)
def test_versions_lie_beside_the_place(place: str, expected: str) -> None:
    assert version_url(place, "sales", "v") == expected


def test_the_version_is_read_back_from_its_url_and_from_no_other() -> None:
    name = version_name(7, ID, epoch=2)
    assert version_of(version_url("/srv/orders", "orders", name)) == name
    assert version_of(version_url("s3://b/orders", "orders", name) + "/") == name
    assert version_of("/srv/orders") == ""
    assert version_of(f"/srv/{name}") == ""


def test_what_a_warm_dataset_needs_is_kept_warm_too() -> None:
    contracts = contracts_of({"a": (1, ()), "b": (1, ("a",)), "c": (1, ("b",)), "d": (1, ())})
    warm = replace(contracts.datasets["c"], temperature=Temperature.HOT)
    found = effective_temperatures(Contracts(datasets={**contracts.datasets, "c": warm}))
    assert {name: str(value) for name, value in found.items()} == {"a": "warm", "b": "warm", "c": "hot", "d": "cold"}


def test_marks_and_the_link_say_what_was_promoted_when_the_log_has_moved(tmp_path: Path) -> None:
    versions = tmp_path / ".reopen-versions/orders"
    versions.mkdir(parents=True)
    (versions / f"0000000001-{ID}.promoted").touch()
    (tmp_path / "orders").symlink_to(f".reopen-versions/orders/0000000002-{ID}")
    found = marked_versions(str(tmp_path / "orders"), "orders")
    assert found == {f"0000000001-{ID}", f"0000000002-{ID}"}
    assert marked_versions(str(tmp_path / "papers"), "papers") == frozenset()
    assert marked_versions("s3://bucket/orders", "orders") == frozenset()


def test_a_mount_point_is_no_place_for_a_link() -> None:
    for place in ("/proc", "/"):
        with pytest.raises(Refused, match="mount point"):
            check_movable(place)


def staged(name: str, **changes: object) -> Staged:
    version = version_name(1, snapshot_id(name, 1))
    value = Staged(
        site="standby", dataset=name, version=version, url=version_url(f"/sites/standby/{name}", name, version),
        snapshot=snapshot_id(name, 1), seq=1, consistent_at=NOON, record_digest=snapshot_id(name, 1) * 4,
        contract=f"{name:0<64}", related={"nation": Related(version="v", contract="c")}, tree="00", status="pass",
        validated_at=NOON,
    )  # fmt: skip
    return replace(value, **changes)  # type: ignore[arg-type]


def test_a_plan_takes_the_staged_version_of_its_recovery_point_and_goes_through_json() -> None:
    plan = plan_of(standby=Standby(epoch=1, staged={"customer": [staged("customer")]}))
    customer = plan.dataset("customer")
    assert customer.version == version_name(1, snapshot_id("customer", 1))
    assert customer.staged == staged("customer")
    assert customer.target_url.endswith(f"/.reopen-versions/customer/{customer.version}")
    assert plan.dataset("orders").target_url == target_of("orders")
    assert plan.shape == plan_of().shape, "what is staged changes from day to day"
    assert type(plan).__name__ == "RecoveryPlan"
    from reopen.recover.plan import read_plan

    assert read_plan(plan.encoded, "plan") == plan


@pytest.mark.parametrize(
    "why", [{"record_digest": "another"}, {"status": "fail"}], ids=["another snapshot", "checks failed"]
)
def test_a_staged_version_of_something_else_is_not_taken(why: dict[str, str]) -> None:
    plan = plan_of(standby=Standby(epoch=1, staged={"customer": [staged("customer", **why)]}))
    assert (plan.dataset("customer").staged, plan.dataset("customer").version[-3:]) == (None, "-e1")


def test_a_staged_version_is_not_taken_beside_a_dependency_that_the_business_writes_to() -> None:
    standby = Standby(epoch=1, staged={"customer": [staged("customer")]})
    served = {"nation": target_of("nation"), "region": target_of("region")}
    assert plan_of(standby=standby, served=served).dataset("customer").staged is None


def test_a_recovery_in_a_later_epoch_has_versions_of_its_own() -> None:
    plan = plan_of(standby=Standby(epoch=3, taken={"orders": {target_of("orders", epoch=3).rpartition("/")[2]}}))
    assert plan.dataset("part").target_url == target_of("part", epoch=3)
    assert plan.dataset("orders").target_url == target_of("orders", epoch=3) + "-2"


def test_a_dataset_without_a_recovery_point_has_no_version() -> None:
    vault = vault_of()
    vault.verified = [fact for fact in vault.verified if fact.dataset != "papers"]
    papers = plan_of(vault=vault).dataset("papers")
    assert (papers.version, papers.target_url) == ("", "/sites/standby/papers")


def test_the_temperature_of_the_plan_is_the_one_that_is_kept() -> None:
    warm = a_dataset("papers", 3, temperature=Temperature.WARM)
    contracts = Contracts(datasets={"papers": warm})
    assert plan_of(contracts, vault_of(["papers"])).dataset("papers").temperature == "warm"
