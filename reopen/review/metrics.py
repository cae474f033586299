"""Owns the metrics: which there are, what each means, and their values as OpenMetrics text.

One table (:data:`METRICS`) names them all; the reference is made from it, and a value of a metric that is not in it is
a fault of ours. The text is OpenMetrics, and only gauges without timestamps are in it, so that node_exporter's textfile
collector, which reads the older Prometheus format, takes it too.

Invariants
    M1  What was never verified has an infinite exposure: an alert on exposure over RPO fires. What could not be looked
        at has no sample, and ``reopen_scrape_success`` is 0.
    M2  Labels name datasets, tiers and sites and nothing that changes from run to run, so that series do not pile up.
    M3  Every unit is in the name: seconds, bytes, ratio. Instants are seconds since 1970.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reopen.errors import Internal, ReopenError
from reopen.recover.anchor import Anchor
from reopen.recover.clocks import Verdict
from reopen.recover.plan import PlanKind
from reopen.recover.readiness import Mark, Readiness
from reopen.review.report.assemble import Report
from reopen.review.report.judge import is_of_here
from reopen.review.report.lines import newest_of
from reopen.review.report.model import Answer, Standing
from reopen.review.status import DatasetStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric: its whole name, what it says, its labels and its unit (empty: a count, a number or 0 and 1)."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value."""

    name: str
    labels: Mapping[str, str]
    value: float


_DATASET = ("dataset", "tier")
_DATASET_SITE = (*_DATASET, "site")


def _seconds(name: str, text: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(name=name, help=text, labels=labels, unit="seconds")


METRICS: tuple[Metric, ...] = (
    Metric(name="reopen_scrape_success", help="Whether everything could be looked at: 1 or 0."),
    _seconds("reopen_scrape_timestamp_seconds", "When this was looked at."),
    _seconds("reopen_scrape_duration_seconds", "How long looking took."),
    Metric(
        name="reopen_build_info",
        help="1, with the version of Reopen and the site that looked.",
        labels=("version", "site"),
    ),
    Metric(
        name="reopen_able_to_reopen",
        help="The answer of `reopen report`: 1 for the one of yes, not proven and no that holds, 0 for the others.",
        labels=("answer",),
    ),
    Metric(
        name="reopen_open_risks",
        help="How many risks `reopen report` names, by verdict: warn, fail.",
        labels=("verdict",),
    ),
    _seconds(
        "reopen_exposure_seconds",
        "Age of the newest verified recovery point in a site's vault: infinite where nothing was ever verified.",
        _DATASET_SITE,
    ),
    _seconds("reopen_loss_seconds", "Data that would be lost, as time, if the primary were lost now.", _DATASET),
    _seconds("reopen_rpo_seconds", "How much data may be lost, as time, by the contract.", _DATASET),
    _seconds("reopen_rto_seconds", "How long until it must be open, by the contract.", _DATASET),
    _seconds(
        "reopen_predicted_rta_median_seconds",
        "How long until it is expected to be open, in half of all cases.",
        _DATASET,
    ),
    _seconds(
        "reopen_predicted_rta_p95_seconds", "How long until it is expected to be open, in 19 of 20 cases.", _DATASET
    ),
    _seconds("reopen_last_snapshot_timestamp_seconds", "What instant the newest snapshot stands for.", _DATASET),
    _seconds("reopen_last_verified_timestamp_seconds", "When the newest verified snapshot was verified.", _DATASET),
    _seconds(
        "reopen_recovery_point_timestamp_seconds", "What instant the newest verified snapshot stands for.", _DATASET
    ),
    _seconds(
        "reopen_replication_lag_seconds", "How long the oldest snapshot that a site lacks has waited.", _DATASET_SITE
    ),
    Metric(name="reopen_replication_behind_snapshots", help="How many snapshots a site lacks.", labels=_DATASET_SITE),
    _seconds("reopen_last_drill_timestamp_seconds", "When the last drill of it ended.", _DATASET),
    _seconds(
        "reopen_last_drill_rta_seconds",
        "How long the last drill took until it was open; none if it never was.",
        _DATASET,
    ),
    Metric(
        name="reopen_last_drill_verdict",
        help="1 for the verdict of the last drill (met, missed, failed), 0 for the others.",
        labels=(*_DATASET, "verdict"),
    ),
    Metric(
        name="reopen_vault_readable", help="Whether a site's vault could be read from here: 1 or 0.", labels=("site",)
    ),
    Metric(name="reopen_vault_snapshots", help="Snapshots in a site's vault.", labels=("site",)),
    Metric(
        name="reopen_vault_lost_records",
        help="Records that were seen in a vault before and are gone.",
        labels=("site",),
    ),
    Metric(name="reopen_vault_invalid_records", help="Records in a vault that cannot be believed.", labels=("site",)),
    Metric(name="reopen_vault_stored_bytes", help="What a vault's packs take.", labels=("site",), unit="bytes"),
    _seconds(
        "reopen_vault_newest_snapshot_timestamp_seconds",
        "When the newest snapshot of a vault was committed.",
        ("site",),
    ),
    _seconds(
        "reopen_vault_arrival_seconds", "How long after its commit a vault's newest snapshot was there.", ("site",)
    ),
    Metric(
        name="reopen_coverage_ratio",
        help="The share of a vault's bytes that was read again and found whole within so many days: 7, 30, 90.",
        labels=("site", "days"),
        unit="ratio",
    ),
    Metric(
        name="reopen_ready", help="Whether the site that would take over could do so now: 1 or 0.", labels=("site",)
    ),
    Metric(
        name="reopen_ready_checks", help="Checks of readiness by verdict: ok, warn, fail.", labels=("site", "verdict")
    ),
    Metric(
        name="reopen_evidence_head_number", help="The number of the last record of evidence; 0 where there is none."
    ),
    Metric(name="reopen_evidence_chain_broken", help="Whether the chain of the evidence is broken: 1 or 0."),
    Metric(name="reopen_epoch_log_readable", help="Whether the epoch log could be read: 1 or 0."),
    Metric(name="reopen_epoch_number", help="The epoch: how often the role was raised."),
    Metric(name="reopen_primary", help="1 for the site that has the role, 0 for the others.", labels=("site",)),
)
"""Every metric, in the order of the text."""

_BY_NAME = {metric.name: metric for metric in METRICS}


def collect(report: Report, *, duration_seconds: float) -> tuple[Sample, ...]:
    """Every value, in the order of :data:`METRICS`."""
    found = [*_of_look(report, duration_seconds), *_of_sites(report.standing), *_of_datasets(report)]
    found += _of_control(report.standing)
    places = {metric.name: place for place, metric in enumerate(METRICS)}
    if strangers := {sample.name for sample in found} - set(places):
        raise Internal(f"metrics that no table names: {', '.join(sorted(strangers))}.")
    return tuple(sorted(found, key=lambda sample: places[sample.name]))


def is_complete(standing: Standing) -> bool:
    """Whether everything could be looked at; that nobody wanted to look at readiness counts as that."""
    parts = (standing.readiness, standing.plan, standing.history, standing.head)
    return not (
        any(isinstance(part, ReopenError) for part in parts)
        or any(vault.error for vault in standing.status.vaults)
        or standing.status.control.error
    )


def to_openmetrics(samples: Iterable[Sample]) -> str:
    """The text, which ends with ``# EOF``."""
    # Imported here: who prints help needs no exposition.
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.openmetrics.exposition import generate_latest
    from prometheus_client.registry import Collector

    families: dict[str, GaugeMetricFamily] = {}
    for sample in samples:
        metric = _BY_NAME[sample.name]
        family = families.setdefault(
            sample.name, GaugeMetricFamily(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
        )
        family.add_metric([sample.labels[label] for label in metric.labels], sample.value)

    class Found(Collector):
        """What was found, once."""

        def collect(self) -> Iterable[GaugeMetricFamily]:
            """The families, in the order of the samples."""
            return families.values()

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Found())
    text: str = generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    return text


def _of_look(report: Report, duration_seconds: float) -> Iterator[Sample]:
    standing = report.standing
    yield _sample("reopen_scrape_success", float(is_complete(standing)))
    yield _sample("reopen_scrape_timestamp_seconds", standing.at.timestamp())
    yield _sample("reopen_scrape_duration_seconds", round(duration_seconds, 3))
    yield _sample("reopen_build_info", 1.0, version=standing.version, site=standing.site)
    for answer in Answer:
        yield _sample("reopen_able_to_reopen", float(answer is report.judgement.answer), answer=str(answer))
    for mark in (Mark.WARN, Mark.FAIL):
        yield _sample("reopen_open_risks", float(sum(risk.mark is mark for risk in report.risks)), verdict=str(mark))
    if isinstance(standing.readiness, Readiness):
        checks, site = standing.readiness.checks, standing.readiness.site
        # What was measured where one looked from says nothing of that site.
        failed = [check for check in standing.readiness.failed if not is_of_here(standing, check)]
        yield _sample("reopen_ready", float(not failed), site=site)
        for mark in Mark:
            count = float(sum(check.verdict is mark for check in checks))
            yield _sample("reopen_ready_checks", count, site=site, verdict=str(mark))


def _of_sites(standing: Standing) -> Iterator[Sample]:
    for vault in standing.status.vaults:
        yield _sample("reopen_vault_readable", float(not vault.error), site=vault.site)
        yield _sample("reopen_primary", float(vault.site == standing.status.control.primary), site=vault.site)
        if vault.error:
            continue
        yield _sample("reopen_vault_snapshots", float(vault.snapshots), site=vault.site)
        yield _sample("reopen_vault_lost_records", float(len(vault.missing_records)), site=vault.site)
        yield _sample("reopen_vault_invalid_records", float(vault.invalid_records), site=vault.site)
        yield from _instant("reopen_vault_newest_snapshot_timestamp_seconds", vault.newest_at, site=vault.site)
        yield from _known("reopen_vault_arrival_seconds", vault.arrival_seconds, site=vault.site)
        if vault.coverage is not None:
            yield _sample("reopen_vault_stored_bytes", float(vault.coverage.stored_bytes), site=vault.site)
            for days, share in vault.coverage.shares.items():
                yield _sample("reopen_coverage_ratio", share, site=vault.site, days=str(days))


def _of_datasets(report: Report) -> Iterator[Sample]:
    standing = report.standing
    lines = {line.name: line for line in report.datasets}
    rows = () if isinstance(standing.history, ReopenError) else standing.history
    drills = newest_of([row for row in rows if row["kind"] == PlanKind.DRILL])
    for dataset in standing.status.datasets:
        labels = {"dataset": dataset.name, "tier": "" if dataset.tier is None else str(dataset.tier)}
        yield from _of_copies(dataset, labels)
        yield from _known("reopen_rpo_seconds", dataset.rpo_seconds, **labels)
        yield from _known("reopen_rto_seconds", dataset.rto_seconds, **labels)
        if dataset.newest is not None:
            yield from _instant("reopen_last_snapshot_timestamp_seconds", dataset.newest.consistent_at, **labels)
        if dataset.proven is not None:
            yield from _instant("reopen_recovery_point_timestamp_seconds", dataset.proven.consistent_at, **labels)
            yield from _instant("reopen_last_verified_timestamp_seconds", dataset.proven.verified_at, **labels)
        if (line := lines.get(dataset.name)) is not None:
            # Without a recovery point everything is lost; that nobody could look is no figure (M1).
            yield from _known("reopen_loss_seconds", math.inf if line.problem else line.loses_seconds, **labels)
            yield from _known("reopen_predicted_rta_median_seconds", line.p50_seconds, **labels)
            yield from _known("reopen_predicted_rta_p95_seconds", line.p95_seconds, **labels)
        if (drill := drills.get(dataset.name)) is not None:
            yield from _instant("reopen_last_drill_timestamp_seconds", drill.at, **labels)
            yield from _known("reopen_last_drill_rta_seconds", drill.rta_seconds, **labels)
            for verdict in Verdict:
                yield _sample(
                    "reopen_last_drill_verdict", float(drill.verdict == verdict), **labels, verdict=str(verdict)
                )


def _of_copies(dataset: DatasetStatus, labels: Mapping[str, str]) -> Iterator[Sample]:
    for site, age in dataset.exposure_by_site.items():
        yield _sample("reopen_exposure_seconds", math.inf if age is None else age, **labels, site=site)
    for site, count in dataset.behind.items():
        yield _sample("reopen_replication_behind_snapshots", float(count), **labels, site=site)
        yield _sample("reopen_replication_lag_seconds", dataset.lag_seconds[site], **labels, site=site)


def _of_control(standing: Standing) -> Iterator[Sample]:
    control = standing.status.control
    yield _sample("reopen_epoch_log_readable", float(not control.error))
    if not control.error:
        yield _sample("reopen_epoch_number", float(control.epoch))
    if not isinstance(standing.head, ReopenError):
        number = standing.head.number if isinstance(standing.head, Anchor) else 0
        yield _sample("reopen_evidence_head_number", float(number or 0))
        yield _sample("reopen_evidence_chain_broken", float(bool(standing.chain_problem)))


def _known(name: str, value: float | None, **labels: str) -> Sequence[Sample]:
    return () if value is None else (_sample(name, value, **labels),)


def _instant(name: str, value: datetime | None, **labels: str) -> Sequence[Sample]:
    return _known(name, None if value is None else value.timestamp(), **labels)


def _sample(name: str, value: float, **labels: str) -> Sample:
    return Sample(name=name, labels=labels, value=value)
