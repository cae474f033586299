"""The status shows what was re-read in each store, and how long the newest snapshot took to get there."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.contracts.load import Contracts
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.review.status import CoverageStatus, SiteVault, Status, VaultStatus, collect_status
from reopen.storage import open_store
from reopen.vault import Vault
from tests.review.history import Archive

DAY = timedelta(days=1)


def status(archive: Archive, vaults: dict[str, Vault], age: timedelta) -> Status:
    sites = [SiteVault(site=site, url=site, role="standby", found=found) for site, found in vaults.items()]
    now = archive.vault.clock.now() + age
    return collect_status(
        sites, Contracts(datasets={}), log=None, initial_primary="production", here="production", now=now
    )


def vault_of(found: Status, site: str) -> VaultStatus:
    return next(vault for vault in found.vaults if vault.site == site)


def coverage(found: Status, site: str) -> CoverageStatus:
    shown = vault_of(found, site).coverage
    assert shown is not None
    return shown


def test_each_store_has_a_coverage_of_its_own_that_grows_old(archive: Archive) -> None:
    archive.write("papers", {"one": "1"})
    archive.snapshot("papers")
    verify_vault(archive.vault, level=Level.STORED)
    target = open_store(str(archive.folder / "replica"))
    execute_replicate(plan_replicate(archive.vault, target))
    vaults = {"production": archive.vault, "standby": archive.reopened(target)}
    fresh = status(archive, vaults, timedelta(0))
    assert coverage(fresh, "production").shares == {7: 1.0, 30: 1.0, 90: 1.0}
    assert coverage(fresh, "production").oldest_read_at is not None
    assert coverage(fresh, "standby").shares == {7: 0.0, 30: 0.0, 90: 0.0}
    assert coverage(fresh, "standby").stored_bytes == coverage(fresh, "production").stored_bytes > 0
    later = status(archive, vaults, 10 * DAY)
    assert coverage(later, "production").shares == {7: 0.0, 30: 1.0, 90: 1.0}
    much_later = status(archive, vaults, 100 * DAY)
    assert coverage(much_later, "production").shares == {7: 0.0, 30: 0.0, 90: 0.0}
    assert coverage(much_later, "production").oldest_read_at is None


def test_new_packs_lower_the_coverage(archive: Archive) -> None:
    archive.write("papers", {"one": "1"})
    archive.snapshot("papers")
    verify_vault(archive.vault, level=Level.STORED)
    archive.write("papers", {"two": "2" * 1000})
    archive.snapshot("papers")
    shown = coverage(status(archive, {"production": archive.vault}, timedelta(0)), "production")
    assert 0 < shown.shares[7] < 1
    assert shown.stored_packs == 2


def test_the_lag_of_a_replica_is_the_time_from_commit_to_arrival(archive: Archive) -> None:
    archive.write("papers", {"one": "1"})
    record = archive.snapshot("papers")
    target = open_store(str(archive.folder / "replica"))
    execute_replicate(plan_replicate(archive.vault, target))
    arrived = (record.committed_at + timedelta(minutes=5)).timestamp()
    os.utime(Path(target.url) / record.name, (arrived, arrived))
    found = status(archive, {"standby": archive.reopened(target)}, timedelta(0))
    assert vault_of(found, "standby").arrival_seconds == pytest.approx(300, abs=0.001)


def test_a_vault_without_a_snapshot_has_no_lag_and_nothing_unread(archive: Archive) -> None:
    found = vault_of(status(archive, {"production": archive.vault}, timedelta(0)), "production")
    assert found.arrival_seconds is None
    assert found.coverage is not None
    assert found.coverage.shares == {7: 1.0, 30: 1.0, 90: 1.0}
