"""Exposure, primary, vaults and retirements, judged on real records and facts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.clock import SKEW_MAX, FixedClock
from reopen.contracts.load import Contracts
from reopen.control.log import EpochLog
from reopen.control.records import Epoch, Fence, FenceLevel, Scenario
from reopen.errors import NotFound
from reopen.review.role import read_control
from reopen.review.status import Alarm, ContractState, SiteVault, Status, collect_status, judge_exposure
from reopen.storage import open_store
from reopen.vault import SnapshotRecord, Vault
from tests.review.history import Archive, a_dataset

RPO = timedelta(hours=1)


def contracts(*names: str) -> Contracts:
    return Contracts(datasets={name: a_dataset(name, Path("data") / name, rpo=RPO) for name in names})


def status(
    vaults: dict[str, Vault | NotFound], age: timedelta, record: SnapshotRecord, *, names: Sequence[str] = ("papers",)
) -> Status:
    """The status ``age`` after the instant that a snapshot stands for."""
    sites = [
        SiteVault(site=site, url=site, role="primary" if site == "production" else "standby", found=found)
        for site, found in vaults.items()
    ]
    return collect_status(
        sites,
        contracts(*names),
        log=None,
        initial_primary="production",
        here="production",
        now=record.consistent_at + age,
    )


@pytest.fixture
def first(archive: Archive) -> SnapshotRecord:
    """The first snapshot of ``papers``."""
    archive.write("papers", {"one": "1"})
    return archive.snapshot("papers")


@pytest.mark.parametrize(
    ("exposure", "alarm"),
    [
        (timedelta(0), Alarm.OK),
        (RPO, Alarm.OK),
        (RPO + timedelta(seconds=1), Alarm.WARN),
        (2 * RPO, Alarm.WARN),
        (2 * RPO + timedelta(seconds=1), Alarm.PAGE),
        (None, Alarm.PAGE),
    ],
)
def test_exposure_warns_past_the_rpo_and_pages_past_twice_it(exposure: timedelta | None, alarm: Alarm) -> None:
    assert judge_exposure(exposure, RPO) is alarm


def test_what_was_never_verified_pages(archive: Archive, first: SnapshotRecord) -> None:
    [dataset] = status({"production": archive.vault}, timedelta(0), first).datasets
    assert (dataset.alarm, dataset.exposure_seconds) == (Alarm.PAGE, None)
    assert "verified" in dataset.reason


def test_a_snapshot_from_the_future_is_no_fine_exposure(archive: Archive, first: SnapshotRecord) -> None:
    archive.verified(first)
    behind = status({"production": archive.vault}, -SKEW_MAX - timedelta(seconds=1), first)
    assert not behind.ok
    [problem] = behind.problems
    assert "ahead of this machine's clock" in problem
    assert problem.endswith(": papers")
    # Clocks of two machines differ by a little.
    assert status({"production": archive.vault}, -SKEW_MAX, first).ok


def test_a_structure_check_proves_nothing(archive: Archive, first: SnapshotRecord) -> None:
    archive.verified(first, level="structure")
    assert status({"production": archive.vault}, timedelta(0), first).alarm is Alarm.PAGE


def test_exposure_counts_from_the_newest_verified_snapshot_and_not_from_the_newest(
    archive: Archive, first: SnapshotRecord
) -> None:
    archive.verified(first)
    newest = archive.snapshot("papers")
    age = timedelta(minutes=90)
    [dataset] = status({"production": archive.vault}, age, first).datasets
    assert dataset.exposure_seconds == age.total_seconds()
    assert dataset.newest is not None
    assert dataset.newest.snapshot == newest.id
    assert (dataset.alarm, dataset.proven and dataset.proven.snapshot) == (Alarm.WARN, first.id)


def test_damage_found_later_takes_the_proof_back(archive: Archive, first: SnapshotRecord) -> None:
    archive.verified(first)
    archive.verified(first, result="damaged")
    assert status({"production": archive.vault}, timedelta(0), first).alarm is Alarm.PAGE


def test_a_verified_copy_that_is_only_at_the_primary_does_not_count(archive: Archive, first: SnapshotRecord) -> None:
    other = archive.folder / "replica"
    shutil.copytree(archive.vault.store.url, other)
    shutil.rmtree(other / "snapshots")
    archive.verified(first)
    replica = archive.reopened(open_store(str(other)))
    [dataset] = status({"production": archive.vault, "standby": replica}, timedelta(0), first).datasets
    assert (dataset.alarm, dataset.behind) == (Alarm.PAGE, {"production": 0, "standby": 1})
    assert "reopen replicate" in dataset.reason


def test_a_replicated_and_verified_copy_is_ok(archive: Archive, first: SnapshotRecord) -> None:
    archive.verified(first)
    other = archive.folder / "replica"
    shutil.copytree(archive.vault.store.url, other)
    replica = archive.reopened(open_store(str(other)))
    found = status({"production": archive.vault, "standby": replica}, timedelta(minutes=5), first)
    [dataset] = found.datasets
    assert (dataset.alarm, dataset.reason, dataset.away_exposure_seconds) == (Alarm.OK, "", 300)
    assert found.ok


def test_a_dataset_without_any_snapshot_pages(archive: Archive, first: SnapshotRecord) -> None:
    archive.verified(first)
    found = status({"production": archive.vault}, timedelta(0), first, names=("orders", "papers"))
    assert {dataset.name: dataset.alarm for dataset in found.datasets} == {"orders": Alarm.PAGE, "papers": Alarm.OK}


def test_a_dataset_without_a_contract_is_told_until_it_is_retired(archive: Archive, first: SnapshotRecord) -> None:
    [dataset] = status({"production": archive.vault}, timedelta(0), first, names=()).datasets
    assert (dataset.contract, dataset.alarm) == (ContractState.MISSING, Alarm.NONE)
    archive.vault.record_fact("retired", dataset="papers", snapshot="", body={"reason": "moved"})
    [dataset] = status({"production": archive.vault}, timedelta(0), first, names=()).datasets
    assert dataset.contract is ContractState.RETIRED


def test_a_vault_that_cannot_be_opened_is_a_value(archive: Archive, first: SnapshotRecord) -> None:
    archive.verified(first)
    lost = NotFound("there is no vault in standby.", hint="Replicate.")
    found = status({"production": archive.vault, "standby": lost}, timedelta(0), first)
    assert [(vault.site, vault.error) for vault in found.vaults] == [
        ("production", ""),
        ("standby", "there is no vault in standby."),
    ]
    assert found.ok


def test_the_last_drill_is_shown(archive: Archive, first: SnapshotRecord) -> None:
    for verdict, rta in (("failed", None), ("met", 12.5)):
        archive.vault.record_fact("drilled", dataset="papers", snapshot=first.id, body={"verdict": verdict, "rta": rta})
    [dataset] = status({"production": archive.vault}, timedelta(0), first).datasets
    assert dataset.drill is not None
    assert (dataset.drill.verdict, dataset.drill.rta_seconds) == ("met", 12.5)


def test_the_primary_is_the_settings_before_the_first_epoch_and_the_log_s_after(tmp_path: Path) -> None:
    clock = FixedClock()
    log = EpochLog(open_store(str(tmp_path / "control")), clock=clock)
    assert read_control(log, initial_primary="production").primary == "production"
    epoch = Epoch(
        epoch=1,
        primary="standby",
        previous_primary="production",
        scenario=Scenario.UNPLANNED,
        reason="fire",
        failed_at=clock.now(),
        declared_at=clock.now(),
        fence=Fence(level=FenceLevel.ASSERTED, by="anna", why="ashes"),
    )
    log.append(epoch, by="one")
    found = read_control(log, initial_primary="production")
    assert (found.primary, found.epoch, found.since, found.reason) == ("standby", 1, clock.now(), "fire")


def test_a_log_that_cannot_be_read_is_a_value(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "control"))
    store.put("log/0000000001.json", [b"no link"])
    found = read_control(EpochLog(store, clock=FixedClock()), initial_primary="production")
    assert (found.primary, bool(found.error)) == ("production", True)
