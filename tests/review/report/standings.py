"""What a report is made of, without a vault: seven datasets that are well, to be spoilt one thing at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from reopen.recover.anchor import Anchor
from reopen.recover.outlook import Predicted
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.readiness import Area, Check, Mark, Readiness
from reopen.review.report.model import Kept, Standing
from reopen.review.role import ControlStatus
from reopen.review.status import (
    Alarm,
    ContractState,
    CoverageStatus,
    DatasetStatus,
    Status,
    VaultStatus,
)
from tests.recover.business import NOON, plan_of

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
HEAD = Anchor(number=7, digest="9f2c" * 16)


def predicted(p50: timedelta = MINUTE, p95: timedelta = 2 * MINUTE, **changes: Any) -> Predicted:
    made = Predicted(
        p50=p50, p95=p95, restore=p50, validate=p50, runs=3, own_runs=3, error=None, machine="x86_64, 2 cores"
    )
    return replace(made, **changes)


def plan() -> RecoveryPlan:
    made = plan_of()
    return replace(made, datasets=tuple(replace(dataset, predicted=predicted()) for dataset in made.datasets))


def with_dataset(standing: Standing, name: str, change: Callable[[PlannedDataset], PlannedDataset]) -> Standing:
    assert isinstance(standing.plan, RecoveryPlan)
    datasets = tuple(change(item) if item.name == name else item for item in standing.plan.datasets)
    return replace(standing, plan=replace(standing.plan, datasets=datasets))


def a_status(made: RecoveryPlan) -> Status:
    return Status(
        at=NOON,
        here="standby",
        control=ControlStatus(primary="production", epoch=0, since=None, reason="", error=""),
        vaults=(a_vault("production"), a_vault("standby")),
        datasets=tuple(
            DatasetStatus(
                name=dataset.name, contract=ContractState.IN_FORCE, tier=dataset.tier,
                rpo_seconds=dataset.objective.rpo.total_seconds(), rto_seconds=dataset.objective.rto.total_seconds(),
                alarm=Alarm.OK, reason="", exposure_seconds=600.0, away_exposure_seconds=600.0, newest=None,
                proven=None, newest_state="complete", drill=None, behind={"standby": 0}, lag_seconds={"standby": 0.0},
            )
            for dataset in made.datasets
        ),
    )  # fmt: skip


def a_vault(site: str, **changes: Any) -> VaultStatus:
    made = VaultStatus(
        site=site, url=f"/vaults/{site}", role="", vault="c0ffee", snapshots=7, invalid_records=0, missing_records=(),
        newest_at=NOON, keys=(), error="", hint="", arrival_seconds=3.0,
        coverage=CoverageStatus(
            stored_bytes=1_000_000, stored_packs=3, shares={7: 0.5, 30: 0.999, 90: 1.0}, oldest_read_at=NOON
        ),
    )  # fmt: skip
    return replace(made, **changes)


def a_row(number: int, dataset: str, tier: int, **changes: Any) -> Mapping[str, Any]:
    at = NOON - (8 - number) * 24 * HOUR
    return {
        "number": number, "kind": "drill", "scenario": "site-loss", "started_at": at, "finished_at": at + MINUTE,
        "dataset": dataset, "tier": tier, "verdict": "met", "reason": "", "rta_seconds": 60.0 * number,
        "rto_seconds": 3600.0, "machine": "x86_64, 2 cores", **changes,
    }  # fmt: skip


def history(*numbers: int) -> tuple[Mapping[str, Any], ...]:
    return tuple(a_row(number, item.name, item.tier) for number in numbers for item in plan().datasets)


def ready(*checks: Check) -> Readiness:
    return Readiness(site="standby", at=NOON, seconds=1.0, shape="", checks=checks or (a_check(Mark.OK),))


def a_check(mark: Mark, name: str = "control-write", **changes: Any) -> Check:
    made = Check(name=name, area=Area.SECURITY, verdict=mark, value="it was looked at")
    return replace(made, **changes)


def kept() -> tuple[Kept, ...]:
    """Three days of snapshots of each dataset, one in ten minutes of which each was verified five minutes later."""
    return tuple(
        Kept(
            dataset=dataset.name, consistent_at=at, committed_at=at + MINUTE, proven_at=at + 5 * MINUTE,
            size_bytes=1000 + number, stored_bytes=100,
        )
        for dataset in plan().datasets
        for number in range(36)
        for at in (NOON - 72 * HOUR + number * 2 * HOUR,)
    )  # fmt: skip


def well(**changes: Any) -> Standing:
    """Everything is as it should be."""
    made = plan()
    standing = Standing(
        at=NOON, site="standby", settings="/etc/reopen.toml", host="host-2", version="1.0", status=a_status(made),
        target="standby", readiness=ready(), plan=made, history=history(6, 7), head=HEAD, chain_problem="",
        suspects={}, kept=kept(),
    )  # fmt: skip
    return replace(standing, **changes)
