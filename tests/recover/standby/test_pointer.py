"""What consumers read is derived from the log, and can be derived again (V2)."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reopen.contracts.load import Contracts
from reopen.contracts.model import Location
from reopen.control.log import EpochLog
from reopen.control.records import Epoch, Record, Scenario
from reopen.errors import NotFound
from reopen.recover.context import RecoveryContext
from reopen.recover.failover import FailoverResult
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.standby.locate import Whereabouts, locate
from reopen.recover.standby.pointer import Publisher
from reopen.storage.local import LocalStore
from tests.recover.business import FakeVerbs, context_of, contracts_of, fail_over, plan_of, vault_of

NAMES = ("nation", "customer", "papers")
TIERS = {"nation": (1, ()), "customer": (1, ("nation",)), "papers": (2, ())}


class WritingVerbs(FakeVerbs):
    """Verbs that restore a small file into the version, and publish for real."""

    def __init__(self, publisher: Publisher) -> None:
        super().__init__()
        self._publisher = publisher

    def restore(self, dataset: PlannedDataset) -> Any:
        Path(dataset.target_url).mkdir(parents=True, exist_ok=True)
        (Path(dataset.target_url) / "which").write_text(dataset.version)
        return super().restore(dataset)

    def publish(self, datasets: Any) -> Any:
        return self._publisher.publish(datasets).as_details()


class Town:
    """Two sites in a folder, a log, and a publisher."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        made = contracts_of({name: (tier, needs) for name, (tier, needs) in TIERS.items()})
        self.contracts = Contracts(
            datasets={
                name: replace(
                    dataset,
                    locations={
                        site: Location(site=site, url=str(folder / site / name)) for site in ("production", "standby")
                    },
                )
                for name, dataset in made.datasets.items()
            }
        )
        self.context: RecoveryContext = context_of(FakeVerbs())
        self.log = EpochLog(LocalStore(folder / "control"), clock=self.context.clock)
        self.publisher = Publisher(
            self.log,
            self.contracts,
            folders={site: str(folder / site / "serving") for site in ("production", "standby")},
            initial="production",
        )

    def plan(self, **changes: Any) -> RecoveryPlan:
        return plan_of(self.contracts, vault_of(NAMES), **changes)

    def fail_over(self, plan: RecoveryPlan | None = None) -> FailoverResult:
        verbs = WritingVerbs(self.publisher)
        context = replace(self.context, verbs=verbs)
        return fail_over(LocalStore(self.folder / "control"), context, plan or self.plan())

    def serving(self, site: str = "standby") -> Any:
        return json.loads((self.folder / site / "serving/serving.json").read_text())

    def located(self) -> dict[str, Whereabouts]:
        return {item.dataset: item for item in locate(self.log.records(), self.contracts, initial="production")}


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def test_before_anything_happened_every_dataset_is_at_its_place_at_the_primary(town: Town) -> None:
    found = town.located()
    assert [(item.site, item.epoch, item.url, item.snapshot) for item in found.values()] == [
        ("production", 0, str(town.folder / "production" / name), None) for name in town.contracts.order()
    ]


def test_after_a_failover_links_and_serving_json_lead_to_the_promoted_versions(town: Town) -> None:
    result = town.fail_over()
    serving = town.serving()
    assert serving["primary"] == "standby"
    for name in NAMES:
        planned = result.plan.dataset(name)
        assert planned.point is not None
        assert (town.folder / "standby" / name / "which").read_text() == planned.version
        stated = serving["datasets"][name]
        assert (stated["url"], stated["place"]) == (planned.target_url, planned.serving_url)
        assert (stated["epoch"], stated["snapshot"]) == (1, planned.point.snapshot)
        assert stated["promoted_at"] > stated["consistent_at"]
    assert result.outcomes["promote:papers"].details["pointer"]["linked"]["papers"].endswith("-e1")


def test_what_was_not_promoted_serves_nowhere_and_says_why(town: Town) -> None:
    town.fail_over(town.plan(datasets=["customer"]))
    found = town.located()
    assert {name for name, item in found.items() if not item.serves} == {"papers"}
    assert "since epoch 1" in found["papers"].reason
    assert "papers" in town.serving()["not_serving"]


def test_the_pointer_that_somebody_removed_is_derived_again_with_equal_bytes(town: Town) -> None:
    town.fail_over()
    before = (town.folder / "standby/serving/serving.json").read_bytes()
    (town.folder / "standby/serving/serving.json").unlink()
    (town.folder / "standby/papers").unlink()
    town.publisher.publish()
    assert (town.folder / "standby/serving/serving.json").read_bytes() == before
    assert (town.folder / "standby/papers/which").exists()


def test_at_a_site_that_is_not_primary_the_pointer_says_who_is_and_no_link_is_touched(town: Town) -> None:
    town.fail_over()
    (town.folder / "production/papers").mkdir(parents=True)
    town.publisher.publish(at="production")
    assert town.serving("production")["primary"] == "standby"
    assert not os.path.islink(town.folder / "production/papers")


def test_a_promoted_version_that_vanished_stops_its_own_promotion_and_no_other(town: Town) -> None:
    town.fail_over()
    item = town.located()["papers"]
    os.rename(item.url, item.url + ".gone")
    published = town.publisher.publish(["customer"])
    assert [problem for problem in published.problems if "papers" in problem]
    with pytest.raises(NotFound):
        town.publisher.publish(["papers"])


def test_a_driver_that_died_before_the_link_was_made_is_followed_by_one_that_makes_it(town: Town) -> None:
    verbs = WritingVerbs(town.publisher)
    verbs.publish = lambda datasets: (_ for _ in ()).throw(KeyboardInterrupt())  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fail_over(LocalStore(town.folder / "control"), replace(town.context, verbs=verbs), town.plan())
    assert not (town.folder / "standby/nation").exists()
    second = WritingVerbs(town.publisher)
    second.restored = verbs.restored
    context = replace(town.context, verbs=second, orchestrator="o2")
    fail_over(LocalStore(town.folder / "control"), context, town.plan(), seed=2)
    assert {name for name in NAMES if (town.folder / "standby" / name / "which").exists()} == set(NAMES)


def epoch_after(records: tuple[Record, ...], primary: str, scenario: Scenario) -> tuple[Record, ...]:
    last = records[-1]
    first = next(record.value for record in records if isinstance(record.value, Epoch))
    value = replace(first, epoch=2, primary=primary, previous_primary="standby", scenario=scenario, declared_at=last.at)
    return (*records, replace(last, number=last.number + 1, value=value))


def test_an_epoch_that_moves_only_the_log_leaves_everything_where_it_is(town: Town) -> None:
    town.fail_over()
    records = epoch_after(town.log.records(), "standby", Scenario.MOVED)
    assert locate(records, town.contracts, initial="production") == tuple(town.located().values())


def test_a_rollback_puts_the_old_places_in_force_again(town: Town) -> None:
    town.fail_over()
    records = epoch_after(town.log.records(), "production", Scenario.ROLLBACK)
    found = locate(records, town.contracts, initial="production")
    assert {item.url for item in found} == {str(town.folder / "production" / name) for name in NAMES}


def test_after_a_failback_only_what_was_promoted_there_serves(town: Town) -> None:
    town.fail_over()
    records = epoch_after(town.log.records(), "production", Scenario.FAILBACK)
    assert not any(item.serves for item in locate(records, town.contracts, initial="production"))
