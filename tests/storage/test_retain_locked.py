"""Retention in a bucket with object lock, on a server that enforces it: what is locked gets no stub and goes later."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reopen.contracts import RetentionRule
from reopen.protect.retain.stubs import read_stubs
from reopen.protect.verify.verify import verify_vault
from reopen.storage import open_store
from reopen.storage.locked import LockedS3Store
from tests.kit import a_dataset, a_vault, reopened, snapshot
from tests.protect.histories import plan, reasons, retain
from tests.s3 import make_bucket
from tests.trees import grow

LAST_ONE = RetentionRule(last=1)


@pytest.fixture
def store(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LockedS3Store]:
    import boto3

    make_bucket(s3_endpoint, monkeypatch)  # For the environment; the bucket is without a lock.
    client: Any = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT"], region_name="us-east-1")
    bucket = f"locked-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    client.close()
    opened = open_store(f"s3://{bucket}/vault?object_lock_days=8")
    assert isinstance(opened, LockedS3Store)
    yield opened
    opened.close()


def test_what_is_locked_stays_without_a_stub_and_goes_when_its_lock_is_over(
    store: LockedS3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = a_vault(store)
    dataset = a_dataset("it", grow(tmp_path / "it", {"a": "first"}))
    records = [snapshot(vault, dataset).record for _ in range(3)]
    made = plan(vault, LAST_ONE)
    assert made.datasets[0].expiring == ()
    for record in records[:2]:
        [reason] = reasons(made)[record.id]
        assert reason.startswith("locked by the store until 20")
    assert retain(vault, LAST_ONE) == []
    assert read_stubs(reopened(vault)) == {}

    # A month later, by the server's clock and by the locks: the server has no other.
    locked_until = store.locked_until

    def earlier(name: str) -> datetime | None:
        until = locked_until(name)
        return None if until is None else until - timedelta(days=30)

    monkeypatch.setattr(LockedS3Store, "locked_until", lambda self, name: earlier(name))
    monkeypatch.setattr(LockedS3Store, "delete", without_lock)
    assert retain(vault, LAST_ONE) == [record.id for record in records[:2]]
    assert [record.id for record in reopened(vault).records("it")] == [records[2].id]
    assert verify_vault(reopened(vault), record=False).findings == ()


def without_lock(self: LockedS3Store, name: str) -> None:
    """Delete every version as if its lock had run out."""
    for version in self._versions(name):
        self._call(
            name,
            lambda client, key, version=version: client.delete_object(  # type: ignore[misc]
                **key, VersionId=version.id, BypassGovernanceRetention=True
            ),
            is_write=True,
        )
