"""``reopen contracts`` shows what is promised and what is wrong."""

from __future__ import annotations

from tests.cli.place import Place


def test_show_lists_datasets_in_the_order_of_recovery(place: Place) -> None:
    place.contract("orders", tier=1)
    found = place.json("contracts", "show")
    assert [row["name"] for row in found["datasets"]] == ["orders", "papers"]
    assert found["schema"] == "reopen.contracts-show/1"
    ran = place.run("contracts", "show")
    assert ran.stdout.index("orders") < ran.stdout.index("papers")


def test_show_of_one_dataset_tells_everything_about_it(place: Place) -> None:
    found = place.json("contracts", "show", "papers")
    assert (found["name"], found["tier"], found["rpo_seconds"]) == ("papers", 3, 86_400)
    assert found["locations"]["production"] == str(place.folder / "data/papers")
    assert found["contract"]["digest"] in place.run("contracts", "show", "papers").stdout


def test_lint_of_good_contracts_exits_with_0(place: Place) -> None:
    assert "0 errors, 0 warnings" in place.run("contracts", "lint").stdout
