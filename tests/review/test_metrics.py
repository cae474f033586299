"""The metrics are OpenMetrics that its own parser and the older one take; what is unknown has no value (M1-M3)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from prometheus_client import parser as prometheus
from prometheus_client.openmetrics import parser as openmetrics

from reopen.errors import Transient
from reopen.recover.readiness import Mark
from reopen.review.metrics import METRICS, Metric, Sample, collect, is_complete, to_openmetrics
from reopen.review.report.assemble import make_report
from reopen.review.report.model import Standing
from tests.review.report.standings import a_check, a_row, a_vault, ready, well, with_dataset

UNITS = {"seconds": "_seconds", "bytes": "_bytes", "ratio": "_ratio", "": ""}


def scraped(standing: Standing) -> dict[tuple[str, str], float]:
    """Values by name and labels, as the parser reads the text."""
    text = to_openmetrics(collect(make_report(standing), duration_seconds=0.5))
    assert text.endswith("\n# EOF\n")
    found = {}
    for family in openmetrics.text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            assert sample.timestamp is None
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[sample.name, labels] = sample.value
    older = {
        (sample.name, ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in prometheus.text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert older == found, "node_exporter reads the older format"
    return found


def exposed(standing: Standing, site: str, seconds: float | None) -> Standing:
    datasets = tuple(replace(item, exposure_by_site={site: seconds}) for item in standing.status.datasets)
    return replace(standing, status=replace(standing.status, datasets=datasets))


def test_a_scrape_says_how_exposed_each_dataset_is_and_what_is_allowed() -> None:
    found = scraped(exposed(well(), "standby", 600.0))

    assert found["reopen_exposure_seconds", "dataset=orders,site=standby,tier=1"] == 600
    assert found["reopen_rpo_seconds", "dataset=orders,tier=1"] == 1800
    assert found["reopen_loss_seconds", "dataset=papers,tier=3"] == 600
    assert found["reopen_predicted_rta_p95_seconds", "dataset=orders,tier=1"] == 120
    assert found["reopen_last_drill_verdict", "dataset=orders,tier=1,verdict=met"] == 1
    assert found["reopen_last_drill_verdict", "dataset=orders,tier=1,verdict=failed"] == 0
    assert found["reopen_last_drill_rta_seconds", "dataset=orders,tier=1"] == 420
    assert found["reopen_coverage_ratio", "days=30,site=standby"] == 0.999
    assert found["reopen_able_to_reopen", "answer=yes"] == 1
    assert found["reopen_able_to_reopen", "answer=no"] == 0
    assert found["reopen_evidence_head_number", ""] == 7
    assert found["reopen_ready", "site=standby"] == 1
    assert found["reopen_primary", "site=production"] == 1
    assert found["reopen_scrape_success", ""] == 1


def test_what_was_never_verified_is_infinitely_exposed_and_what_has_no_point_is_lost() -> None:
    spoilt = with_dataset(well(), "papers", lambda d: replace(d, point=None, rpa=None, problem="no snapshot"))

    found = scraped(exposed(spoilt, "standby", None))

    assert found["reopen_exposure_seconds", "dataset=papers,site=standby,tier=3"] == math.inf
    assert found["reopen_loss_seconds", "dataset=papers,tier=3"] == math.inf
    assert found["reopen_able_to_reopen", "answer=no"] == 1


def test_what_could_not_be_looked_at_has_no_sample_and_the_scrape_is_no_success() -> None:
    gone = Transient("no answer.")
    standing = well(readiness=gone, plan=gone, history=gone, head=gone)
    vaults = (a_vault("production", error="no route", coverage=None), standing.status.vaults[1])

    found = scraped(replace(standing, status=replace(standing.status, vaults=vaults)))

    assert found["reopen_scrape_success", ""] == 0
    assert found["reopen_vault_readable", "site=production"] == 0
    names = {name for name, labels in found if "site=standby" in labels or "site" not in labels}
    assert not names & {"reopen_ready", "reopen_evidence_head_number", "reopen_last_drill_timestamp_seconds"}
    assert ("reopen_vault_stored_bytes", "site=production") not in found
    assert is_complete(well(readiness=None)), "that nobody wanted to look is no failure"


def test_a_key_that_is_not_where_one_looks_from_says_nothing_of_the_standby() -> None:
    failed = ready(a_check(Mark.FAIL, "recovery-key"))

    assert scraped(well(site="production", readiness=failed))["reopen_ready", "site=standby"] == 1
    assert scraped(well(readiness=failed))["reopen_ready", "site=standby"] == 0


def test_a_failover_is_no_drill() -> None:
    lost = a_row(8, "orders", 1, kind="failover", verdict="failed", rta_seconds=None)

    found = scraped(replace(well(), history=(*well().history, lost)))  # type: ignore[misc]

    assert found["reopen_last_drill_rta_seconds", "dataset=orders,tier=1"] == 420


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_has_its_unit_in_its_name_and_says_what_it_means(metric: Metric) -> None:
    assert metric.name.startswith("reopen_")
    assert metric.name.endswith(UNITS[metric.unit])
    assert metric.help.endswith(".")
    assert not metric.name.endswith(("_total", "_count", "_sum", "_created"))


def test_every_metric_has_a_value_somewhere_and_none_is_nameless() -> None:
    behind = exposed(well(), "standby", 60.0)
    found = {name for name, _ in scraped(behind)}

    # These come from a status whose snapshots the standing of these tests does not have.
    of_snapshots = {"last_snapshot", "recovery_point", "last_verified"}
    assert {metric.name for metric in METRICS} - found == {f"reopen_{name}_timestamp_seconds" for name in of_snapshots}
    with pytest.raises(KeyError):
        to_openmetrics([Sample(name="reopen_unknown", labels={}, value=1.0)])
