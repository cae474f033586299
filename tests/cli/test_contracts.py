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


def test_lint_warns_of_a_folder_that_is_not_there_and_refuses_one_that_holds_the_copies(place: Place) -> None:
    file = place.folder / "data_contracts/papers.odcs.yaml"
    right = file.read_text()
    file.write_text(right.replace("path: data/papers", "path: data/papres"))
    assert "data/papres, the place of papers at production, does not exist" in place.run("contracts", "lint").stdout
    file.write_text(right.replace("path: data/papers", "path: .").replace("standby/papers", "/nowhere/standby"))
    found = place.json("contracts", "lint", code=2)
    assert {problem["severity"] for problem in found["problems"]} == {"error"}
    assert "the vault of production" in place.run("contracts", "lint", code=2).stdout
    refused = place.run("snapshot", "papers", code=2)
    assert "each snapshot would copy the copies" in refused.stdout
